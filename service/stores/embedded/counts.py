"""Histograms of shares in files: a byte for each bin, the same bin of many windows next to each other.

`counts_0` to `counts_7` have the samples in eight of the 64 bins each, the lowest bin in the lowest byte, and
`saturated` those of exactly 1. Those of exactly 0 are what is left of the window's `count`. Split into their bytes
(Parquet's BYTE_STREAM_SPLIT), these columns take half of what pairs of bin and count take.

What no bytes can say is in the column `histogram`, packed (`analytics.frames.packing`): other bins, 256 samples in
one, counts that are not those of the window; and, as nothing at all, that the report had none.

Much else nearly follows from a histogram whose bins hold one possible value each, as those of a core do
(`representatives`): the extremes, and the sums that `service.stores.embedded.fractions` keeps.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.packing import unpack
from contract.histogram import LINEAR

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Sums = tuple[Floats, Floats]


class StoredColumn(NamedTuple):
    """A column of rows of a file."""

    values: npt.NDArray[Any]
    """0 where there is none."""
    is_valid: Mask
    is_whole: bool
    """Whether all rows have a value,"""
    is_empty: bool
    """and whether none has."""

    @classmethod
    def of(cls, column: pa.Array) -> "StoredColumn":
        """That of an array of numbers."""
        rows, missing = len(column), column.null_count
        if missing == rows:
            return cls.empty(rows)
        is_valid = np.asarray(column.is_valid()) if missing else np.broadcast_to(np.True_, rows)
        values = (column.fill_null(0) if missing else column).to_numpy()
        return cls(values, is_valid, is_whole=not missing, is_empty=False)

    @classmethod
    def empty(cls, rows: int) -> "StoredColumn":
        """One without values."""
        none = np.broadcast_to(np.int64(0), rows)
        return cls(none, np.broadcast_to(np.False_, rows), is_whole=not rows, is_empty=True)

    def part(self, rows: slice) -> "StoredColumn":
        """That of some of the rows; whole numbers have 64 bits, as what is computed of them needs."""
        values = self.values[rows]
        if values.dtype == np.int32:
            values = values.astype(np.int64)
        return self._replace(values=values, is_valid=self.is_valid[rows])


StoredColumns = Mapping[str, StoredColumn]
_BINS = LINEAR.bins + 2
"""And exactly 0 before them, exactly 1 behind."""
_WORDS = LINEAR.bins // 8
_MOST, _MOST_IDLE = 0xFF, 0xFFFF
SCHEMA = pa.schema([*(pa.field(f"counts_{word}", pa.int64()) for word in range(_WORDS)), ("saturated", pa.int32())])
"""Null where the column `histogram` says what there is to say."""
_ROWS = 2048
"""How many windows are looked at together, so that they stay in the processor's cache."""
_ALONE = 2**18
"""So many products BLAS adds up without other threads, which wait busily for more."""
_MOST_TICKS = 64
"""Samples of more ticks have several values in a bin."""


