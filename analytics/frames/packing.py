"""Histograms of many windows at once, and how they are kept as bytes, one value a window.

Packed, a histogram is pairs of bin and count in the narrowest of three forms that holds them all. The length tells
which:

====================  ===========================================
length                pairs of
====================  ===========================================
even                  one byte each
1 more than 4 k       a byte of padding, then 16 bits each
3 more than 12 k      three of padding, then 32 and 64 bits
====================  ===========================================

Nothing at all stands for a window without a histogram. Numbers are little-endian, bins signed except in the narrowest
form.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.frames.kernel import Histograms


class _Form(NamedTuple):
    padding: int
    pair: np.dtype[np.void]


_FORMS = (
    _Form(0, np.dtype([("bin", "u1"), ("count", "u1")])),
    _Form(1, np.dtype([("bin", "<i2"), ("count", "<u2")])),
    _Form(3, np.dtype([("bin", "<i4"), ("count", "<i8")])),
)


def pack_one(flat: Sequence[int]) -> bytes:
    """The bytes of one histogram in its wire form, `[bin, count, ...]`."""
    try:
        return bytes(flat)
    except ValueError:
        pass
    try:
        return struct.pack(f"<x{'hH' * (len(flat) // 2)}", *flat)
    except struct.error:
        return b"\0\0\0" + b"".join(struct.pack("<iq", *pair) for pair in zip(flat[::2], flat[1::2], strict=True))


def unpack(column: pa.BinaryArray | pa.LargeBinaryArray) -> Histograms:
    """The histograms of a column, `row` counted from 0; sorted by row, and by bin where they were packed so."""
    offset_type = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    offsets = np.frombuffer(column.buffers()[1], offset_type)[column.offset : column.offset + len(column) + 1]
    if not len(offsets):
        return Histograms.empty()
    lengths = np.diff(offsets)
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    if not np.any(lengths & 1):
        # Pairs of bytes and nothing else, as of windows and of buckets of few samples.
        pairs = data.view(_FORMS[0].pair)
        rows = np.repeat(np.arange(len(lengths)), lengths >> 1)
        return Histograms(rows, pairs["bin"].astype(np.int32), pairs["count"].astype(np.int64))
    form_of = np.where(lengths % 2 == 0, 0, np.where(lengths % 4 == 1, 1, 2))
    padding = np.array([form.padding for form in _FORMS])[form_of]
    width = np.array([form.pair.itemsize for form in _FORMS])[form_of]
    pairs_in = np.where(lengths > 0, (lengths - padding) // width, 0)
    bins, counts = np.empty(pairs_in.sum(), np.int32), np.empty(pairs_in.sum(), np.int64)
    for number, form in enumerate(_FORMS):
        mine = (form_of == number) & (lengths > 0)
        if mine.any():
            # A slice where all are of one form, which is much quicker than a mask.
            entries = slice(None) if mine.sum() == np.sum(lengths > 0) else np.repeat(mine, pairs_in)
            pairs = data[_content(form, offsets[:-1] - offsets[0], lengths, mine)].view(form.pair)
            bins[entries], counts[entries] = pairs["bin"], pairs["count"]
    return Histograms(np.repeat(np.arange(len(lengths)), pairs_in), bins, counts)


def pack(histograms: Histograms, rows: int, *, large: bool = False) -> pa.BinaryArray | pa.LargeBinaryArray:
    """The column of `rows` values for histograms that are sorted by row; `large` may exceed 2 GiB."""
    row, bins, counts = histograms.row, histograms.bin, histograms.count
    kind = pa.large_binary() if large else pa.binary()
    form_of = np.zeros(rows, np.int8)
    is_wide = (bins < 0) | (bins > 0xFF) | (counts > 0xFF)
    if is_wide.any():
        form_of[row[is_wide]] = 1
        form_of[row[is_wide & ((bins < -0x8000) | (bins > 0x7FFF) | (counts > 0xFFFF))]] = 2
    pairs_in = np.bincount(row, minlength=rows)
    padding = np.array([form.padding for form in _FORMS])[form_of]
    width = np.array([form.pair.itemsize for form in _FORMS])[form_of]
    lengths = np.where(pairs_in > 0, padding + pairs_in * width, 0)
    offsets: npt.NDArray[np.integer] = np.zeros(rows + 1, np.int64 if large else np.int32)
    np.cumsum(lengths, out=offsets[1:])
    if not is_wide.any():
        # Pairs of bytes and nothing else, as of windows that an agent sends: they lie there in order already.
        return pa.Array.from_buffers(
            kind, rows, [None, pa.py_buffer(offsets), pa.py_buffer(_pairs(_FORMS[0], bins, counts))]
        )
    data = np.zeros(offsets[-1], np.uint8)
    for number, form in enumerate(_FORMS):
        mine = (form_of == number) & (pairs_in > 0)
        if not mine.any():
            continue
        # As above.
        entries = slice(None) if mine.sum() == np.sum(pairs_in > 0) else form_of[row] == number
        content = _pairs(form, bins[entries], counts[entries]).view(np.uint8)
        data[_content(form, offsets[:-1], lengths, mine)] = content
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _pairs(form: _Form, bins: npt.NDArray[np.integer], counts: npt.NDArray[np.integer]) -> npt.NDArray[np.void]:
    pairs = np.empty(len(bins), form.pair)
    pairs["bin"], pairs["count"] = bins, counts
    return pairs


def _content(
    form: _Form, starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer], mine: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_] | slice:
    """The bytes of the pairs of all rows of one form, `mine`; rows lie one behind the other."""
    if not form.padding and not np.any(lengths[~mine]):
        return slice(None)
    inside = np.repeat(mine, lengths)
    for place in range(form.padding):
        inside[starts[mine] + place] = False
    return inside
