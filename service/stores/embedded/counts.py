"""Histograms of shares in files: a byte for each bin, the same bin of many windows next to each other.

`counts_0` to `counts_7` have the samples in eight of the 64 bins each, the lowest bin in the lowest byte, and
`saturated` those of exactly 1. Those of exactly 0 are what is left of the window's `count`. Split into their bytes
(Parquet's BYTE_STREAM_SPLIT), these columns take half of what pairs of bin and count take.

What no bytes can say is in the column `histogram`, packed (`analytics.frames.packing`): other bins, 256 samples in
one, counts that are not those of the window; and, as nothing at all, that the report had none.

Much else nearly follows from a histogram whose bins hold one possible value each, as those of a core do
(`representatives`): the extremes, and the sums that `service.stores.embedded.fractions` keeps.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.packing import unpack
from contract.histogram import LINEAR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Sums = tuple[Floats, Floats]

_BINS = LINEAR.bins + 2
"""And exactly 0 before them, exactly 1 behind."""
_WORDS = LINEAR.bins // 8
_MOST, _MOST_IDLE = 0xFF, 0xFFFF
SCHEMA = pa.schema([*(pa.field(f"counts_{word}", pa.int64()) for word in range(_WORDS)), ("saturated", pa.int32())])
"""Null where the column `histogram` says what there is to say."""
_ROWS = 1024
"""How many windows are looked at together, so that they stay in the processor's cache."""
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
    def read(cls, batch: pa.RecordBatch, count: Ints, ticks: Ints) -> tuple["Counts", Sums]:
        """Those of rows of a file, and their `sums`."""
        words = np.empty((len(batch), _WORDS), "<i8")
        columns = [np.asarray(batch[f"counts_{place}"].fill_null(0)) for place in range(_WORDS)]
        for first in range(0, len(batch), _ROWS):
            part = slice(first, first + _ROWS)
            for place, column in enumerate(columns):
                words[part, place] = column[part]
        by_bin = words.view(np.uint8)
        is_counted = np.asarray(batch["saturated"].is_valid())
        saturated = batch["saturated"].fill_null(0).to_numpy().astype(np.int64)
        total, *sums = _sums(by_bin, saturated, ticks, (0, 1, 2)).T
        idle = np.where(is_counted, count - total.astype(np.int64), 0)
        return cls(is_counted, by_bin, idle, saturated), (sums[0], sums[1])

    def columns(self) -> dict[str, pa.Array]:
        """The columns of `SCHEMA`."""
        words, missing = self.by_bin.view("<i8"), ~self.is_counted
        kept = {f"counts_{place}": pa.array(words[:, place], mask=missing) for place in range(_WORDS)}
        return kept | {"saturated": pa.array(self.saturated.astype(np.int32), mask=missing)}

    def packed(self) -> pa.BinaryArray:
        """As `analytics.frames.packing` has them; empty where there are none."""
        rows = len(self.idle)
        is_wide = self.idle > 0
        lengths, data = np.empty(rows, np.int32), []
        for first in range(0, rows, _ROWS):
            part = slice(first, first + _ROWS)
            data.append(self._pack(part, is_wide[part], lengths[part]))
        offsets = np.zeros(rows + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        content = pa.py_buffer(np.concatenate(data) if data else b"")
        return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), content])

    def _pack(self, part: slice, is_wide: Mask, lengths: npt.NDArray[np.int32]) -> Bytes:
        """The pairs of some windows; their lengths are put into `lengths`."""
        counts = np.empty((len(is_wide), _BINS), np.uint8)
        counts[:, 0], counts[:, 1:-1], counts[:, -1] = is_wide, self.by_bin[part], self.saturated[part]
        is_there = counts != 0
        pairs = np.add.reduce(is_there.view(np.uint8), axis=1, dtype=np.uint8).astype(np.int32)
        np.copyto(lengths, np.where(is_wide, 1 + 4 * pairs, 2 * pairs))
        if not is_wide.any():
            return _narrow(counts, is_there)
        if is_wide.all():
            return _wide(counts, is_there, self.idle[part], lengths)
        data = np.empty(lengths.sum(), np.uint8)
        inside = np.repeat(is_wide, lengths)
        data[inside] = _wide(counts[is_wide], is_there[is_wide], self.idle[part][is_wide], lengths[is_wide])
        data[~inside] = _narrow(counts[~is_wide], is_there[~is_wide])
        return data

    def extremes(self, ticks: Ints) -> tuple[Floats, Floats]:
        """What stands for the lowest and the highest bin in use; `ticks` is how many a sample has."""
        first, last = _outer(self.by_bin)
        # All of a window without any are idle, or saturated.
        low = np.where(self.idle > 0, 0, np.where(last < 0, _BINS - 1, 1 + first))
        high = np.where(self.saturated > 0, _BINS - 1, 1 + last)
        lowest, highest = np.empty(len(low)), np.empty(len(low))
        for mine, number in _groups(ticks):
            values = representatives(number)
            lowest[mine], highest[mine] = values[low[mine]], values[high[mine]]
        return lowest, highest

    def sums(self, ticks: Ints) -> Sums:
        """Of what stands for each sample's bin, the sum and that of the squares, in units of 1 / `SCALE`."""
        sums = _sums(self.by_bin, self.saturated, ticks, (1, 2))
        return sums[:, 0], sums[:, 1]


