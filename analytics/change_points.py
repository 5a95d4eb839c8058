"""Lasting changes of level or spread, seen from afterwards. The method is that of `analytics.segmentation`."""

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.segmentation import SHORTEST, cuts, standard_deviation, without_season
from contract.durations import parse_duration

__all__ = ["change_points"]

_COLUMNS: Final = ("user", "time", "kind", "before", "after", "effect")
_FEWEST: Final = 4 * SHORTEST
_POINTS_FOR_A_SPREAD: Final = 4
_ALONE: Final = 20_000
"""Rows up to which starting other processes takes longer than it saves."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class _Change(NamedTuple):
    time_ms: int
    kind: str
    before: float
    after: float
    effect: float


def change_points(frame: pd.DataFrame, *, column: str = "mean", rate: str = "1h") -> pd.DataFrame:
    """When the level or the spread of each user's `column` changed for at least twelve buckets of `rate`.

    `frame` has an index of times with a time zone, in any order, a numeric `column`, and a column `user` where it is of
    many. `rate` is an InfluxQL duration. Returns one row a change, sorted by user and time, with the columns

    ========  ==========================================================================================
    `user`    where `frame` has it
    `time`    the start of the first bucket after the change (UTC)
    `kind`    `level` or `spread`
    `before`  the level (mean) or spread (mean standard deviation within a bucket, or mean difference
              between neighbours where buckets have fewer than four points) since the change before,
              without the season
    `after`   the same, until the next change
    `effect`  the difference in standard deviations of the values in one stretch; for `spread`, of the
              logarithm of the spread
    ========  ==========================================================================================

    Needs 48 buckets; users with fewer have no changes. The season is that of the day from four days on, and that of
    the week (in UTC) from three weeks on; with less than three weeks, weekends may look like changes. In two weeks of
    noise without a change, also noise that lasts for some ten hours, fewer than 5 % of series get one. Raises
    ValueError for an index, column or rate that is not right.
    """
    _check(frame, column)
    rate_ms = parse_duration(rate)
    many = "user" in frame
    known = frame[np.isfinite(frame[column].to_numpy(np.float64, na_value=np.nan))]
    times = pd.DatetimeIndex(known.index).tz_convert("UTC").as_unit("ms").asi8
    values = known[column].to_numpy(np.float64)
    codes, users = pd.factorize(known["user"], sort=True) if many else (np.zeros(len(known), np.intp), ["all"])
    order = np.lexsort((times, codes))
    ends = np.searchsorted(codes[order], np.arange(len(users)), side="right")
    parts = [(times[rows], values[rows]) for rows in np.split(order, ends[:-1])] if len(users) else []
    found = _find_all(parts, rate_ms, len(known))
    rows = [(user, *change) for user, changes in zip(users, found, strict=True) for change in changes]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    table["time"] = pd.to_datetime(table["time"].astype("int64"), unit="ms", utc=True).astype("datetime64[ms, UTC]")
    table = table.astype({"before": float, "after": float, "effect": float, "kind": "str"})
    return table if many else table.drop(columns="user")


def _check(frame: pd.DataFrame, column: str) -> None:
    if not isinstance(frame.index, pd.DatetimeIndex) or frame.index.tz is None:
        raise ValueError("the index is a DatetimeIndex with a time zone, such as UTC")
    if column not in frame:
        raise ValueError(f"no column {column!r}; there are {', '.join(map(str, frame.columns))}")
    if not pd.api.types.is_numeric_dtype(frame[column]):
        raise ValueError(f"the column {column!r} has no numbers")
    if "core" in frame and frame["core"].nunique(dropna=False) > 1:
        raise ValueError("several cores are several series; give one of them at a time, or name each as a user")


def _find_all(parts: list[tuple[Ints, Floats]], rate_ms: int, rows: int) -> list[list[_Change]]:
    cores = os.cpu_count() or 1
    if rows <= _ALONE or len(parts) == 1 or cores == 1:
        return [_find(times, values, rate_ms) for times, values in parts]
    from joblib import Parallel, delayed

    found: list[list[_Change]] = Parallel(n_jobs=cores, batch_size=32)(
        delayed(_find)(times, values, rate_ms) for times, values in parts
    )
    return found


def _find(times: Ints, values: Floats, rate_ms: int) -> list[_Change]:
    """The changes of one series, in order of time."""
    starts, level, spread = _buckets(times, values, rate_ms)
    if len(starts) < _FEWEST:
        return []
    changes: list[_Change] = []
    spread_cuts: list[int] = []
    if (spread > 0).any():
        # The logarithm, as a spread has a long tail upwards; the floor keeps a standing value from being -infinity.
        logarithm = without_season(starts, np.log(spread + 0.01 * np.median(spread[spread > 0])))
        spread_cuts = cuts(logarithm)
        changes = _told("spread", starts, spread_cuts, spread, logarithm.values)
    freed = without_season(starts, level)
    changes += _told("level", starts, cuts(freed, spread_cuts), freed.values, freed.values)
    return sorted(changes)


def _buckets(times: Ints, values: Floats, rate_ms: int) -> tuple[Ints, Floats, Floats]:
    """The start of each bucket that has points, the mean of these, and how much they vary."""
    starts, first, count = np.unique(times // rate_ms * rate_ms, return_index=True, return_counts=True)
    if len(first) == 0:
        return starts, values, values
    level = np.add.reduceat(values, first) / count
    if np.median(count) < _POINTS_FOR_A_SPREAD:
        return starts, level, np.abs(np.diff(level, prepend=level[0]))
    deviations = values - np.repeat(level, count)
    return starts, level, np.sqrt(np.add.reduceat(deviations**2, first) / np.maximum(count - 1, 1))


def _told(kind: str, starts: Ints, places: Sequence[int], shown: Floats, compared: Floats) -> list[_Change]:
    """A row for each place: what is `shown` before and after, and the effect by what was `compared`."""
    deviation = standard_deviation(compared)
    stretches = [slice(start, end) for start, end in pairwise([0, *places, len(starts)])]
    return [
        _Change(
            int(starts[after.start]),
            kind,
            float(shown[before].mean()),
            float(shown[after].mean()),
            float(np.median(compared[after]) - np.median(compared[before])) / deviation if deviation > 0 else np.inf,
        )
        for before, after in pairwise(stretches)
    ]
