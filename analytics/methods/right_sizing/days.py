"""What each host used on each day, in cores (a quantile and the mean), and how many it had then and has now."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.aggregation import numbered_users
from analytics.frames.arguments import number
from analytics.frames.checking import check_index, has_numbers
from analytics.frames.columns import merge
from analytics.frames.frame import FrameError, from_frame, metric_of
from analytics.frames.weights import cores_by_user
from contract.histogram import LINEAR
from contract.metrics import NAMES, Cpu
from contract.times import DAY_MS

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SIGNIFICANT: Final = 1.96
"""Standard errors beyond which a trend is no chance, at 5 %."""

MIN_SAMPLES: Final = 20
"""Of a day that counts: with fewer, a 95th percentile is the highest sample."""

_BINS: Final = 64
_ROWS_AT_ONCE: Final = 400_000


@dataclass(frozen=True, slots=True)
class Days:
    """What some hosts used, in cores. Rows are sorted by user and day."""

    users: list[Any]
    user: Ints
    """Of each row, its place in `users`."""
    day: Ints
    """Days since the epoch (UTC), only those with at least MIN_SAMPLES."""
    high: Floats
    """The quantile of that day."""
    mean: Floats
    whole: Floats
    """Of each user, the quantile of all its days together, NaN where it has none."""
    surely: Floats
    """Of each user, what that quantile is at least: the lower edge of its bin where there are histograms."""
    most: Floats
    """Of each user, the most cores it ever had."""


class _Used(NamedTuple):
    """So many samples of a user on a day that used so many cores; the lower edge of their bin beside it."""

    user: Ints
    day: Ints
    value: Floats
    least: Floats
    weight: Floats

    def only(self, chosen: npt.NDArray[np.bool_]) -> "_Used":
        return _Used(self.user[chosen], self.day[chosen], self.value[chosen], self.least[chosen], self.weight[chosen])


def hosts(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole hosts that have a value; raises FrameError for what cannot be read so."""
    check_index(frame)
    if "mean" not in frame or not has_numbers(frame["mean"].dtype):
        raise FrameError(
            "expected the column mean, utilization as a share in [0, 1], got "
            + (", ".join(map(str, frame.columns)) or "none")
        )
    metric = metric_of(frame)
    if metric is not None and NAMES[metric].quantity not in Cpu.quantities:
        raise FrameError(f"expected CPU utilization, got {metric}: sizes are in cores")
    if "core" in frame and frame["core"].notna().any():
        frame = frame[frame["core"].isna()]
        if frame.empty:
            raise FrameError("expected rows of whole hosts, without a core, got only rows of single cores")
    seen = frame["mean"].notna() & (frame["count"].fillna(0) > 0 if "count" in frame else True)
    if not seen.all():
        frame = frame[seen]
    if frame.empty:
        raise FrameError("expected at least one row with a value, got none")
    low, high = frame["mean"].min(), frame["mean"].max()
    if low < 0 or high > 1:
        raise FrameError(f"expected in mean utilization as a share in [0, 1], got {low:g} to {high:g}")
    return frame


def days_of(frame: pd.DataFrame, cores: Floats, q: float) -> Days:
    """The days of all hosts, users sorted; `frame` is of whole hosts, `cores` what each of its rows had."""
    parts = [_days(*part, q) for part in _parts(frame, cores)]
    first = np.cumsum([0, *(len(part.users) for part in parts)])
    return Days(
        [user for part in parts for user in part.users],
        np.concatenate([part.user + start for part, start in zip(parts, first, strict=False)]),
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("day", "high", "mean", "whole", "surely", "most")
        ),
    )


