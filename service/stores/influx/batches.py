"""Which windows a flush is of: 8 bytes for each, so that another process can tell them from those written before."""

import hashlib

import numpy as np
import pyarrow as pa

from contract.metrics import TYPE_OF, type_name
from service.stores.base import Key
from service.stores.series import SeriesIndex

_FACTOR = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _stream(user_id: str, kind: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{kind}:{user_id}".encode(), digest_size=8).digest(), "little")


def pack(windows: pa.Table, index: SeriesIndex) -> bytes:
    """What tells some windows, with the columns of `MEMTABLE_SCHEMA`, from others: once for each user, type and end."""
    series, ends = windows["series"].to_numpy(), windows["time"].to_numpy()
    chosen = index.streams()[series]
    numbers, place = np.unique(series[chosen], return_inverse=True)
    names = [index.all[number - 1] for number in numbers.tolist()]
    streams = np.array([_stream(one.user_id, type_name(TYPE_OF[one.quantity])) for one in names], np.uint64)
    # Unsigned numbers wrap around.
    found = streams[place] * np.uint64(_FACTOR) + ends[chosen].astype(np.uint64)
    packed: bytes = found.astype("<u8").tobytes()
    return packed


class Batch:
    """The windows of a flush, as they were packed."""

    def __init__(self, packed: bytes) -> None:
        self._found = {*np.frombuffer(packed, "<u8").tolist()}

    def __bool__(self) -> bool:
        return bool(self._found)

    def __contains__(self, key: Key) -> bool:
        stream = _stream(key.user_id, type_name(key.type))
        return (stream * _FACTOR + key.end_ms) & _MASK in self._found
