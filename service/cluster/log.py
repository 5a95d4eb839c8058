"""The replicated log: accepted reports on the disks of a quorum, in order, before they are acknowledged.

One stream of JetStream has all reports; their sequence in it is the offset that the journal of one machine would give.
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
from pathlib import Path

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

from contract.report import Report
from service.cluster.connection import CALL_S, Cluster, ensure_stream, words_of
from service.cluster.errors import ClusterError
from service.cluster.partitions import message_id, partition_of
from service.cluster.tail import Message, Tail
from service.journal.files import Record
from service.journal.journal import JournalFull

_log = logging.getLogger("loadlens.service")
DUPLICATE_WINDOW_S = 120.0
_BEHIND_S = 60.0
"""A process that has not followed the log for so long cannot tell what is known: half the duplicate window."""
_ACKNOWLEDGED_S = 10.0
"""So long reports are sent again and again before whoever waits is told that it failed."""
_RESEND_S = 1.5
_IN_FLIGHT = 2000
"""Reports that are under way at once: JetStream turns more of a stream than 10,000 away."""
_SEEN_S = 1.0
"""So long a commit waits until this process answers what it wrote."""
_LOOK_S = 1.0
_TOO_LARGE = 500
_READ_S = 30.0
_DECODER = msgspec.json.Decoder(Report)


Take = Callable[[int, Sequence[bytes], Sequence[Report]], Awaitable[None]]
"""Takes reports that follow each other: the offset of the last, and the reports as text and decoded."""


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Acknowledged(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


_ACKNOWLEDGED = msgspec.json.Decoder(_Acknowledged)
_FULL = ("maximum bytes exceeded", "maximum messages exceeded", "insufficient")


class ReplicatedLog:
    """The stream of reports, in place of a journal (`service.journal.journal.Journal`).

    `append` is called by one thread at a time, the others by any. Raises ClusterError where NATS cannot be used.
    """

    def __init__(self, cluster: Cluster, limit_bytes: int, keep_bytes: int) -> None:
        self.cluster = cluster
        name = cluster.address.name
        self.stream = f"{name}-reports"
        self._prefix = f"{name}.reports."
        self.limit_bytes = limit_bytes
        self._keep_bytes = keep_bytes
        self.problem: str | None = None
        """Why the last write failed, until one has gone well; None before."""
        self.failures = 0
        self.duplicates = 0
        """Reports that JetStream had already."""
        self.kept = 0
        self._is_anew = False
        """Whether offsets begin again."""
        self._flushed = 0
        self._inbox = cluster.connection.new_inbox()
        self._sent: dict[str, asyncio.Future[_Acknowledged]] = {}
        self._number = 0
        self._bytes = 0
        self._following: Future[None] | None = None
        self._followed = threading.Condition()
        self._seen = self._certain = 0
        self._current = time.monotonic()
        self.first, self.last = 1, 0
        try:
            cluster.call(self._open(), 3 * CALL_S)
        except (nats.errors.Error, TimeoutError) as error:
            raise ClusterError(f"{cluster.address}: {words_of(error)}") from None
        self._looking = asyncio.run_coroutine_threadsafe(self._look_on(), cluster.loop)

    async def _open(self) -> None:
        wanted = StreamConfig(
            name=self.stream, subjects=[f"{self._prefix}*"], storage=StorageType.FILE, discard=DiscardPolicy.NEW,
            retention=RetentionPolicy.LIMITS, num_replicas=self.cluster.replicas, max_msgs=-1, max_age=0,
            max_bytes=self.limit_bytes + self._keep_bytes, duplicate_window=DUPLICATE_WINDOW_S,
        )  # fmt: skip
        await ensure_stream(self.cluster, wanted)
        await self.cluster.connection.subscribe(
            f"{self._inbox}.*", cb=self._acknowledge, pending_msgs_limit=0, pending_bytes_limit=0
        )
        await self._look()

    async def _look(self) -> None:
        """Ask how much is in the stream."""
        info = await self.cluster.jetstream.stream_info(self.stream)
        state = info.state
        # A node that was cut off may tell more, or less, than what the others have agreed on.
        self.first, self.last = state.first_seq or 1, max(state.last_seq, self._certain)
        self._is_anew = state.last_seq < self._flushed
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
    def size(self) -> int:
        """The bytes of the reports that the store has not."""
        return self._bytes - self.kept

    def check(self, flushed: int) -> None:
        """Raise ClusterError where the store has more than the log ever had: that was made anew, and counts from 1."""
        if self.last < flushed:
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
            (self._prefix + str(partition_of(report.user_id)), text, {"Nats-Msg-Id": message_id(report)})
            for text, report in zip(texts, reports, strict=True)
        ]
        try:
            pieces = len(messages) // _IN_FLIGHT + 1
            last = self.cluster.call(self._publish(messages), pieces * _ACKNOWLEDGED_S + CALL_S)
        except JournalFull:
            self.failures += 1
            raise
        except (nats.errors.Error, TimeoutError, OSError) as error:
            self.failures += 1
            self.problem = words_of(error)
            raise OSError(f"{self.cluster.address}: {self.problem}") from None
        self.problem = None
        with self._followed:
            self._followed.wait_for(lambda: self._seen >= last or self._following is None, _SEEN_S)
        return last

    async def _publish(self, messages: Sequence[tuple[str, bytes, dict[str, str]]]) -> int:
        last = 0
        for start in range(0, len(messages), _IN_FLIGHT):
            left = list(messages[start : start + _IN_FLIGHT])
            deadline = time.monotonic() + _ACKNOWLEDGED_S
            while left:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{len(left)} reports were not acknowledged within {_ACKNOWLEDGED_S:.0f} s")
                answers = await self._send(left)
                last = max([last, *(answer.seq for answer in answers if answer is not None)])
                left = [message for message, answer in zip(left, answers, strict=True) if answer is None]
        self._is_there(last)
        return last

    async def _send(self, messages: Sequence[tuple[str, bytes, dict[str, str]]]) -> list[_Acknowledged | None]:
        """Send messages once; what became of each, None where no word came."""
        publish = self.cluster.connection.publish
        waiting: dict[str, asyncio.Future[_Acknowledged]] = {}
        try:
            for subject, text, headers in messages:
                self._number += 1
                reply = f"{self._inbox}.{self._number}"
                self._sent[reply] = waiting[reply] = self.cluster.loop.create_future()
                await publish(subject, text, reply, headers)
            await asyncio.wait(waiting.values(), timeout=_RESEND_S)
        finally:
            for reply in waiting:
                self._sent.pop(reply, None)
        answers = [future.result() if future.done() else None for future in waiting.values()]
        return [self._kept(answer) for answer in answers]

    def _kept(self, answer: _Acknowledged | None) -> _Acknowledged | None:
        """An answer that says that a report is stored; None where it is to be sent again. Raises as `append`."""
        if answer is None or answer.error is None:
            self.duplicates += bool(answer and answer.duplicate)
            return answer
        words = answer.error.description
        if any(one in words for one in _FULL):
            raise JournalFull(
                f"the stream {self.stream} takes no more ({words}): the store is behind, or a disk is full"
            )
        if answer.error.code < _TOO_LARGE:
            raise OSError(words)
        return None

    async def _acknowledge(self, message: Msg) -> None:
        waiting = self._sent.get(message.subject)
        if waiting is not None and not waiting.done():
            # Where no leader is, nobody answers, which NATS tells by a status.
            waiting.set_result(_ACKNOWLEDGED.decode(message.data) if message.data else _NOBODY)

    # What goes out

    def follow(self, after: int, take: Take) -> None:
        """Hand every report behind offset `after` to `take`, and note what this process has seen."""
        self._seen = after

        async def take_and_note(last: int, texts: Sequence[bytes], reports: Sequence[Report]) -> None:
            await take(last, texts, reports)
            with self._followed:
                self._seen = last
                self._is_there(last)
                self._followed.notify_all()

        self._following = self.hand_out(after, take_and_note, self._note_current)

    def _is_there(self, last: int) -> None:
        self._certain = max(self._certain, last)
        self.last = max(self.last, last)

    def _note_current(self) -> None:
        self._current = time.monotonic()

    def hand_out(self, after: int, take: Take, current: Callable[[], None] = lambda: None) -> Future[None]:
        """Hand every report behind offset `after` to `take` on the NATS thread, more only when it is done with them.

        Goes on until it is cancelled, or `take` fails; `current` is called while nothing waits.
        """
        tail = Tail(self.cluster, self.stream, after)

        async def hand_on(messages: Sequence[Message]) -> None:
            if messages:
                texts = [message.payload for message in messages]
                await take(messages[-1].sequence, texts, [_DECODER.decode(text) for text in texts])
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
        return max(self.last - self._seen, 0)

    def read(self, after: int) -> Iterator[Record]:
        """The reports behind offset `after` that are there now, oldest first. Raises OSError."""
        tail = Tail(self.cluster, self.stream, after)
        batches = tail.through(self.last)
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
        """Follow no more."""
        self._looking.cancel()
        if self._following is not None:
            self._following.cancel()
            self._following = None


_NOBODY = _Acknowledged(error=_Error(503, 0, "nobody answers"))


async def _next(batches: AsyncIterator[Sequence[Message]]) -> Sequence[Message]:
    try:
        return await anext(batches)
    except StopAsyncIteration:
        return ()


async def _closed(batches: AsyncGenerator[Sequence[Message], None]) -> None:
    await batches.aclose()
