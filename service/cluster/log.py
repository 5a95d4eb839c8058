"""The replicated log: accepted reports on the disks of a quorum, in order, before they are acknowledged.

One stream of JetStream has all reports; their sequence in it is the offset that the journal of one host would give.
A report's subject is its host's partition, and its message id says host, metric types and end of window: sent again to
any process within the stream's duplicate window, it is stored once.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path

import msgspec
import nats.errors
import nats.js.errors
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from contract.report import Report
from service.cluster import ClusterError
from service.cluster.connection import CALL_S, Cluster, ensure_stream, stream_info, words_of
from service.cluster.delivery import Message, identity_of
from service.cluster.partitions import PARTITIONS, message_id, partition_of
from service.cluster.publishing import Publisher, Sent, longest_s
from service.cluster.tail import Tail
from service.journal.files import Record
from service.journal.journal import JournalFull

_log = logging.getLogger("loadlens.service")
DUPLICATE_WINDOW_S = 120.0
_BEHIND_S = 60.0
"""A process that has not followed the log for so long cannot tell what is known: half the duplicate window."""
_SEEN_S = 1.0
"""So long a commit waits until this process answers what it wrote."""
_LOOK_S = 1.0
_LINGER_S = 0.05
"""Nobody waits for a writer's reading: what comes within that time costs it little more than a single report."""
LOG = "log"
"""What the ledger calls the time at which the log was made that the store has reports of."""
AGAIN = 10_000
"""So many reports are read again from another copy of the log: as far as copies may differ (`service.cluster.tail`)."""
_LESS_LOOKS = 10
"""Where the log was said so often to end before what was acknowledged, its offsets are another copy's."""
_READ_S = 30.0
_DECODER = msgspec.json.Decoder(Report)
_NOTHING: tuple[bytes, Report | None] = b"", None
Take = Callable[[int, Sequence[bytes], Sequence[Report]], Awaitable[None]]
"""Takes reports that follow each other: the offset of the last, and the reports as text and decoded."""


class _Reading:
    """How far a reader of the log is."""

    def __init__(self, after: int) -> None:
        self.seen = after
        """The highest offset that was handed on."""
        self.through = after
        """Up to where the copy that is read has been handed on; another copy has other offsets."""