class Counts(NamedTuple):
    """Counts of windows; all are 0 where a window has none."""

    is_counted: Mask
    """Which windows have some."""
    by_bin: Bytes
    """A row each, of the 64 bins between exactly 0 and exactly 1."""
    idle: Ints
    """How many are exactly 0,"""
    saturated: Ints
    """and exactly 1."""

    @classmethod
    def of(cls, packed: pa.BinaryArray, count: Ints) -> "Counts":
        """Those of packed histograms that can be said so, in windows with so many samples."""
        found = unpack(packed)
        rows = len(packed)
        is_idle = found.bin == LINEAR.first
        fits = (found.bin >= LINEAR.first) & (found.bin <= LINEAR.last) & (found.count > 0)
        fits &= found.count <= np.where(is_idle, _MOST_IDLE, _MOST)
        fits[1:] &= (np.diff(found.bin) > 0) | (np.diff(found.row) > 0)
        pairs = np.bincount(found.row, minlength=rows)
        total = np.bincount(found.row[fits], found.count[fits], minlength=rows)
        is_counted = (pairs > 0) & (total == count) & (np.bincount(found.row[~fits], minlength=rows) == 0)
        has_idle = np.zeros(rows, np.bool_)
        has_idle[found.row[is_idle]] = True
        # In another form than the narrowest they would come back as other bytes.
        is_counted &= pc.binary_length(packed).to_numpy() == np.where(has_idle, 1 + 4 * pairs, 2 * pairs)
        kept = is_counted[found.row]
        by_place = np.zeros((rows, _BINS), np.int32)
        by_place[found.row[kept], found.bin[kept] - LINEAR.first] = found.count[kept]
        by_bin = by_place[:, 1:-1].astype(np.uint8, order="C")
        return cls(is_counted, by_bin, by_place[:, 0].astype(np.int64), by_place[:, -1].astype(np.int64))

    @classmethod
    def read(cls, columns: StoredColumns, count: Ints, ticks: Ints, *, of_squares: bool) -> tuple["Counts", Sums]:
        """Those of rows of a file, and their `sums`: of samples, and of their squares where these are wanted.

        Without squares nobody is said to be idle.
        """
        words = [columns[f"counts_{place}"].values for place in range(_WORDS)]
        by_bin = np.array(words, "<i8").T.copy().view(np.uint8)
        full = columns["saturated"]
        saturated = full.values
        if not of_squares:
            (sums,) = _sums(by_bin, saturated, ticks, (1,))
            return cls(full.is_valid, by_bin, np.zeros(len(count), np.int64), saturated), (sums, sums)
        total, some, squares = _sums(by_bin, saturated, ticks, (0, 1, 2))
        idle = count - total.astype(np.int64)
        if not full.is_whole:
            idle = np.where(full.is_valid, idle, 0)
        return cls(full.is_valid, by_bin, idle, saturated), (some, squares)

    def columns(self) -> dict[str, pa.Array]:
        """The columns of `SCHEMA`."""
        words, missing = self.by_bin.view("<i8"), ~self.is_counted
        kept = {f"counts_{place}": pa.array(words[:, place], mask=missing) for place in range(_WORDS)}
        return kept | {"saturated": pa.array(self.saturated.astype(np.int32), mask=missing)}

    def packed(self, outer: "Outer") -> tuple[npt.NDArray[np.int32], Bytes]:
        """The lengths and the bytes of what `analytics.frames.packing` makes of them; 0 where there are none."""
        is_wide = self.idle > 0
        pairs = outer.pairs + is_wide + (self.saturated > 0)
        lengths = np.where(is_wide, 1 + 4 * pairs, 2 * pairs).astype(np.int32)
        data = []
        for first in range(0, len(lengths), _ROWS):
            part = slice(first, first + _ROWS)
            data.append(self._pack(part, is_wide[part], lengths[part]))
        return lengths, np.concatenate(data) if data else np.empty(0, np.uint8)

    def _pack(self, part: slice, is_wide: Mask, lengths: npt.NDArray[np.int32]) -> Bytes:
        """The pairs of some windows."""
        counts = np.empty((len(is_wide), _BINS), np.uint8)
        counts[:, 0], counts[:, 1:-1], counts[:, -1] = is_wide, self.by_bin[part], self.saturated[part]
        if not is_wide.any():
            return _narrow(counts)
        if is_wide.all():
            return _wide(counts, self.idle[part], lengths)
        data = np.empty(lengths.sum(), np.uint8)
        inside = np.repeat(is_wide, lengths)
        data[inside] = _wide(counts[is_wide], self.idle[part][is_wide], lengths[is_wide])
        data[~inside] = _narrow(counts[~is_wide])
        return data

    def extremes(self, ticks: Ints, outer: "Outer") -> tuple[Floats, Floats]:
        """What stands for the lowest and the highest bin in use; `ticks` is how many a sample has."""
        # All of a window without any are idle, or saturated.
        low = np.where(self.idle > 0, 0, np.where(outer.last < 0, _BINS - 1, 1 + outer.first))
        high = np.where(self.saturated > 0, _BINS - 1, 1 + outer.last)
        lowest, highest = np.empty(len(low)), np.empty(len(low))
        for mine, number in _groups(ticks):
            values = representatives(number)
            lowest[mine], highest[mine] = values[low[mine]], values[high[mine]]
        return lowest, highest

    def sums(self, ticks: Ints) -> Sums:
        """Of what stands for each sample's bin, the sum and that of the squares, in units of 1 / `SCALE`."""
        some, squares = _sums(self.by_bin, self.saturated, ticks, (1, 2))
        return some, squares


class Outer(NamedTuple):
    """Of the 64 bins between exactly 0 and exactly 1, the first and the last in use of each window, -1 for none."""

    first: Ints
    last: Ints
    pairs: npt.NDArray[np.int32]
    """How many are in use."""

    @classmethod
    def of(cls, by_bin: Bytes) -> "Outer":
        """Those of counts, a row a window."""
        in_use = np.empty(len(by_bin), "<u8")
        for first in range(0, len(by_bin), _ROWS):
            part = by_bin[first : first + _ROWS]
            in_use[first : first + _ROWS] = np.packbits(part.ravel() != 0, bitorder="little").view("<u8")
        # The lowest bit that is set alone, and the highest without the next lower: doubles that are not rounded up.
        lowest = (in_use & -in_use).astype(np.float64)
        highest = (in_use & ~(in_use >> 1)).astype(np.float64)
        return cls(_exponent(lowest), _exponent(highest), np.bitwise_count(in_use).astype(np.int32))


def _exponent(powers: Floats) -> Ints:
    """Which power of two doubles are at least; -1 for 0."""
    found: Ints = np.maximum((powers.view(np.int64) >> 52) - 1023, -1)
    return found


