"""Prediction intervals from the backtest's residuals: split conformal prediction with normalised scores.

A residual is divided by the scale that its series had *then*, for as long a lead (Lei, G'Sell, Rinaldo, Tibshirani and
Wasserman 2018, section 5.2); the quantiles of these scores, over all series and origins, times the scale now are the
interval. So a machine that suddenly wakes up is in the scores, as large as it was beside what was known of it, and what
is pooled over a fleet is free of unit and size. Both ends have quantiles of their own (as Romano, Patterson and Candes
2019 propose), because load is skewed.

The lead is counted from the last time the series was seen, not from the origin, and the scores of series that were
just seen again after a gap are kept apart: after a gap everything is less certain.
"""

import statistics
from dataclasses import dataclass
from typing import Final

import numpy as np

from analytics.methods.forecasting.backtest import Plan
from analytics.methods.forecasting.grid import Floats
from analytics.methods.forecasting.leads import LEADS, Bools, Known, Seen, known_of, leads_of, places_of

_PRIOR_H: Final = 6.0
"""The spread of a series counts as much as so many hours of its residuals."""
_ENOUGH: Final = 30
"""Scores that a lead needs; with fewer it takes those of the nearest lead that has them, wider for a longer lead."""
_WIDER: Final = 1.05
_EXPERIENCED: Final = 0.5
"""Scores count from when a series had this share of the residuals that it has now: earlier its scale, and the mix of
methods, were less certain than they are now."""
_MANY: Final = 500
_MAX_SCORES: Final = 20_000
_GAUSSIAN: Final = 0.8
"""Mean absolute deviation of a normal distribution with standard deviation 1."""
_MIN_SHARE: Final = 0.02
"""No scale is below this share of the fleet's mean spread: an idle machine may wake up."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The scores of one kind of series: for each lead ascending ones."""

    scores: tuple[Floats, ...]

    @property
    def leads(self) -> list[int]:
        """The leads that have enough scores."""
        return [lead for lead, scores in enumerate(self.scores) if len(scores) >= _ENOUGH]

    @property
    def nearest(self) -> list[int]:
        """For each lead the nearest one with enough scores."""
        return [min(self.leads, key=lambda other: (abs(other - lead), other)) for lead in range(LEADS)]

    def quantiles(self, tail: float) -> tuple[Floats, Floats]:
        """The scores that a share `tail` is below, and above, for each lead."""
        low, high = np.empty(LEADS), np.empty(LEADS)
        for lead, nearest in enumerate(self.nearest):
            scores = self.scores[nearest]
            wider = _WIDER ** max(lead - nearest, 0)
            # Of n scores the (n + 1) tail-th from either end: what makes a conformal interval hold for a small n.
            rank = max(int(tail * (len(scores) + 1)) - 1, 0)
            low[lead], high[lead] = wider * scores[rank], wider * scores[-1 - rank]
        return low, high


@dataclass(frozen=True, slots=True)
class Scores:
    """What the intervals of a fleet are made of."""

    fresh: Pool
    """Scores of series that were seen for most of the day before."""
    stale: Pool
    """Those of the others."""
    ratio: Floats
    """Mean absolute residual over spread, at each origin and at the end: shape (origins + 1, LEADS)."""
    least: Floats
    """No scale is below this: shape (origins + 1,)."""
    days: float
    """How many days of residuals there are, over all series: few days make wider intervals."""

    def pool(self, *, fresh: bool) -> Pool | None:
        """The scores for one kind of series, or else for the other; None where there are too few of both."""
        order = (self.fresh, self.stale) if fresh else (self.stale, self.fresh)
        return next((pool for pool in order if pool.leads), None)


