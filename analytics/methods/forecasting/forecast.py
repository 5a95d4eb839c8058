"""The public function: from a frame to its forecast, the model of each series, and how good it has been."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, tzinfo
from typing import Final, Literal

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, check_frame, is_dask, of_hosts
from analytics.frames.arguments import Duration, duration_ms, moment, numbers, shown, zone_name
from analytics.frames.frame import FrameError, TooFewData
from analytics.frames.resampling import resample
from analytics.methods.forecasting.fleet import Result, forecast_grid
from analytics.methods.forecasting.grid import Floats, Grid, Ints, grid_of, wall_ms
from contract.times import DAY_MS, MAX_RATE_MS, format_duration

_MIN_STEPS: Final = 3
_DASK_RATE: Final = "1h"
_MAX_STEPS: Final = 20_000_000
"""Steps to forecast, over all series: 1 GB of answer."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A forecast, and how far to trust it. Printed, it says so in a few sentences."""

    frame: pd.DataFrame
    """Index `time` (UTC, the start of each step); columns `user` (where the history had it), `mean`, and for each level
    `lower_80`, `upper_80` and so on, in the unit of the history. Sorted by user and time."""
    models: pd.DataFrame
    """One row a user: `user` (where the history had it), `model` in words, `error` and `naive_error` (mean absolute
    errors
    in the backtest, the latter of the seasonal naive on the same points, in the unit of the history; NaN where nothing
    could be tried out), `skill` (1 - error / naive_error), `observed` (steps with a value)."""
    summary: str
    """The same in plain sentences."""

    def __str__(self) -> str:
        return self.summary


def forecast(
    frame: AnyFrame,
    horizon: Duration = "7d",
    levels: Sequence[float] = (0.8, 0.95),
    *,
    column: str = "mean",
    rate: Duration | None = None,
    start: str | date | pd.Timestamp | None = None,
    bounds: tuple[float, float] | Literal["auto"] = "auto",
    tz: str | tzinfo = "UTC",
) -> Forecast:
    """Forecast a column of each user of a frame, with prediction intervals.

    A dozen methods (seasonal naive, means of past days and weeks with a level that holds or fades, a decomposition) are
    tried out on each series' own past from rolling origins, and mixed by the errors they made. Intervals are conformal,
    from the errors that the mix would have made; each is for the values of its step alone, not for a whole day. See
    docs/forecasting.md. The same frame gives the same answer.

    Args:
        frame: A series or a frame: index `time` (UTC), any order; `column`; optionally `user`, and `count`, which then
            weighs the rows of a step. Gaps stay gaps. Rows of single cores are left out. A Dask DataFrame of
            windows is merged to `rate` (by default 1h) on its cluster first.
        horizon: How far to look ahead, a duration such as `24h` or `7d`: at least one step, at most 52 weeks.
        levels: The shares of what will come that intervals are to hold, each in (0, 1).
        column: What to forecast.
        rate: The step, a duration that divides a day; by default that of the frame
            (see `analytics.methods.forecasting.grid`).
        start: The first step to forecast, in UTC where it names no zone; what the frame has from there on is not looked
            at. By default the step after the last one of the whole frame.
        tz: The time zone whose days and weeks repeat, such as `Europe/Berlin`: where its clocks change, the pattern of
            the day changes with them. Answers are in UTC all the same.
        bounds: What the quantity can be, such as (0, inf). "auto" is (0, 1) where all values lie in it, else (0, inf)
            where none is negative, else no bounds.

    Raises:
        FrameError: The frame is not as described, `horizon` or `rate` no duration, `tz` no time zone, or another
            argument is wrong.
        TooFewData: No series has at least three steps with a value before `start`.
    """
    named = _levels(levels)
    _check_bounds(bounds)
    step_ms = None if rate is None else _rate_ms(rate)
    grid = _until(grid_of(_at_hand(frame, column, rate), column, step_ms, zone_name(tz)), start)
    horizon_ms = duration_ms(horizon, "horizon", least_ms=grid.step_ms, most_ms=MAX_RATE_MS)
    steps = horizon_ms // grid.step_ms
    if len(grid.values) * steps > _MAX_STEPS:
        raise FrameError(
            f"horizon: expected at most {_MAX_STEPS:,} steps over all series, got {len(grid.values):,} series of "
            f"{steps:,} steps: take a shorter one, or a coarser rate"
        )
    limits = _limits(grid.values) if bounds == "auto" else bounds
    times, places = grid.ahead(steps)
    result = forecast_grid(grid, int(places.max()) + 1, tuple(named.values()))
    models = _models(grid, result)
    coming = _frame(grid, result, (times, places), list(named), limits)
    return Forecast(
        coming,
        models,
        summary_of(models, grid, result, horizon if isinstance(horizon, str) else format_duration(horizon_ms)),
    )


