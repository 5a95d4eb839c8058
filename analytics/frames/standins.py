"""Stand-ins for windows of which only count, mean and variance are known.

For shares they are samples of the beta distribution that has both. Of the shapes that load has, it knows the common
ones: a hump, a slope, and the two ends without a middle. It is tabulated once in a process and answered by linear
interpolation: within 0.004 of the exact quantile where the standard deviation is up to half of the highest there is,
within 0.06 up to 0.95 of that (0.007 but for one in a thousand); the smaller the deviation, the nearer.
"""

from functools import cache
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from analytics.frames.kernel import Floats, Histograms, Ints
from contract.histogram import LINEAR, LOGARITHMIC, Bins

EDGES: Final = np.array([0, 0.02, 0.08, 0.16, 0.26, 0.34, 0.42, 0.58, 0.66, 0.74, 0.84, 0.92, 0.98, 1])
"""The samples between two of these shares stand at the quantile in their middle: 0.01, 0.05, ... 0.5, ... 0.99."""
_MIDDLES: Final = (EDGES[1:] + EDGES[:-1]) / 2
_ANGLES: Final = 64
"""Steps of the mean m between 0 and 1/2, as the angle whose squared sine is m: so that quantiles bend little."""
_SPREADS: Final = 32
"""Steps of the standard deviation between 0 and that of zeros and ones alone, sqrt(m (1 - m))."""
_LOGITS: Final = np.linspace(-40.0, 40.0, 2001)
_NEAR: Final = 1e-9
"""What is as near to 0 or 1 counts as 0 or 1; and a variance as near to its bound has no other samples."""


def beta_samples(mean: Floats, variance: Floats, count: Ints) -> tuple[Floats, Ints]:
    """The samples of n windows of shares, as 13 values and how many samples have each: both of shape (n, 13).

    Values ascend in each row; numbers add up to `count` and may be 0. A variance of mean (1 - mean), the highest there
    is, leaves no other samples than zeros and ones, and these are told exactly.
    """
    bound = mean * (1.0 - mean)
    possible = np.minimum(variance, bound)
    spread = np.sqrt(np.divide(possible, bound, out=np.zeros_like(mean), where=bound > 0.0))
    mirrored = mean > 0.5
    values = _quantiles(np.where(mirrored, 1.0 - mean, mean), spread)
    values[mirrored] = 1.0 - values[mirrored, ::-1]
    values[values < _NEAR] = 0.0
    values[values > 1.0 - _NEAR] = 1.0
    numbers = np.diff(np.rint(count[:, None] * EDGES).astype(np.int64), axis=1)
    extreme = np.flatnonzero(spread**2 >= 1.0 - _NEAR)
    ones = np.rint(count[extreme] * mean[extreme]).astype(np.int64)
    values[extreme], numbers[extreme] = 0.0, 0
    values[extreme, -1] = 1.0
    numbers[extreme, 0], numbers[extreme, -1] = count[extreme] - ones, ones
    return values, numbers


def least_extremes(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """The highest minimum and the lowest maximum that shares of this mean and variance can have.

    (maximum - mean) (mean - minimum) is at least the variance (Bhatia and Davis, American Mathematical Monthly, 2000).
    """
    possible = np.minimum(variance, mean * (1.0 - mean))
    above = np.divide(possible, mean, out=np.zeros_like(mean), where=mean > 0.0)
    below = np.divide(possible, 1.0 - mean, out=np.zeros_like(mean), where=mean < 1.0)
    return np.clip(mean - below, 0.0, 1.0), np.clip(mean + above, 0.0, 1.0)


def _quantiles(mean: Floats, spread: Floats) -> Floats:
    """The quantiles in `_MIDDLES` for means up to 1/2: shape (n, 13)."""
    table = _table()
    angle = np.arcsin(np.sqrt(mean)) * (_ANGLES / (np.pi / 4))
    step = spread * _SPREADS
    row = np.minimum(angle.astype(np.int64), _ANGLES - 1)
    column = np.minimum(step.astype(np.int64), _SPREADS - 1)
    up, right = (angle - row)[:, None], (step - column)[:, None]
    low = table[row, column] * (1.0 - right) + table[row, column + 1] * right
    high = table[row + 1, column] * (1.0 - right) + table[row + 1, column + 1] * right
    values: Floats = mean[:, None] + spread[:, None] * (low * (1.0 - up) + high * up)
    return np.clip(values, 0.0, 1.0)


@cache
def _table() -> Floats:
    """(quantile - mean) / spread on the grid: shape (angles + 1, spreads + 1, 13); made in some 0.2 s.

    Without spread that is the normal distribution, the limit of narrow ones; for a mean of 0 it is 0.
    """
    means = np.sin(np.linspace(0.0, np.pi / 4, _ANGLES + 1)) ** 2
    table = np.zeros((_ANGLES + 1, _SPREADS + 1, len(_MIDDLES)))
    normal = [NormalDist().inv_cdf(middle) for middle in _MIDDLES.tolist()]
    table[:, 0] = np.sqrt(means * (1.0 - means))[:, None] * normal
    table[:, -1] = (1.0 - means[:, None] < _MIDDLES) - means[:, None]
    for row, mean in enumerate(means[1:].tolist(), 1):
        for column in range(1, _SPREADS):
            weight = (_SPREADS / column) ** 2 - 1.0
            quantiles = _exact(mean * weight, (1.0 - mean) * weight)
            table[row, column] = (quantiles - mean) * (_SPREADS / column)
    return table


def _exact(a: float, b: float) -> Floats:
    """The quantiles of beta(a, b), by its density over the logit, which has no poles.

    What lies beyond the logits looked at is nearer to 0 and 1 than 1e-17; there the density falls as exp(a t) and
    exp(-b t).
    """
    logs = -a * np.logaddexp(0.0, -_LOGITS) - b * np.logaddexp(0.0, _LOGITS)
    density = np.exp(logs - logs.max())
    inside = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2) * (_LOGITS[1] - _LOGITS[0])])
    below, above = density[0] / a, density[-1] / b
    reached = (below + inside) / (below + inside[-1] + above)
    quantiles: Floats = 1.0 / (1.0 + np.exp(-np.interp(_MIDDLES, reached, _LOGITS)))
    return quantiles


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
    distribution between the extremes, or 0 and 1, with this mean and variance (`beta_samples`); minimum and maximum
    are at least as far apart as the variance demands. Where there is no upper bound, two halves of the
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
