"""Lasting changes of level or spread, seen from afterwards.

A change is where the mean of a series changes, in noise whose neighbours are alike. The series is freed of the daily or
weekly season, and cut where that lowers the squared error by more than a penalty: PELT (Killick, Fearnhead and Eckley,
JASA 107, 2012; `ruptures`, Truong, Oudre and Vayatis, Signal Processing 167, 2020). The penalty of a cut is
`3 * V * log(n)`, the leading term of the modified BIC (Zhang and Siegmund, Biometrics 63, 2007), with the long-run
variance V in the place of the variance (Lavielle and Moulines, J. Time Series Analysis 21, 2000). V comes from medians
of differences over 1, 2, 3 and more places, which a few changes or spikes do not move (as Chakar et al., Bernoulli 23,
2017, estimate an AR(1)).

What rises or falls steadily has no place where its mean changes, but is cut too: a cut stays only where two means fit
what lies on both its sides better than one straight line does, by part of the same penalty; those that fit worst go
first.
"""

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
from analytics.methods.series import TimeSeries, by_user_on_dask, check_column, on_all_cores, series_of
from contract.times import DAY_MS, WEEK_MS

SHORTEST: Final = 12
"""Places between two cuts."""
_PENALTY: Final = 3.0
ROUNDING: Final = 1e-6
"""Of the largest value: what varies by less is taken not to vary. Single precision rounds to some 1e-7."""
_STEP: Final = 1.0
"""How much better than a line two means must fit, in log(n) long-run variances."""
_CLIP: Final = 3.0
"""Standard deviations around the running median beyond which a value counts no further, so that spikes make no cuts."""
_LONGEST_LAG: Final = 48
_NORMAL: Final = 0.6745
"""The median of the absolute value of a standard normal variable."""
_MOST: Final = 0.7
_MOST_NORMAL: Final = 0.3097
"""The mean of the lowest 70 % of squares of a standard normal variable."""
_DAYS_FOR_A_DAY, _DAYS_FOR_A_WEEK = 4, 21
_WEEK_LEAVES: Final = 0.5
"""The share of the variance that the week may leave. Few weeks fit by chance; this is far more."""
_WHOLE_PERIOD: Final = 0.9


class Freed(NamedTuple):
    """Values without their season."""

    values: Floats
    lost: float
    """How much larger the variance is than what is left of it."""
    least: float
    """The standard deviation that rounding alone may make."""


def without_season(starts: Ints, values: Floats, exact: float, clock: Ints) -> Freed:
    """Without what the time of the day adds, and that of the week where it explains half of what is left.

    `starts` are epoch milliseconds, and `clock` is what a clock of the place showed then, as if it were UTC. Needs four
    days for the day and three weeks for the week. `exact` is the size of the numbers that the values were made of,
    where that is larger than they are.
    """
    least = ROUNDING * max(float(np.abs(values).max()), exact)
    span = int(starts[-1] - starts[0])
    lost = 1.0
    for period_ms, days, may_leave in ((DAY_MS, _DAYS_FOR_A_DAY, 1.0), (WEEK_MS, _DAYS_FOR_A_WEEK, _WEEK_LEAVES)):
        if span < days * DAY_MS:
            break
        freed, left = _without_period(starts, values, clock % period_ms, period_ms)
        if left <= may_leave:
            # The mean of k periods takes 1/k of the variance with it.
            values, lost = freed, lost / (1 - period_ms / span)
    return Freed(values, lost, least)


