"""The exact merge of many windows into buckets: `Summary.merge` for whole columns.

Count, extremes and histograms merge exactly. Mean and variance are those of all samples together to
rounding: both are computed from deviations from the bucket's own mean (the pairwise rule of Chan, Golub
and LeVeque 1979, for any number of parts), so a small variance around a large mean is not lost, and sums
are pairwise (`np.add.reduceat`), so the error does not grow with the number of windows.
"""

import numpy as np
import numpy.typing as npt

from analytics.windows.columns import Floats, Histograms, Ints, Windows

__all__ = ["merge", "merge_histograms"]

_DENSE_CELLS = 8
"""Counts are added in a table of all bins of all groups while it has at most so many cells an entry,
or so few altogether that its size does not matter; beyond, sorting is cheaper."""
_SMALL_TABLE = 1 << 20


def merge(windows: Windows, series: Ints | None = None, rate_ms: int | None = None) -> Windows:
    """One window for each series and bucket that has any, sorted by series and time.

    `series` (length n) gives other labels than `windows.series`; windows with equal labels merge.
    Buckets are `rate_ms` milliseconds wide and aligned to the epoch, `time` becomes their start;
    without `rate_ms` only windows of the very same time merge. Raises ValueError for a rate below 1.
    """
    if rate_ms is not None and rate_ms < 1:
        raise ValueError(f"a bucket is at least 1 ms wide, not {rate_ms}")
    series = windows.series if series is None else series
    time = windows.time if rate_ms is None else windows.time // rate_ms * rate_ms
    order = _order(series, time)
    count, mean, variance = windows.count, windows.mean, windows.variance
    minimum, maximum, approximated = windows.minimum, windows.maximum, windows.approximated
    if order is not None:
        series, time = series[order], time[order]
        count, mean, variance = count[order], mean[order], variance[order]
        minimum, maximum, approximated = minimum[order], maximum[order], approximated[order]
    is_first = np.ones(len(time), np.bool_)
    is_first[1:] = (series[1:] != series[:-1]) | (time[1:] != time[:-1])
    first = np.flatnonzero(is_first)
    if len(first) < len(time):
        sizes = np.diff(first, append=len(time))
        total = np.add.reduceat(count, first)
        # Shares instead of counts: a mean times a count could overflow, and a window alone keeps its numbers
        # to the bit.
        share = count / np.repeat(np.maximum(total, 1), sizes)
        mean, variance = _pooled(share, mean, variance, first, sizes)
        series, time, count = series[first], time[first], total
        minimum, maximum = np.minimum.reduceat(minimum, first), np.maximum.reduceat(maximum, first)
        approximated = np.add.reduceat(approximated, first)
    histograms = windows.histograms
    if histograms is not None:
        group = np.cumsum(is_first) - 1
        if order is not None:
            group[order] = group.copy()
        histograms = merge_histograms(histograms, group, len(first))
    return Windows(series, time, count, mean, variance, minimum, maximum, approximated, histograms)


def _order(series: Ints, time: Ints) -> npt.NDArray[np.intp] | None:
    """The places in order of series, then time; None where they are in order already."""
    later = series[1:] > series[:-1]
    if np.all(later | ((series[1:] == series[:-1]) & (time[1:] >= time[:-1]))):
        return None
    first_series, first_time = int(series.min()), int(time.min())
    times = int(time.max()) - first_time + 1
    if (int(series.max()) - first_series + 1) * times < 1 << 63:
        # One key sorts several times faster than two; a stable sort finds the runs that parts come in.
        return np.argsort((series - first_series) * times + (time - first_time), kind="stable")
    return np.lexsort((time, series))


def _pooled(share: Floats, mean: Floats, variance: Floats, first: Ints, sizes: Ints) -> tuple[Floats, Floats]:
    """Mean and population variance of each group of rows, `first` being where each of `sizes` rows begins.

    The `share` of each row among the samples of its group adds up to 1.
    """
    centre = np.add.reduceat(share * mean, first)
    deviation = mean - np.repeat(centre, sizes)
    # What rounding left between the centre and the mean: adding it makes the mean right to the last bits,
    # leaving it out of the deviations does the same for the variance.
    rest = np.add.reduceat(share * deviation, first)
    deviation -= np.repeat(rest, sizes)
    return centre + rest, np.add.reduceat(share * (variance + deviation * deviation), first)


def merge_histograms(histograms: Histograms, group: Ints, groups: int) -> Histograms:
    """The histograms of `groups` groups of windows, where `group[row]` is the group of a window's row."""
    if not len(histograms):
        return Histograms.empty()
    lowest = int(histograms.bin.min())
    width = int(histograms.bin.max()) - lowest + 1
    row = group[histograms.row]
    key = row * width + (histograms.bin - lowest)
    if np.all(key[1:] > key[:-1]):
        return Histograms(row, histograms.bin, histograms.count)
    if groups * width <= max(_DENSE_CELLS * len(key), _SMALL_TABLE):
        table = np.zeros(groups * width, np.int64)
        np.add.at(table, key, histograms.count)
        key = np.flatnonzero(table)
        count = table[key]
    else:
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        key, count = key[first], np.add.reduceat(histograms.count[order], first)
    return Histograms(key // width, (key % width + lowest).astype(np.int32), count)
