"""The writer's ledger: what it has written to the store, and is about to write, where every process can read it.

It is a stream of entries, each put behind the last one that its writer knows of; JetStream refuses it where there is a
newer one (`Nats-Expected-Last-Subject-Sequence`). So a writer that was paused, and has lost its place to another
meanwhile, can note nothing any more, whatever its clock says. What it had noted before, the other has written too.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec
import nats.errors
import zstandard
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from service.cluster import ClusterError
from service.cluster.connection import CALL_S, Cluster, ensure_stream, stream_info, words_of
from service.cluster.delivery import Message
from service.cluster.publishing import NotLast, append
from service.cluster.tail import Tail

_log = logging.getLogger("loadlens.service")
_PIECE = 400_000
"""Characters of lines in a piece of an entry: JetStream takes messages of 1 MB."""
_PARTS = 20_000
_BATCH = 400_000
_ENTRIES = 2000
"""After so many entries they are summed up in one."""
_TRY_S = 10.0


class Superseded(ClusterError):
    """Another writer has taken over."""


class LedgerStep(msgspec.Struct, omit_defaults=True):
    """A step of the writer: all of it counts, or nothing."""

    values: dict[str, int] = {}
    """Numbers that change, such as `flushed`."""
    noted: list[tuple[int, bytes]] = []
    """Lines that are written next, packed, each piece with its number."""
    done: list[int] = []
    """The numbers of those that are written."""
    parts: list[tuple[int, int, int]] = []
    """The numbers of parts by tier and bucket."""
    begins: bool = False
    """Whether a step begins with it: what was left of one before that was cut short does not count."""
    goes_on: bool = False
    """Whether the next entry belongs to the same step."""
    afresh: bool = False
    """Whether it sums up everything before it."""
    batch: bytes = b""
    """What tells the windows of a flush that is begun from others, 8 bytes each, packed."""


_DECODER = msgspec.msgpack.Decoder(LedgerStep)


class Ledger:
    """What the entries add up to: numbers, lines that are to be written, numbers of parts. For one thread at a time."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.noted: dict[int, bytes] = {}
        self.parts: dict[tuple[int, int], int] = {}
        self.batch = b""
        """The windows of the flush that was begun last; of none where that has ended."""
        self.sequence = 0
        """The sequence of the last entry."""
        self.notes = 0
        """How often anything was noted: what a reader saw before and after the same count fits together."""
        self._step: list[LedgerStep] = []

    def take(self, sequence: int, entry: LedgerStep) -> bool:
        """Add the entry at a sequence; whether a step is complete."""
        self.sequence = sequence
        if entry.begins:
            self._step = []
        self._step.append(entry)
        if entry.goes_on:
            return False
        if self._step[0].afresh:
            self.values, self.noted, self.parts, self.batch = {}, {}, {}, b""
        for one in self._step:
            self.batch = self.batch if one.values.keys().isdisjoint(("begun", "flushed")) else b""
            self.values |= one.values
            self.batch += one.batch
            self.noted |= dict(one.noted)
            self.notes += bool(one.noted)
            self.parts |= {(tier, bucket): number for tier, bucket, number in one.parts}
            for number in one.done:
                self.noted.pop(number, None)
        self._step = []
        return True

    def entries(self) -> list[LedgerStep]:
        """Entries that sum up all before them: values first, then batches."""
        pieces = [LedgerStep(afresh=True, values={**self.values})]
        pieces += _batches(self.batch)
        pieces += [LedgerStep(noted=[one]) for one in self.noted.items()]
        parts = [(tier, bucket, number) for (tier, bucket), number in self.parts.items()]
        pieces += [LedgerStep(parts=parts[start : start + _PARTS]) for start in range(0, len(parts), _PARTS)]
        return pieces


def _batches(batch: bytes) -> list[LedgerStep]:
    return [LedgerStep(batch=batch[start : start + _BATCH]) for start in range(0, len(batch), _BATCH)]


async def _ensure(cluster: Cluster, stream: str) -> None:
    await ensure_stream(
        cluster,
        StreamConfig(
            name=stream, subjects=[f"{cluster.address.name}.ledger"], storage=StorageType.FILE,
            discard=DiscardPolicy.NEW, retention=RetentionPolicy.LIMITS, num_replicas=cluster.replicas,
            max_msgs=-1, max_age=0, max_bytes=-1, duplicate_window=120.0,
        ),
    )  # fmt: skip


