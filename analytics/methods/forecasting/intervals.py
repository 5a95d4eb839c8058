"""Prediction intervals from the backtest's residuals: split conformal prediction with normalised scores.

A residual is divided by the scale that its series had *then*, for the same horizon (Lei, G'Sell, Rinaldo, Tibshirani
and Wasserman 2018, section 5.2); the quantiles of these scores, over all series and origins, times the scale now are
the interval. So a host that suddenly wakes up is in the scores, as large as it was beside what was known of it, and
what is pooled over a fleet is free of unit and size. Both ends have quantiles of their own (as Romano, Patterson and
Candes 2019 propose), because load is skewed.

Of what is never negative, the way down is counted by ratios and the way up by differences: `log(actual / forecast)`
below the forecast equals the difference in small and never reaches 0, so that the lower end of a load that always was
well above 0 stays above it, however uncertain the horizon.

A quantile beyond what the errors at hand can show, which few days do at long horizons, is taken from the farthest one,
wider by a power of how far beyond it lies, as in a heavy tail.

The horizon is counted from the last time the series was seen, not from the origin, and the scores of series that were
just seen again after a gap are kept apart: after a gap everything is less certain.
"""

import statistics
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.methods.forecasting.backtest import BacktestPlan
from analytics.methods.forecasting.grid import Floats

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_EDGES_DAYS: Final = (1 / 24, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16)
_FARTHEST_DAYS: Final = 32.0
HORIZON_BINS: Final = len(_EDGES_DAYS) + 1
"""Horizons are told apart up to one hour, three hours, ..., sixteen days, and beyond."""
_PRIOR_H: Final = 6.0
"""The spread of a series counts as much as so many hours of its residuals."""
_ENOUGH: Final = 30
"""Scores that a horizon needs; with fewer it takes those of the nearest one that has them, wider for a longer one."""
_WIDER: Final = 1.05
_EXPERIENCED: Final = 0.5
"""Scores count from when a series had this share of the residuals that it has now: earlier its scale, and the mix of
methods, were less certain than they are now."""
_MANY: Final = 500
_MAX_SCORES: Final = 20_000
_GAUSSIAN: Final = 0.8
"""Mean absolute deviation of a normal distribution with standard deviation 1."""
_MIN_SHARE: Final = 0.02
"""No scale is below this share of the fleet's mean spread: an idle host may wake up."""
_NEAR_ZERO: Final = 0.03
"""Of the forecast: ratios are those of values and forecast above this, so that 0 is a ratio too."""
_TAIL_INDEX: Final = 0.25
"""Of the power by which tails widen beyond the errors at hand: that of a heavy tail (its fourth moment is infinite)."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of n series up to each of k moments; shapes (n, k)."""

    age: Ints
    """Steps since the last value."""
    fresh: Bools
    """Whether at least half of the last day was seen."""
    spread: Floats
    """Mean absolute distance from the mean over the last week, or over all where that is empty; NaN before a value."""


@dataclass(frozen=True, slots=True)
class KnownResiduals:
    """The residuals that were known at each origin, and at the end: shapes (n, origins + 1, HORIZON_BINS)."""

    total: Floats
    """Sum of their absolute values, times the hours of a step."""
    hours: Floats
    """Their number, times the hours of a step."""


def seen_of(values: Floats, moments: Ints, day: int) -> Observed:
    """Age, freshness and spread at each moment, where moment t knows the steps before t."""
    finite = np.isfinite(values)
    steps = np.arange(values.shape[1])
    last = np.maximum.accumulate(np.where(finite, steps, -1), axis=1)
    age = moments - 1 - last[:, moments - 1]
    filled = np.where(finite, values, 0.0)
    fresh, spread = np.empty(age.shape, np.bool_), np.empty(age.shape)
    for place, moment in enumerate(moments.tolist()):
        fresh[:, place] = finite[:, max(moment - day, 0) : moment].sum(axis=1) >= 0.5 * min(day, moment)
        week = slice(max(moment - 7 * day, 0), moment)
        spread[:, place] = _spread(filled[:, week], finite[:, week])
        empty = np.isnan(spread[:, place])
        if empty.any():
            spread[empty, place] = _spread(filled[empty, :moment], finite[empty, :moment])
    return Observed(age, fresh, spread)


