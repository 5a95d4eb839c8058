"""Windows as reports brought them: what these did not say is filled in, and counted as approximated."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analytics.frames.frame import frame_of_columns, packed_column
from analytics.frames.kernel import Floats, Histograms, Ints
from analytics.frames.packing import pack, unpack
from analytics.frames.standins import standins
from contract.histogram import LINEAR, LOGARITHMIC

Bools = npt.NDArray[np.bool_]


def frame_of_reported(
    time: Ints,
    count: Ints,
    mean: Floats,
    variance: Floats,
    minimum: Floats,
    maximum: Floats,
    packed: pa.BinaryArray,
    bounded: Bools,
    *,
    histograms: bool,
) -> pd.DataFrame:
    """The frame of n windows (`analytics.frames.frame`, without labels), with their histograms if these are wanted.

    `minimum` and `maximum` are NaN, and a value of `packed` (`analytics.frames.packing`) is empty, where the report did
    not say them; `bounded` says of each whether it is of a share. What was not said gets stand-ins
    (`analytics.frames.standins`; for extremes alone, the outer bins), and all samples of the window count as
    approximated.
    """
    uncounted = _lengths(packed) == 0
    unknown = np.flatnonzero(uncounted | np.isnan(minimum) | np.isnan(maximum))
    approximated = np.zeros(len(count), np.int64)
    if len(unknown):
        told = (minimum[unknown], maximum[unknown])
        low, high, made = standins(mean[unknown], variance[unknown], count[unknown], bounded[unknown], told)
        counted = np.flatnonzero(~uncounted[unknown])
        if len(counted):
            outer = unknown[counted]
            first, last = _span(packed.take(pa.array(outer)), bounded[outer])
            # The mean may lie in an outer bin, beyond its middle.
            spans = np.minimum(first, mean[outer]), np.maximum(last, mean[outer])
            for extreme, said, span in zip((low, high), told, spans, strict=True):
                extreme[counted] = np.where(np.isnan(said[counted]), span, said[counted])
        minimum, maximum = minimum.copy(), maximum.copy()
        minimum[unknown], maximum[unknown] = low, high
        # A single sample, or samples all alike, are known though nothing more was said of them.
        approximated[unknown] = np.where((variance[unknown] > 0) & (count[unknown] > 1), count[unknown], 0)
        if histograms:
            packed = _filled(packed, uncounted, made, unknown)
    columns: dict[str, Any] = {"count": count, "mean": mean, "var": variance, "min": minimum, "max": maximum}
    columns |= {"approximated": approximated} | ({"histogram": packed_column(packed)} if histograms else {})
    return frame_of_columns(columns, time)


def _filled(packed: pa.BinaryArray, uncounted: Bools, made: Histograms, unknown: Ints) -> pa.BinaryArray:
    """The histograms, where they are empty the stand-ins: row i of `made` is that of row `unknown[i]`."""
    without = np.flatnonzero(uncounted)
    if not len(without):
        return packed
    wanted = uncounted[unknown][made.row]
    row = np.searchsorted(without, unknown[made.row[wanted]])
    stand_ins = pack(Histograms(row, made.bin[wanted], made.count[wanted]), len(without))
    place = np.arange(len(packed))
    place[without] = len(packed) + np.arange(len(without))
    return pa.concat_arrays([packed, stand_ins]).take(pa.array(place))


def _lengths(column: pa.BinaryArray) -> npt.NDArray[np.int32]:
    """The length in bytes of each value of a column."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return np.diff(offsets)


def _span(packed: pa.BinaryArray, bounded: Bools) -> tuple[Floats, Floats]:
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
