"""Histograms as InfluxDB keeps them: the hexadecimal of packed bytes."""

import numpy as np
import pyarrow as pa

__all__ = ["packed_of"]


def packed_of(column: pa.ChunkedArray) -> pa.BinaryArray:
    """Histograms in bytes, of their hexadecimal; nothing for null."""
    text = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    if text.null_count:
        text = text.fill_null("")
    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    data = bytes.fromhex(bytes(memoryview(text.buffers()[2] or b"")[offsets[0] : offsets[-1]]).decode())
    halved = ((offsets - offsets[0]) // 2).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(text), [None, pa.py_buffer(halved), pa.py_buffer(data)])
