"""The summary that merges exactly: what a window of samples is reduced to, and all that is kept of it."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from contract.histogram import Bins, count_values, deal_out, quantile


@dataclass(frozen=True, slots=True)
class Summary:
    """Count, mean, population variance, extremes and histogram of some samples.

    `merge` of the summaries of two sets of samples is the summary of both sets together: exact for
    count, extremes and histogram, exact to rounding for mean and variance. It is associative and
    commutative, and `Summary.empty()` changes nothing.
    """

    count: int
    """How many samples; 0 only for the empty summary."""
    mean: float
    variance: float
    """Population variance: the mean squared distance from the mean (divided by the count)."""
    minimum: float
    maximum: float
    histogram: Mapping[int, int] = field(default_factory=dict)
    """Samples per bin; empty where the samples were not counted."""

    @classmethod
    def empty(cls) -> Self:
        """The summary of no samples, the neutral element of `merge`."""
        return cls(0, 0.0, 0.0, math.inf, -math.inf)

    @classmethod
    def of(cls, samples: Sequence[float], bins: Bins) -> Self:
        """The summary of `samples`, in two passes with exact sums.

        Raises ValueError for no samples, and for a sample that `bins` does not hold.
        """
        if not samples:
            raise ValueError("expected at least one sample, got none")
        count = len(samples)
        mean = math.fsum(samples) / count
        variance = math.fsum((sample - mean) ** 2 for sample in samples) / count
        return cls(count, mean, variance, min(samples), max(samples), count_values(samples, bins))

    @classmethod
    def weighted(cls, samples: Sequence[float], weights: Sequence[float], count: int, bins: Bins) -> Self:
        """The summary of `samples` that stand for unequal times, as of `count` samples of equal times.

        Each sample weighs as much as the time that it covers, `weights`, all above 0 in any unit: so do mean and
        variance, with exact sums. In the histogram `count` observations are dealt out by weight: up to any value, the
        number of observations is right within half of one (`contract.histogram.deal_out`). With equal weights and as
        many observations as samples this is `of`.

        Raises ValueError for no samples, and for a sample that `bins` does not hold.
        """
        if not samples:
            raise ValueError("expected at least one sample, got none")
        total = math.fsum(weights)
        minimum, maximum = min(samples), max(samples)
        # Rounding may carry a mean of equal samples past them by the last bit.
        mean = min(max(math.fsum(map(operator.mul, weights, samples)) / total, minimum), maximum)
        variance = (
            math.fsum(weight * (sample - mean) ** 2 for weight, sample in zip(weights, samples, strict=True)) / total
        )
        by_bin: dict[int, float] = {}
        for weight, sample in zip(weights, samples, strict=True):
            index = bins.index(sample)
            by_bin[index] = by_bin.get(index, 0.0) + weight
        return cls(count, mean, variance, minimum, maximum, deal_out(by_bin, count))

    def merge(self, other: "Summary") -> "Summary":
        """The summary of the samples of both (Chan, Golub and LeVeque 1979, equation 2.1)."""
        if self.count == 0:
            return other
        if other.count == 0:
            return self
        count = self.count + other.count
        delta = other.mean - self.mean
        share = other.count / count
        mean = self.mean * (1.0 - share) + other.mean * share
        between = delta * delta * share * (1.0 - share)
        variance = self.variance * (1.0 - share) + other.variance * share + between
        histogram = dict(self.histogram)
        for bin_, number in other.histogram.items():
            histogram[bin_] = histogram.get(bin_, 0) + number
        return Summary(
            count,
            mean,
            variance,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            histogram,
        )

    def quantile(self, q: float, bins: Bins) -> float:
        """The `q`-quantile (0 to 1) as `contract.histogram.quantile`; raises ValueError without a histogram."""
        return quantile(self.histogram, q, bins, self.minimum, self.maximum)
