"""The last points of a stream: their median, level and spread."""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Final

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
