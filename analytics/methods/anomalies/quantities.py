"""The quantities of a stream that are watched, each against its own extremes.

- `value`: how far a point is from the median of the points before it;
- `level`: the mean of the last window, and of the last two, which a lasting shift moves although no point is extreme;
- `spread`: the standard deviation of the last window, which rises when a value flutters;
- `stillness`: its logarithm, which falls when a value sticks: beside a spread that is usually small, and may rise a
  hundredfold, only the logarithm tells none from little;
- `season`: how far the level is from what it was at this time on the days or weeks before, where that explains most of
  it.

The most surprising one counts. A stream that falls still is an event of its own, whatever was said of its values just
before.
"""

import math
from typing import Any, Final, Literal, NamedTuple

from analytics.methods.anomalies.extremes import Extremes
from analytics.methods.anomalies.tuning import Tuning
from analytics.methods.anomalies.usual import Recent, Season
from contract.times import DAY_MS

Kind = Literal["", "value", "level", "spread", "season"]

_WATCHED: Final = ("value", "level", "trend", "spread", "stillness", "seasonal")
_RESOLUTION: Final = 1e-3
"""The share of the usual value that a change must have to mean anything in a series that never varied."""
_LONG_GAP: Final = 6
_SEASONAL: Final = 0.4
"""The season counts where deviations from it vary by at most this share of what the level itself varies by."""
_STILL_RESOLUTION: Final = 0.3
"""The fall of a spread's logarithm that is never news: by a quarter. Its own scale says nothing: where a host works
and rests in turn, the logarithm has two humps far from each other."""
_STILL_MARGIN: Final = 0.5
"""A stillness must be three times as rare as other events: quiet hours are many, and seldom of interest."""


class Met(NamedTuple):
    """What is said of a point before it is learned."""

    expected: float
    """The median of the points just before; NaN where there are none."""
    lower: float
    upper: float
    """Between the two a value raises no alarm by itself; NaN while nothing can be said."""
    surprise: float
    """-log10 of how many as surprising are expected in a memory's time; 0 where it is one or more."""
    kind: Kind
    """What made the surprise."""
    stillness: float
    """The same for a stream that fell still."""


_tuple: Final[Any] = tuple.__new__
"""What `Met(...)` comes to, without the function in between: there is one for each point."""


class Quantities:
    """What is known of a stream's quantities."""

    def __init__(self, tuning: Tuning) -> None:
        self._recent = Recent(tuning.window)
        self._season = Season()
        self._value = Extremes(tuning, keeps_values=True)
        self._level, self._trend, self._seasonal = (Extremes(tuning) for _ in range(3))
        self._spread = Extremes(tuning, low=False)
        self._stillness = Extremes(tuning, high=False, grain=0.0)

    def end_recent_after(self, gap_ms: int) -> None:
        """Forget the recent points where the next comes later than six windows last: half a day."""
        if self._recent.full and gap_ms > max(_LONG_GAP * self._recent.span_ms, 1):
            self._recent.clear()

    def expect(self) -> tuple[float, float, float]:
        """The value that is expected next, and the band around it."""
        expected = self._recent.median()
        if not (self._recent.full and self._value.ready):
            return expected, math.nan, math.nan
        low, high = self._value.bounds(_resolution(expected))
        return expected, expected + low, expected + high

    def meet(self, time_ms: int, value: float) -> Met:
        """How surprising the point is, and what makes it so; then it is known."""
        recent = self._recent
        expected, lower, upper = self.expect()
        resolution = _RESOLUTION * abs(expected) if expected == expected else 0.0
        surprise, stillness = 0.0, 0.0
        kind: Kind = ""
        if recent.full:
            surprise = self._value.meet(value - expected, resolution)
            if surprise:
                kind = "value"
        recent.add(time_ms, value)
        if recent.full:
            level, spread = recent.level_and_spread()
            found = self._level.meet(level, resolution)
            if recent.complete:
                found = max(found, self._trend.meet(recent.mean(), resolution))
            if found > surprise:
                surprise, kind = found, "level"
            stillness = self._met_stillness(spread, resolution)
            found = self._spread.meet(spread, resolution)
            if found > surprise:
                surprise, kind = found, "spread"
            found = self._met_season(time_ms, level, resolution)
            if found > surprise:
                surprise, kind = found, "season"
        return _tuple(Met, (expected, lower, upper, surprise, kind, stillness))  # type: ignore[no-any-return]

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON."""
        return {
            "points": list(self._recent.points),
            "times": list(self._recent.times),
            "season": self._season.state(),
            "extremes": {name: getattr(self, f"_{name}").state() for name in _WATCHED},
        }

    @classmethod
    def from_state(cls, tuning: Tuning, state: dict[str, Any]) -> "Quantities":
        """The quantities that `state` described."""
        made = cls(tuning)
        made._recent = Recent(tuning.window, state["points"], state["times"])
        made._season = Season.from_state(state["season"])
        for name in _WATCHED:
            getattr(made, f"_{name}").restore(state["extremes"][name])
        return made

    def _met_stillness(self, spread: float, resolution: float) -> float:
        least = max(spread, resolution, _RESOLUTION * self._spread.scale)
        if least == 0:
            return 0.0  # it never moved
        return max(self._stillness.meet(math.log(least), _STILL_RESOLUTION) - _STILL_MARGIN, 0.0)

    def _met_season(self, time_ms: int, level: float, resolution: float) -> float:
        # A window as long as a part of the day has no time of day.
        if self._recent.span_ms > DAY_MS // 4:
            return 0.0
        expected = self._season.expected(time_ms)
        self._season.learn(time_ms, level)
        if expected is None:
            return 0.0
        is_seasonal = self._seasonal.iqr < _SEASONAL * self._level.iqr
        surprise = self._seasonal.meet(level - expected, resolution)
        return surprise if is_seasonal else 0.0


def _resolution(expected: float) -> float:
    return _RESOLUTION * abs(expected) if expected == expected else 0.0
