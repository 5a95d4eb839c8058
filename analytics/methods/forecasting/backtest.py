"""Rolling-origin backtest of all methods, and the mix of them that it leads to.

At each origin every method forecasts from what was known then, and is scored on the actual values. The mix at an origin
weighs the methods by the errors that were *known at that origin*: so its own errors, of which the intervals are
made, are what somebody would have seen who had used it all along (prequential: Dawid 1984), and nothing that
comes later changes them.

Weights are powers of the inverse error: close to the mean of the good methods, which is hard to beat (Bates and
Granger 1969; Wang, Hyndman, Li and Kang 2023), while one that is clearly better takes nearly all. Where a series
has little past, its errors are shrunk towards those of its fleet.
"""

import heapq
import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from analytics.methods.forecasting.grid import Floats
from analytics.methods.forecasting.methods import BASELINE, Past, forecasts, knows_weeks, names

_POWER: Final = 10.0
_MAX_ORIGINS: Final = 48
_MAX_ORIGINS_OF_A_FLEET: Final = 24
"""Series that share their experience need less of their own."""
_FLEET: Final = 256
_PRIOR_DAYS: Final = 1.0
"""The fleet's errors count as much as so many days of forecasts of the series itself."""
_HALF_LIFE_DAYS: Final = 7.0
"""Errors count half as much after so long: what a host did before it changed tells little."""
_EIGHTHS: Final = (1, 3, 5, 9, 17, 33, 65, 129, 257)
"""Distances of origins in eighths of a day: odd, so that they fall on each eighth of the day in turn."""


@dataclass(frozen=True, slots=True)
class BacktestPlan:
    """What is forecast, and from where in the past it is tried out."""

    day: int
    """Steps a day."""
    horizon: int
    origins: npt.NDArray[np.int64]
    """Ascending steps of the grid; an origin knows the steps before it. May be empty."""
    spans: tuple[slice, ...]
    """The horizon in parts that are weighed by themselves: three hours, a day, all beyond."""
    methods: tuple[str, ...]
    learned: int
    """From this step on the past had every season that is known now: errors from before tell little of what comes."""