def _sums(by_bin: Bytes, saturated: Ints, ticks: Ints, powers: tuple[int, ...]) -> list[Floats]:
    """The sums of some powers of samples above 0, of each window, in units of 1 / `SCALE` but for power 0."""
    sums = [np.empty(len(ticks)) for _ in powers]
    for mine, number in _groups(ticks):
        whole = isinstance(mine, slice)
        products = _products(by_bin if whole else by_bin[mine], _factors(number, powers))
        for found, power in zip(sums, powers, strict=True):
            product = next(products).astype(np.float64)
            found[mine] = product if power == 0 else product * _HALF + next(products)
    full = np.flatnonzero(saturated)
    if len(full):
        for found, power in zip(sums, powers, strict=True):
            found[full] += saturated[full] * (float(SCALE) if power else 1.0)
    return sums


@lru_cache(256)
def _factors(ticks: int, powers: tuple[int, ...]) -> Singles:
    """What a sample in each bin counts in sums of some powers: a column for power 0, and two for each other.

    Whole numbers, so that the order in which a host adds them up does not matter; and so small, as an upper and a
    lower half of 10 bits, that no sum of 64 bins of 255 samples needs more than the 24 bits of single precision.
    """
    rows: list[Floats] = []
    for power in powers:
        values = representatives(ticks)[1:-1] ** power
        whole = np.minimum(np.floor(values * SCALE + 0.5), SCALE - 1)
        rows += [np.ones(len(whole))] if power == 0 else [whole // _HALF, whole % _HALF]
    return np.array(rows, np.float32).T.copy()


def _products(counts: Bytes, factors: Singles) -> Iterator[Singles]:
    """The columns of counts times factors, in steps so small that BLAS does them in this thread."""
    found = np.empty((len(counts), factors.shape[1]), np.float32)
    rows = _ALONE // factors.size
    step = np.empty((min(rows, len(counts)), counts.shape[1]), np.float32)
    for first in range(0, len(counts), rows):
        part = counts[first : first + rows]
        step[: len(part)] = part
        np.matmul(step[: len(part)], factors, out=found[first : first + rows])
    return iter(found.T)


def _narrow(counts: Bytes) -> Bytes:
    """Pairs of bytes."""
    chosen = np.flatnonzero(counts.ravel() != 0)
    pairs = counts.ravel().take(chosen).astype("<u2")
    pairs <<= 8
    pairs |= _TILED.take(chosen).astype("<u2")
    return pairs.view(np.uint8)


def _wide(counts: Bytes, idle: Ints, lengths: npt.NDArray[np.int32]) -> Bytes:
    """A byte of padding and pairs of 16 bits, for each of some windows that have samples of exactly 0."""
    chosen = np.flatnonzero(counts.ravel() != 0)
    pairs = counts.ravel().take(chosen).astype("<u4")
    pairs <<= 16
    pairs |= _TILED.take(chosen)
    starts = np.cumsum(lengths) - lengths
    # Samples of exactly 0 come first in each.
    pairs[(starts - np.arange(len(starts))) >> 2] = (idle << 16) | int(_TILED[0])
    data = np.zeros(lengths.sum(), np.uint8)
    inside = np.ones(len(data), np.bool_)
    inside[starts] = False
    data[inside] = pairs.view(np.uint8)
    return data


SCALE = 2**20
_HALF = 2**10
"""Its root."""
_TILED = np.tile(np.arange(LINEAR.first, LINEAR.last + 1, dtype="<i2").view("<u2").astype("<u4"), _ROWS)
"""The bins of a table of counts, element by element."""


def _groups(ticks: Ints) -> Iterator[tuple[Ints | slice, int]]:
    """The rows of each number of ticks; first all, as of the number that most have, since that spares a choice."""
    if not len(ticks):
        return
    if (ticks == ticks[0]).all():
        yield slice(None), int(ticks[0])
        return
    rows = np.bincount(ticks)
    usual = int(rows.argmax())
    yield slice(None), usual
    for number in np.flatnonzero(rows).tolist():
        if number != usual:
            yield np.flatnonzero(ticks == number), number


@lru_cache(_MOST_TICKS + 1)
def representatives(ticks: int) -> Floats:
    """What stands for each bin, from exactly 0 to exactly 1, where a sample has about so many ticks; 0 for unknown.

    It is the fraction that samples of so many ticks can have, or of one or two ticks less or more, and the middle of
    the bin where there is none.
    """
    values = np.array([LINEAR.value(bin_) for bin_ in range(LINEAR.first, LINEAR.last + 1)])
    if not 0 < ticks <= _MOST_TICKS:
        return values
    for number in (ticks + 2, ticks - 2, ticks + 1, ticks - 1, ticks):
        for busy in range(1, number):
            values[LINEAR.index(busy / number) - LINEAR.first] = busy / number
    return values