async def last_entry(cluster: Cluster, stream: str) -> int:
    """The sequence of the newest entry, as the stream's leader has it."""
    return (await stream_info(cluster, stream)).state.last_seq


def stream_of(cluster: Cluster) -> str:
    """The name of the ledger's stream."""
    return f"{cluster.address.name}-ledger"


class LedgerReader:
    """Follows the ledger, for processes that only read the store."""

    def __init__(self, cluster: Cluster, changed: Callable[[Ledger], None]) -> None:
        """Read it, then follow it; `changed` is called on the NATS thread with each step. Raises ClusterError."""
        self._cluster = cluster
        self._stream = stream_of(cluster)
        self._changed = changed
        self._ledger = Ledger()
        self._condition = threading.Condition()
        try:
            cluster.call(_ensure(cluster, self._stream), 3 * CALL_S)
            last = cluster.call(last_entry(cluster, self._stream), 3 * CALL_S)
        except (nats.errors.Error, TimeoutError) as error:
            raise ClusterError(f"{cluster.address}: {words_of(error)}") from None
        self._tail = Tail(cluster, self._stream, 0, anew=self._begin_anew)
        self._following = asyncio.run_coroutine_threadsafe(self._tail.follow(self._take), cluster.loop)
        self.wait_for(last, 3 * CALL_S)

    async def _begin_anew(self) -> None:
        with self._condition:
            notes = self._ledger.notes
            self._ledger = Ledger()
            # Whoever reads the store meanwhile reads it again.
            self._ledger.notes = notes + 1

    async def _take(self, messages: Sequence[Message]) -> None:
        with self._condition:
            for message in messages:
                if self._ledger.take(message.sequence, _DECODER.decode(message.payload)):
                    self._tell()
            self._condition.notify_all()

    def _tell(self) -> None:
        try:
            self._changed(self._ledger)
        except Exception:  # noqa: BLE001
            # A fault of ours must not keep this process from following: the next step tells all anew.
            _log.exception("what the writer has done could not be taken")

    @property
    def problem(self) -> str | None:
        """Why this process does not know any more what the writer does; None where it does."""
        if self._following.done():
            return "This process has ceased to follow what the writer does; start it again."
        return None

    def value(self, name: str) -> int | None:
        """A number, as `WriterLedger.value`."""
        with self._condition:
            return self._ledger.values.get(name)

    def wait_for(self, sequence: int, timeout_s: float = CALL_S) -> None:
        """Wait until the entry at a sequence is known. Raises TimeoutError."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._ledger.sequence >= sequence, timeout_s):
                raise TimeoutError(f"the ledger is {sequence - self._ledger.sequence} entries behind")

    def refresh(self) -> None:
        """Return when everything is known that was noted before the call. Raises OSError where that cannot be told."""
        try:
            self.wait_for(self._cluster.call(last_entry(self._cluster, self._stream)))
        except nats.errors.Error as error:
            raise OSError(f"{self._cluster.address}: {words_of(error)}") from None

    def close(self) -> None:
        """Stop following the ledger."""
        self._following.cancel()


class WriterLedger:
    """The ledger, for the writer. For one thread at a time.

    Calls that change it raise Superseded where another writer has taken over.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Read the ledger and go on with it: whoever did so before can write no more. Raises ClusterError."""
        self._cluster = cluster
        self._stream = stream_of(cluster)
        self._subject = f"{cluster.address.name}.ledger"
        self._ledger = Ledger()
        self._first = 1
        self.name = self._stream
        try:
            cluster.call(_ensure(cluster, self._stream), 3 * CALL_S)
            cluster.call(self._read(), 12 * CALL_S)
            made = cluster.call(stream_info(cluster, self._stream), 3 * CALL_S).created
            self.owner = f"cluster {cluster.address.name}, since {made}"
            """One name for all writers that share a ledger."""
            self._put([LedgerStep(values={"takeovers": self._ledger.values.get("takeovers", 0) + 1})])
        except (nats.errors.Error, TimeoutError) as error:
            raise ClusterError(f"{cluster.address}: {words_of(error)}") from None

    async def _read(self) -> None:
        last = await last_entry(self._cluster, self._stream)
        tail = Tail(self._cluster, self._stream, 0, anew=self._begin_anew)
        async for messages in tail.through(last):
            for message in messages:
                self._ledger.take(message.sequence, _DECODER.decode(message.payload))
        if self._ledger.sequence < last:
            raise TimeoutError("the ledger cannot be read to its end")

    async def _begin_anew(self) -> None:
        self._ledger = Ledger()

    def value(self, name: str) -> int | None:
        """A number, such as `flushed`, the offset through which the store has everything."""
        return self._ledger.values.get(name)

    @property
    def batch(self) -> bytes:
        """Of which windows the flush is that was begun last, as it was put; of none where that has ended."""
        return self._ledger.batch

    def put(
        self,
        values: Mapping[str, int],
        noted: Iterable[Sequence[str]] = (),
        parts: Iterable[tuple[int, int, int]] = (),
        batch: bytes = b"",
    ) -> None:
        """Keep numbers, lines to be written, and numbers of parts, all or nothing; on a quorum when it returns.

        `batch` is kept with a number `begun`: of which windows the flush is that begins.
        """
        compress = zstandard.ZstdCompressor(level=1).compress
        number = max([*self._ledger.noted, self._ledger.values.get("noted", 0)])
        entries = [LedgerStep(parts=[*parts])]
        for lines in noted:
            for piece in _pieces(lines):
                number += 1
                entries.append(LedgerStep(noted=[(number, compress("".join(piece).encode()))]))
        entries.append(LedgerStep(values={**values, "noted": number}))
        entries += _batches(batch)
        self._put([entry for entry in entries if entry.parts or entry.noted or entry.values or entry.batch])
        if self._ledger.sequence - self._first > _ENTRIES:
            self._sum_up()

    def noted(self) -> Iterator[tuple[int, list[str]]]:
        """What is noted and not done, oldest first, each with its number."""
        decompress = zstandard.ZstdDecompressor().decompress
        while self._ledger.noted:
            number = min(self._ledger.noted)
            text = decompress(self._ledger.noted[number]).decode()
            yield number, [f"{line}\n" for line in text.split("\n") if line]

    def done(self, number: int) -> None:
        """Forget what was noted: the store has it."""
        self._put([LedgerStep(done=[number])])

    @property
    def has_noted(self) -> bool:
        """Whether anything noted is not done."""
        return bool(self._ledger.noted)

    def forget_noted(self) -> None:
        """Write nothing of what was noted."""
        if self._ledger.noted:
            self._put([LedgerStep(done=[*self._ledger.noted])])

    def next_parts(self, tier_ms: int, buckets: Sequence[int]) -> dict[int, int]:
        """The number of the next part of each of a tier's buckets, by their start."""
        least = self.value("base") or 0
        return {bucket: max(self._ledger.parts.get((tier_ms, bucket), 0), least) + 1 for bucket in buckets}

    def forget_parts(self, tier_ms: int, before_ms: int) -> None:
        """Forget the numbers of a tier's parts whose buckets start before a time; they leave with the next summary."""
        for tier, bucket in [*self._ledger.parts]:
            if tier == tier_ms and bucket < before_ms:
                del self._ledger.parts[tier, bucket]

    def _sum_up(self) -> None:
        before = self._ledger.sequence
        self._put(self._ledger.entries())
        self._first = before + 1
        try:
            self._cluster.call(self._cluster.jetstream.purge_stream(self._stream, seq=before + 1))
        except (nats.errors.Error, TimeoutError) as error:
            _log.debug("the ledger was not shortened: %s", error)

    def _put(self, entries: Sequence[LedgerStep]) -> None:
        for place, entry in enumerate(entries):
            entry.begins, entry.goes_on = place == 0, place < len(entries) - 1
            sequence = self._publish(msgspec.msgpack.encode(entry))
            self._ledger.take(sequence, entry)

    def _publish(self, payload: bytes) -> int:
        """Put one entry behind the last."""
        try:
            return append(self._cluster, self._subject, payload, self._ledger.sequence, _TRY_S)
        except NotLast:
            raise Superseded("another writer has taken over") from None


def _pieces(lines: Sequence[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > _PIECE:
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield piece