def plan_of(values: Floats, day: int, horizon: int, start: int = 0) -> BacktestPlan:
    """The plan for the histories `values`, shape (n, T), that began at step `start` since the epoch.

    Origins lie on multiples of their distance since the epoch, so that a longer history shares them, and only
    where something came within a day. The first comes after a day, or after a quarter of a history of less than four.
    """
    n, steps = values.shape
    most = _MAX_ORIGINS_OF_A_FLEET if n > _FLEET else _MAX_ORIGINS
    least = max(min(day, steps // 4), 2)
    arrived = np.append(0, np.cumsum(np.isfinite(values).any(axis=0)))
    for eighths in _EIGHTHS:
        stride = max(eighths * day // 8, 1)
        first = least + (-(start + least)) % stride
        origins = np.arange(first, steps, stride)
        origins = origins[arrived[np.minimum(origins + min(day, horizon), steps)] > arrived[origins]]
        if len(origins) <= most:
            break
    origins = origins[-most:]
    edges = sorted({0, min(max(day // 8, 1), horizon), min(day, horizon), horizon})
    spans = tuple(slice(low, high) for low, high in itertools.pairwise(edges))
    learned = 7 * day if knows_weeks(steps, day) else 0
    return BacktestPlan(day, horizon, origins, spans, tuple(names(steps, day)), learned)


@dataclass(frozen=True, slots=True)
class FleetErrors:
    """The error of each method over a fleet, as a share of the mean of all methods'.

    Shape (origins + 1, methods, spans): as known at each origin, and at the end.
    """

    relative: Floats


@dataclass(frozen=True, slots=True)
class Backtest:
    """What the backtest of n series says."""

    mean: Floats
    """The forecast from the end of the history: shape (n, horizon)."""
    residuals: Floats
    """The actual values minus the mix: shape (n, origins, horizon), NaN where either is missing, and from origins
    before `learned`."""
    error: Floats
    """Mean absolute error of the mix, shape (n,); NaN where nothing could be compared."""
    baseline_error: Floats
    """That of the seasonal naive on the same points."""
    weights: Floats
    """Of each method in the forecast, over the horizon: shape (methods, n), adding up to 1."""
    fleet: FleetErrors


def backtest(values: Floats, plan: BacktestPlan, fleet: FleetErrors | None = None) -> Backtest:
    """Try the methods out on `values`, shape (n, T), and forecast with the mix that did best.

    `fleet` are the errors of the fleet that the series belong to; left out, they are the fleet.
    """
    method_errors = _MethodErrors(plan, len(values), fleet)
    residuals = np.full((len(values), len(plan.origins), plan.horizon), np.nan)
    total, baseline_total, compared = (np.zeros(len(values)) for _ in range(3))
    baseline = plan.methods.index(BASELINE)
    for number, origin in enumerate(plan.origins.tolist()):
        actual = values[:, origin : origin + plan.horizon]
        predicted = forecasts(Past(values[:, :origin], plan.day), plan.methods, actual.shape[1])
        residual = actual - method_errors.mix(predicted, method_errors.weights(number, origin))
        if origin >= plan.learned:
            residuals[:, number, : actual.shape[1]] = residual
        absolute_errors = np.abs(predicted - actual)
        known = np.isfinite(residual)
        total += np.where(known, np.abs(residual), 0.0).sum(axis=1)
        baseline_total += np.where(known, absolute_errors[baseline], 0.0).sum(axis=1)
        compared += known.sum(axis=1)
        method_errors.add(origin, absolute_errors)
    predicted = forecasts(Past(values, plan.day), plan.methods, plan.horizon)
    weights = method_errors.weights(len(plan.origins), None)
    lengths = np.array([span.stop - span.start for span in plan.spans]) / plan.horizon
    with np.errstate(invalid="ignore"):
        errors = total / compared, baseline_total / compared
    return Backtest(
        method_errors.mix(predicted, weights),
        residuals,
        *errors,
        weights @ lengths,
        FleetErrors(method_errors.relative),
    )


class _MethodErrors:
    """The errors of the methods so far, and the weights that follow."""

    def __init__(self, plan: BacktestPlan, n: int, fleet: FleetErrors | None) -> None:
        shape = (len(plan.methods), n, len(plan.spans))
        self._plan = plan
        self._fleet = fleet
        self._waiting: list[list[tuple[int, int, Floats, Floats]]] = [[] for _ in plan.spans]
        self._total, self._count = np.zeros(shape), np.zeros(shape[1:])
        self.relative = np.ones((len(plan.origins) + 1, shape[0], shape[2]))

    def add(self, origin: int, absolute_errors: Floats) -> None:
        """Take the absolute errors from an origin, shape (methods, n, steps), for when each day's will be known."""
        seen = np.isfinite(absolute_errors)
        absolute_errors = np.where(seen, absolute_errors, 0.0)
        for span, waiting in zip(self._plan.spans, self._waiting, strict=True):
            for start in range(span.start, min(span.stop, absolute_errors.shape[2]), self._plan.day):
                day = slice(start, min(start + self._plan.day, span.stop))
                total, count = absolute_errors[:, :, day].sum(axis=2), seen[0, :, day].sum(axis=1)
                heapq.heappush(waiting, (origin + day.stop, origin, total, count))

    def weights(self, number: int, now: int | None) -> Floats:
        """The weights at origin `number`, by what is known at step `now` (None: everything); (methods, n, spans)."""
        self._forget(number)
        for place, waiting in enumerate(self._waiting):
            while waiting and (now is None or waiting[0][0] <= now):
                _, _, total, count = heapq.heappop(waiting)
                self._total[:, :, place] += total
                self._count[:, place] += count
        level = self._total.mean(axis=0)
        relative = np.divide(self._total, level, out=np.ones_like(self._total), where=level > 0)
        counted = self._count > 0
        self.relative[number] = (relative * counted).sum(axis=1) / np.maximum(counted.sum(axis=0), 1)
        self.relative[number][:, ~counted.any(axis=0)] = 1.0
        prior = (self._fleet.relative if self._fleet else self.relative)[number][:, None, :]
        trust = self._count / (self._count + _PRIOR_DAYS * self._plan.day)
        weights = (trust * relative + (1.0 - trust) * prior + 1e-3) ** -_POWER
        normal: Floats = weights / weights.sum(axis=0)
        return normal

    def _forget(self, number: int) -> None:
        """Let what is known fade by the time between the origin before and origin `number`."""
        ends = np.append(self._plan.origins, self._plan.origins[-1:])
        if number:
            kept = 0.5 ** (float(ends[number] - ends[number - 1]) / (_HALF_LIFE_DAYS * self._plan.day))
            self._total *= kept
            self._count *= kept

    def mix(self, predicted: Floats, weights: Floats) -> Floats:
        """The weighted mean of what the methods predicted: shape (n, steps)."""
        parts = [
            np.einsum("cn,cnh->nh", weights[:, :, place], predicted[:, :, span])
            for place, span in enumerate(self._plan.spans)
        ]
        return np.concatenate(parts, axis=1)
