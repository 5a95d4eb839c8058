"""Histograms of shares in files: a byte for each bin, the same bin of many windows next to each other.

`counts_0` to `counts_7` have the samples in eight of the 64 bins each, the lowest bin in the lowest byte, and
`saturated` those of exactly 1. Those of exactly 0 are what is left of the window's `count`. Split into their bytes
(Parquet's BYTE_STREAM_SPLIT), these columns take half of what pairs of bin and count take.

What no bytes can say is in the column `histogram`, packed (`analytics.frames.packing`): other bins, 256 samples in
one, counts that are not those of the window; and, as nothing at all, that the report had none.

Much else nearly follows from a histogram whose bins hold one possible value each, as those of a core do
(`representatives`): the extremes, and the sums that `service.stores.embedded.fractions` keeps.
"""

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

_BINS = LINEAR.bins + 2
"""And exactly 0 before them, exactly 1 behind."""
_WORDS = LINEAR.bins // 8
_MOST, _MOST_IDLE = 0xFF, 0xFFFF
SCHEMA = pa.schema([*(pa.field(f"counts_{word}", pa.int64()) for word in range(_WORDS)), ("saturated", pa.int32())])
"""Null where the column `histogram` says what there is to say."""
_ROWS = 8192
"""How many windows are looked at together, so that they stay in the processor's cache."""
_MOST_TICKS = 64
"""Samples of more ticks have several values in a bin."""


