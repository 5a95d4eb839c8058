"""What a quantity usually is: at this time of the day or the week, and over its last points; states packed as text."""

import math
from array import array
from base64 import b64decode, b64encode
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Sequence
from sys import byteorder
from typing import Any, Final

from contract.times import DAY_MS


def pack(values: Iterable[float]) -> str:
    """The numbers as doubles, little-endian, in base64."""
    numbers = array("d", values)
    if byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()


def unpack(text: str) -> "array[float]":
    """What `pack` was given."""
    numbers = array("d", b64decode(text))
    if byteorder == "big":
        numbers.byteswap()
    return numbers


_SLOT_MS: Final = 900_000
_SLOTS: Final = DAY_MS // _SLOT_MS
_WEEKS: Final = 3
_WEEK: Final = 7
_ROWS: Final = _WEEKS * _WEEK + 1
"""Days that are kept: three weeks, and the one that is being learned."""
_FEWEST: Final = 2
_NEVER: Final = -(1 << 62)


class Season:
    """The last value in each quarter of an hour of the last three weeks; bounded, 2,112 numbers.

    Days are those of UTC.
    """

    __slots__ = ("_answer", "_asked", "_days", "_last", "_values")

    def __init__(self) -> None:
        self._days = [_NEVER] * _ROWS
        """Of which day since the epoch the values of a row are."""
        self._values = array("d", [math.nan]) * (_ROWS * _SLOTS)
        """Day by day; NaN where nothing was seen."""
        self._last: tuple[int, float] | None = None
        self._asked: int | None = None
        self._answer: float | None = None
        """What was answered last; it holds until something is learned of the same time of day."""

    def expected(self, time_ms: int) -> float | None:
        """The median of the same time on the same weekday, or, before two such are known, on the last seven days.

        None where fewer than two of those are known either.
        """
        number = time_ms // _SLOT_MS
        if self._asked != number:
            day, slot = divmod(number, _SLOTS)
            known = self._known(slot, range(day - _WEEKS * _WEEK, day, _WEEK))
            if len(known) < _FEWEST:
                known = self._known(slot, range(day - _WEEK, day))
            self._asked, self._answer = number, _median(known) if len(known) >= _FEWEST else None
        return self._answer

    def learn(self, time_ms: int, value: float) -> None:
        """Take a value into the memory."""
        number = time_ms // _SLOT_MS
        if self._last is not None and self._last[0] != number:
            day, slot = divmod(self._last[0], _SLOTS)
            row = day % _ROWS
            if self._days[row] != day:
                self._days[row] = day
                self._values[row * _SLOTS : (row + 1) * _SLOTS] = array("d", [math.nan]) * _SLOTS
            self._values[row * _SLOTS + slot] = self._last[1]
            if slot == number % _SLOTS:
                self._asked = None  # after a gap of whole days
        self._last = (number, value)

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON."""
        rows = [row for row, day in enumerate(self._days) if day != _NEVER]
        return {
            "days": [[self._days[row], pack(self._values[row * _SLOTS : (row + 1) * _SLOTS])] for row in rows],
            "last": None if self._last is None else list(self._last),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Season":
        """The season that `state` described."""
        made = cls()
        for day, values in state["days"]:
            row = day % _ROWS
            made._days[row] = day
            made._values[row * _SLOTS : (row + 1) * _SLOTS] = unpack(values)
        if state["last"] is not None:
            made._last = (state["last"][0], state["last"][1])
        return made

    def _known(self, slot: int, days: range) -> list[float]:
        found = [self._values[row * _SLOTS + slot] for day in days if self._days[row := day % _ROWS] == day]
        return [value for value in found if value == value]


def _median(values: list[float]) -> float:
    """As `statistics.median`, which looks at more kinds of values."""
    values.sort()
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


_SAFE: Final = 1e-280
"""A sum of squares above has lost nothing,"""
_HUGE: Final = 1 / _SAFE
"""and one below has not overflowed."""


class Recent:
    """The newest `2 * window` points; level and spread are those of the newest `window`."""

    __slots__ = ("_newest", "_ordered", "_window", "complete", "full", "points", "times")

    def __init__(self, window: int, points: Sequence[float] = (), times: Sequence[int] = ()) -> None:
        self._window = window
        self.full = len(times) >= window
        """Whether there is a window."""
        self.complete = len(points) >= 2 * window
        """Whether there are two windows."""
        self.points = deque(points, 2 * window)
        self._newest = deque(points, window)
        self.times = deque(times, window)
        self._ordered = sorted(points)

    @property
    def span_ms(self) -> int:
        """From the first to the last point of the window."""
        return self.times[-1] - self.times[0]

    def median(self) -> float:
        """Of all points; NaN without any."""
        ordered = self._ordered
        count = len(ordered)
        if not count:
            return math.nan
        low, high = ordered[(count - 1) // 2], ordered[count // 2]
        return low if low == high else low / 2 + high / 2

    def add(self, time_ms: int, value: float) -> None:
        """Take a point; the oldest one goes."""
        ordered = self._ordered
        if self.complete:
            del ordered[bisect_left(ordered, self.points[0])]
        self.points.append(value)
        self._newest.append(value)
        self.times.append(time_ms)
        insort(ordered, value)
        if not self.complete:
            self.full = len(self.times) == self._window
            self.complete = len(ordered) == 2 * self._window

    def mean(self) -> float:
        """The mean of all points."""
        return math.fsum(self.points) / len(self.points)

    def level_and_spread(self) -> tuple[float, float]:
        """Mean and standard deviation (of the sample) of the window."""
        window = self._newest
        count = len(window)
        level = math.fsum(window) / count
        squares = sum([(deviation := value - level) * deviation for value in window])
        if _SAFE < squares < _HUGE:
            return level, math.sqrt(squares / (count - 1))
        deviations = [value - level for value in window]
        widest = max(map(abs, deviations))
        if widest == 0:
            return level, 0.0
        # Scaled before it is squared, so that neither tiny nor huge values are lost.
        squares = sum([(deviation / widest) ** 2 for deviation in deviations])
        return level, widest * math.sqrt(squares / (count - 1))

    def clear(self) -> None:
        """Forget all points."""
        self.points.clear()
        self._newest.clear()
        self.times.clear()
        self._ordered.clear()
        self.full = self.complete = False
