"""Stand-ins for windows of which only count, mean and variance are known."""

from functools import cache

import numpy as np
import numpy.typing as npt

from analytics.frames.beta import beta_samples, least_extremes
from analytics.frames.kernel import Floats, Histograms, Ints
from contract.histogram import LINEAR, LOGARITHMIC, Bins


def standins(
    mean: Floats,
    variance: Floats,
    count: Ints,
    bounded: npt.NDArray[np.bool_] | bool,
    extremes: tuple[Floats, Floats] | None = None,
) -> tuple[Floats, Floats, Histograms]:
    """Minimum, maximum and histogram of n windows that came without histogram.

    `bounded` says which quantities are shares in [0, 1]; the others are at least 0. `extremes` are the minima and
    maxima where they are known, and NaN where not.

    They are exactly the samples themselves where count, mean and variance leave no choice: without variance, with one
    sample or two, and with the highest variance there is, that of the extremes alone. Otherwise samples of the beta
    distribution between the extremes, or 0 and 1, with this mean and variance (`analytics.frames.beta`); minimum and
    maximum are at least as far apart as the variance demands. Where there is no upper bound, two halves of the
    samples, the smaller at mean - sd and the larger at mean + sd, cut at 0.
    """
    shares = np.broadcast_to(bounded, mean.shape)
    unknown = np.full(len(mean), np.nan)
    least, most = extremes or (unknown, unknown)
    start = np.where(np.isnan(least), 0.0, least)
    width = np.where(np.isnan(most) & shares, 1.0, most) - start
    is_shaped = (width > 0.0) & (count > 2) & (variance > 0.0)
    halved, shaped = np.flatnonzero(~is_shaped), np.flatnonzero(is_shaped)
    low, high = np.empty_like(mean), np.empty_like(mean)
    low[halved], high[halved], some = _halves(mean[halved], variance[halved], count[halved], shares[halved])
    low[shaped], high[shaped], others = _shaped(
        mean[shaped], variance[shaped], count[shaped], shares[shaped], start[shaped], width[shaped]
    )
    low, high = np.where(np.isnan(least), low, least), np.where(np.isnan(most), high, most)
    made = Histograms(shaped[others.row], others.bin, others.count)
    if len(some):
        made = Histograms(halved[some.row], some.bin, some.count).joined(made)
    return low, high, made


def _shaped(
    mean: Floats, variance: Floats, count: Ints, shares: npt.NDArray[np.bool_], start: Floats, width: Floats
) -> tuple[Floats, Floats, Histograms]:
    """Samples of beta distributions over ranges from `start`, of this width."""
    mean, variance = np.clip((mean - start) / width, 0.0, 1.0), variance / width**2
    values, numbers = beta_samples(mean, variance, count)
    filled = numbers > 0
    first, last = filled.argmax(axis=1), filled.shape[1] - 1 - filled[:, ::-1].argmax(axis=1)
    every = np.arange(len(mean))
    least, most = least_extremes(mean, variance)
    low = start + width * np.minimum(values[every, first], least)
    high = start + width * np.maximum(values[every, last], most)
    # What lies in one bin is one entry; values ascend in each window.
    row, sample = np.nonzero(filled)
    bins = _bins_of(start[row] + width[row] * values[filled], shares[row])
    starts = np.flatnonzero((np.diff(row, prepend=-1) != 0) | (np.diff(bins, prepend=LINEAR.first - 1) != 0))
    counts = np.add.reduceat(numbers[row, sample], starts) if len(starts) else starts
    return low, high, Histograms(row[starts], bins[starts], counts)


def _halves(
    mean: Floats, variance: Floats, count: Ints, bounded: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats, Histograms]:
    """Two halves of the samples, one standard deviation from the mean."""
    deviation = np.where(count > 1, np.sqrt(variance), 0.0)
    low = np.maximum(mean - deviation, 0.0)
    high = np.where(bounded, np.minimum(mean + deviation, 1.0), mean + deviation)
    values = np.stack([low, high], axis=1).ravel()
    halves = np.stack([count // 2, count - count // 2], axis=1).ravel()
    bins = _bins_of(values, np.repeat(bounded, 2))
    # Both halves in one bin are one entry; so are two halves of which one is empty.
    alike = bins[::2] == bins[1::2]
    halves[1::2] += np.where(alike, halves[::2], 0)
    halves[::2][alike] = 0
    filled = np.flatnonzero(halves)
    return low, high, Histograms(filled // 2, bins[filled], halves[filled])


def _bins_of(values: Floats, shares: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """The bin of each value, of which some are shares."""
    bins = np.empty(len(values), np.int32)
    bins[shares] = bin_indices(np.minimum(values[shares], 1.0), LINEAR)
    bins[~shares] = bin_indices(values[~shares], LOGARITHMIC)
    return bins


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