def cuts(freed: Freed, even: Sequence[int] = ()) -> list[int]:
    """The places from which the mean is another one, in order.

    Between the places `even` (in order) the spread of the values is the same; the widest counts, so that a stretch that
    scatters more is not cut for it.
    """
    from ruptures import KernelCPD

    values = freed.values
    parts = [values[start:end] for start, end in pairwise([0, *even, len(values)])]
    long = [part for part in parts if len(part) >= 4 * SHORTEST] or [values]
    variance, long_run = np.max([_variances(part) for part in long], axis=0) * freed.lost
    variance, long_run = max(variance, freed.least**2), max(long_run, freed.least**2)
    if long_run <= 0:
        return []
    middle = pd.Series(values).rolling(2 * SHORTEST + 1, center=True, min_periods=SHORTEST + 1).median().to_numpy()
    clipped = np.clip(values, middle - _CLIP * variance**0.5, middle + _CLIP * variance**0.5)
    standardised = (clipped - np.median(clipped)) / long_run**0.5
    search = KernelCPD(kernel="linear", min_size=SHORTEST).fit(standardised[:, np.newaxis])
    ends: list[int] = search.predict(pen=_PENALTY * np.log(len(values)))
    return _without_slopes(standardised, ends[:-1])


def _without_slopes(values: Floats, places: list[int]) -> list[int]:
    """The places at which values, in long-run standard deviations, step rather than go on rising or falling."""
    margin = _STEP * np.log(len(values))
    while places:
        edges = [0, *places, len(values)]
        better = [
            _around_line(values[start:end]) - _around_mean(values[start:middle]) - _around_mean(values[middle:end])
            for start, middle, end in zip(edges, edges[1:], edges[2:], strict=False)
        ]
        worst = int(np.argmin(better))
        if better[worst] > margin:
            break
        places = places[:worst] + places[worst + 1 :]
    return places


def _around_mean(values: Floats) -> float:
    """The sum of squares around the mean."""
    return float(((values - values.mean()) ** 2).sum())


def _around_line(values: Floats) -> float:
    """The sum of squares around the straight line that fits best."""
    place = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(place @ values / (place @ place))
    return _around_mean(values - slope * place)


def standard_deviation(values: Floats) -> float:
    """Of a value about its level, whatever that does; 0 for a constant."""
    return float(_variances(values)[0] ** 0.5)


def _without_period(starts: Ints, values: Floats, phase: Ints, period_ms: int) -> tuple[Floats, float]:
    """Without what the time in the period, its `phase`, adds, and the share of the variance in periods that is left.

    The season is the median of what lies beside the running mean of a whole period, which a change moves for one
    period only. At the edges, where no whole period is around, that mean would have a season itself.
    """
    series = pd.Series(values, index=pd.to_datetime(starts, unit="ms"))
    whole = int(_WHOLE_PERIOD * period_ms / np.median(np.diff(starts)))
    window = pd.Timedelta(period_ms, "ms")
    rest = series - series.rolling(window, center=True, closed="left", min_periods=whole).mean()
    usual = rest.groupby(phase).transform("median").fillna(0.0)
    usual -= usual.mean()
    before = float(rest.var())
    return values - usual.to_numpy(), float((rest - usual).var()) / before if before > 0 else 1.0


def _variances(values: Floats) -> tuple[float, float]:
    """The variance of a value about its level, and the long-run variance (that of a mean of n values, times n).

    Half the squared median difference over a lag is the variance less the autocovariance at that lag; over long lags
    the autocovariance is gone. Summed until the autocorrelation is first 0.
    """
    lags = np.arange(1, max(6, min(_LONGEST_LAG, len(values) // 8)) + 1)
    squares = [np.sort((values[lag:] - values[:-lag]) ** 2) for lag in lags]
    halves = np.array([np.median(each) for each in squares]) / _NORMAL**2 / 2
    if 2 * len(np.unique(values)) < len(values):
        # The median of values that are rounded coarsely is one of a few numbers, often 0; the mean of most is not.
        halves = np.maximum(halves, [each[: int(_MOST * len(each))].mean() / _MOST_NORMAL / 2 for each in squares])
    variance = float(halves[len(lags) // 2 :].mean())
    if variance <= 0:
        return 0.0, 0.0
    correlations = 1 - halves / variance
    gone = np.flatnonzero(correlations <= 0)
    positive = correlations[: gone[0]] if len(gone) else correlations
    return variance, variance * float(1 + 2 * positive.sum())


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
        spread_cuts = _without_ramps(cuts(logarithm), level, spread, width, floor)
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


def _without_ramps(places: list[int], level: Floats, spread: Floats, width: Floats, floor: float) -> list[int]:
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
