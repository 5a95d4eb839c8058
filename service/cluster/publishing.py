"""Messages on their way into a stream, sent again until JetStream says that it has them.

Reports are all under way at once. What is decided is put one behind the other: each is stored once, and only behind the
one that its sender knows to be last.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence

import msgspec
import nats.errors
import nats.js.errors

from service.cluster import ClusterError
from service.cluster.client import Arrived, Outgoing
from service.cluster.connection import Cluster, words_of
from service.journal.journal import JournalFull

_ACKNOWLEDGED_S = 10.0
"""So long reports are sent again and again before whoever waits is told that it failed."""
_RESEND_S = 1.5
_PROBE_S = 0.25
"""So often one of the reports that wait for an answer is sent again beside, which tells whether they were lost."""
_PAUSE_S = 0.05
"""Before reports are sent again that were turned away at once, as they are while no server leads the stream."""
_IN_FLIGHT = 2000
"""Reports that are under way at once: JetStream turns more of a stream than 10,000 away."""
_IN_PROCESS = 10158
"""JetStream's code for a message whose like is on its way (newer servers than 2.9)."""
_TOO_LARGE = 500
_FULL = ("maximum bytes exceeded", "maximum messages exceeded", "insufficient")

WRONG_LAST = (10071, 10164)
"""JetStream's codes for a message that is not behind the one that its sender knows of."""
_APPENDED_S = 2.0
_APPEND_PAUSE_S = 0.1


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A report as a message."""

    subject: bytes
    text: bytes
    id: bytes
    """What tells it from all other reports."""


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Acknowledged(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _Error | None = None


_ACKNOWLEDGED = msgspec.json.Decoder(_Acknowledged)
_NOBODY = _Acknowledged(error=_Error(503, 0, "nobody answers"))


def longest_s(messages: int) -> float:
    """How long `publish` may take, seconds."""
    return (messages // _IN_FLIGHT + 1) * _ACKNOWLEDGED_S


class _UnderWay:
    """Messages that were sent together."""

    def __init__(self, messages: int, done: asyncio.Future[None]) -> None:
        self.answers: list[_Acknowledged | None] = [None] * messages
        self.left = messages
        self.done = done
        """Set when all are answered, or no more answers can come."""

    def answer(self, place: int, answer: _Acknowledged) -> None:
        """Note what became of a message."""
        self.answers[place] = answer
        self.left -= 1
        if not self.left:
            self.end()

    def probed(self, place: int, answer: _Acknowledged) -> None:
        """Note what became of a message that was sent again while it waits.

        JetStream takes what one connection sends in its order. So where it takes this one as new, it has not had the
        message before, nor the others that still wait: nobody led the stream when they came.
        """
        if answer.error is None and not answer.duplicate and not self.done.done() and self.answers[place] is None:
            self.answer(place, answer)
            self.end()

    def end(self) -> None:
        """Have nobody wait any more."""
        if not self.done.done():
            self.done.set_result(None)


class Publisher:
    """Sends messages; runs on the connection's loop."""

    def __init__(self, cluster: Cluster, stream: str) -> None:
        self._cluster = cluster
        self._stream = stream
        self.duplicates = 0
        """Messages that JetStream had already."""
        self._inbox = cluster.connection.new_inbox()
        self._waiting: dict[bytes, tuple[_UnderWay, int, bool]] = {}
        """By where its answer comes: with what a message was sent, its place there, and whether it is a probe."""
        self._number = 0

    async def begin(self) -> None:
        """Listen for what JetStream answers."""
        self._cluster.on_lost.add(self._end_waiting)
        await self._cluster.connection.receive(f"{self._inbox}.*", self._acknowledge)

    async def publish(self, messages: Sequence[Sent]) -> int:
        """Return the highest sequence of messages when a quorum has all of them.

        Raises JournalFull at the stream's limit, OSError where JetStream does not take one, and TimeoutError.
        """
        last = 0
        for start in range(0, len(messages), _IN_FLIGHT):
            left = list(messages[start : start + _IN_FLIGHT])
            deadline = time.monotonic() + _ACKNOWLEDGED_S
            while left:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{len(left)} reports were not acknowledged within {_ACKNOWLEDGED_S:.0f} s")
                answers = await self._send(left)
                last = max([last, *[answer.seq for answer in answers if answer is not None]])
                left = [message for message, answer in zip(left, answers, strict=True) if answer is None]
                if left:
                    await asyncio.sleep(_PAUSE_S)
        return last

    async def _send(self, messages: Sequence[Sent]) -> list[_Acknowledged | None]:
        """Send messages once; what became of each, None where no word came."""
        if not self._cluster.is_connected:
            # The client would keep them for the next server, and they are sent again by then.
            return [None] * len(messages)
        under_way = _UnderWay(len(messages), self._cluster.loop.create_future())
        sent = [self._outgoing(message, under_way, place) for place, message in enumerate(messages)]
        end = time.monotonic() + _RESEND_S
        try:
            await self._cluster.connection.send(sent)
            while not under_way.done.done() and (left := end - time.monotonic()) > 0:
                await asyncio.wait([under_way.done], timeout=min(left, _PROBE_S))
                if not under_way.done.done():
                    place = under_way.answers.index(None)
                    sent.append(self._outgoing(messages[place], under_way, place, is_probe=True))
                    await self._cluster.connection.send(sent[-1:])
        finally:
            if under_way.left or len(sent) > len(messages):
                for one in sent:
                    self._waiting.pop(one.reply, None)
        return [self._kept(answer) for answer in under_way.answers]

    def _outgoing(self, message: Sent, under_way: _UnderWay, place: int, *, is_probe: bool = False) -> Outgoing:
        self._number += 1
        reply = f"{self._inbox}.{self._number}".encode()
        self._waiting[reply] = under_way, place, is_probe
        return Outgoing(message.subject, reply, message.id, message.text)

    def _end_waiting(self) -> None:
        """Have nobody wait for what a lost connection does not bring any more: it is sent again by the next."""
        for under_way, _, _ in [*self._waiting.values()]:
            under_way.end()

    def _kept(self, answer: _Acknowledged | None) -> _Acknowledged | None:
        """An answer that says that a message is stored; None where it is to be sent again. Raises as `publish`."""
        if answer is None or answer.error is None:
            if answer is not None and answer.duplicate:
                self.duplicates += 1
            return answer
        words = answer.error.description
        if any(one in words for one in _FULL):
            raise JournalFull(
                f"the stream {self._stream} takes no more ({words}): the store is behind, or a disk is full"
            )
        if answer.error.code < _TOO_LARGE and answer.error.err_code != _IN_PROCESS:
            raise OSError(words)
        return None

    def _acknowledge(self, messages: Sequence[Arrived]) -> None:
        waiting, decode = self._waiting, _ACKNOWLEDGED.decode
        for message in messages:
            if (found := waiting.pop(message.subject, None)) is not None:
                # Where no leader is, nobody answers, which NATS tells by a status.
                answer = decode(message.payload) if message.payload else _NOBODY
                under_way, place, is_probe = found
                (under_way.probed if is_probe else under_way.answer)(place, answer)


class NotLast(ClusterError):
    """There is a newer message than the one that its sender knows of."""


def append(cluster: Cluster, subject: str, payload: bytes, after: int, try_s: float) -> int:
    """Put a message behind the one at sequence `after`, the last of its subject; its own sequence.

    It is sent again for `try_s`, and stored once, where no word comes. Raises NotLast, and ClusterError where JetStream
    does not take it; it may be stored then.
    """
    headers = {"Nats-Expected-Last-Subject-Sequence": str(after), "Nats-Msg-Id": secrets.token_hex(12)}
    end = time.monotonic() + try_s
    while True:
        publishing = cluster.jetstream.publish(subject, payload, timeout=_APPENDED_S, headers=dict(headers))
        try:
            return cluster.call(publishing).seq
        except nats.js.errors.APIError as error:
            if error.err_code in WRONG_LAST:
                raise NotLast(f"there is a newer message of {subject}") from None
            problem = error.description or words_of(error)
        except (nats.errors.Error, TimeoutError) as error:
            problem = words_of(error)
        if time.monotonic() > end:
            raise ClusterError(f"{cluster.address}: {problem}") from None
        time.sleep(_APPEND_PAUSE_S)