def _sums(by_bin: Bytes, saturated: Ints, ticks: Ints, powers: tuple[int, ...]) -> Floats:
    """The sums of some powers of samples above 0: a row for each window, in units of 1 / `SCALE` but for power 0."""
    sums = np.empty((len(ticks), len(powers)))
    units = np.where(np.array(powers) > 0, float(SCALE), 1.0)
    for mine, number in _groups(ticks):
        # Whole numbers, so that the order in which a host adds them up does not matter.
        scaled = np.floor(representatives(number)[1:-1, None] ** powers * units + 0.5)
        if isinstance(mine, slice):
            _product(by_bin, scaled, out=sums)
        else:
            sums[mine] = _product(by_bin[mine], scaled)
    full = np.flatnonzero(saturated)
    sums[full] += saturated[full, None] * units
    return sums


def _outer(by_bin: Bytes) -> tuple[Ints, Ints]:
    """The first and the last bin in use of each row; -1 where there is none."""
    in_use = np.empty(len(by_bin), "<u8")
    for first in range(0, len(by_bin), _ROWS):
        part = slice(first, first + _ROWS)
        in_use[part] = np.packbits(by_bin[part] != 0, axis=1, bitorder="little").view("<u8").ravel()
    number = in_use.view("<i8")
    upper = number >> 32 & 0xFFFFFFFF
    highest = np.where(upper > 0, 32 + _bits(upper), _bits(number & 0xFFFFFFFF))
    # The lowest bit that is set alone, which is a double without being rounded.
    return _bits(number & -number) - 1, highest - 1


def _bits(numbers: Ints) -> Ints:
    """How many bits whole numbers have that doubles can say, without sign; 0 has none."""
    return np.frexp(numbers.view(np.uint64).astype(np.float64))[1].astype(np.int64)


def _product(counts: Bytes, factors: Floats, out: Floats | None = None) -> Floats:
    """The product of two matrices, in steps so small that BLAS does them in this thread; put into `out` where given."""
    found = np.empty((len(counts), factors.shape[1])) if out is None else out
    step = np.empty((_ROWS, counts.shape[1]))
    for first in range(0, len(counts), _ROWS):
        part = counts[first : first + _ROWS]
        step[: len(part)] = part
        np.matmul(step[: len(part)], factors, out=found[first : first + _ROWS])
    return found


def _chosen(pairs: npt.NDArray[np.unsignedinteger], is_there: Mask) -> Bytes:
    """The bytes of some elements; `pairs[is_there]` takes four times as long."""
    return pairs.ravel().take(np.flatnonzero(is_there)).view(np.uint8)


def _narrow(counts: Bytes, is_there: Mask) -> Bytes:
    """Pairs of bytes."""
    pairs = counts.astype("<u2")
    pairs <<= 8
    pairs |= _PLACES.astype("<u2")
    return _chosen(pairs, is_there)


def _wide(counts: Bytes, is_there: Mask, idle: Ints, lengths: npt.NDArray[np.int32]) -> Bytes:
    """A byte of padding and pairs of 16 bits, for each of some windows that have samples of exactly 0."""
    chosen = np.flatnonzero(is_there)
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
_PLACES = np.arange(LINEAR.first, LINEAR.last + 1, dtype="<i2")
_TILED = np.tile(_PLACES.view("<u2").astype("<u4"), _ROWS)
"""The bins of a table of counts, element by element."""


def _groups(ticks: Ints) -> Iterator[tuple[Mask | slice, int]]:
    """The rows of each number of ticks; first all, as of the number that most have, since that spares a choice."""
    rows = np.bincount(ticks)
    if not len(rows):
        return
    usual = int(rows.argmax())
    yield slice(None), usual
    for number in np.flatnonzero(rows).tolist():
        if number != usual:
            yield ticks == number, number


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
