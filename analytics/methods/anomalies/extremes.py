"""What a quantity's extremes were, and how surprising a new value is beside them.

Time is cut into blocks, and of each block only the highest and the lowest value stay (declustering: neighbours in time
are not independent, the extremes of blocks nearly are). Extremes beyond a high level have exponential gaps (Pickands
1975; the peaks over threshold that SPOT uses, Siffer et al., KDD 2017). With the m nearest extremes below a value
exceeding their level by `excess` together, the chance that the next one lies a further `gap` away is

    (1 + gap / excess) ** -m

exactly, the unknown scale integrated out. The most extreme blocks of all may have been anomalies themselves: the
`ignored` first ones say nothing about how high is usual, so an event that comes a second time is one again.

Where all values are kept, one between two groups of them is judged too: the distance to the nearest is the gap, so that
a value that is new but not high is found.
"""

import math
import operator
from array import array
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from analytics.methods.anomalies.tuning import Tuning
from analytics.methods.anomalies.usual import pack, unpack

LIMIT: Final = 15.0
"""The highest surprise: beyond it 1 - 10 ** -surprise is 1."""

_SAMPLES_A_BLOCK: Final = 4
_SAMPLED: Final = 0.5
"""The share of the memory from which the scale is taken: the newest half of it."""
_MAX_VALUES_A_BLOCK: Final = 24
_IQR: Final = 1.349
"""The interquartile range of a normal distribution in standard deviations."""
_INNER_90: Final = 3.290
"""The same from the 5th to the 95th percentile."""

_least: Final = np.minimum.reduce


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


class _Values:
    """The newest `size` values, to ask for the nearest."""

    __slots__ = ("_next", "_values", "_view", "size")

    def __init__(self, size: int, values: Sequence[float] = ()) -> None:
        self.size = size
        self._values = array("d", values)
        self._next = len(values) % size
        self._view = np.frombuffer(self._values) if len(values) == size else None
        """The values as numpy has them, as soon as there are all: an array that is looked at cannot grow."""

    def add(self, value: float) -> None:
        place = self._next
        if self._view is None:
            self._values.append(value)
            if place + 1 == self.size:
                self._view = np.frombuffer(self._values)
        else:
            self._values[place] = value
        self._next = place + 1 if place + 1 < self.size else 0

    def distance(self, value: float) -> float:
        """From `value` to the nearest; infinite where there are none."""
        if not self._values:
            return math.inf
        view = np.frombuffer(self._values) if self._view is None else self._view
        return float(_least(np.abs(view - value)))

    def in_order(self) -> "array[float]":
        """The extremes in the order in which they came, the oldest first."""
        full = len(self._values) == self.size
        return self._values[self._next :] + self._values[: self._next] if full else self._values


