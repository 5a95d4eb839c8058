"""Forecasts of a grid: the fleet's experience from a sample of it, then all series in chunks on all cores."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from analytics.frames.progress import progress
from analytics.methods.forecasting.backtest import BacktestPlan, FleetErrors, backtest, plan_of
from analytics.methods.forecasting.grid import Floats, Grid
from analytics.methods.forecasting.intervals import Ints, Scores, bounds_of, scores_of, seen_of

_SAMPLE: Final = 256
"""Series from which the fleet's errors and scores come: evenly spread over it, so that the answer is always one."""
_SAMPLE_CELLS: Final = 20_000_000
_MAX_ROWS: Final = 512
_CELLS: Final = 2_000_000
"""Numbers that a chunk may hold at once in one of its arrays: 16 MB."""


@dataclass(frozen=True, slots=True)
class Result:
    """The forecast of n series over `horizon` steps."""

    plan: BacktestPlan
    mean: Floats
    """Shape (n, horizon)."""
    bounds: list[tuple[Floats, Floats]]
    """For each level the lower and the upper end, each of shape (n, horizon)."""
    error: Floats
    """Mean absolute error in the backtest, shape (n,); NaN where there was none."""
    baseline_error: Floats
    """The seasonal naive's on the same points."""
    weights: Floats
    """Of each method, shape (methods, n)."""
    tried: bool
    """Whether intervals come from errors that were made; otherwise from the spread of the values alone."""


def forecast_grid(grid: Grid, horizon: int, levels: tuple[float, ...]) -> Result:
    """Forecast `horizon` steps behind the end of the grid; `levels` ascend, each in (0, 1)."""
    values = grid.values
    n = len(values)
    plan = plan_of(values, grid.day, horizon, grid.start_ms // grid.step_ms)
    most = min(_SAMPLE, max(_SAMPLE_CELLS // _width(values, plan), 1))
    sample = values if n <= most else values[np.linspace(0, n - 1, most).astype(np.int64)]
    errors, scores = _experience(sample, plan, from_zero=bool(np.nanmin(values) >= 0))

    def one(part: Floats) -> _PartForecast:
        return _forecast(part, plan, errors, scores, levels)

    parts, chunks = [], list(_chunks(values, plan))
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress("forecasting", len(chunks)) as step:
        for part in pool.map(one, chunks):
            parts.append(part)
            step()
    return Result(
        plan,
        np.concatenate([part.mean for part in parts]),
        [
            (
                np.concatenate([part.bounds[place][0] for part in parts]),
                np.concatenate([part.bounds[place][1] for part in parts]),
            )
            for place in range(len(levels))
        ],
        np.concatenate([part.error for part in parts]),
        np.concatenate([part.baseline_error for part in parts]),
        np.concatenate([part.weights for part in parts], axis=1),
        tried=scores.pool(fresh=True) is not None,
    )


@dataclass(frozen=True, slots=True)
class _PartForecast:
    mean: Floats
    bounds: list[tuple[Floats, Floats]]
    error: Floats
    baseline_error: Floats
    weights: Floats


def _experience(sample: Floats, plan: BacktestPlan, *, from_zero: bool) -> tuple[FleetErrors, Scores]:
    """How the methods did over the fleet, and the scores of its mix."""
    tried = backtest(sample, plan)
    seen = seen_of(sample, _moments(sample, plan), plan.day)
    return tried.fleet, scores_of(sample, tried.residuals, seen, plan, from_zero=from_zero)


def _forecast(
    values: Floats, plan: BacktestPlan, errors: FleetErrors, scores: Scores, levels: tuple[float, ...]
) -> _PartForecast:
    tried = backtest(values, plan, errors)
    seen = seen_of(values, _moments(values, plan), plan.day)
    reach = bounds_of(tried.mean, tried.residuals, seen, plan, scores, levels)
    bounds = [
        (np.minimum(tried.mean + low, tried.mean), np.maximum(tried.mean + high, tried.mean)) for low, high in reach
    ]
    return _PartForecast(tried.mean, bounds, tried.error, tried.baseline_error, tried.weights)


def _moments(values: Floats, plan: BacktestPlan) -> Ints:
    return np.append(plan.origins, values.shape[1])


def _chunks(values: Floats, plan: BacktestPlan) -> Iterator[Floats]:
    """Rows that are worked on at once."""
    rows = min(max(_CELLS // _width(values, plan), 1), _MAX_ROWS)
    for first in range(0, len(values), rows):
        yield values[first : first + rows]


def _width(values: Floats, plan: BacktestPlan) -> int:
    """The numbers that a series takes in the largest array."""
    steps: int = values.shape[1]
    return max(max(len(plan.methods), len(plan.origins)) * plan.horizon, min(steps, 28 * plan.day))