def horizon_bins_of(age: Ints, plan: BacktestPlan) -> Ints:
    """Which horizon each step ahead has, counted from when the series was last seen: (n, moments, horizon)."""
    horizon_bin = age[:, :, None] + np.arange(1, plan.horizon + 1)
    found: Ints = np.searchsorted(np.array(_EDGES_DAYS) * plan.day, horizon_bin)
    return found


def bin_positions_of(age: Ints, plan: BacktestPlan) -> Floats:
    """Where each step ahead lies between the middles of the horizons, so that nothing jumps: (n, horizon) from 0 on.

    `age` has the shape (n,).
    """
    steps = age[:, None] + np.arange(1, plan.horizon + 1)
    edges = plan.day * np.array((0, *_EDGES_DAYS, _FARTHEST_DAYS))
    middles = 0.5 * (edges[:-1] + 1 + edges[1:])
    places: Floats = np.interp(np.log(steps), np.log(middles), np.arange(HORIZON_BINS))
    return places


def known_of(residuals: Floats, horizon_bins: Ints, plan: BacktestPlan) -> KnownResiduals:
    """Add up the residuals, shape (n, origins, horizon), by horizon and by the origin from which on they are known."""
    n, origins, horizon = residuals.shape
    target = plan.origins[:, None] + np.arange(horizon)
    moment = np.searchsorted(plan.origins, target, side="right")
    cell = (np.arange(n)[:, None, None] * (origins + 1) + moment) * HORIZON_BINS + horizon_bins
    seen = np.isfinite(residuals)
    size, shape = n * (origins + 1) * HORIZON_BINS, (n, origins + 1, HORIZON_BINS)
    hours = 24.0 / plan.day
    total = np.bincount(cell[seen], np.abs(residuals[seen]), size).reshape(shape).cumsum(axis=1) * hours
    number = np.bincount(cell[seen], minlength=size).reshape(shape).cumsum(axis=1) * hours
    return KnownResiduals(total, number)


def _spread(filled: Floats, finite: Bools) -> Floats:
    count = finite.sum(axis=1).astype(np.float64)
    count[count == 0] = np.nan
    distance = np.abs(filled - (filled.sum(axis=1) / count)[:, None])
    spread: Floats = np.where(finite, distance, 0.0).sum(axis=1) / count
    return spread


@dataclass(frozen=True, slots=True)
class Pool:
    """The scores of one kind of series: for each horizon ascending ones."""

    scores: tuple[Floats, ...]

    @property
    def horizon_bins(self) -> list[int]:
        """The horizons that have enough scores."""
        return [horizon_bin for horizon_bin, scores in enumerate(self.scores) if len(scores) >= _ENOUGH]

    @property
    def nearest(self) -> list[int]:
        """For each horizon the nearest one with enough scores."""
        return [
            min(self.horizon_bins, key=lambda other: (abs(other - wanted), other)) for wanted in range(HORIZON_BINS)
        ]

    def quantiles(self, tail: float) -> tuple[Floats, Floats]:
        """The scores that a share `tail` is below, and above, for each horizon."""
        low, high = np.empty(HORIZON_BINS), np.empty(HORIZON_BINS)
        for horizon_bin, nearest in enumerate(self.nearest):
            scores = self.scores[nearest]
            wider = _WIDER ** max(horizon_bin - nearest, 0)
            # Of n scores the (n + 1) tail-th from either end, which lies between two of them: what makes a conformal
            # interval hold its share for a small n, and no more than that.
            rank = max(tail * (len(scores) + 1) - 1, 0.0)
            ends = np.interp([rank, len(scores) - 1 - rank], np.arange(len(scores)), scores)
            low[horizon_bin], high[horizon_bin] = wider * ends
        return low, high


