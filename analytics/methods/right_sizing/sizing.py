"""The public function: from windows to the cores that each machine needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, is_dask
from analytics.frames.frame import FrameError
from analytics.frames.resampling import resample
from analytics.methods.right_sizing.days import Days, Float32s, Floats, Ints, days_of, machines
from analytics.methods.right_sizing.quantiles import drawn_quantiles, growth_a_day, quantile_of
from analytics.methods.right_sizing.words import sentence
from contract.times import DAY_MS, MAX_RATE_MS, parse_duration

VERDICTS: Final = ("too big", "right", "too small", "not enough data")
_HOURS_A_MONTH: Final = 730
_DRAWS: Final = 200
_CONFIDENCE: Final = 0.9


@dataclass(frozen=True, slots=True)
class _Aim:
    """What is asked for."""

    target: float
    quantile: float
    headroom: float
    ahead_days: float
    least_days: int
    sizes: Floats | None

    def size(self, wanted: Floats) -> Floats:
        """The smallest size of at least `wanted` cores, or the largest there is; NaN stays."""
        if self.sizes is None:
            return np.maximum(np.ceil(wanted - 1e-9), 1.0)
        place = np.minimum(np.searchsorted(self.sizes, wanted - 1e-9), len(self.sizes) - 1)
        return np.where(np.isnan(wanted), np.nan, self.sizes[place])


def right_size(
    frame: AnyFrame,
    cores: float | Mapping[Any, float] | pd.Series | None = None,
    target: float = 0.8,
    quantile: float = 0.95,
    *,
    sizes: Sequence[float] | None = None,
    headroom: float = 0.0,
    ahead: str | None = None,
    least_days: int = 5,
    core_hour_price: float | None = None,
) -> pd.DataFrame:
    """The cores that keep a quantile of each machine's utilization under a target.

    Demand is the quantile of utilization times the cores that the machine has now; needed is the smallest whole number
    of cores, or one of `sizes`, of which the demand is at most `target`. Its interval (90 %) is drawn over days
    (`analytics.methods.right_sizing.quantiles`). A machine is too big only if the upper end of the interval is below
    what it has, and that upper end is what is recommended. See docs/forecasting.md.

    Args:
        frame: Windows of machines: index `time` (UTC), `mean` in [0, 1], optionally `user`, `count`, and `histogram`.
            With histograms the quantile is that of all samples; without, that of the means of windows, in which short
            peaks do not show. Rows of single cores are left out. A Dask DataFrame of windows is merged to days on its
            cluster first, to hours where it has no histograms.
        cores: What each machine has now: one number for all, or by user; users without one are left out. By default
            the number of cores that have rows of their own.
        target: The utilization to stay under at the quantile, in (0, 1].
        quantile: Which share of the time is to be under it, in (0, 1).
        sizes: The sizes there are, in cores, such as (2, 4, 8, 16).
        headroom: More demand than was seen, as a share: 0.2 is a fifth.
        ahead: A duration such as `90d`, over which a rising trend of the daily means is to go on; trends that cannot
            be told from chance, and falling ones, do not count.
        least_days: Machines that were seen on fewer days get no recommendation; at least 2.
        core_hour_price: What a core costs an hour, in any currency.

    Returns:
        One row a machine (index `user` where the frame has it): `now`, `needed`, `lower`, `upper` and `recommended` in
        cores; `utilization`, the quantile seen, a share; `demand` in cores, headroom and growth included; `saved` cores
        (below 0: more are needed) and `saved_share`; `saved_a_month` in money where there is a price (730 hours);
        `verdict`, one of VERDICTS; `confidence`, the share of draws that agree with it; `days` seen; `basis`, either
        `samples` or `means of windows`; and `why`, a sentence. Where there is not enough data, needed, its interval,
        recommended and what follows are missing.

    Raises:
        FrameError: The frame is not as described, or `cores` is not given and the frame has no cores.
        ValueError: Another argument is wrong.
    """
    aim = _aim(target, quantile, sizes, headroom, ahead, least_days)
    frame = _at_hand(frame)
    has = _cores(frame, cores)
    parts = [_sized(days, has, aim) for days in days_of(machines(frame))]
    table = pd.concat(parts)
    table["basis"] = "samples" if "histogram" in frame else "means of windows"
    if core_hour_price is not None:
        table["saved_a_month"] = table["saved"] * core_hour_price * _HOURS_A_MONTH
    table["why"] = [
        sentence({str(name): value for name, value in row.items()}, quantile, target, least_days)
        for row in table.to_dict("records")
    ]
    return table if "user" in frame else table.reset_index(drop=True)


def _at_hand(frame: AnyFrame) -> pd.DataFrame:
    """A frame of pandas, as small as the answer allows."""
    if is_dask(frame):
        merged: pd.DataFrame = resample(frame, "1d" if "histogram" in frame.columns else "1h").compute()
        return merged
    return frame  # type: ignore[no-any-return]


def _aim(
    target: float, share: float, sizes: Sequence[float] | None, headroom: float, ahead: str | None, least_days: int
) -> _Aim:
    if not 0 < target <= 1:
        raise ValueError(f"target is a share of utilization in (0, 1] such as 0.8, not {target}")
    if not 0 < share < 1:
        raise ValueError(f"quantile is a share in (0, 1) such as 0.95, not {share}")
    if headroom < 0:
        raise ValueError(f"headroom is a share of at least 0 such as 0.2, not {headroom}")
    if least_days < 2:
        raise ValueError(f"least_days is at least 2, not {least_days}")
    if sizes is not None and (not len(sizes) or min(sizes) <= 0):
        raise ValueError("sizes are numbers of cores above 0, at least one of them")
    ahead_days = 0.0 if ahead is None else parse_duration(ahead, most_ms=MAX_RATE_MS) / DAY_MS
    return _Aim(
        target, share, headroom, ahead_days, least_days, None if sizes is None else np.array(sorted(sizes), float)
    )


def _cores(frame: pd.DataFrame, cores: float | Mapping[Any, float] | pd.Series | None) -> float | dict[Any, float]:
    if cores is None:
        if "core" not in frame or frame["core"].isna().all():
            raise FrameError("the frame has no cores to count: say how many each machine has, such as cores=4")
        single = frame[frame["core"].notna()]
        if "user" not in single:
            return float(single["core"].nunique())
        return {user: float(n) for user, n in single.groupby("user", observed=True)["core"].nunique().items()}
    if isinstance(cores, (Mapping, pd.Series)):
        return {user: _positive(n) for user, n in cores.items()}
    return _positive(cores)


def _positive(cores: float) -> float:
    if not cores > 0:
        raise ValueError(f"cores: a number above 0 is right, not {cores}")
    return float(cores)


def _sized(days: Days, has: float | dict[Any, float], aim: _Aim) -> pd.DataFrame:
    """The rows of those users whose cores are known."""
    n = len(days.users)
    now = np.array([has if isinstance(has, float) else has.get(user, np.nan) for user in days.users])
    first = np.searchsorted(days.user, np.arange(n))
    number = np.diff(first, append=len(days.user))
    seen = quantile_of(np.add.reduceat(days.counts.astype(np.float64), first, axis=0), days.values, aim.quantile)
    factor, drawn = np.full(n, 1.0 + aim.headroom), np.full((n, _DRAWS), np.nan)
    for chosen, counts, dates in _alike(days, number, aim.least_days):
        drawn[chosen] = drawn_quantiles(counts, days.values, aim.quantile, _DRAWS)
        factor[chosen] *= _growth(counts, dates, days.values, aim.ahead_days)
    enough = number >= aim.least_days
    demand = seen * now * factor
    wanted = np.where(enough, demand / aim.target, np.nan)
    draws_wanted = drawn * (now * factor / aim.target)[:, None]
    needed = aim.size(wanted)
    tails = (0.5 * (1 - _CONFIDENCE), 0.5 * (1 + _CONFIDENCE))
    lower, upper = np.quantile(aim.size(draws_wanted), tails, axis=1, method="inverted_cdf")
    lower, upper = np.minimum(lower, needed), np.maximum(upper, needed)
    kinds = [~enough, upper < now, wanted > now + 1e-9]
    with np.errstate(invalid="ignore"):
        less, more = aim.size(draws_wanted) < now[:, None], draws_wanted > now[:, None] + 1e-9
    table = pd.DataFrame(
        {
            "now": now,
            "needed": needed,
            "lower": lower,
            "upper": upper,
            "recommended": np.select(kinds, [np.nan, upper, needed], now),
            "utilization": seen,
            "demand": demand,
            "verdict": np.select(kinds, ["not enough data", "too big", "too small"], "right"),
            "confidence": np.select(kinds, [np.nan, less.mean(axis=1), more.mean(axis=1)], (~more).mean(axis=1)),
            "days": number,
        },
        index=pd.Index(days.users, name="user"),
    )
    table.insert(7, "saved", table["now"] - table["recommended"])
    table.insert(8, "saved_share", table["saved"] / table["now"])
    known: pd.DataFrame = table[np.isfinite(now)]
    return known


def _alike(days: Days, number: Ints, least: int) -> Iterator[tuple[Ints, Float32s, Ints]]:
    """Users with the same number of days: their places, and counts and dates by user and day."""
    for count in np.unique(number[number >= least]).tolist():
        chosen = np.flatnonzero(number == count)
        rows = np.isin(days.user, chosen)
        yield chosen, days.counts[rows].reshape(len(chosen), count, -1), days.day[rows].reshape(len(chosen), count)


def _growth(counts: Float32s, dates: Ints, values: Floats, ahead_days: float) -> Floats:
    """The factor by which demand will have grown; 1 where it does not grow."""
    if not ahead_days:
        return np.ones(len(counts))
    means = (counts @ values) / counts.sum(axis=2)
    level = np.maximum(means.mean(axis=1), 1e-9)
    factor: Floats = 1.0 + np.maximum(growth_a_day(dates, means), 0.0) * ahead_days / level
    return factor
