"""From windows to the cores that each host needs; where cores are not known, to times the present size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, check_frame, is_dask
from analytics.frames.arguments import Duration, duration_ms, number, numbers, whole
from analytics.frames.frame import FrameError
from analytics.frames.resampling import resample
from analytics.frames.weights import cores_by_user
from analytics.methods.right_sizing.days import Cores, Days, Floats, Ints, cores_of, days_of, growth_a_day, hosts
from analytics.methods.right_sizing.later_days import outlook
from analytics.methods.right_sizing.text import FULL, relative_sentence, sentence
from contract.times import DAY_MS, MAX_RATE_MS

VERDICTS: Final = ("too big", "right", "too small", "no size fits", "not enough data")
_SIZES: Final = "numbers of cores above 0, at least one of them"
_HOURS_A_MONTH: Final = 730

_ENOUGH: Final = 0.9
"""The chance that a day needs no more than `upper`."""
_TOO_MUCH: Final = 0.01
"""The chance that a day needs less than `lower`: with the other, the interval holds nine days of ten."""
_THOUSANDTHS: Final = 1000


@dataclass(frozen=True, slots=True)
class _Aim:
    """What a size must do: stay below a share of itself, and how often."""

    target: float
    quantile: float
    headroom: float
    ahead_days: float
    least_days: int
    sizes: Floats | None

    def size(self, demand: Floats, now: Floats) -> Floats:
        """The smallest size that keeps a demand in cores under the target, infinity where none does; NaN stays.

        Without sizes these are the whole numbers, and what a host has now.
        """
        wanted = demand / self.target
        wanted = wanted - 1e-9 * np.maximum(wanted, 1.0)
        if self.sizes is None:
            whole = np.maximum(np.ceil(wanted), 1.0)
            return np.where((whole > now) & (wanted <= now), now, whole)
        sizes = np.append(self.sizes, np.inf)
        return np.where(np.isnan(wanted), np.nan, sizes[np.searchsorted(self.sizes, wanted)])


def right_size(
    frame: AnyFrame,
    cores: Cores = None,
    target: float = 0.8,
    quantile: float = 0.95,
    *,
    sizes: Sequence[float] | None = None,
    headroom: float = 0.0,
    ahead: Duration | None = None,
    least_days: int = 5,
    core_hour_price: float | None = None,
) -> pd.DataFrame:
    """The cores that keep a quantile of each host's utilization under a target, also on days to come.

    Demand is the quantile of the cores that were used: utilization times the cores that the host had at that time.
    Needed is the smallest whole number of cores, or one of `sizes`, of which the demand is at most `target`. `lower`
    and `upper` say the same of a day within the next two weeks (`analytics.methods.right_sizing.later_days`): nine of
    ten such days need no more than `upper`. A host is too big only if that is less than it has, and `upper` is
    what is recommended. See docs/right-sizing.md.

    Args:
        frame: Windows of hosts: index `time` (UTC), `mean` in [0, 1], optionally `user`, `count`, `cores` (how many
            the host had in that window) and `histogram`. With histograms the quantile is that of all samples;
            without, that of the means of windows, in which short peaks do not show. Rows of single cores are only
            counted. A Dask DataFrame of windows is merged to days on its cluster first, to hours where it has no
            histograms.
        cores: What each host has now: one number for all, by user, or a frame with `user` and `cores` such as
            `source.users()`; users without one are left out. By default
            what the frame says of its last window: in the column `cores`, or else by rows of single cores. Where the
            frame says nothing, hosts had what they have now.
        target: The utilization to stay under at the quantile, in (0, 1].
        quantile: Which share of the time is to be under it, in (0, 1).
        sizes: The sizes there are, in cores, such as (2, 4, 8, 16).
        headroom: More demand than was seen, as a share: 0.2 is a fifth.
        ahead: A duration such as `90d`, over which a rising trend of the daily means is to go on; trends that cannot
            be told from chance, and falling ones, do not count.
        least_days: Hosts that were seen on fewer days get no recommendation; at least 2. Days with fewer than 20
            samples do not count.
        core_hour_price: What a core costs an hour, in any currency.

    Returns:
        One row a host: `user` where the frame has it, `now`, `needed`, `lower`, `upper` and `recommended` in
        cores, infinity where none of `sizes` is enough; `utilization`, the quantile of what was used, as a share of
        what the host has now (above 1 where it had more); `demand` in cores, headroom and growth included; `saved`
        cores (below 0: more are needed) and `saved_share`; `saved_a_month` in money where there is a price (730 hours);
        `verdict`, one of VERDICTS; `confidence`, the chance that a day within the next two weeks stays under the target
        on what is recommended, missing for a host that is full, of which needed and its interval are the least;
        `days` seen; `basis`, either `samples` or `means of windows`; and `why`, a sentence.
        Where there is not enough data, needed, its interval, recommended and what follows are missing; where no size
        fits, so are recommended and what follows.

    Raises:
        FrameError: The frame is not as described, `cores` is not given and the frame has no cores, or another argument
            is wrong.
    """
    aim = _aim(target, quantile, sizes, headroom, ahead, least_days)
    if core_hour_price is not None:
        number(core_hour_price, "core_hour_price", "a number of at least 0", lambda value: 0 <= value < np.inf)
    check_frame(frame)
    frame = _at_hand(frame)
    whole = hosts(frame)
    had, now = cores_of(frame, whole, cores)
    known = ~np.isnan(had)
    table = _sized(days_of(whole[known], had[known], quantile), now, aim)
    table["basis"] = "samples" if "histogram" in frame else "means of windows"
    if core_hour_price is not None:
        table["saved_a_month"] = table["saved"] * core_hour_price * _HOURS_A_MONTH
    table["why"] = [
        sentence({str(name): value for name, value in row.items()}, quantile, target, least_days, sizes)
        for row in table.to_dict("records")
    ]
    return table if "user" in frame else table.drop(columns="user")


def _at_hand(frame: AnyFrame) -> pd.DataFrame:
    """A frame of pandas, as small as the answer allows."""
    if not is_dask(frame):
        return frame  # type: ignore[no-any-return]
    rate = "1d" if "histogram" in frame.columns else "1h"
    if "cores" not in frame.columns:
        merged: pd.DataFrame = resample(frame, rate).compute()
        return merged
    # Windows of a host with as many cores belong together: the number goes where frames have a label.
    whole = frame[frame["core"].isna()] if "core" in frame.columns else frame
    label = (whole["cores"] * _THOUSANDTHS).round().astype("Int64")
    merged = resample(whole.assign(core=label), rate).compute()
    return merged.assign(cores=merged["core"].astype("Float64") / _THOUSANDTHS).drop(columns="core")


def _aim(
    target: float, share: float, sizes: Sequence[float] | None, headroom: float, ahead: Duration | None, least_days: int
) -> _Aim:
    number(target, "target", "a share of utilization in (0, 1] such as 0.8", lambda value: 0 < value <= 1)
    number(share, "quantile", "a share in (0, 1) such as 0.95", lambda value: 0 < value < 1)
    number(headroom, "headroom", "a share of at least 0 such as 0.2", lambda value: 0 <= value < np.inf)
    whole(least_days, "least_days", "at least 2", lambda value: value >= 2)
    if sizes is not None and not numbers(sizes, "sizes", _SIZES, lambda value: 0 < value < np.inf):
        raise FrameError(f"sizes: expected {_SIZES}, got none")
    ahead_days = 0.0 if ahead is None else duration_ms(ahead, "ahead", most_ms=MAX_RATE_MS) / DAY_MS
    return _Aim(
        target, share, headroom, ahead_days, least_days, None if sizes is None else np.array(sorted(sizes), float)
    )


def _sized(days: Days, has: dict[Any, float], aim: _Aim) -> pd.DataFrame:
    n = len(days.users)
    now = np.array([has[user] for user in days.users])
    room = np.maximum(days.most, now)
    number = np.bincount(days.user, minlength=n)
    enough = number >= aim.least_days
    later = outlook(days.user, days.day, days.high / room[days.user], n)
    factor = (1.0 + aim.headroom) * _growth(days, number, aim)
    demand = days.whole * factor
    needed, upper, lower = (
        np.where(enough, aim.size(used * factor, now), np.nan)
        for used in (days.whole, later.at(_ENOUGH) * room, later.at(_TOO_MUCH) * room)
    )
    lower, upper = np.minimum(lower, needed), np.maximum(upper, needed)
    # Only what is above the target for sure: at the target itself a host is right.
    short = days.surely * factor > now * aim.target * (1 + 1e-9)
    # A size that is enough for the days that were seen is better than none where no size is enough for all to come.
    larger = np.where(np.isinf(upper) & np.isfinite(needed), needed if aim.sizes is None else aim.sizes[-1], upper)
    kinds = [~enough, short & np.isinf(needed), short, upper < now]
    recommended = np.select(kinds, [np.nan, np.nan, np.maximum(larger, now), upper], now)
    chance = later.chance(recommended * aim.target / (factor * room))
    return pd.DataFrame(
        {
            "user": pd.Categorical(days.users),
            "now": now,
            "needed": needed,
            "lower": lower,
            "upper": upper,
            "recommended": recommended,
            "utilization": days.whole / now,
            "demand": demand,
            "saved": now - recommended,
            "saved_share": (now - recommended) / now,
            "verdict": np.select(kinds, ["not enough data", "no size fits", "too small", "too big"], "right"),
            "confidence": np.where(np.isnan(recommended) | (days.whole >= FULL * now), np.nan, chance),
            "days": number,
        }
    )


def _growth(days: Days, number: Ints, aim: _Aim) -> Floats:
    """The factor by which the demand of each user will have grown; 1 where it does not grow."""
    factor = np.ones(len(number))
    if not aim.ahead_days:
        return factor
    for count in np.unique(number[number >= aim.least_days]).tolist():
        alike = np.flatnonzero(number == count)
        rows = np.isin(days.user, alike)
        dates, means = days.day[rows].reshape(-1, count), days.mean[rows].reshape(-1, count)
        level = np.maximum(means.mean(axis=1), 1e-9)
        factor[alike] += np.maximum(growth_a_day(dates, means), 0.0) * aim.ahead_days / level
    return factor


RELATIVE_SIZES: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Sizes to choose from where cores are not known, in times the present size."""
_MOST: Final = 0.5
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `right_size` answers, in which unit, and of whom it says nothing."""

    table: pd.DataFrame
    """As `right_size` answers it, a row a host."""
    in_cores: bool
    """Whether sizes are cores; else they are in times the present size."""
    left_out: tuple[str, ...]
    """Hosts whose cores are not known, where sizes are cores."""

    @property
    def unit(self) -> str:
        """Of sizes: `cores`, or `times the present size`."""
        return "cores" if self.in_cores else "times the present size"

    @property
    def caveat(self) -> str | None:
        """What is to be known beside the table, a sentence; None where that is nothing."""
        if not self.in_cores:
            return "The number of cores is not known: sizes are in times what each host has now."
        if not self.left_out:
            return None
        many, few = len(self.left_out), ", ".join(self.left_out[:_NAMED])
        named = few if many <= _NAMED else f"{few} and {many - _NAMED:,} more"
        who = "1 host is" if many == 1 else f"{many:,} hosts are"
        return f"{who} left out, whose number of cores is not known: {named}."


def size_hosts(
    windows: pd.DataFrame,
    users: pd.DataFrame,
    target: float = 0.8,
    quantile: float = 0.95,
    *,
    sizes: Sequence[float] | None = None,
    least_days: int = 5,
    core_hour_price: float | None = None,
) -> Sizes:
    """The sizes of hosts, with the cores that each had at the time.

    Args:
        windows: As `right_size` takes them, with the columns `user` and `cores`, missing where not known, as
            `analytics.sources.base.windows_with_cores` answers them.
        users: `source.users()`: how many cores each has now. Of whom it does not know, the last window says it.
        target: As `right_size` takes it, as are the following.
        quantile: The same.
        sizes: In cores; they are not known where cores are not.
        least_days: The same.
        core_hour_price: The same.

    Returns:
        Sizes in cores where the cores of more than half of the hosts are known, or sizes or a price are given;
        the others are left out. Else sizes of all in times the present size.

    Raises:
        FrameError: As `right_size`; sizes or a price are given and no host's cores are known.
    """
    names = windows["user"].astype(str)
    present = names.unique()
    now = cores_by_user(users).rename(index=str)
    if "cores" in windows:
        had = pd.to_numeric(windows["cores"], errors="coerce").astype("float64")
        now = now.combine_first(had.groupby(names).last().dropna())
    known = now[now.index.isin(present)]
    in_cores = len(known) > _MOST * len(present)
    if sizes is not None or core_hour_price is not None:
        if known.empty and len(present):
            raise FrameError("how many cores the hosts have is not known here: say it with --cores")
        in_cores = True
    if not in_cores and len(present):
        table = right_size(
            windows.drop(columns="cores", errors="ignore"), 1.0, target, quantile, sizes=RELATIVE_SIZES,
            least_days=least_days,
        )  # fmt: skip
        table["why"] = [
            relative_sentence({str(name): value for name, value in row.items()}, quantile, target, least_days)
            for row in table.to_dict("records")
        ]
        return Sizes(table, False, ())
    table = right_size(
        windows[names.isin(known.index)], known, target, quantile, sizes=sizes, least_days=least_days,
        core_hour_price=core_hour_price,
    )  # fmt: skip
    return Sizes(table, True, tuple(sorted({*present} - {*known.index})))