def _at_hand(frame: AnyFrame, column: str, rate: Duration | None) -> pd.DataFrame:
    """A frame of pandas."""
    if isinstance(frame, pd.Series) and isinstance(column, str):
        frame = frame.to_frame(column)
    check_frame(frame)
    if is_dask(frame):
        merged: pd.DataFrame = resample(of_hosts(frame), rate or _DASK_RATE).compute()
        return merged
    return frame  # type: ignore[no-any-return]


def _levels(levels: Sequence[float]) -> dict[str, float]:
    """The levels by the ending of their columns, ascending."""
    levels = numbers(levels, "levels", "shares between 0 and 1 such as 0.8", lambda level: 0 < level < 1)
    return {f"{100 * level:.10g}": level for level in sorted(set(levels))}


def _check_bounds(bounds: object) -> None:
    if isinstance(bounds, str) and bounds == "auto":
        return
    expected = "a lower and a higher number such as (0, inf), or 'auto'"
    pair = numbers(bounds, "bounds", expected, lambda _: True)
    if len(pair) != 2 or not pair[0] < pair[1]:
        raise FrameError(f"bounds: expected {expected}, got {shown(bounds)}")


def _rate_ms(rate: Duration) -> int:
    step_ms = duration_ms(rate, "rate", most_ms=DAY_MS)
    if DAY_MS % step_ms:
        raise FrameError(f"rate: expected what divides a day, such as 5m, 15m or 1h, got {rate}")
    return step_ms


