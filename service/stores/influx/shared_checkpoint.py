"""The checkpoint that the writers of a cluster share: whoever has the lease goes on where the one before was.

Which windows a flush is of is kept as 8 bytes for each, so that the next can tell them from those written before.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from contract.metrics import TYPE_OF, type_name
from service.stores.base import Key
from service.stores.influx.lines import Lines, lines_of
from service.stores.influx.users import CatalogedUser
from service.stores.series import SeriesIndex

if TYPE_CHECKING:
    from service.cluster.ledger import WriterLedger

_FACTOR = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class SharedCheckpoint:
    """A ledger as a checkpoint (`service.stores.influx.checkpoint.Checkpoint`), with the same methods.

    Of users it keeps nothing: InfluxDB has what it was told of them, and nobody writes without it.
    """

    def __init__(self, ledger: "WriterLedger") -> None:
        self._ledger = ledger
        self.path = Path(ledger.name)
        self.owner = ledger.owner
        """One name for all writers of a cluster."""
        self.problem = None
        self.value = ledger.value
        self.done = ledger.done
        self.forget_noted = ledger.forget_noted
        self.next_parts = ledger.next_parts
        self.forget_parts = ledger.forget_parts

    def users(self) -> list[CatalogedUser]:
        """No users: this process keeps none by itself."""
        return []

    def forget(self, user_id: str) -> None:
        """Nothing is kept of any user."""

    def put(
        self,
        values: Mapping[str, int],
        users: Iterable[CatalogedUser] = (),
        noted: Iterable[Lines] = (),
        parts: Iterable[tuple[int, int, int]] = (),
    ) -> None:
        """Keep numbers, rows to be written and the numbers of parts, all or nothing, where a quorum has them."""
        self._ledger.put(values, (_texts(lines) for lines in noted), parts)

    def begin(self, offset: int, noted: Iterable[Lines], batch: Callable[[], bytes]) -> None:
        """Keep that a flush begins, through a journal offset, and of which windows it is."""
        self._ledger.put({"begun": offset}, (_texts(lines) for lines in noted), batch=batch())

    def noted(self) -> Iterator[tuple[int, Lines]]:
        """What is noted and not done, oldest first, each with its number."""
        return ((number, lines_of(texts)) for number, texts in self._ledger.noted())

    @property
    def has_noted(self) -> bool:
        """Whether anything noted is not done."""
        return self._ledger.has_noted

    def close(self) -> None:
        """Nothing: the connection is another's."""


def _texts(lines: Lines) -> Sequence[str]:
    texts: list[str] = lines.text.to_pylist()
    return texts


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
