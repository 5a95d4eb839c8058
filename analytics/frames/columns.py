"""Summaries as columns, one row a window, and their exact merge: `contract.summary.Summary` for whole columns.

Histograms are in coordinate form: the row, the bin and the count of each bin that has samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histograms:
    """The histograms of many windows: entry i says that window `row[i]` has `count[i]` samples in `bin[i]`.

    The arrays are of one length k, sorted by row. Within a row the bins ascend and none occurs twice in
    anything that `merge` returns; what goes into `merge` need not be so.
    """

    row: Ints
    bin: npt.NDArray[np.int32]
    count: Ints

    @classmethod
    def empty(cls) -> Self:
        """No entries."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class Windows:
    """n summaries as columns of length n, and their histograms."""

    series: Ints
    """What each belongs to; what the number means is the caller's."""
    time: Ints
    """Epoch milliseconds: the end of a window, or the start of a bucket after resampling."""
    count: Ints
    mean: Floats
    variance: Floats
    """Population variance."""
    minimum: Floats
    maximum: Floats
    approximated: Ints
    """How many of `count` came without minimum, maximum or histogram, and have stand-ins for them."""
    histograms: Histograms | None
    """None where they were not asked for."""

    @classmethod
    def empty(cls) -> Self:
        """No windows."""
        ints, floats = np.empty(0, np.int64), np.empty(0, np.float64)
        return cls(ints, ints, ints, floats, floats, floats, floats, ints, Histograms.empty())

    def __len__(self) -> int:
        return len(self.time)


_COLUMNS = ("series", "time", "count", "mean", "variance", "minimum", "maximum", "approximated")


def concatenate(parts: Sequence[Windows]) -> Windows:
    """The windows of all `parts`, one after the other, nothing merged; `Windows.empty()` for no parts.

    Raises ValueError where some parts have histograms and others have none.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return Windows.empty()
    if len(parts) == 1:
        return parts[0]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    return Windows(**columns, histograms=_stacked(parts))


def _stacked(parts: Sequence[Windows]) -> Histograms | None:
    histograms = [part.histograms for part in parts if part.histograms is not None]
    if not histograms:
        return None
    if len(histograms) < len(parts):
        raise ValueError("windows with histograms cannot be joined with windows without")
    first_rows = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return Histograms(
        np.concatenate([part.row + first for part, first in zip(histograms, first_rows, strict=True)]),
        np.concatenate([part.bin for part in histograms]),
        np.concatenate([part.count for part in histograms]),
    )


def take(windows: Windows, selection: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> Windows:
    """The windows that a mask of length n keeps, or those at given places, in that order."""
    places = np.arange(len(windows))[selection]
    columns = {name: getattr(windows, name)[places] for name in _COLUMNS}
    histograms = windows.histograms
    return Windows(**columns, histograms=None if histograms is None else _picked(histograms, places, len(windows)))


def _picked(histograms: Histograms, rows: Ints, of_rows: int) -> Histograms:
    """The entries of some `rows` of histograms that have `of_rows` altogether."""
    size = np.bincount(histograms.row, minlength=of_rows)
    lengths = size[rows]
    first = (np.cumsum(size) - size)[rows]
    # Entry j of the answer is entry j + shift of the source, with one shift for each row.
    shift = first - (np.cumsum(lengths) - lengths)
    entries = np.arange(lengths.sum()) + np.repeat(shift, lengths)
    return Histograms(np.repeat(np.arange(len(rows)), lengths), histograms.bin[entries], histograms.count[entries])


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