def _until(grid: Grid, start: str | date | pd.Timestamp | None) -> Grid:
    """The grid up to `start`, without the series that have too little before it."""
    values, end_ms = grid.values, grid.end_ms
    if start is not None:
        first = moment(start, "start")
        begin, end = grid.begin, grid.ahead(1)[0][0]
        moment_ms = np.array([round(first.timestamp() * 1000)])
        ahead_ms = int(wall_ms(moment_ms, grid.tz)[0]) - grid.start_ms
        steps = -(-ahead_ms // grid.step_ms)
        end_ms = int(moment_ms[0]) + steps * grid.step_ms - ahead_ms
        if steps < _MIN_STEPS:
            raise FrameError(f"start: expected a moment later than that of the frame's begin, {begin}, got {first}")
        if steps > values.shape[1] + 366 * grid.day:
            raise FrameError(f"start: expected at most a year behind the end of the frame, {end}, got {first}")
        values = values[:, :steps]
        values = np.pad(values, ((0, 0), (0, steps - values.shape[1])), constant_values=np.nan)
    enough = np.isfinite(values).sum(axis=1) >= _MIN_STEPS
    if not enough.any():
        raise TooFewData(
            f"no series has {_MIN_STEPS} steps of {format_duration(grid.step_ms)} with a value: "
            "take a longer history, or a smaller rate"
        )
    users = None if grid.users is None else [user for user, kept in zip(grid.users, enough, strict=True) if kept]
    return Grid(values[enough], users, grid.start_ms, grid.step_ms, grid.tz, end_ms)


def _limits(values: Floats) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return (0.0 if low >= 0.0 else -np.inf, 1.0 if low >= 0.0 and high <= 1.0 else np.inf)


def _frame(
    grid: Grid, result: Result, ahead: tuple[pd.DatetimeIndex, Ints], named: list[str], limits: tuple[float, float]
) -> pd.DataFrame:
    times, places = ahead
    n, horizon = len(result.mean), len(times)
    columns = {"mean": result.mean}
    for name, (low, high) in zip(named, result.bounds, strict=True):
        columns |= {f"lower_{name}": low, f"upper_{name}": high}
    data = {name: np.clip(values[:, places], *limits).ravel() for name, values in columns.items()}
    index = pd.DatetimeIndex(np.tile(times.asi8, n).astype("datetime64[ms]"), name="time").tz_localize("UTC")
    frame = pd.DataFrame(data, index=index)
    if grid.users is not None:
        users = pd.Categorical.from_codes(np.repeat(np.arange(n), horizon), pd.Index(grid.users))
        frame = pd.concat([pd.Series(users, index, name="user"), frame], axis=1)
    return frame


def _models(grid: Grid, result: Result) -> pd.DataFrame:
    with np.errstate(invalid="ignore", divide="ignore"):
        skill = np.where(result.baseline_error > 0, 1.0 - result.error / result.baseline_error, np.nan)
    named = {} if grid.users is None else {"user": pd.Categorical(grid.users)}
    return pd.DataFrame(
        named
        | {
            "model": [model_of(result.plan.methods, weights) for weights in result.weights.T],
            "error": result.error,
            "naive_error": result.baseline_error,
            "skill": skill,
            "observed": np.isfinite(grid.values).sum(axis=1),
        }
    )


def model_of(methods: Sequence[str], weights: Floats) -> str:
    """The methods that make up most of a mix, the heaviest first: `many days 41 %; last week 23 %; 5 others`."""
    order = np.argsort(-weights, kind="stable")[:3]
    named = [f"{methods[place]} {100 * weights[place]:.0f} %" for place in order if weights[place] >= 0.1]
    others = int((weights >= 0.005).sum()) - len(named)
    if not named:
        return f"{others} methods, none above 10 %"
    rest = [f"{others} {'other' if others == 1 else 'others'}"] if others > 0 else []
    return "; ".join([*named, *rest])


def summary_of(models: pd.DataFrame, grid: Grid, result: Result, horizon: str) -> str:
    """A few sentences on what the forecast rests on."""
    n = len(models)
    whose = "the series" if n == 1 else f"{n:,} series"
    steps = grid.values.shape[1]
    sentences = [f"Forecast of {whose} for {horizon} from {grid.ahead(1)[0][0]:%Y-%m-%d %H:%M} UTC."]
    if n == 1:
        sentences.append(f"Model: a mix of {models['model'].iloc[0]}.")
    sentences.append(_on_skill(models, len(result.plan.origins), whole_days=steps >= 2 * grid.day))
    sentences.append(_on_length(steps, grid))
    if grid.step_ms == DAY_MS:
        sentences.append("Intervals are for the mean of each day.")
    else:
        step = format_duration(grid.step_ms)
        sentences.append(f"Intervals are for each step of {step} by itself: those of a whole day all hold less often.")
    if not result.tried:
        sentences.append("Too little could be tried out: intervals are a guess from the spread of the values.")
    return " ".join(filter(None, sentences))


def _on_length(steps: int, grid: Grid) -> str:
    days = steps / grid.day
    if days < 2:
        long = f"{24 * days:.0f} hours" if days >= 1 / 12 else f"{1440 * days:.0f} minutes"
        return (
            f"The history is {long} long: too short to tell a daily pattern from chance. "
            "Two days are the least, two weeks are good."
        )
    if days < 14:
        return f"The history is {days:.1f} days long: a daily pattern is used, a weekly one needs 14 days."
    return ""


def _on_skill(models: pd.DataFrame, origins: int, *, whole_days: bool) -> str:
    known = models[models["naive_error"].notna()]
    if known.empty:
        return "No forecast could be compared with what came."
    error, naive = known["error"].mean(), known["naive_error"].mean()
    if naive == 0:
        return "In the backtest nothing ever differed from what had been before."
    share = round(100 * error / naive)
    better = "the same" if share == 100 else f"{abs(100 - share)} % {'less' if share < 100 else 'more'}"
    what = "the same time of the day before" if whole_days else "or, without a day before, of the mean so far"
    return (
        f"Tried out from {origins} moments of the past, its mean absolute error was {error:.3g} beside {naive:.3g} "
        f"of the seasonal naive ({what}): {better}."
    )
