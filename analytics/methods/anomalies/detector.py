"""The streaming detector.

Five quantities of the stream are watched, each against its own extremes (`analytics.methods.anomalies.extremes`):

- `value`: how far a point is from the median of the points before it;
- `level`: the mean of the last window, and of the last two, which a lasting shift moves although no point is extreme;
- `spread`: the standard deviation of the last window, which falls when a value sticks and rises when it flutters;
- `season`: how far the level is from what it was at this time on the days before, where the day explains most of it.

The most surprising one counts. Everything is learned, anomalies too: what returns is soon usual, and so a new regime is
learned within a few blocks.
"""

import math
from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from analytics.methods.anomalies.extremes import Extremes
from analytics.methods.anomalies.recent import Recent
from analytics.methods.anomalies.season import Season
from analytics.methods.anomalies.tuning import Tuning
from contract.times import DAY_MS

Kind = Literal["", "value", "level", "spread", "season"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION: Final = 1
_WATCHED: Final = ("value", "level", "trend", "spread", "seasonal")
_HUGE: Final = 1e300
"""Beyond it a difference of two values is not a number any more; such values count as missing."""
_RESOLUTION: Final = 1e-3
"""The share of the usual value that a change must have to mean anything in a series that never varied."""
_SEASONAL: Final = 0.5
"""The season counts where deviations from it vary by at most this share of what the level itself varies by."""
_STRONGER: Final = 1.0
"""A verdict is repeated within the quiet time if it is ten times less likely than the one before."""


class Verdict(NamedTuple):
    """What a point is, judged by its past alone."""

    time_ms: int
    value: float
    expected: float
    """The median of the points just before; NaN where there are none."""
    lower: float
    """Between `lower` and `upper` a value is no anomaly by itself. Outside it is one, unless such values have come
    before. Both are NaN while the detector learns."""
    upper: float
    score: float
    """How unusual, in [0, 1]: 1 minus how many as unusual are expected in a week of 5-minute points. 0 where it is
    less than in the quiet time before: then it is not news."""
    anomaly: bool
    """Whether an event begins here, or becomes much stronger."""
    kind: Kind
    """What made the score."""


class Detector:
    """Judges a stream point by point. Bounded memory: about 3,000 numbers, whatever the length of the stream.

    Points come in order of time, at any interval; a gap longer than the last window ends what counts as recent. Values
    that are not finite, or beyond 1e300, count as missing: they get the score 0 and teach nothing.
    """

    def __init__(self, tuning: Tuning | None = None) -> None:
        self.tuning = tuning or Tuning()
        self._recent = Recent(self.tuning.window)
        self._season = Season()
        self._value, self._level, self._trend, self._spread, self._seasonal = (Extremes(self.tuning) for _ in _WATCHED)
        self._count = 0
        self._records: deque[tuple[int, float]] = deque()
        """Points of the quiet time (number, surprise) that no later one surpasses, strongest first."""
        self._last_ms: int | None = None

    def update(self, time: int | datetime, value: float) -> Verdict:
        """The verdict on the next point, which is then learned.

        `time` is in epoch milliseconds, or has a time zone. Raises ValueError for a time without one, or before the
        last.
        """
        time_ms = time if type(time) is int else _epoch_ms(time)
        value = float(value)
        if self._last_ms is not None and time_ms < self._last_ms:
            raise ValueError(f"points come in order of time; {time_ms} comes after {self._last_ms}")
        self._end_recent_after_gap(time_ms)
        self._last_ms = time_ms
        expected = self._recent.median()
        resolution = _RESOLUTION * abs(expected) if expected == expected else 0.0
        lower, upper = self._bounds(expected, resolution)
        if not abs(value) < _HUGE:
            return Verdict(time_ms, value, expected, lower, upper, 0.0, False, "")
        surprise, kind = self._learn(time_ms, value, expected, resolution)
        before = self._strongest_before(surprise)
        if surprise <= before:
            return Verdict(time_ms, value, expected, lower, upper, 0.0, False, "")
        alarm = self.tuning.alarm
        begins = surprise >= alarm and (before < alarm or surprise >= before + _STRONGER)
        return Verdict(time_ms, value, expected, lower, upper, 1 - 10**-surprise, begins, kind)

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON; `from_state` continues exactly there."""
        return {
            "version": _VERSION,
            "tuning": asdict(self.tuning),
            "points": list(self._recent.points),
            "times": list(self._recent.times),
            "season": self._season.state(),
            "extremes": {name: getattr(self, f"_{name}").state() for name in _WATCHED},
            "count": self._count,
            "records": [list(record) for record in self._records],
            "last_ms": self._last_ms,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Detector":
        """The detector that `state` described. Raises ValueError for another version's state."""
        if state.get("version") != _VERSION:
            raise ValueError(f"expected a state of version {_VERSION}, got version {state.get('version')}")
        made = cls(Tuning(**state["tuning"]))
        made._recent = Recent(made.tuning.window, state["points"], state["times"])
        made._season = Season.from_state(state["season"])
        for name, extremes in state["extremes"].items():
            setattr(made, f"_{name}", Extremes.from_state(made.tuning, extremes))
        made._count = state["count"]
        made._records = deque((number, surprise) for number, surprise in state["records"])
        made._last_ms = state["last_ms"]
        return made

    def _end_recent_after_gap(self, time_ms: int) -> None:
        recent = self._recent
        if self._last_ms is not None and recent.full and time_ms - self._last_ms > max(recent.span_ms, 1):
            recent.clear()

    def _bounds(self, expected: float, resolution: float) -> tuple[float, float]:
        if not (self._recent.full and self._value.ready):
            return math.nan, math.nan
        low, high = self._value.bounds(resolution)
        return expected + low, expected + high

    def _learn(self, time_ms: int, value: float, expected: float, resolution: float) -> tuple[float, Kind]:
        """How surprising the point is, and what makes it so; then it is known."""
        surprises: list[tuple[float, Kind]] = [(0.0, "")]
        if self._recent.full:
            surprises.append((_met(self._value, value - expected, resolution), "value"))
        self._recent.add(time_ms, value)
        if self._recent.full:
            level, spread = self._recent.level_and_spread()
            surprises.append((_met(self._level, level, resolution), "level"))
            if self._recent.complete:
                surprises.append((_met(self._trend, self._recent.mean(), resolution), "level"))
            surprises.append((_met(self._spread, spread, resolution), "spread"))
            surprises.append((self._met_season(time_ms, level, resolution), "season"))
        return max(surprises, key=lambda met: met[0])

    def _met_season(self, time_ms: int, level: float, resolution: float) -> float:
        # A window as long as a part of the day has no time of day.
        if self._recent.span_ms > DAY_MS // 4:
            return 0.0
        expected = self._season.expected(time_ms)
        self._season.learn(time_ms, level)
        if expected is None:
            return 0.0
        is_seasonal = self._seasonal.iqr < _SEASONAL * self._level.iqr
        surprise = _met(self._seasonal, level - expected, resolution)
        return surprise if is_seasonal else 0.0

    def _strongest_before(self, surprise: float) -> float:
        """The strongest surprise of the quiet time before this point, which is counted in."""
        records = self._records
        while records and records[0][0] < self._count - self.tuning.quiet:
            records.popleft()
        strongest = records[0][1] if records else 0.0
        if surprise > 0:
            while records and records[-1][1] <= surprise:
                records.pop()
            records.append((self._count, surprise))
        self._count += 1
        return strongest


def _epoch_ms(time: int | datetime) -> int:
    if not isinstance(time, datetime):
        return int(time)
    if time.tzinfo is None:
        raise ValueError(f"expected a moment with a time zone, such as UTC, got {time}")
    return (time - _EPOCH) // timedelta(milliseconds=1)


def _met(extremes: Extremes, value: float, resolution: float) -> float:
    surprise = extremes.surprise(value, resolution) if extremes.ready else 0.0
    extremes.learn(value)
    return surprise