class Counts(NamedTuple):
    """Counts of windows; all are 0 where a window has none."""

    is_counted: Mask
    """Which windows have some."""
    by_bin: Bytes
    """A row each, from exactly 0, whose bytes say whether there are any, to exactly 1."""
    idle: Ints
    """How many are exactly 0."""

    @classmethod
    def of(cls, packed: pa.BinaryArray, count: Ints) -> "Counts":
        """Those of packed histograms that can be said so, in windows with so many samples."""
        found = unpack(packed)
        rows = len(packed)
        is_idle = found.bin == LINEAR.first
        fits = (found.bin >= LINEAR.first) & (found.bin <= LINEAR.last) & (found.count > 0)
        fits &= found.count <= np.where(is_idle, _MOST_IDLE, _MOST)
        fits[1:] &= (np.diff(found.bin) > 0) | (np.diff(found.row) > 0)
        idle = np.zeros(rows, np.int64)
        idle[found.row[is_idle & fits]] = found.count[is_idle & fits]
        pairs = np.bincount(found.row, minlength=rows)
        total = np.zeros(rows, np.int64)
        np.add.at(total, found.row[fits], found.count[fits])
        is_counted = (pairs > 0) & (total == count) & (np.bincount(found.row[~fits], minlength=rows) == 0)
        # In another form than the narrowest they would come back as other bytes.
        is_counted &= pc.binary_length(packed).to_numpy() == np.where(idle > 0, 1 + 4 * pairs, 2 * pairs)
        by_bin = np.zeros((rows, _BINS), np.uint8)
        kept = is_counted[found.row]
        by_bin[found.row[kept], found.bin[kept] - LINEAR.first] = np.minimum(found.count[kept], _MOST)
        return cls(is_counted, by_bin, np.where(is_counted, idle, 0))

    @classmethod
    def read(cls, batch: pa.Table | pa.RecordBatch, count: Ints) -> "Counts":
        """Those of rows of a file."""
        rows = len(batch)
        is_counted = np.asarray(batch["saturated"].is_valid())
        by_bin = np.zeros((rows, _BINS), np.uint8)
        words = np.empty((rows, _WORDS), np.int64)
        for place in range(_WORDS):
            words[:, place] = batch[f"counts_{place}"].fill_null(0).to_numpy()
        by_bin[:, 1:-1] = words.astype("<i8", copy=False).view(np.uint8)
        by_bin[:, -1] = batch["saturated"].fill_null(0).to_numpy()
        idle = np.where(is_counted, count - by_bin[:, 1:].sum(axis=1, dtype=np.int64), 0)
        by_bin[:, 0] = np.minimum(idle, _MOST)
        return cls(is_counted, by_bin, idle)

    def columns(self) -> dict[str, pa.Array]:
        """The columns of `SCHEMA`."""
        words = np.ascontiguousarray(self.by_bin[:, 1:-1]).view("<i8")
        missing = ~self.is_counted
        kept = {f"counts_{place}": pa.array(words[:, place], mask=missing) for place in range(_WORDS)}
        return kept | {"saturated": pa.array(self.by_bin[:, -1].astype(np.int32), mask=missing)}

    def packed(self) -> pa.BinaryArray:
        """As `analytics.frames.packing` has them; empty where there are none."""
        is_there = self.by_bin != 0
        pairs = is_there.sum(axis=1, dtype=np.int32)
        is_wide = self.by_bin[:, 0] != 0
        lengths = np.where(is_wide, 1 + 4 * pairs, 2 * pairs)
        offsets = np.zeros(len(pairs) + 1, np.int32)
        np.cumsum(lengths, out=offsets[1:])
        data = np.empty(offsets[-1], np.uint8)
        for first in range(0, len(pairs), _ROWS):
            part = slice(first, min(first + _ROWS, len(pairs)))
            self._pack(part, is_there[part], is_wide[part], lengths[part], data[offsets[first] : offsets[part.stop]])
        return pa.Array.from_buffers(pa.binary(), len(pairs), [None, pa.py_buffer(offsets), pa.py_buffer(data)])

    def _pack(self, part: slice, is_there: Mask, is_wide: Mask, lengths: npt.NDArray[np.int32], data: Bytes) -> None:
        """Put the pairs of some windows into `data`."""
        narrow = (self.by_bin[part].astype(np.uint16) << 8) | (_PLACES - 1).astype(np.uint16)
        if not is_wide.any():
            data[:] = narrow[is_there].view(np.uint8)
            return
        wide = (self.by_bin[part].astype(np.uint32) << 16) | (_PLACES - 1).astype(np.uint16)
        wide[:, 0] = (self.idle[part].astype(np.uint32) << 16) | 0xFFFF
        padding = np.cumsum(lengths) - lengths
        if is_wide.all():
            inside = np.ones(len(data), np.bool_)
            inside[padding] = False
            data[padding] = 0
            data[inside] = wide[is_there].view(np.uint8)
            return
        of_wide = np.repeat(is_wide, lengths)
        data[~of_wide] = narrow[is_there & ~is_wide[:, None]].view(np.uint8)
        data[padding[is_wide]] = 0
        of_wide[padding[is_wide]] = False
        data[of_wide] = wide[is_there & is_wide[:, None]].view(np.uint8)

    def extremes(self, ticks: Ints) -> tuple[Floats, Floats]:
        """What stands for the lowest and the highest bin in use; `ticks` is how many a sample has."""
        is_there = self.by_bin != 0
        low, high = is_there.argmax(axis=1), _BINS - 1 - is_there[:, ::-1].argmax(axis=1)
        lowest, highest = np.empty(len(low)), np.empty(len(low))
        for mine, number in _groups(ticks):
            values = representatives(number)
            lowest[mine], highest[mine] = values[low[mine]], values[high[mine]]
        return lowest, highest

    def sums(self, ticks: Ints) -> tuple[Floats, Floats]:
        """Of what stands for each sample's bin, the sum and that of the squares, in units of `SCALE`: whole numbers."""
        sums = np.zeros((len(ticks), 2))
        for mine, number in _groups(ticks):
            values = representatives(number)[:, None] ** [1, 2]
            # Whole numbers, so that the order in which a machine adds them up does not matter.
            scaled = np.floor(values * SCALE + 0.5)
            counts = self.by_bin[mine]
            for first in range(0, len(counts), _ROWS):
                part = slice(first, first + _ROWS)
                found = counts[part].astype(np.float64) @ scaled
                if isinstance(mine, slice):
                    sums[part] = found
                else:
                    sums[np.flatnonzero(mine)[part]] = found
        return sums[:, 0], sums[:, 1]


SCALE = 2**20
_PLACES = np.arange(_BINS, dtype=np.int16)


def _groups(ticks: Ints) -> list[tuple[Mask | slice, int]]:
    """The rows of each number of ticks."""
    numbers = np.unique(ticks).tolist()
    return [(slice(None) if len(numbers) == 1 else ticks == number, number) for number in numbers]


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
