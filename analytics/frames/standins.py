"""Stand-ins for windows of which only count, mean and variance are known."""

from functools import cache

import numpy as np
import numpy.typing as npt

from analytics.frames.kernel import Floats, Histograms, Ints
from contract.histogram import LINEAR, LOGARITHMIC, Bins


def standins(
    mean: Floats, variance: Floats, count: Ints, bounded: npt.NDArray[np.bool_] | bool
) -> tuple[Floats, Floats, Histograms]:
    """Minimum, maximum and histogram of n windows that came without.

    A window stands for two halves of its samples, the smaller at mean - sd and the larger at mean + sd,
    the only two equally likely values with this mean and variance; where they lie outside the range of
    the quantity ([0, 1] where `bounded`, otherwise from 0) they are cut to it. Without variance, or with a
    single sample, the mean is the exact value of all samples.
    """
    deviation = np.where(count > 1, np.sqrt(variance), 0.0)
    low = np.maximum(mean - deviation, 0.0)
    high = np.where(bounded, np.minimum(mean + deviation, 1.0), mean + deviation)
    values = np.stack([low, high], axis=1).ravel()
    halves = np.stack([count // 2, count - count // 2], axis=1).ravel()
    is_bounded = np.repeat(np.broadcast_to(bounded, mean.shape), 2)
    bins = np.empty(len(values), np.int32)
    bins[is_bounded] = bin_indices(values[is_bounded], LINEAR)
    bins[~is_bounded] = bin_indices(values[~is_bounded], LOGARITHMIC)
    # Both halves in one bin are one entry; so are two halves of which one is empty.
    alike = bins[::2] == bins[1::2]
    halves[1::2] += np.where(alike, halves[::2], 0)
    halves[::2][alike] = 0
    filled = np.flatnonzero(halves)
    return low, high, Histograms(filled // 2, bins[filled], halves[filled])


def bin_indices(values: Floats, bins: Bins) -> npt.NDArray[np.int32]:
    """The bin of each value, each as `bins.index` gives it; the values must lie in the range of `bins`."""
    if bins is LINEAR:
        return np.where(values > 0.0, (values * LINEAR.bins).astype(np.int32), LINEAR.first).astype(np.int32)
    ends = _ends(bins)  # type: ignore[arg-type]  # bins do hash; a protocol cannot say so
    return (np.searchsorted(ends, values, side="left") + bins.first).astype(np.int32)


@cache
def _ends(bins: Bins) -> Floats:
    """The largest value of each bin but the last, found by asking `bins.index` itself.

    A vectorised logarithm may differ from `math.log` in the last bit, which would place a value at the edge
    of a bin elsewhere than the agent does. Floats of at least 0 are in the order of their bit patterns, so
    the patterns are bisected: exact, and done once in a process (some 40 ms).
    """
    ends = np.empty(bins.last - bins.first)
    patterns = ends.view(np.int64)
    largest = int(np.float64(np.finfo(np.float64).max).view(np.int64))
    inside = 0
    for place in range(len(ends)):
        outside = largest
        while outside - inside > 1:
            middle = (inside + outside) // 2
            patterns[place] = middle
            if bins.index(float(ends[place])) <= bins.first + place:
                inside = middle
            else:
                outside = middle
        patterns[place] = inside
    return ends
