"""Lasting changes of level or spread, seen from afterwards. The method is that of `analytics.methods.segmentation`."""

from collections.abc import Sequence
from datetime import tzinfo
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, is_dask
from analytics.frames.arguments import Duration, duration_ms, zone_name
from analytics.frames.frame import utc
from analytics.frames.kernel import Floats, Ints
from analytics.methods.segmentation import ROUNDING, SHORTEST, cuts, standard_deviation, without_season
from analytics.methods.series import TimeSeries, by_user_on_dask, check_column, on_all_cores, series_of

_COLUMNS: Final = ("user", "time", "kind", "before", "after", "effect")
_FEWEST: Final = 4 * SHORTEST
_POINTS_FOR_A_SPREAD: Final = 4
_AROUND: Final = 3
"""So many buckets before and after its own one the moment of a change is looked for."""


class _Change(NamedTuple):
    time_ms: int
    kind: str
    before: float
    after: float
    effect: float


def change_points(
    frame: AnyFrame, *, column: str = "mean", rate: Duration = "1h", tz: str | tzinfo = "UTC"
) -> AnyFrame:
    """When the level or the spread of each user's `column` changed for at least twelve buckets of `rate`.

    `frame` has an index of times with a time zone, in any order, a numeric `column`, and a column `user` where it is of
    many. `rate` is an InfluxQL duration; days and weeks are those of the time zone `tz`. Returns one row a change,
    sorted by user and time, with the index `time` (UTC): of a level, the value after which it was another one, where
    buckets have several; otherwise the start of the first bucket after the change; and the columns

    ========  ==========================================================================================
    `user`    where `frame` has it
    `kind`    `level` or `spread`
    `before`  the level (mean) or spread (mean standard deviation within a bucket, or mean difference
              between neighbours where buckets have fewer than four points) since the change before,
              without the season
    `after`   the same, until the next change
    `effect`  the difference in standard deviations of the values in one stretch; for `spread`, of the
              logarithm of the spread
    ========  ==========================================================================================

    Needs 48 buckets; users with fewer have no changes. The season is that of the day from four days on, and that of
    the week from three weeks on; with less than three weeks, weekends may look like changes. In two weeks of
    noise without a change, also noise that lasts for some ten hours, fewer than 5 % of series get one. Of a
    Dask DataFrame the result is one too, computed later. Raises FrameError for an index or column that is not right,
    and for such a rate or zone.
    """
    check_column(frame, column)
    work = partial(_changes, column=column, rate_ms=duration_ms(rate, "rate"), tz=zone_name(tz))
    return by_user_on_dask(frame, partial(work, alone=True)) if is_dask(frame) else work(frame, alone=False)


def _changes(frame: pd.DataFrame, *, column: str, rate_ms: int, tz: str, alone: bool) -> pd.DataFrame:
    users, series = series_of(frame, column)
    find = partial(_find_all, rate_ms=rate_ms, tz=tz)
    parts = [find(series)] if alone else on_all_cores(find, series, "looking for changes")
    found = [changes for part in parts for changes in part]
    names = ["all"] * len(series) if users is None else users
    rows = [(user, *change) for user, changes in zip(names, found, strict=True) for change in changes]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    table.index = utc(table.pop("time").to_numpy(np.int64))
    table = table.astype({"before": float, "after": float, "effect": float, "kind": "str"})
    return table.drop(columns="user") if users is None else table.assign(user=pd.Categorical(table["user"]))


def _find_all(series: Sequence[TimeSeries], rate_ms: int, tz: str) -> list[list[_Change]]:
    return [_find(one, rate_ms, tz) for one in series]


