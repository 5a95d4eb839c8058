"""What a quantity's extremes were, and how surprising a new value is beside them.

Time is cut into blocks, and of each block only the highest and the lowest value stay (declustering: neighbours in time
are not independent, the extremes of blocks nearly are). Extremes beyond a high level have exponential gaps (Pickands
1975; the peaks over threshold that SPOT uses, Siffer et al., KDD 2017). With the m nearest extremes below a value
exceeding their level by `excess` together, the chance that the next one lies a further `gap` away is

    (1 + gap / excess) ** -m

exactly, the unknown scale integrated out. Where a value lies between two groups of extremes the distance to the nearer
one is the gap, so that a value that is new but not high is found too.
"""

import math
from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, Final

from analytics.methods.anomalies.tuning import Tuning

LIMIT: Final = 15.0
"""The highest surprise: beyond it 1 - 10 ** -surprise is 1."""

_SAMPLES_A_BLOCK: Final = 4
_IQR: Final = 1.349
"""The interquartile range of a normal distribution in standard deviations."""
_INNER_90: Final = 3.290
"""The same from the 5th to the 95th percentile."""


class _Window:
    """The newest `size` numbers, in order of arrival and sorted; arrays, as a service has thousands of detectors."""

    __slots__ = ("arrived", "ordered", "size")

    def __init__(self, size: int, values: Sequence[float] = ()) -> None:
        self.size = size
        self.arrived = array("d", values)
        self.ordered = array("d", sorted(values))

    def add(self, value: float) -> None:
        if len(self.arrived) == self.size:
            del self.ordered[bisect_left(self.ordered, self.arrived.pop(0))]
        self.arrived.append(value)
        insort(self.ordered, value)


class Extremes:
    """The extremes of one quantity over the last `memory` blocks; bounded, about 500 numbers."""

    __slots__ = (
        "_bounds",
        "_every",
        "_high",
        "_highest",
        "_low",
        "_lowest",
        "_samples",
        "_scarcity",
        "_seen",
        "_tuning",
        "iqr",
        "scale",
    )

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._high = _Window(tuning.memory)
        self._low = _Window(tuning.memory)
        """Lowest values with their sign changed, so that both sides are treated alike."""
        self._samples = _Window(tuning.memory * _SAMPLES_A_BLOCK)
        self._seen = 0
        self._every = tuning.window // _SAMPLES_A_BLOCK
        self._highest = self._lowest = -math.inf
        """Extremes of the block that has begun; the lowest value with its sign changed."""
        self._bounds: tuple[float, float, float] | None = None
        self._measure()

    @property
    def ready(self) -> bool:
        """Whether enough blocks are known for a verdict."""
        return len(self._high.ordered) >= self._tuning.learning

    def surprise(self, value: float, resolution: float) -> float:
        """How surprising `value` is: -log10 of how many as surprising are expected in a memory's time; 0 to `LIMIT`.

        `resolution` is the smallest difference that means anything, for quantities that never varied.
        """
        grain = self._grain(resolution)
        neighbours = self._tuning.neighbours
        above = _log_odds(self._high.ordered, value, neighbours, grain)
        below = _log_odds(self._low.ordered, -value, neighbours, grain)
        surprise = max(above, below) - self._scarcity
        return min(surprise, LIMIT) if surprise > 0 else 0.0

    def bounds(self, resolution: float) -> tuple[float, float]:
        """Between which values no surprise raises an alarm: up to the first gap that is wide enough, on both sides."""
        grain = self._grain(resolution)
        if self._bounds is None or self._bounds[0] != grain:
            neighbours = self._tuning.neighbours
            factor = 10 ** ((self._tuning.alarm + self._scarcity) / neighbours) - 1
            low = -_first_gap(self._low.ordered, factor, neighbours, grain)
            self._bounds = grain, low, _first_gap(self._high.ordered, factor, neighbours, grain)
        return self._bounds[1:]

    def learn(self, value: float) -> None:
        """Take a value into the memory."""
        if self._seen % self._every == 0:
            self._samples.add(value)
            self._measure()
        if value > self._highest:
            self._highest = value
        if -value > self._lowest:
            self._lowest = -value
        self._seen += 1
        if self._seen == self._tuning.window:
            self._high.add(self._highest)
            self._low.add(self._lowest)
            self._seen, self._highest, self._lowest = 0, -math.inf, -math.inf
            self._measure()

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON."""
        return {
            "high": list(self._high.arrived),
            "low": list(self._low.arrived),
            "samples": list(self._samples.arrived),
            "seen": self._seen,
            "begun": [self._highest, self._lowest] if self._seen else None,
        }

    @classmethod
    def from_state(cls, tuning: Tuning, state: dict[str, Any]) -> "Extremes":
        """What `state` described."""
        made = cls(tuning)
        made._high = _Window(tuning.memory, state["high"])
        made._low = _Window(tuning.memory, state["low"])
        made._samples = _Window(tuning.memory * _SAMPLES_A_BLOCK, state["samples"])
        made._seen = state["seen"]
        if state["begun"] is not None:
            made._highest, made._lowest = state["begun"]
        made._measure()
        return made

    def _grain(self, resolution: float) -> float:
        return max(self._tuning.grain * self.scale, resolution) * self._tuning.neighbours

    def _measure(self) -> None:
        """What changes with the memory only: the quantity's robust scale, and how far the memory is from full."""
        ordered = self._samples.ordered
        self.iqr = _range(ordered, 0.25)
        self.scale = max(self.iqr / _IQR, _range(ordered, 0.05) / _INNER_90)
        self._bounds = None
        self._scarcity = math.log10(self._tuning.memory / max(len(self._high.ordered), 1))


def _range(ordered: "array[float]", share: float) -> float:
    """From the quantile `share` to that of `1 - share`."""
    if not ordered:
        return 0.0
    last = len(ordered) - 1
    low = int(share * last + 0.5)
    return ordered[last - low] - ordered[low]


def _log_odds(extremes: "array[float]", value: float, neighbours: int, grain: float) -> float:
    """-log10 of the chance that a new extreme lies as far from the known ones as `value` does."""
    place = bisect_left(extremes, value)
    if place <= neighbours:
        return 0.0
    gap = value - extremes[place - 1]
    if place < len(extremes) and extremes[place] - value < gap:
        gap = extremes[place] - value
    if gap <= 0:
        return 0.0
    excess = _excess(extremes, place, neighbours, grain)
    return neighbours * math.log10(1 + gap / excess) if excess > 0 else LIMIT


def _first_gap(extremes: "array[float]", factor: float, neighbours: int, grain: float) -> float:
    """The lowest value above the median extreme that lies `factor` times the excess of its neighbours from any."""
    for place in range(max(len(extremes) // 2, neighbours + 1), len(extremes)):
        gap = extremes[place] - extremes[place - 1]
        if gap > 2 * factor * grain and gap > 2 * factor * _excess(extremes, place, neighbours, grain):
            break
    else:
        place = len(extremes)
    return extremes[place - 1] + factor * _excess(extremes, place, neighbours, grain)


def _excess(extremes: "array[float]", place: int, neighbours: int, grain: float) -> float:
    """By how much the extremes before `place` exceed their level, together; at least `grain`."""
    return sum(extremes[place - neighbours : place]) - neighbours * extremes[place - neighbours - 1] + grain
