"""The hub: takes what was acknowledged from ingest, and hands it to all who follow.

Once in a while (20 ms, up to a quarter of a second for many consumers) what came since is encoded, once for all
consumers that want the same, and the consumers are woken. A round works for a bounded time; where more comes than it
can encode, consumers read from the journal. So does a consumer that does not keep up; one that is slower than the
journal keeps is told what it missed. So nobody can hold up ingest.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from contract.report import Report
from service.journal.journal import Journal
from service.journal.reader import History, Stretch
from service.stream.channels import Channel, Form, Routes
from service.stream.selection import Selection

HEARTBEAT_S = 5.0
_MIN_S, _MAX_S, _EACH_S = 0.02, 0.25, 0.00025
"""Time between two rounds: grows with the consumers, each of whom has to be woken."""
_ROUND_S = 0.05
"""Processor time after which a round goes on in the next: the event loop has others to answer."""
_MAX_PENDING = 20_000
"""Reports that wait for a round; where there are more, all of them are left to the journal."""

_Group = tuple[int, Sequence[bytes], Sequence[Report]]


class TooManyConsumers(Exception):
    """As many follow as are allowed."""


class Hub:
    """Everything here runs on the event loop, but for the reading of the journal."""

    def __init__(self, journal: Journal, most_consumers: int, most_live_bytes: int) -> None:
        """Allow so many consumers, and so many bytes of encoded events that wait for them, all together."""
        self._history = History(journal)
        self._most_live_bytes = most_live_bytes
        self._thread = ThreadPoolExecutor(1, "stream")
        self._most_consumers = most_consumers
        self._channels: dict[tuple[Selection, Form], Channel] = {}
        self._routes = Routes()
        self._pending: deque[_Group] = deque()
        self._is_late = False
        """Whether the last round left something for the next."""
        self._held: deque[Channel] = deque()
        self._round: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self.routed = journal.last
        """The offset up to which consumers have been given what they want."""
        self.closing = False
        self.consumers = 0
        self.live_bytes = 0
        self.beats = 0
        """How often a heartbeat was due."""
        self.refused = 0
        self.encoded = 0
        self.delivered = 0
        self.missed = 0
        self.pending = 0
        """Reports that wait for a round."""
        self.left = 0
        """Reports that were left to the journal, because there was no time to encode them."""

    def publish(self, last: int, texts: Sequence[bytes], reports: Sequence[Report]) -> None:
        """Take the reports of one commit, the last of them at offset `last`."""
        if not self._channels and not self._pending:
            self.routed = last
            return
        if self.pending > _MAX_PENDING:
            self._leave_to_journal()
        self._pending.append((last, texts, reports))
        self.pending += len(texts)
        self._plan()

    def _plan(self) -> None:
        if self._round is None:
            pause = min(_MIN_S + self.consumers * _EACH_S, _MAX_S)
            self._round = asyncio.get_running_loop().call_later(pause, self._route)

    def _route(self) -> None:
        if self._round is not None:
            self._round.cancel()
            self._round = None
        end = time.thread_time() + _ROUND_S
        while self._pending and self._encode(self._pending.popleft(), end):
            pass
        # Whoever looks from now on finds everything up to `routed` in pieces, and nothing behind it.
        for channel in self._channels.values():
            self._hold(channel, self.routed)
            if channel.next > channel.woken:
                channel.wake()
        while self.live_bytes > self._most_live_bytes:
            self.live_bytes -= self._held.popleft().drop_oldest()
        self._is_late = bool(self._pending)
        if self._is_late:
            self._plan()

    def _encode(self, group: _Group, end: float) -> bool:
        """Encode a group; False where it was time to end before all of it was, and the rest waits."""
        last, texts, reports = group
        routes, find = self._routes.known, self._routes.find
        offset = last - len(texts)
        for text, report in zip(texts, reports, strict=True):
            offset += 1
            stream = (report.user_id, report.os_type)
            for channel in routes.get(stream) or find(stream):
                channel.put(offset, text, report)
                if channel.is_large():
                    self._hold(channel, offset)
            if time.thread_time() >= end:
                break
        self.routed = offset
        rest = last - offset
        self.pending -= len(texts) - rest
        if rest:
            self._pending.appendleft((last, texts[-rest:], reports[-rest:]))
        return offset == last and time.thread_time() < end

    def _leave_to_journal(self) -> None:
        """Have all consumers read from the journal what is pending."""
        self.routed = self._pending[-1][0]
        self.left += self.pending
        self._pending.clear()
        self.pending = 0
        while self._held:
            self.live_bytes -= self._held.popleft().drop_oldest()
        for channel in self._channels.values():
            channel.skip()
            channel.wake()

    def _hold(self, channel: Channel, last: int) -> None:
        piece = channel.cut(last)
        if piece is not None:
            channel.add(piece)
            self._held.append(channel)
            self.live_bytes += len(piece.data)
            self.encoded += piece.events

    def join(self, selection: Selection, form: Form, wake: asyncio.Event) -> Channel:
        """The channel of a selection, for one more consumer. Raises TooManyConsumers."""
        if self.consumers >= self._most_consumers:
            self.refused += 1
            raise TooManyConsumers(f"{self.consumers} consumers follow the stream; no more are allowed")
        self.consumers += 1
        channel = self._channels.get((selection, form))
        if channel is None:
            # What is pending is none of the new channel's business: it begins behind it, unless that is too much.
            if self._pending and not self._is_late:
                self._route()
            channel = self._channels[selection, form] = Channel(selection, form)
            self._routes.add(channel)
        channel.waiting.add(wake)
        if self._beat is None:
            self._beat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._heartbeat)
        return channel

    def leave(self, channel: Channel, wake: asyncio.Event) -> None:
        """A consumer is gone."""
        self.consumers -= 1
        channel.waiting.discard(wake)
        if not channel.waiting:
            del self._channels[channel.selection, channel.form]
            self._routes.remove(channel)

    async def read(self, channel: Channel, after: int) -> Stretch:
        """What a channel selects of the reports behind `after`, from the journal."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._history.encoded, channel, after, self.routed)

    def _heartbeat(self) -> None:
        self.beats += 1
        for channel in self._channels.values():
            channel.wake()
        self._beat = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._heartbeat) if self._channels else None

    def close(self) -> None:
        """Let all consumers end: the service is stopping."""
        self.closing = True
        for timer in (self._round, self._beat):
            if timer is not None:
                timer.cancel()
        for channel in self._channels.values():
            channel.wake()

    def end(self) -> None:
        """Wait for the journal to be read to the end of the page."""
        self._thread.shutdown()
