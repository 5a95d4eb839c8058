"""How long ago a series was seen, and what its residuals were for each lead, as known at each origin."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from analytics.methods.forecasting.backtest import Plan
from analytics.methods.forecasting.grid import Floats

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_EDGES_DAYS: Final = (1 / 24, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16)
_MIDDLES_DAYS: Final = 0.5 * (np.array((1 / 48, *_EDGES_DAYS)) + np.array((*_EDGES_DAYS, 32)))
LEADS: Final = len(_EDGES_DAYS) + 1
"""Leads are told apart up to one hour, three hours, ..., sixteen days, and beyond."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of n series up to each of k moments; shapes (n, k)."""

    age: Ints
    """Steps since the last value."""
    fresh: Bools
    """Whether at least half of the last day was seen."""
    spread: Floats
    """Mean absolute distance from the mean over the last week, or over all where that is empty; NaN before a value."""


@dataclass(frozen=True, slots=True)
class Known:
    """The residuals that were known at each origin, and at the end: shapes (n, origins + 1, LEADS)."""

    total: Floats
    """Sum of their absolute values, times the hours of a step."""
    hours: Floats
    """Their number, times the hours of a step."""


def seen_of(values: Floats, moments: Ints, day: int) -> Seen:
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
    return Seen(age, fresh, spread)


def leads_of(age: Ints, plan: Plan) -> Ints:
    """Which lead each step ahead has, counted from when the series was last seen: (n, moments, horizon)."""
    lead = age[:, :, None] + np.arange(1, plan.horizon + 1)
    found: Ints = np.searchsorted(np.array(_EDGES_DAYS) * plan.day, lead)
    return found


def places_of(age: Ints, plan: Plan) -> Floats:
    """Where each step ahead lies between the middles of the leads, so that nothing jumps: (n, horizon) from 0 on.

    `age` has the shape (n,).
    """
    days = (age[:, None] + np.arange(1, plan.horizon + 1)) / plan.day
    places: Floats = np.interp(np.log(days), np.log(_MIDDLES_DAYS), np.arange(LEADS))
    return places


def known_of(residuals: Floats, leads: Ints, plan: Plan) -> Known:
    """Add up the residuals, shape (n, origins, horizon), by lead and by the origin from which on they are known."""
    n, origins, horizon = residuals.shape
    target = plan.origins[:, None] + np.arange(horizon)
    moment = np.searchsorted(plan.origins, target, side="right")
    cell = (np.arange(n)[:, None, None] * (origins + 1) + moment) * LEADS + leads
    seen = np.isfinite(residuals)
    size, shape = n * (origins + 1) * LEADS, (n, origins + 1, LEADS)
    hours = 24.0 / plan.day
    total = np.bincount(cell[seen], np.abs(residuals[seen]), size).reshape(shape).cumsum(axis=1) * hours
    number = np.bincount(cell[seen], minlength=size).reshape(shape).cumsum(axis=1) * hours
    return Known(total, number)


def _spread(filled: Floats, finite: Bools) -> Floats:
    count = finite.sum(axis=1).astype(np.float64)
    count[count == 0] = np.nan
    off = np.abs(filled - (filled.sum(axis=1) / count)[:, None])
    spread: Floats = np.where(finite, off, 0.0).sum(axis=1) / count
    return spread