def _parts(frame: pd.DataFrame, cores: Floats) -> Iterator[tuple[pd.DataFrame, Floats, Ints, list[Any]]]:
    """Some users at a time: their rows, what these had in cores, whose each is, and the users."""
    codes, named = numbered_users(frame)
    users = [None] if named is None else named
    if (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
        frame, cores, codes = frame.iloc[order], cores[order], codes[order]
    ends = np.searchsorted(codes, np.arange(len(users)), side="right")
    first_user, first_row = 0, 0
    while first_user < len(users):
        last_user = max(int(np.searchsorted(ends, first_row + _ROWS_AT_ONCE, side="right")), first_user + 1)
        rows = slice(first_row, int(ends[last_user - 1]))
        yield frame.iloc[rows], cores[rows], codes[rows] - first_user, users[first_user:last_user]
        first_user, first_row = last_user, rows.stop


def _days(frame: pd.DataFrame, cores: Floats, user: Ints, users: list[Any], q: float) -> Days:
    read = _from_histograms if "histogram" in frame else _from_means
    used = read(frame, cores, user)
    first = int(used.day.min())
    key, row = np.unique(used.user * (1 << 32) + used.day - first, return_inverse=True)
    samples = np.bincount(row, used.weight)
    counts = samples >= MIN_SAMPLES
    mean = np.bincount(row, used.weight * used.value) / samples
    high, _ = _quantiles(row, len(key), used, q)
    used = used.only(counts[row])
    whole, surely = _quantiles(used.user, len(users), used, q)
    most = np.zeros(len(users))
    np.maximum.at(most, user, cores)
    return Days(
        users, (key >> 32)[counts], (key % (1 << 32) + first)[counts], high[counts], mean[counts], whole, surely, most
    )


def _from_histograms(frame: pd.DataFrame, cores: Floats, user: Ints) -> _Used:
    windows, _ = from_frame(frame.drop(columns=["user", "core"], errors="ignore"), histograms=True)
    sizes, size = np.unique(cores, return_inverse=True)
    merged = merge(windows, series=user * len(sizes) + size, rate_ms=DAY_MS)
    histograms = merged.histograms
    assert histograms is not None
    row = histograms.row
    middle = np.array([LINEAR.value(index) for index in range(LINEAR.first, LINEAR.last + 1)])
    share = middle[histograms.bin - LINEAR.first]
    bounds = merged.minimum[row], merged.maximum[row]
    has = sizes[merged.series % len(sizes)][row]
    return _Used(
        (merged.series // len(sizes))[row],
        (merged.time // DAY_MS)[row],
        np.clip(share, *bounds) * has,
        np.clip(np.floor(share * _BINS) / _BINS, *bounds) * has,
        histograms.count.astype(np.float64),
    )


def _from_means(frame: pd.DataFrame, cores: Floats, user: Ints) -> _Used:
    day = pd.DatetimeIndex(frame.index).as_unit("ms").asi8 // DAY_MS
    used = frame["mean"].to_numpy(np.float64) * cores
    weight = frame["count"].to_numpy(np.float64) if "count" in frame else np.ones(len(frame))
    return _Used(user, day, used, used, weight)


def _quantiles(group: Ints, groups: int, used: _Used, q: float) -> tuple[Floats, Floats]:
    """Of each group, the smallest value that at least a share `q` of its samples do not exceed, and its `least`."""
    rises = (group[1:] > group[:-1]) | ((group[1:] == group[:-1]) & (used.value[1:] >= used.value[:-1]))
    order = np.arange(len(group)) if rises.all() else np.lexsort((used.value, group))
    reached = np.cumsum(used.weight[order])
    ends = np.searchsorted(group[order], np.arange(groups), side="right")
    before = np.concatenate([[0.0], reached])[np.concatenate([[0], ends[:-1]])]
    total = np.concatenate([[0.0], reached])[ends] - before
    # Less by a millionth of a sample or so, as sums of weights are rounded.
    place = np.searchsorted(reached, before + total * q * (1 - 1e-9))
    found = order[np.minimum(place, np.maximum(ends - 1, 0))] if len(order) else np.zeros(groups, np.int64)
    return tuple(np.where(total > 0, column[found], np.nan) if len(order) else np.full(groups, np.nan)
                 for column in (used.value, used.least))  # type: ignore[return-value]  # fmt: skip


def growth_a_day(days: Ints, means: Floats) -> Floats:
    """How much the mean of a user grows a day, in its own unit; 0 where no trend can be told from chance.

    `days` and `means` have the shape (users, days). The slope is the median of the slopes of all pairs (Theil and Sen),
    the test that of Mann and Kendall at 5 %.
    """
    count = means.shape[1]
    earlier, later = np.triu_indices(count, 1)
    rise = means[:, later] - means[:, earlier]
    slope = np.median(rise / (days[:, later] - days[:, earlier]), axis=1)
    spread = np.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    significant = np.abs(np.sign(rise).sum(axis=1)) > _SIGNIFICANT * spread
    return np.where(significant, slope, 0.0)


Cores = float | Mapping[Any, float] | pd.Series | pd.DataFrame | None
"""One number for all hosts, by user, a frame with `user` and `cores`, or None: as the frame says."""


def cores_of(frame: pd.DataFrame, whole: pd.DataFrame, cores: Cores) -> tuple[Floats, dict[Any, float]]:
    """What each row of `whole`, the hosts' rows of `frame`, had, and what each user has now.

    A row had what its column `cores` says, else as many as the host has rows of single cores at that time, else what
    the host had before, or else after. Where nothing was recorded of a host, it had what is given as `cores`. Now
    it has what is given, else what its last row had. NaN for rows of users of whom nothing is known; the user is None
    in a frame without users.

    Raises FrameError where the frame has no cores and none are given, or none of a host that it has, or where its
    cores or those that are given are no numbers above 0.
    """
    given = _given(cores)
    had = _recorded(frame, whole)
    if had is None and given is None:
        raise FrameError("the frame has no cores to count: say how many each host has, such as cores=4")
    users = (
        whole["user"].astype(object) if "user" in whole else pd.Series([None] * len(whole), whole.index, dtype=object)
    )
    had = np.full(len(whole), np.nan) if had is None else had
    if given is not None:
        its = np.full(len(whole), given) if isinstance(given, float) else users.map(given).to_numpy(np.float64)
        last = dict(zip(users.tolist(), its, strict=True))
        had = np.where(np.isnan(its) | np.isnan(had), its, had)
    else:
        order = np.argsort(pd.DatetimeIndex(whole.index).asi8, kind="stable")
        last = dict(zip(users.iloc[order].tolist(), had[order], strict=True))
    now = {user: float(number) for user, number in last.items() if not np.isnan(number)}
    if not now:
        raise FrameError("expected the cores of at least one host in the frame, got none of theirs")
    return had, now


def _given(cores: Cores) -> float | dict[Any, float] | None:
    if isinstance(cores, pd.DataFrame):
        cores = cores_by_user(cores)
    if isinstance(cores, (Mapping, pd.Series)):
        return {user: _positive(n) for user, n in cores.items()}
    return None if cores is None else _positive(cores)


def _positive(cores: float) -> float:
    return number(cores, "cores", "a number above 0", lambda value: 0 < value < np.inf)


def _recorded(frame: pd.DataFrame, whole: pd.DataFrame) -> Floats | None:
    if "cores" in whole and whole["cores"].notna().any():
        known = pd.to_numeric(whole["cores"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
        told = known[np.asarray(whole["cores"].notna())]
        if ((told > 0) & (told < np.inf)).all():
            return _filled(whole, known)
        raise FrameError("expected numbers above 0 in the column cores, got others")
    if "core" not in frame or frame["core"].isna().all():
        return None
    single = frame[frame["core"].notna()]
    number = single["core"].groupby(_moments(single)).nunique()
    return _filled(whole, number.reindex(_moments(whole)).to_numpy(np.float64))


def _moments(rows: pd.DataFrame) -> pd.Index:
    """Whose, and when."""
    if "user" not in rows:
        return rows.index
    return pd.MultiIndex.from_arrays([rows["user"].astype(object).array, rows.index])


def _filled(whole: pd.DataFrame, known: npt.NDArray[Any]) -> Floats:
    """Unknown ones as before in time, or else as after."""
    order = np.argsort(pd.DatetimeIndex(whole.index).asi8, kind="stable")
    column = pd.Series(known[order])
    if "user" in whole:
        groups = pd.factorize(whole["user"])[0][order]
        column = column.groupby(groups).ffill().groupby(groups).bfill()
    else:
        column = column.ffill().bfill()
    filled = np.empty(len(known))
    filled[order] = column.to_numpy()
    return filled
