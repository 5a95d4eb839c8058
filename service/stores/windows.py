"""Windows as columns, as they came in reports, and what they stand for where they do not say all."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.windows import Histograms, Windows, standins
from analytics.windows.packing import unpack
from contract.histogram import LINEAR, LOGARITHMIC

__all__ = ["SCHEMA", "binary", "numbers", "windows_of"]

Numbers = npt.NDArray[Any]

SCHEMA = pa.schema(
    [
        pa.field("series", pa.int32(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("duration", pa.int32(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("mean", pa.float64(), nullable=False),
        pa.field("variance", pa.float64(), nullable=False),
        pa.field("minimum", pa.float64(), nullable=False),
        pa.field("maximum", pa.float64(), nullable=False),
        pa.field("histogram", pa.binary(), nullable=False),
    ]
)
"""A window of a series, as it came: `time` is its end in epoch ms, `duration` its length in ms. Minimum and maximum
are NaN, and the histogram is empty, where the report did not say them."""


def windows_of(batch: pa.RecordBatch | pa.Table, bounded: Numbers, *, histograms: bool) -> Windows:
    """The windows of a batch of `SCHEMA`, as they came.

    `bounded` has by series number whether its quantity is a share. Windows without extremes or histogram
    get stand-ins (`analytics.windows.standins`; for extremes alone, the outer bins), and count as approximated.
    """
    series, time, count = (numbers(batch, name) for name in ("series", "time", "count"))
    mean, variance = numbers(batch, "mean"), numbers(batch, "variance")
    minimum, maximum = numbers(batch, "minimum"), numbers(batch, "maximum")
    packed = binary(batch)
    found = unpack(packed) if histograms else None
    uncounted = _lengths(packed) == 0
    unknown = np.flatnonzero(uncounted | np.isnan(minimum) | np.isnan(maximum))
    approximated = np.zeros(len(series), np.int64)
    if len(unknown):
        low, high, halves = standins(mean[unknown], variance[unknown], count[unknown], bounded[series[unknown]])
        counted = np.flatnonzero(~uncounted[unknown])
        if len(counted):
            low[counted], high[counted] = _span(
                packed.take(pa.array(unknown[counted])), bounded[series[unknown[counted]]]
            )
        minimum, maximum = minimum.copy(), maximum.copy()
        minimum[unknown] = np.where(np.isnan(minimum[unknown]), low, minimum[unknown])
        maximum[unknown] = np.where(np.isnan(maximum[unknown]), high, maximum[unknown])
        # A single sample, or samples all alike, are known though nothing more was said of them.
        approximated[unknown] = np.where((variance[unknown] > 0) & (count[unknown] > 1), count[unknown], 0)
        if found is not None:
            wanted = uncounted[unknown][halves.row]
            found = _combined(found, Histograms(unknown[halves.row[wanted]], halves.bin[wanted], halves.count[wanted]))
    return Windows(series.astype(np.int64), time, count, mean, variance, minimum, maximum, approximated, found)


def _lengths(column: pa.BinaryArray) -> npt.NDArray[np.int32]:
    """The length in bytes of each value of a column."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return np.diff(offsets)


def _span(packed: pa.BinaryArray, bounded: Numbers) -> tuple[Numbers, Numbers]:
    """The values of the lowest and the highest bin of each histogram, none of them empty."""
    found = unpack(packed)
    order = np.lexsort((found.bin, found.row))
    row, bins = found.row[order], found.bin[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    last = np.append(first[1:], len(row)) - 1
    ends = []
    for places in (first, last):
        scales = (LINEAR if one else LOGARITHMIC for one in bounded.tolist())
        ends.append(np.array([scale.value(bin_) for scale, bin_ in zip(scales, bins[places].tolist(), strict=True)]))
    return ends[0], ends[1]


def _combined(first: Histograms, second: Histograms) -> Histograms:
    row = np.concatenate([first.row, second.row])
    order = np.argsort(row, kind="stable")
    return Histograms(
        row[order],
        np.concatenate([first.bin, second.bin])[order],
        np.concatenate([first.count, second.count])[order],
    )


def numbers(batch: pa.RecordBatch | pa.Table, name: str) -> Numbers:
    """A column of numbers as an array."""
    column: Numbers = batch[name].to_numpy()
    return column


def binary(batch: pa.RecordBatch | pa.Table) -> pa.BinaryArray:
    """The packed histograms, in one piece."""
    column = batch["histogram"]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
