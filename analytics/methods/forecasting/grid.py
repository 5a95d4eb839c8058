"""Frames as regular grids: one row a series, one column a step of time, gaps as NaN."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.aggregation import numbered_users
from analytics.frames.checking import number_column
from analytics.frames.frame import FrameError, metric_of
from analytics.methods.series import check_column
from contract.times import DAY_MS, HOUR_MS, format_duration

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_MIN_STEP_MS: Final = 300_000
_MAX_CELLS: Final = 200_000_000
"""1.6 GB. More is a mistake in the step more often than it is a fleet."""


@dataclass(frozen=True, slots=True)
class Grid:
    """n series on T steps of time."""

    values: Floats
    """Shape (n, T); NaN where nothing was seen."""
    users: list[Any] | None
    """Whose each series is; None where the frame names nobody (then n is 1)."""
    start_ms: int
    """The first step, a multiple of `step_ms`: milliseconds since 1970 on the clock on the wall of the zone `tz`."""
    step_ms: int
    tz: str
    end_ms: int
    """The epoch milliseconds of the first step behind the grid."""

    @property
    def day(self) -> int:
        """How many steps a day has."""
        return DAY_MS // self.step_ms

    @property
    def begin(self) -> pd.Timestamp:
        """When the first step begins."""
        wall = pd.Timestamp(self.start_ms, unit="ms")
        return wall.tz_localize(self.tz, ambiguous=True, nonexistent="shift_forward").tz_convert("UTC")

    def ahead(self, count: int) -> tuple[pd.DatetimeIndex, Ints]:
        """The starts (UTC) of `count` steps behind the grid, and which step of the clock on the wall each of them is.

        Where clocks are set forward a step of the wall is left out, where they are set back one is there twice.
        """
        times = self.end_ms + self.step_ms * np.arange(count, dtype=np.int64)
        places = (wall_ms(times, self.tz) - self.start_ms) // self.step_ms - self.values.shape[1]
        return _utc(times), np.maximum(places, 0)


def wall_ms(time_ms: Ints, tz: str) -> Ints:
    """Epoch milliseconds as what the clock on the wall of a zone shows then."""
    if tz == "UTC":
        return time_ms
    shown: Ints = _utc(time_ms).tz_convert(tz).tz_localize(None).as_unit("ms").asi8
    return shown


def _utc(time_ms: Ints) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(time_ms.astype("datetime64[ms]"), name="time").tz_localize("UTC")


def grid_of(frame: pd.DataFrame, column: str, step_ms: int | None, tz: str = "UTC") -> Grid:
    """The `column` of a frame with a UTC index on a regular grid of `step_ms`, aligned to the days of the zone `tz`.

    Its steps are those of the clock on the wall: an hour that is there twice is one step, one that is left out a gap.

    Several rows in one step count as their mean, weighted by `count` where the frame has it, which makes the mean of
    windows exact. Rows of single cores are left out. Steps without rows, and rows without samples or value, are gaps.
    Without `step_ms` the step is that of the frame; where that does not divide a day or is below 5 minutes, it is an
    hour, or 5 minutes for less than two days. Raises FrameError for a frame that cannot be read so, is of several
    metrics, or has no value at all.
    """
    check_column(frame, column)
    if "count" in frame:
        number_column(frame, "count", "count")
    metric_of(frame)
    frame = _hosts(frame)
    values, weights = _columns(frame, column)
    seen = np.isfinite(values) & (weights > 0)
    if not seen.any():
        raise FrameError(f"column {column!r}: expected at least one value, got none")
    time_ms = pd.DatetimeIndex(frame.index).as_unit("ms").asi8[seen]
    values, weights = values[seen], weights[seen]
    series, users = numbered_users(frame[seen])
    step_ms = step_ms or _step_ms(time_ms, series)
    wall = wall_ms(time_ms, tz)
    place = wall // step_ms
    first = int(place.min())
    steps = int(place.max()) - first + 1
    n = 1 if users is None else len(users)
    if n * steps > _MAX_CELLS:
        raise FrameError(
            f"expected at most {_MAX_CELLS:,} steps over all series, got {n:,} series of {steps:,} steps of "
            f"{format_duration(step_ms)}: take a coarser rate"
        )
    cell = series * steps + (place - first)
    total = np.bincount(cell, weights, n * steps)
    summed = np.bincount(cell, weights * values, n * steps)
    grid = np.divide(summed, total, out=np.full(n * steps, np.nan), where=total > 0)
    last = int(time_ms.argmax())
    end_ms = int(time_ms[last] - wall[last] % step_ms) + step_ms
    return Grid(grid.reshape(n, steps), users, first * step_ms, step_ms, tz, end_ms)


def _hosts(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole hosts."""
    for name in ("core", "device"):
        if name in frame and frame[name].notna().any():
            frame = frame[frame[name].isna()]
            if frame.empty:
                raise FrameError(f"expected rows of whole hosts, without a {name}, got rows of single {name}s alone")
    return frame


def _columns(frame: pd.DataFrame, column: str) -> tuple[Floats, Floats]:
    values = frame[column].to_numpy(np.float64, na_value=np.nan)
    if "count" not in frame:
        return values, np.ones(len(frame))
    return values, frame["count"].fillna(0).to_numpy(np.float64)


def _step_ms(time_ms: Ints, series: Ints) -> int:
    """The most frequent distance of two rows of a series, if it is a step to forecast in."""
    order = np.lexsort((time_ms, series))
    distance = np.diff(time_ms[order])[np.diff(series[order]) == 0]
    distance = distance[distance > 0]
    if len(distance):
        found, times = np.unique(distance, return_counts=True)
        usual = int(found[times.argmax()])
        if _MIN_STEP_MS <= usual <= DAY_MS and DAY_MS % usual == 0:
            return usual
    return HOUR_MS if np.ptp(time_ms) >= 2 * DAY_MS else _MIN_STEP_MS