class ReplicatedLog:
    """The stream of reports, in place of a journal (`service.journal.journal.Journal`).

    `append` is called by one thread at a time, the others by any. Raises ClusterError where NATS cannot be used.
    """

    def __init__(self, cluster: Cluster, limit_bytes: int, keep_bytes: int) -> None:
        self.cluster = cluster
        name = cluster.address.name
        self.stream = f"{name}-reports"
        self._subjects = [f"{name}.reports.{partition}".encode() for partition in range(PARTITIONS)]
        self.limit_bytes = limit_bytes
        self._keep_bytes = keep_bytes
        self.problem: str | None = None
        """Why the last write failed, until one has gone well; None before."""
        self.failures = 0
        self.kept = 0
        self.made = 0
        """When the stream was made, epoch microseconds: another time where offsets begin again."""
        self._is_anew = False
        self._flushed = 0
        self._publisher = Publisher(cluster, self.stream)
        self._bytes = 0
        self._following: Future[None] | None = None
        self._tail: Tail | None = None
        """How this process follows the log."""
        self._followed = threading.Condition()
        self._certain = self._less = 0
        self._mine = _Reading(0)
        self._writers = _Reading(0)
        """How far this process has followed the log, and how far its writer has read it."""
        self._awaited: dict[int, tuple[bytes, Report]] = {}
        """Reports that this process has appended and not seen, as text and decoded, by identity of their messages."""
        self._current = time.monotonic()
        self.first, self.last = 1, 0
        try:
            cluster.call(self._open(), 3 * CALL_S)
        except (nats.errors.Error, TimeoutError) as error:
            raise ClusterError(f"{cluster.address}: {words_of(error)}") from None
        self._looking = asyncio.run_coroutine_threadsafe(self._look_on(), cluster.loop)

    async def _open(self) -> None:
        wanted = StreamConfig(
            name=self.stream, subjects=[f"{self.cluster.address.name}.reports.*"], storage=StorageType.FILE,
            discard=DiscardPolicy.NEW, retention=RetentionPolicy.LIMITS, num_replicas=self.cluster.replicas,
            max_msgs=-1, max_age=0, max_bytes=self.limit_bytes + self._keep_bytes,
            duplicate_window=DUPLICATE_WINDOW_S,
        )  # fmt: skip
        await ensure_stream(self.cluster, wanted)
        await self._publisher.begin()
        await stream_info(self.cluster, self.stream)
        await self._look()

    async def _look(self) -> None:
        """Ask how much is in the stream."""
        info = await self.cluster.jetstream.stream_info(self.stream)
        state = info.state
        # A node that was cut off may tell more, or less, than what the others have agreed on.
        self._less = self._less + 1 if state.last_seq < self._certain else 0
        if self._less > _LESS_LOOKS:
            self._certain = state.last_seq
        self.first, self.last = state.first_seq or 1, max(state.last_seq, self._certain)
        made = _microseconds(info.created)
        self.made = self.made or made
        self._is_anew = made != self.made or state.last_seq + AGAIN < self._flushed
        self._bytes, messages = state.bytes, max(state.messages, 1)
        self.limit_bytes = max((info.config.max_bytes or 0) - self._keep_bytes, 1)
        waiting = max(self.last - max(self._flushed, self.first - 1), 0)
        self.kept = round(self._bytes * (1 - min(waiting / messages, 1)))

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look()
            except (nats.errors.Error, TimeoutError) as error:
                _log.debug("%s: %s", self.cluster.address, error)

    @property
    def duplicates(self) -> int:
        """Reports that JetStream had already."""
        return self._publisher.duplicates

    @property
    def size(self) -> int:
        """The bytes of the reports that the store has not."""
        return self._bytes - self.kept

    def check(self, flushed: int, made: int | None = None) -> None:
        """Raise ClusterError where this is not the log that the store has reports of, up to `flushed`.

        `made` is when that was made, where it is known. A copy of the same log may end a little before.
        """
        least = flushed - AGAIN if made == self.made else flushed
        if self.last < least or made not in (None, self.made):
            raise ClusterError(
                f"the stream {self.stream} ends at {self.last}, but the store has its reports up to {flushed}: its "
                "disks were lost, or somebody made it anew; see docs/scaling.md, If a stream is lost"
            )

    def advance_to(self, offset: int) -> None:
        """Take that the store has everything up to `offset`."""
        self._flushed = max(self._flushed, offset)

    def prepare(self) -> None:
        """Nothing: JetStream has its files ready."""

    # What comes in

    def append(self, texts: Sequence[bytes], reports: Sequence[Report]) -> int:
        """Put reports, each with its JSON text, on the disks of a quorum; returns the offset of the last.

        They are all under way at once, and sent again where no word comes. Raises JournalFull at the stream's limit
        and OSError where JetStream does not take them; some may be stored then, and count once when they come again.
        """
        if self.following_problem:
            # Whether a report is known could not be told.
            raise OSError(self.following_problem)
        messages = [
            Sent(self._subjects[partition_of(report.user_id)], text, message_id(report).encode())
            for text, report in zip(texts, reports, strict=True)
        ]
        awaited = {
            identity_of(message.id): (message.text, report) for message, report in zip(messages, reports, strict=True)
        }
        with self._followed:
            if self._tail is not None:
                awaited = {one: sent for one, sent in awaited.items() if one not in self._tail.remembered}
            self._awaited |= awaited
        try:
            last = self.cluster.call(self._publisher.publish(messages), longest_s(len(messages)) + CALL_S)
            self._is_there(last)
        except JournalFull:
            self.failures += 1
            raise
        except (nats.errors.Error, TimeoutError, OSError) as error:
            self.failures += 1
            self.problem = words_of(error)
            raise OSError(f"{self.cluster.address}: {self.problem}") from None
        else:
            self.problem = None
            with self._followed:
                # Not by their offset, which may be another one in the copy that this process reads.
                self._followed.wait_for(
                    lambda: self._following is None or self._awaited.keys().isdisjoint(awaited), _SEEN_S
                )
            return last
        finally:
            with self._followed:
                for one in awaited:
                    self._awaited.pop(one, None)

    # What goes out

    def follow(self, after: int, take: Take) -> None:
        """Hand every report behind offset `after` to `take`, and note what this process has seen."""
        mine = self._mine = _Reading(after)
        tail = self._tail = Tail(self.cluster, self.stream, after, AGAIN)

        async def take_and_note(messages: Sequence[Message]) -> None:
            if messages[0].sequence > mine.seen:
                await note(messages[-1].sequence, messages)
                return
            # From another copy, where they have offsets that others had before: one by one, as they do not count.
            for message in messages:
                await note(max(mine.seen, message.sequence), [message])

        async def note(last: int, messages: Sequence[Message]) -> None:
            await take(last, [message.payload for message in messages], [self._report_of(one) for one in messages])
            with self._followed:
                mine.seen = last
                self._is_there(last)
                if self._awaited:
                    for message in messages:
                        self._awaited.pop(message.identity, None)
                    self._followed.notify_all()

        self._following = self._hand_out(tail, take_and_note, mine, self._note_current)

    def _report_of(self, message: Message) -> Report:
        """A message decoded; what this process has appended it has decoded already."""
        text, report = self._awaited.get(message.identity, _NOTHING)
        return report if report is not None and text == message.payload else _DECODER.decode(message.payload)

    def _is_there(self, last: int) -> None:
        self._certain = max(self._certain, last)
        self.last = max(self.last, last)

    def _note_current(self) -> None:
        self._current = time.monotonic()

    def hand_out(self, after: int, take: Take) -> Future[None]:
        """Hand every report behind offset `after` to `take` on the NATS thread, more only when it is done with them.

        Goes on until it is cancelled, or `take` fails. Offsets of a report and the next may go back, where another copy
        of the log is read; no report comes twice.
        """
        writers = self._writers = _Reading(after)

        async def decoded(messages: Sequence[Message]) -> None:
            await _decoded(take, messages[-1].sequence, messages)
            writers.seen = max(writers.seen, messages[-1].sequence)

        tail = Tail(self.cluster, self.stream, after, AGAIN, linger_s=_LINGER_S)
        return self._hand_out(tail, decoded, writers, lambda: None)

    def _hand_out(
        self,
        tail: Tail,
        take: Callable[[Sequence[Message]], Awaitable[None]],
        reading: _Reading,
        current: Callable[[], None],
    ) -> Future[None]:
        async def hand_on(messages: Sequence[Message]) -> None:
            if messages:
                await take(messages)
            reading.through = tail.last
            if not tail.behind:
                current()

        return asyncio.run_coroutine_threadsafe(tail.follow(hand_on), self.cluster.loop)

    @property
    def following_problem(self) -> str | None:
        """Why this process does not see what is in the log; None where it does."""
        if self._is_anew:
            return f"The stream {self.stream} was made anew, and its offsets begin again: see docs/scaling.md."
        if self._following is not None and self._following.done():
            return "This process has ceased to follow the log; start it again."
        if time.monotonic() - self._current > _BEHIND_S:
            return f"This process is {self.behind} reports behind the log."
        return None

    @property
    def behind(self) -> int:
        """How many reports of the log this process has not seen."""
        return max(self.last - max(self._mine.seen, self._mine.through), 0)

    def waiting(self, through: int) -> int:
        """The same as of a journal, as far as this process has followed the log."""
        return self._lacking(self._mine, through)

    def unwritten(self, flushed: int) -> int:
        """The same, as far as this process has read the log as a writer."""
        return self._lacking(self._writers, flushed)

    def _lacking(self, reading: _Reading, flushed: int) -> int:
        # What was handed on from one copy of the log counts by its offsets there, though the copy that is read now,
        # and all of which was handed on, may end elsewhere.
        unread = max(self.last - reading.through, 0)
        return max(min(self.last, reading.seen + unread) - flushed, 0)

    def read(self, after: int) -> Iterator[Record]:
        """The reports behind offset `after` that are there now, oldest first. Raises OSError."""
        batches = Tail(self.cluster, self.stream, after, AGAIN).through(self.last)
        try:
            while messages := self.cluster.call(_next(batches), _READ_S):
                texts = [message.payload for message in messages]
                yield Record(messages[-1].sequence, b"[" + b",".join(texts) + b"]")
        except (nats.errors.Error, TimeoutError) as error:
            raise OSError(f"{self.cluster.address}: {words_of(error)}") from None
        finally:
            asyncio.run_coroutine_threadsafe(_closed(batches), self.cluster.loop)

    def prune(self, through: int) -> None:
        """Forget the reports up to offset `through`, which the store has, but for about the newest `keep_bytes`."""
        self.advance_to(through)
        messages = max(self.last - self.first + 1, 1)
        kept = round(self._keep_bytes * messages / max(self._bytes, 1))
        before = min(through, self.last - kept) + 1
        if before > self.first:
            try:
                self.cluster.call(self.cluster.jetstream.purge_stream(self.stream, seq=before))
                self.first = before
            except (nats.errors.Error, TimeoutError) as error:
                _log.debug("%s: %s", self.stream, error)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nothing: this machine has nothing of it."""
        yield

    def copy_to(self, folder: Path) -> None:
        """Nothing: this machine has nothing of it."""

    def close(self) -> None:
        """Stop following the log."""
        self._looking.cancel()
        if self._following is not None:
            self._following.cancel()
            self._following = None


async def _decoded(take: Take, last: int, messages: Sequence[Message]) -> None:
    texts = [message.payload for message in messages]
    await take(last, texts, [_DECODER.decode(text) for text in texts])


def _microseconds(made: datetime | str | None) -> int:
    """When a stream was made; 0 where that is not said."""
    if isinstance(made, str):
        made = datetime.fromisoformat(made)
    return round(made.timestamp() * 1e6) if made else 0


async def _next(batches: AsyncIterator[Sequence[Message]]) -> Sequence[Message]:
    try:
        return await anext(batches)
    except StopAsyncIteration:
        return ()


async def _closed(batches: AsyncGenerator[Sequence[Message], None]) -> None:
    await batches.aclose()