@dataclass(frozen=True, slots=True)
class Scores:
    """What the intervals of a fleet are made of."""

    fresh: Pool
    """Scores of series that were seen for most of the day before."""
    stale: Pool
    """Those of the others."""
    ratio: Floats
    """Mean absolute residual over spread: shape (HORIZON_BINS,)."""
    least: Floats
    """No scale is below this: shape (origins + 1,)."""
    independent: Floats
    """How many stretches of residuals there are that do not overlap, over all series, at each horizon: (HORIZON_BINS,);
    few make wider intervals."""
    from_zero: bool
    """Whether the values are never negative."""

    def pool(self, *, fresh: bool) -> Pool | None:
        """The scores for one kind of series, or else for the other; None where there are too few of both."""
        order = (self.fresh, self.stale) if fresh else (self.stale, self.fresh)
        return next((pool for pool in order if pool.horizon_bins), None)


def scores_of(values: Floats, residuals: Floats, seen: Observed, plan: BacktestPlan, *, from_zero: bool) -> Scores:
    """The scores of a fleet's residuals, shape (n, origins, horizon); `seen` has one moment more, the end."""
    horizon_bins = horizon_bins_of(seen.age[:, :-1], plan)
    known = known_of(residuals, horizon_bins, plan)
    ratio = _ratio(known, seen)
    finite = np.isfinite(seen.spread)
    least = _MIN_SHARE * np.where(finite, seen.spread, 0.0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    scale = _scale(known, seen, ratio, least)[:, :-1]
    distance = _distance(values, residuals, plan, least[:-1]) if from_zero else residuals
    with np.errstate(invalid="ignore", divide="ignore"):
        score = distance / np.take_along_axis(scale, horizon_bins, axis=2)
    given = np.isfinite(score)
    experience = known.hours.sum(axis=2)
    experienced = given & (experience[:, :-1] >= _EXPERIENCED * experience[:, -1:])[:, :, None]

    def pool(kind: Bools) -> Pool:
        """A horizon has the scores of experienced series, or of all where those are too few."""
        parts = []
        for horizon_bin in range(HORIZON_BINS):
            here = kind[:, :-1, None] & (horizon_bins == horizon_bin)
            chosen = score[experienced & here]
            parts.append(_thinned(np.sort(chosen if len(chosen) >= _MANY else score[given & here])))
        return Pool(tuple(parts))

    return Scores(pool(seen.fresh), pool(~seen.fresh), ratio, least, _independent(given, horizon_bins, plan), from_zero)


def _distance(values: Floats, residuals: Floats, plan: BacktestPlan, least: Floats) -> Floats:
    """How far the actual values lie above the forecast, or below it by their ratio: (n, origins, horizon)."""
    target = plan.origins[:, None] + np.arange(plan.horizon)
    actual = values[:, np.minimum(target, values.shape[1] - 1)]
    middle = np.maximum(actual - residuals, 0.0)
    offset = _NEAR_ZERO * middle + least[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        below = (middle + offset) * np.log((actual + offset) / (middle + offset))
    distance: Floats = np.where(residuals < 0, below, residuals)
    return distance


def _way_down(mean: Floats, distance: Floats, least: float) -> Floats:
    """How far below the forecast a value is at such a distance: the inverse of `_distance`, not positive."""
    middle = np.maximum(mean, 0.0)
    offset = _NEAR_ZERO * middle + least
    whole = middle + offset
    way: Floats = whole * np.expm1(
        np.divide(np.minimum(distance, 0.0), whole, out=np.zeros_like(whole), where=whole > 0)
    )
    return way


def _independent(given: Bools, horizon_bins: Ints, plan: BacktestPlan) -> Floats:
    """Stretches that do not overlap: those as long as the horizon is far, one at least of each series that has any."""
    stride = float(np.diff(plan.origins).min()) if len(plan.origins) > 1 else float(plan.day)
    found = np.empty(HORIZON_BINS)
    for horizon_bin, edge in enumerate((*_EDGES_DAYS, _FARTHEST_DAYS)):
        origins = (given & (horizon_bins == horizon_bin)).any(axis=2)
        found[horizon_bin] = max(origins.sum() * stride / max(edge * plan.day, stride), origins.any(axis=1).sum())
    return found


def bounds_of(
    mean: Floats, residuals: Floats, seen: Observed, plan: BacktestPlan, fleet: Scores, levels: tuple[float, ...]
) -> list[tuple[Floats, Floats]]:
    """How far each level reaches from the forecast `mean` to the lower and to the upper end: pairs of its shape.

    The intervals of levels that rise hold each other. Where nothing could be tried out, they are those of a normal
    distribution with twice the spread of the values.
    """
    places = bin_positions_of(seen.age[:, -1], plan)
    known = known_of(residuals, horizon_bins_of(seen.age[:, :-1], plan), plan)
    scale = _scale(known, seen, fleet.ratio, fleet.least)[:, -1]
    bounds = []
    for level in levels:
        tail = 0.5 * (1.0 - level)
        fresh, stale = (_reach(scale, fleet, fleet.pool(fresh=fresh), tail) for fresh in (True, False))
        ends = (np.where(seen.fresh[:, -1:], *both) for both in zip(fresh, stale, strict=True))
        low, high = (_between(end, places) for end in ends)
        bounds.append((_way_down(mean, low, float(fleet.least[-1])) if fleet.from_zero else low, high))
    return bounds


def _between(ends: Floats, places: Floats) -> Floats:
    """Values between those of the horizons, shape (n, HORIZON_BINS), at places of shape (n, horizon)."""
    before = np.minimum(places.astype(np.int64), HORIZON_BINS - 2)
    share = places - before
    between: Floats = (
        np.take_along_axis(ends, before, 1) * (1 - share) + np.take_along_axis(ends, before + 1, 1) * share
    )
    return between


def _reach(scale: Floats, fleet: Scores, pool: Pool | None, tail: float) -> tuple[Floats, Floats]:
    """How far down and up for each horizon: shapes (n, HORIZON_BINS)."""
    if pool is None:
        reach = 2.0 * statistics.NormalDist().inv_cdf(1.0 - tail) / _GAUSSIAN * scale
        return -reach, reach
    low, high = pool.quantiles(tail)
    beyond = 1.0 / (tail * (1.0 + fleet.independent[pool.nearest]))
    wide = scale[:, pool.nearest] * np.maximum(beyond, 1.0) ** _TAIL_INDEX
    return wide * low, wide * high


def _ratio(known: KnownResiduals, seen: Observed) -> Floats:
    """Residual over spread of the whole fleet, (HORIZON_BINS,); without any, that of the nearest shorter horizon.

    It is that of all residuals, for the scores of early moments too, when little was known of it.
    """
    weighted = np.where(known.hours > 0, known.hours * seen.spread[:, :, None], 0.0)[:, -1].sum(axis=0)
    ratio = np.divide(known.total[:, -1].sum(axis=0), weighted, out=np.full(HORIZON_BINS, np.nan), where=weighted > 0)
    filled = pd.Series(ratio).ffill().bfill().to_numpy()
    return np.where(filled > 0, filled, _GAUSSIAN)


def _scale(known: KnownResiduals, seen: Observed, ratio: Floats, least: Floats) -> Floats:
    """The mean absolute residual to expect, shape (n, moments, HORIZON_BINS); NaN before any value.

    What a series shows at one horizon counts for all, in proportion to what they are over the fleet.
    """
    hours = known.hours.sum(axis=2)
    shown = (known.total / ratio).sum(axis=2)
    own = np.maximum((shown + _PRIOR_H * seen.spread) / (hours + _PRIOR_H), least)
    scale: Floats = own[:, :, None] * ratio
    return scale


def _thinned(ordered: Floats) -> Floats:
    """At most so many, evenly: the tails stay in proportion."""
    if len(ordered) <= _MAX_SCORES:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, _MAX_SCORES).astype(np.int64)]
