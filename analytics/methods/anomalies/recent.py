"""The last points of a stream: their median, level and spread."""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Final

_SAFE: Final = 1e-280
"""A sum of squares above has lost nothing, and one below the inverse has not overflowed."""


class Recent:
    """The newest `2 * window` points; level and spread are those of the newest `window`."""

    __slots__ = ("_ordered", "_window", "points", "times")

    def __init__(self, window: int, points: Sequence[float] = (), times: Sequence[int] = ()) -> None:
        self._window = window
        self.points = deque(points, 2 * window)
        self.times = deque(times, window)
        self._ordered = sorted(points)

    @property
    def full(self) -> bool:
        """Whether there is a window."""
        return len(self.times) == self._window

    @property
    def span_ms(self) -> int:
        """From the first to the last point of the window."""
        return self.times[-1] - self.times[0]

    @property
    def complete(self) -> bool:
        """Whether there are two windows."""
        return len(self.points) == self.points.maxlen

    def median(self) -> float:
        """Of all points; NaN without any."""
        count = len(self._ordered)
        if not count:
            return math.nan
        low, high = self._ordered[(count - 1) // 2], self._ordered[count // 2]
        return low if low == high else low / 2 + high / 2

    def add(self, time_ms: int, value: float) -> None:
        """Take a point; the oldest one goes."""
        if self.complete:
            del self._ordered[bisect_left(self._ordered, self.points[0])]
        self.points.append(value)
        self.times.append(time_ms)
        insort(self._ordered, value)

    def mean(self) -> float:
        """The mean of all points."""
        return math.fsum(self.points) / len(self.points)

    def level_and_spread(self) -> tuple[float, float]:
        """Mean and standard deviation (of the sample) of the window."""
        window = list(self.points)[-self._window :]
        count = len(window)
        level = math.fsum(window) / count
        deviations = [value - level for value in window]
        squares = sum([deviation * deviation for deviation in deviations])
        if _SAFE < squares < 1 / _SAFE:
            return level, math.sqrt(squares / (count - 1))
        widest = max(map(abs, deviations))
        if widest == 0:
            return level, 0.0
        # Scaled before it is squared, so that neither tiny nor huge values are lost.
        squares = sum([(deviation / widest) ** 2 for deviation in deviations])
        return level, widest * math.sqrt(squares / (count - 1))

    def clear(self) -> None:
        """Forget all points."""
        self.points.clear()
        self.times.clear()
        self._ordered.clear()
