"""Stand-ins for windows of which only count, mean and variance are known."""

from functools import cache

import numpy as np
import numpy.typing as npt

from analytics.frames.beta import beta_samples, least_extremes
from analytics.frames.columns import Floats, Histograms, Ints
from contract.histogram import LINEAR, LOGARITHMIC, Bins


def standins(
    mean: Floats, variance: Floats, count: Ints, bounded: npt.NDArray[np.bool_] | bool
) -> tuple[Floats, Floats, Histograms]:
    """Minimum, maximum and histogram of n windows that came without.

    Exactly the samples themselves where count, mean and variance leave no choice: without variance, with one sample or
    two, and for shares with the variance of zeros and ones alone. Otherwise, for shares, samples of the beta
    distribution with this mean and variance (`analytics.frames.beta`), with extremes at least as far apart as the
    variance demands. For other quantities two halves of the samples, the smaller at mean - sd and the larger at
    mean + sd, cut at 0.
    """
    shaped = np.flatnonzero(np.broadcast_to(bounded, mean.shape) & (count > 2) & (variance > 0.0))
    low, high, halves = _halves(mean, variance, count, bounded)
    if not len(shaped):
        return low, high, halves
    values, numbers = beta_samples(mean[shaped], variance[shaped], count[shaped])
    filled = numbers > 0
    first, last = filled.argmax(axis=1), filled.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)
    every = np.arange(len(shaped))
    least, most = least_extremes(mean[shaped], variance[shaped])
    low[shaped], high[shaped] = np.minimum(values[every, first], least), np.maximum(values[every, last], most)
    row, sample = np.nonzero(filled)
    return low, high, _without(halves, shaped, _counted(shaped[row], values[row, sample], numbers[row, sample]))


def _counted(row: Ints, values: Floats, numbers: Ints) -> Histograms:
    """The histograms of so many samples at some shares, which ascend in each row."""
    bins = bin_indices(values, LINEAR)
    first = np.flatnonzero((np.diff(row, prepend=-1) != 0) | (np.diff(bins, prepend=LINEAR.first - 1) != 0))
    return Histograms(row[first], bins[first], np.add.reduceat(numbers, first))


def _without(histograms: Histograms, rows: Ints, others: Histograms) -> Histograms:
    """Histograms with those of some rows replaced by others, in order of rows."""
    kept = ~np.isin(histograms.row, rows)
    row = np.concatenate([histograms.row[kept], others.row])
    order = np.argsort(row, kind="stable")
    return Histograms(
        row[order],
        np.concatenate([histograms.bin[kept], others.bin])[order],
        np.concatenate([histograms.count[kept], others.count])[order],
    )


def _halves(
    mean: Floats, variance: Floats, count: Ints, bounded: npt.NDArray[np.bool_] | bool
) -> tuple[Floats, Floats, Histograms]:
    """Two halves of the samples, one standard deviation from the mean."""
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