def _find(series: TimeSeries, rate_ms: int, tz: str) -> list[_Change]:
    """The changes of one series, in order of time."""
    known = np.isfinite(series.value)
    starts, level, spread, width = _buckets(series.time[known], series.value[known], rate_ms)
    if len(starts) < _FEWEST:
        return []
    clock = utc(starts).tz_convert(tz).tz_localize(None).as_unit("ms").asi8
    changes: list[_Change] = []
    spread_cuts: list[int] = []
    if (spread > 0).any():
        # The logarithm, as a spread has a long tail upwards; the floor keeps a standing value from being -infinity, and
        # what only rounding makes differ from counting.
        usual, largest = float(np.median(spread[spread > 0])), float(np.abs(level).max())
        floor = max(0.01 * usual, ROUNDING * largest)
        logarithm = without_season(starts, np.log(spread + floor), largest / usual, clock)
        spread_cuts = _without_slopes(cuts(logarithm), level, spread, width, floor)
        changes = _told("spread", starts, spread_cuts, spread, logarithm.values)
    freed = without_season(starts, level, 0.0, clock)
    levels = _told("level", starts, cuts(freed, spread_cuts), freed.values, freed.values)
    if len(starts) < known.sum():
        bucket = np.searchsorted(starts, series.time[known], side="right") - 1
        values = series.value[known] - (level - freed.values)[bucket]
        levels = [_to_the_value(change, series.time[known], values, rate_ms) for change in levels]
    return sorted([*changes, *levels])


def _to_the_value(change: _Change, times: Ints, values: Floats, rate_ms: int) -> _Change:
    """The change at the value that parts what lies around its bucket best; `values` are without their season.

    The least squares of two known levels; a value counts no further than these, so that one alone moves nothing.
    """
    begin, end = np.searchsorted(times, [change.time_ms - _AROUND * rate_ms, change.time_ms + _AROUND * rate_ms])
    low, high = sorted([change.before, change.after])
    beyond = (np.clip(values[begin:end], low, high) - (low + high) / 2) * np.sign(change.after - change.before)
    place = int(np.argmin(np.concatenate([[0.0], np.cumsum(beyond)])))
    if not 0 < place < end - begin:
        return change
    return change._replace(time_ms=int(times[begin + place]))


def _without_slopes(places: list[int], level: Floats, spread: Floats, width: Floats, floor: float) -> list[int]:
    """The places at which the spread is another one for more than that the level rises faster or slower from there."""
    kept = []
    edges = [0, *places, len(level)]
    for start, place, end in zip(edges, edges[1:], edges[2:], strict=False):
        sides = slice(start, place), slice(place, end)
        told = [float(spread[side].mean()) for side in sides]
        left = [_beside_slope(level[side], spread[side], width[side]) for side in sides]
        seen, rest = (abs(np.log((after + floor) / (before + floor))) for before, after in (told, left))
        if rest >= seen / 2:
            kept.append(place)
    return kept


def _beside_slope(level: Floats, spread: Floats, width: Floats) -> float:
    """The mean spread of a stretch of buckets without what a steady rise adds to it."""
    rises = np.diff(level)
    slope = float(np.median(rises))
    if np.isnan(width).any():
        return float(np.abs(rises - slope).mean())
    return float(np.sqrt(np.maximum(spread**2 - (slope * width) ** 2, 0.0)).mean())


def _buckets(times: Ints, values: Floats, rate_ms: int) -> tuple[Ints, Floats, Floats, Floats]:
    """The start of each bucket that has points, the mean of these, and how much they vary.

    Last the standard deviation of their times, in buckets; NaN where a bucket varies by what it differs from its
    neighbour.
    """
    starts, first, count = np.unique(times // rate_ms * rate_ms, return_index=True, return_counts=True)
    if len(first) == 0:
        return starts, values, values, values
    level = np.add.reduceat(values, first) / count
    if np.median(count) < _POINTS_FOR_A_SPREAD:
        return starts, level, np.abs(np.diff(level, prepend=level[0])), np.full(len(level), np.nan)
    place = (times - np.repeat(starts, count)) / rate_ms
    spread, width = (
        np.sqrt(np.add.reduceat((each - np.repeat(mean, count)) ** 2, first) / np.maximum(count - 1, 1))
        for each, mean in ((values, level), (place, np.add.reduceat(place, first) / count))
    )
    return starts, level, spread, width


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