class Extremes:
    """The extremes of one quantity over the last `memory` blocks; bounded, about 1,300 numbers and the values kept."""

    __slots__ = (
        "_alarm",
        "_blocks",
        "_bounds",
        "_bounds_grain",
        "_every",
        "_factor",
        "_gaps_high",
        "_gaps_low",
        "_grain_share",
        "_high",
        "_highest",
        "_ignored",
        "_learning",
        "_low",
        "_lowest",
        "_measured",
        "_memory",
        "_neighbours",
        "_places",
        "_samples",
        "_scaled_grain",
        "_scarcity",
        "_seen",
        "_usual_high",
        "_usual_low",
        "_values",
        "_window",
        "iqr",
        "ready",
        "scale",
    )

    def __init__(
        self,
        tuning: Tuning,
        *,
        high: bool = True,
        low: bool = True,
        keeps_values: bool = False,
        grain: float | None = None,
    ) -> None:
        """`high`, `low`: which side is watched. With `keeps_values` what is new between known values is found too.

        `grain` stands for the tuning's.
        """
        self._memory, self._window, self._learning = tuning.memory, tuning.window, tuning.learning
        self._neighbours, self._ignored, self._alarm = tuning.neighbours, tuning.ignored, tuning.alarm
        self._grain_share = tuning.grain if grain is None else grain
        self._high = _Window(tuning.memory) if high else None
        self._low = _Window(tuning.memory) if low else None
        """Lowest values with their sign changed, so that both sides are treated alike."""
        self._samples = _Window(max(int(_SAMPLED * tuning.memory), 1) * _SAMPLES_A_BLOCK)
        self._values = _Values(tuning.memory * min(tuning.window, _MAX_VALUES_A_BLOCK)) if keeps_values else None
        self._blocks = 0
        self.ready = False
        """Whether enough blocks are known for a verdict."""
        self._seen = 0
        self._every = tuning.window // _SAMPLES_A_BLOCK
        self._highest = self._lowest = -math.inf
        """Extremes of the block that has begun; the lowest value with its sign changed."""
        self._usual_high = self._usual_low = math.inf
        self._bounds = (math.nan, math.nan)
        self._bounds_grain: float | None = None
        """The grain of which the bounds are, as long as the memory is what it was."""
        self._gaps_low: list[float] = []
        self._gaps_high: list[float] = []
        self._measured = -1
        self._places = (0, 0, 0, 0)
        """Where the quartiles, and the 5th and the 95th percentile, are among so many samples."""
        self._measure()
        self._remember()

    def meet(self, value: float, resolution: float) -> float:
        """How surprising `value` is: -log10 of how many as surprising are expected in a memory's time; 0 to `LIMIT`.

        Then it is known. `resolution` is the smallest difference that means anything, for quantities that never varied.
        """
        # Most values are between both, and this is asked of each quantity of each point: no more calls than that takes.
        negative = -value
        if self.ready and (value > self._usual_high or negative > self._usual_low):
            surprise = self._surprise(value, resolution)
        else:
            surprise = 0.0
        seen = self._seen
        if seen % self._every == 0:
            self._samples.add(value)
            self._measure()
        if self._values is not None:
            self._values.add(value)
        if value > self._highest:
            self._highest = value
        if negative > self._lowest:
            self._lowest = negative
        self._seen = seen = seen + 1
        if seen == self._window:
            self._end_block()
        return surprise

    def bounds(self, resolution: float) -> tuple[float, float]:
        """Between which values no surprise raises an alarm: up to the first gap that is wide enough, on both sides."""
        assert self._high is not None
        assert self._low is not None
        grain = max(self._scaled_grain, resolution) * self._neighbours
        if grain != self._bounds_grain:
            factor = self._factor
            self._bounds = (
                -self._first_gap(self._low.ordered, self._gaps_low, factor, grain),
                self._first_gap(self._high.ordered, self._gaps_high, factor, grain),
            )
            self._bounds_grain = grain
        return self._bounds

    def _surprise(self, value: float, resolution: float) -> float:
        surprise = 0.0
        if self._high is not None and value > self._usual_high:
            surprise = self._beyond(self._high.ordered, value, value, resolution)
        if self._low is not None and -value > self._usual_low:
            surprise = max(surprise, self._beyond(self._low.ordered, -value, value, resolution))
        return min(surprise, LIMIT)

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON."""
        return {
            "high": None if self._high is None else pack(self._high.arrived),
            "low": None if self._low is None else pack(self._low.arrived),
            "samples": pack(self._samples.arrived),
            "values": None if self._values is None else pack(self._values.in_order()),
            "seen": self._seen,
            "begun": [self._highest, self._lowest] if self._seen else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` described, of one that watched the same sides."""
        for side in ("high", "low"):
            if state[side] is not None:
                extremes = unpack(state[side])
                setattr(self, f"_{side}", _Window(self._memory, extremes))
                self._blocks = len(extremes)
        self._samples = _Window(self._samples.size, unpack(state["samples"]))
        if self._values is not None:
            self._values = _Values(self._values.size, unpack(state["values"]))
        self._find_usual()
        self._seen = state["seen"]
        if state["begun"] is not None:
            self._highest, self._lowest = state["begun"]
        self._measure()
        self._remember()

    def _end_block(self) -> None:
        if self._high is not None:
            self._high.add(self._highest)
        if self._low is not None:
            self._low.add(self._lowest)
        self._find_usual()
        self._blocks = min(self._blocks + 1, self._memory)
        self._seen, self._highest, self._lowest = 0, -math.inf, -math.inf
        self._remember()

    def _find_usual(self) -> None:
        """Up to where no value is surprising, whatever lies beside it."""
        if self._high is not None:
            self._usual_high = self._usual(self._high.ordered)
        if self._low is not None:
            self._usual_low = self._usual(self._low.ordered)

    def _usual(self, extremes: "array[float]") -> float:
        usual = len(extremes) - self._ignored
        if usual <= self._neighbours:
            return math.inf
        return extremes[usual - 1 if self._values is None else self._neighbours]

    def _beyond(self, extremes: "array[float]", height: float, value: float, resolution: float) -> float:
        """The surprise on one side; there `value` is as high as `height`, its sign changed on the low side."""
        place = bisect_left(extremes, height, 0, len(extremes) - self._ignored)
        gap = height - extremes[place - 1]
        if self._values is not None:
            higher = bisect_left(extremes, height, place)
            gap = min(gap, height - extremes[higher - 1])
            if higher < len(extremes):
                gap = min(gap, extremes[higher] - height)
        excess = self._excess(extremes, place, max(self._scaled_grain, resolution) * self._neighbours)
        surprise = self._log_odds(gap, excess)
        if surprise > 0 and self._values is not None:
            surprise = self._log_odds(min(gap, self._values.distance(value)), excess)
        return surprise

    def _log_odds(self, gap: float, excess: float) -> float:
        """-log10 of how many new extremes so far from the known ones are expected; 0 where one or more are."""
        if gap <= 0:
            return 0.0
        if excess <= 0:
            return LIMIT
        return max(self._neighbours * math.log10(1 + gap / excess) - self._scarcity, 0.0)

    def _first_gap(self, extremes: "array[float]", gaps: list[float], factor: float, grain: float) -> float:
        """The lowest value above the median extreme that lies `factor` times the excess of its neighbours from any."""
        usual = len(extremes) - self._ignored
        wide = 2 * factor
        least = wide * grain
        for place, gap in enumerate(gaps, len(extremes) - len(gaps)):
            if gap > least and gap > wide * self._excess(extremes, min(place, usual), grain):
                break
        else:
            place = len(extremes)
        return extremes[place - 1] + factor * self._excess(extremes, min(place, usual), grain)

    def _excess(self, extremes: "array[float]", place: int, grain: float) -> float:
        """By how much the extremes before `place` exceed their level, together; at least `grain`."""
        neighbours = self._neighbours
        return sum(extremes[place - neighbours : place]) - neighbours * extremes[place - neighbours - 1] + grain

    def _measure(self) -> None:
        """What changes with the samples: the quantity's robust scale."""
        ordered = self._samples.ordered
        if len(ordered) != self._measured:
            self._measured = len(ordered)
            last = max(len(ordered) - 1, 0)
            low, lowest = int(0.25 * last + 0.5), int(0.05 * last + 0.5)
            self._places = low, last - low, lowest, last - lowest
        low, high, lowest, highest = self._places
        self.iqr = iqr = ordered[high] - ordered[low] if ordered else 0.0
        self.scale = max(iqr / _IQR, (ordered[highest] - ordered[lowest]) / _INNER_90) if ordered else 0.0
        self._scaled_grain = self._grain_share * self.scale

    def _remember(self) -> None:
        """What changes with the blocks: how far the memory is from full, and the gaps between extremes."""
        self._scarcity = math.log10(self._memory / max(self._blocks, 1))
        self.ready = self._blocks >= self._learning
        self._bounds_grain = None
        if self._values is not None and self._low is not None and self._high is not None:
            self._factor = 10 ** ((self._alarm + self._scarcity) / self._neighbours) - 1
            self._gaps_low, self._gaps_high = self._gaps(self._low.ordered), self._gaps(self._high.ordered)

    def _gaps(self, extremes: "array[float]") -> list[float]:
        """The distances from each to the one before, from the median on, as far as there are enough before it."""
        first = max(len(extremes) // 2, self._neighbours + 1)
        return list(map(operator.sub, extremes[first:], extremes[first - 1 :]))