def scores_of(residuals: Floats, seen: Seen, plan: Plan) -> Scores:
    """The scores of a fleet's residuals, shape (n, origins, horizon); `seen` has one moment more, the end."""
    leads = leads_of(seen.age[:, :-1], plan)
    known = known_of(residuals, leads, plan)
    ratio = _ratio(known, seen)
    finite = np.isfinite(seen.spread)
    least = _MIN_SHARE * np.where(finite, seen.spread, 0.0).sum(axis=0) / np.maximum(finite.sum(axis=0), 1)
    scale = _scale(known, seen, ratio, least)[:, :-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        score = residuals / np.take_along_axis(scale, leads, axis=2)
    given = np.isfinite(score)
    experience = known.hours.sum(axis=2)
    experienced = given & (experience[:, :-1] >= _EXPERIENCED * experience[:, -1:])[:, :, None]

    def pool(kind: Bools) -> Pool:
        """A lead has the scores of experienced series, or of all where those are too few."""
        parts = []
        for lead in range(LEADS):
            here = kind[:, :-1, None] & (leads == lead)
            chosen = score[experienced & here]
            parts.append(_thinned(np.sort(chosen if len(chosen) >= _MANY else score[given & here])))
        return Pool(tuple(parts))

    stride = np.diff(plan.origins).min() if len(plan.origins) > 1 else plan.day
    days = float(given.any(axis=2).sum() * stride) / plan.day
    return Scores(pool(seen.fresh), pool(~seen.fresh), ratio, least, days)


def bounds_of(
    residuals: Floats, seen: Seen, plan: Plan, fleet: Scores, levels: tuple[float, ...]
) -> list[tuple[Floats, Floats]]:
    """How far each level reaches from the forecast to the lower and to the upper end: pairs of shape (n, horizon).

    The intervals of levels that rise hold each other. Where nothing could be tried out, they are those of a normal
    distribution with twice the spread of the values.
    """
    places = places_of(seen.age[:, -1], plan)
    known = known_of(residuals, leads_of(seen.age[:, :-1], plan), plan)
    scale = _scale(known, seen, fleet.ratio, fleet.least)[:, -1]
    bounds = []
    for level in levels:
        tail = 0.5 * (1.0 - level)
        fresh, stale = (_reach(scale, fleet, fleet.pool(fresh=fresh), tail) for fresh in (True, False))
        ends = (np.where(seen.fresh[:, -1:], *both) for both in zip(fresh, stale, strict=True))
        low, high = (_between(end, places) for end in ends)
        bounds.append((low, high))
    return bounds


def _between(ends: Floats, places: Floats) -> Floats:
    """Values between those of the leads, shape (n, LEADS), at places of shape (n, horizon)."""
    before = np.minimum(places.astype(np.int64), LEADS - 2)
    share = places - before
    between: Floats = (
        np.take_along_axis(ends, before, 1) * (1 - share) + np.take_along_axis(ends, before + 1, 1) * share
    )
    return between


def _reach(scale: Floats, fleet: Scores, pool: Pool | None, tail: float) -> tuple[Floats, Floats]:
    """How far down and up for each lead: shapes (n, LEADS)."""
    if pool is None:
        reach = 2.0 * statistics.NormalDist().inv_cdf(1.0 - tail) / _GAUSSIAN * scale
        return -reach, reach
    low, high = pool.quantiles(tail)
    few = scale[:, pool.nearest] * (1.0 + 1.0 / (1.0 + fleet.days))
    return few * low, few * high


def _ratio(known: Known, seen: Seen) -> Floats:
    """Residual over spread of the whole fleet, (moments, LEADS); a lead without any has that of a shorter one."""
    weighted = np.where(known.hours > 0, known.hours * seen.spread[:, :, None], 0.0).sum(axis=0)
    ratio = np.divide(known.total.sum(axis=0), weighted, out=np.full(weighted.shape, np.nan), where=weighted > 0)
    for lead in range(1, LEADS):
        ratio[:, lead] = np.where(np.isnan(ratio[:, lead]), ratio[:, lead - 1], ratio[:, lead])
    for lead in range(LEADS - 2, -1, -1):
        ratio[:, lead] = np.where(np.isnan(ratio[:, lead]), ratio[:, lead + 1], ratio[:, lead])
    return np.where(ratio > 0, ratio, _GAUSSIAN)


def _scale(known: Known, seen: Seen, ratio: Floats, least: Floats) -> Floats:
    """The mean absolute residual to expect, shape (n, moments, LEADS); NaN before any value.

    What a series shows at one lead counts for all, in proportion to what they are over the fleet.
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
