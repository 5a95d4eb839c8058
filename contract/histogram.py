"""Histograms that merge by adding counts: equal bins for bounded values, logarithmic ones for the rest.

Two ways to place a value into a bin, both fixed for good, so that any two histograms of a metric merge:

`LINEAR`
    64 equal bins over (0, 1), numbered from 0: the middle of a bin is at most 1/128 from any value in it. Exactly 0 and
    exactly 1, idle and saturated, have bins of their own before and behind them, -1 and 64, and so are told exactly
    however often histograms are merged. Histograms of agents that know none of these two have such samples in bins 0
    and 63, with the error of a bin; the two kinds merge.
`LOGARITHMIC`
    Bin i holds (g^(i-1), g^i] with g = (1 + a) / (1 - a) and a = 0.01: the value given for a bin is
    within 1 % of any value in it. This is the mapping of DDSketch (Masson, Rim and Lee, VLDB 2019).

A histogram itself is a mapping from bin to count. On the wire it is a flat list,
`[bin, count, bin, count, ...]`, bins ascending and counts above 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol


class Bins(Protocol):
    """How values are placed into bins."""

    first: int
    """The lowest bin."""
    last: int
    """The highest bin."""

    def index(self, value: float) -> int:
        """The bin of `value`; raises ValueError where the value is outside the range."""

    def value(self, index: int) -> float:
        """The value that stands for all values of a bin, chosen for the smallest error."""


class LinearBins:
    """`bins` equal bins over (0, 1), and one each for exactly 0 and exactly 1."""

    def __init__(self, bins: int) -> None:
        self.bins = bins
        """How many equal bins there are, numbered from 0."""
        self.first = -1
        self.last = bins

    def index(self, value: float) -> int:
        """The bin of `value` in [0, 1]; raises ValueError outside."""
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"expected a share in [0, 1], got {value}")
        # 1.0 times the number of bins is the last one's number.
        return int(value * self.bins) if value > 0.0 else self.first

    def value(self, index: int) -> float:
        """The middle of an equal bin, at most half a bin from any value in it; 0 and 1 exactly."""
        return min(max((index + 0.5) / self.bins, 0.0), 1.0)


class LogarithmicBins:
    """Bins whose bounds grow by a constant factor: relative error `accuracy` for any value.

    Values below `smallest` (0 among them) share the bin `first`, which stands for 0; values above
    `largest` share the last bin.
    """

    def __init__(self, accuracy: float, smallest: float, largest: float) -> None:
        self._growth = (1 + accuracy) / (1 - accuracy)
        self._log_growth = math.log(self._growth)
        self._smallest = smallest
        self._largest = largest
        self.first = math.ceil(math.log(smallest) / self._log_growth) - 1
        self.last = math.ceil(math.log(largest) / self._log_growth)

    def index(self, value: float) -> int:
        """The bin of `value` >= 0; raises ValueError for a negative value or NaN."""
        if not value >= 0.0:
            raise ValueError(f"expected a number of at least 0, got {value}")
        if value < self._smallest:
            return self.first
        if value >= self._largest:
            return self.last
        return math.ceil(math.log(value) / self._log_growth)

    def value(self, index: int) -> float:
        """2 g^i / (g + 1), which has the same relative error to both bounds of the bin."""
        if index <= self.first:
            return 0.0
        return 2.0 * math.exp(index * self._log_growth) / (self._growth + 1.0)


LINEAR = LinearBins(64)
LOGARITHMIC = LogarithmicBins(accuracy=0.01, smallest=1e-3, largest=1e15)


def flatten(counts: Mapping[int, int]) -> list[int]:
    """The wire form of a histogram: `[bin, count, ...]`, bins ascending, empty bins left out."""
    return [number for bin_ in sorted(counts) if counts[bin_] for number in (bin_, counts[bin_])]


def unflatten(flat: Sequence[int]) -> dict[int, int]:
    """The histogram of a wire form; raises ValueError where a bin has no count."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def count_values(values: Iterable[float], bins: Bins) -> dict[int, int]:
    """The histogram of `values`."""
    counts: dict[int, int] = {}
    for value in values:
        index = bins.index(value)
        counts[index] = counts.get(index, 0) + 1
    return counts


def deal_out(weights: Mapping[int, float], count: int) -> dict[int, int]:
    """The histogram of `count` observations dealt out to bins in proportion to their weights, each above 0.

    From the lowest bin to the highest, each gets what brings the observations so far nearest to their share: up to any
    bin, the number is right within half an observation.
    """
    total = math.fsum(weights.values())
    counts: dict[int, int] = {}
    weight = 0.0
    dealt = 0
    for bin_ in sorted(weights):
        weight += weights[bin_]
        # The sum of all may differ from `total` in its last bits, by which nothing must be lost.
        due = min(count, round(count * (weight / total)))
        if due > dealt:
            counts[bin_] = due - dealt
            dealt = due
    return counts


def quantile(
    counts: Mapping[int, int], q: float, bins: Bins, minimum: float = -math.inf, maximum: float = math.inf
) -> float:
    """The `q`-quantile (0 to 1) of the values counted, all from `minimum` to `maximum`.

    The quantile is the smallest value that at least a share `q` of all values do not exceed (definition 1 of Hyndman
    and Fan 1996; numpy's `inverted_cdf`). Answered is the value of the bin that holds it, cut to the extremes:

    - where it is 0, 1 or equal to an extreme, as where all values are equal, without error, after any number of merges;
    - otherwise within 1/128 for shares and within 1 % for the rest;
    - always in [minimum, maximum].

    Raises ValueError for an empty histogram or a `q` outside [0, 1].
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"expected a quantile from 0 to 1, got {q}")
    total = sum(counts.values())
    if total == 0:
        raise ValueError("expected a histogram with samples, got an empty one")
    rank = max(1, math.ceil(q * total))
    seen = 0
    for bin_ in sorted(counts):
        seen += counts[bin_]
        if seen >= rank:
            return min(max(bins.value(bin_), minimum), maximum)
    raise AssertionError("unreachable: the counts add up to the total")
