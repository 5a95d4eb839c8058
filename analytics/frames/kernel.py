"""The adding up of windows that belong together: numpy, beneath the frames of pandas.

Counts add up, means are weighted by samples, variances are pooled (Chan, Golub and LeVeque 1983: the variance between
the windows counts too), extremes are those of all samples, histograms add up bin by bin. `analytics.resample`, the
rollups of the service's stores and the methods of this library all merge by `merge`: equal rows give equal bits.

Why not pandas for this too: 8,640 windows in 2,880 buckets take `merge` 0.4 ms; sums and extremes by `groupby`
take 1.7 ms, half of what a month over HTTP takes altogether. Their histograms, of 60 bins each, take 5.8 ms; as rows of
pandas, one a bin, a `groupby` takes 38 ms, and one of a combined key 18 ms. A day of 10,000 hosts, 2.88 million
windows in order of time, is put in order of host and time in 114 ms (`order_of`); pandas' `ngroup` takes 702 ms.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

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
        """Histograms without any entry."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.row)

    def joined(self, other: Self) -> Self:
        """The entries of both, sorted by row, in each row those of `self` first."""
        row = np.concatenate([self.row, other.row])
        order = np.argsort(row, kind="stable")
        bins, counts = np.concatenate([self.bin, other.bin]), np.concatenate([self.count, other.count])
        return type(self)(row[order], bins[order], counts[order])


class Merged(NamedTuple):
    """Windows that are merged, one a group."""

    keys: list[Ints]
    """What the windows of a group have in common; groups are in their order."""
    numbers: dict[str, npt.NDArray[Any]]
    """The columns of numbers of a frame of windows."""
    histograms: Histograms | None


def merge(numbers: Mapping[str, npt.NDArray[Any]], keys: Sequence[Ints], histograms: Histograms | None) -> Merged:
    """One window for each different tuple of `keys`.

    `numbers` are the columns `count`, `mean`, `var`, `min`, `max` and `approximated` of n windows, without missing
    values, or those of them that are wanted: always `count`, `var` with `mean`. `histograms` are theirs, None where
    there are none; each of `keys` has length n. The windows of one group are added up in the order in which they are
    given. One that is alone keeps its numbers to the bit.
    """
    columns, keys = dict(numbers), [*keys]
    order = order_of(keys)
    if order is not None:
        keys = [key[order] for key in keys]
        columns = {name: values[order] for name, values in columns.items()}
    is_new = np.zeros(len(keys[0]), np.bool_)
    for key in keys:
        is_new[1:] |= key[1:] != key[:-1]
    place = np.cumsum(is_new, dtype=np.int64)
    first = np.flatnonzero(np.diff(place, prepend=-1))
    if histograms is not None:
        group = place
        if order is not None:
            group = np.empty_like(place)
            group[order] = place
        histograms = merge_histograms(histograms, group, len(first))
    if len(first) < len(place):
        columns = _added(columns, first, place)
    return Merged([key[first] for key in keys], columns, histograms)


def order_of(keys: Sequence[Ints]) -> Ints | None:
    """The places of rows in order of their tuples of keys, equal ones as they are given; None where they are in order.

    Keys are added up to one number a row where that fits: it sorts several times faster than a tuple, and a stable sort
    finds the runs that rows come in.
    """
    descends = np.zeros(max(len(keys[0]) - 1, 0), np.bool_)
    for key in reversed(keys):
        descends = (key[1:] < key[:-1]) | ((key[1:] == key[:-1]) & descends)
    if not descends.any():
        return None
    lowest = [int(key.min()) for key in keys]
    widths = [int(key.max()) - low + 1 for key, low in zip(keys, lowest, strict=True)]
    if math.prod(widths) >= 1 << 63:
        return np.lexsort([*reversed(keys)])
    number = np.zeros(len(keys[0]), np.int64)
    for key, low, width in zip(keys, lowest, widths, strict=True):
        number = number * width + (key - low)
    return np.argsort(number, kind="stable")


def _added(columns: dict[str, npt.NDArray[Any]], first: Ints, place: Ints) -> dict[str, npt.NDArray[Any]]:
    """The sums of runs of rows, `first` being where each begins, and `place` the run of each row."""
    count = np.add.reduceat(columns["count"], first)
    added = {"count": count}
    if "mean" in columns:
        added |= _pooled(columns, first, place, count)
    for name, ufunc in _OTHERS.items():
        if name in columns:
            added[name] = ufunc.reduceat(columns[name], first)
    return {name: added[name] for name in columns}


_OTHERS = {"min": np.minimum, "max": np.maximum, "approximated": np.add}


def _pooled(
    columns: Mapping[str, npt.NDArray[Any]], first: Ints, place: Ints, count: Ints
) -> dict[str, npt.NDArray[Any]]:
    """The means of runs of rows, and the variances where they are wanted."""
    # Shares instead of counts: a mean times a count could overflow.
    share = columns["count"] / np.maximum(count, 1)[place]
    centre = np.add.reduceat(share * columns["mean"], first)
    deviation = columns["mean"] - centre[place]
    # What rounding left between the centre and the mean: adding it makes the mean right to the last bits,
    # leaving it out of the deviations does the same for the variance.
    rest = np.add.reduceat(share * deviation, first)
    pooled = {"mean": centre + rest}
    if "var" in columns:
        deviation -= rest[place]
        pooled["var"] = np.add.reduceat(share * (columns["var"] + deviation * deviation), first)
    return pooled


_DENSE_CELLS = 8
"""Counts are added in a table of all bins of all groups while it has at most so many cells an entry,
or so few altogether that its size does not matter; beyond, sorting is cheaper."""
_SMALL_TABLE = 1 << 20


def merge_histograms(histograms: Histograms, group: Ints, groups: int) -> Histograms:
    """The histograms of `groups` groups of windows, where `group[row]` is the group of a window's row."""
    if not len(histograms):
        return Histograms.empty()
    lowest = int(histograms.bin.min())
    width = int(histograms.bin.max()) - lowest + 1
    key = (group * width - lowest)[histograms.row] + histograms.bin
    if np.all(key[1:] > key[:-1]):
        return Histograms(group[histograms.row], histograms.bin, histograms.count)
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
    row = key // width
    return Histograms(row, (key - row * width + lowest).astype(np.int32), count)
