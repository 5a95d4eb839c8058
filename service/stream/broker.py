"""The broker: takes what was acknowledged from ingest, and hands it to all who follow.

Once in a while (20 ms, up to a quarter of a second for many consumers) what came since is encoded, once for all
consumers that want the same, and the consumers are woken. A round works for a bounded time; where more comes than it
can encode, consumers read from the journal. So does a consumer that does not keep up; one that is slower than the
journal keeps is told what it missed. So nobody can hold up ingest.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from contract.report import Report
from service.journal.base import Log
from service.journal.reader import PAGE_BYTES, JournalReader
from service.stream.channels import BATCH_BYTES, Channel, EventBatch, Routes, StreamFormat
from service.stream.subscription import Subscription

_MAX_REST_S = 0.1
_LOOK_S = 0.02
_Commit = tuple[int, Sequence[bytes], Sequence[Report]]
"""The offset of the last report of a commit, and its reports as text and decoded."""


class TooManyConsumers(Exception):
    """As many follow as are allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLimits:
    """How much the broker holds, and does at a time."""

    consumers: int
    live_bytes: int
    """Bytes of encoded events that wait for consumers, all together."""
    pending: int = 20_000
    """Reports that wait for a round; where there are more, all of them are left to the journal."""
    min_pause_s: float = 0.02
    """The pause between two rounds, without consumers."""
    pause_per_consumer_s: float = 0.00025
    """The pause grows with the consumers, each of whom has to be woken."""
    max_pause_s: float = 0.25
    round_s: float = 0.05
    """Processor time after which a round goes on in the next: the event loop has others to answer."""
    heartbeat_s: float = 5.0
    """The time between two heartbeats."""
    batch_bytes: int = BATCH_BYTES
    """About so many bytes of events are handed out at once."""
    page_bytes: int = PAGE_BYTES
    """So much of the journal is read at once for those who are behind."""
    catches_up_s: float = 0.0
    """So long is waited for reports that other processes which read the same log have told of already."""


class PastEvents(NamedTuple):
    """What a channel selects of reports that follow each other in the journal."""

    first: int
    """The offset of the first report that was looked at; those between this and what was asked for are gone."""
    last: int
    batches: list[EventBatch]


class Broker:
    """The channels of all consumers. Everything here runs on the event loop, but for the reading of the journal."""

    def __init__(self, journal: Log, limits: BrokerLimits) -> None:
        self._limits = limits
        self._reader = JournalReader(journal, page_bytes=limits.page_bytes)
        self._thread = ThreadPoolExecutor(1, "stream")
        self._channels: dict[tuple[Subscription, StreamFormat], Channel] = {}
        self._routes = Routes()
        self._pending: deque[_Commit] = deque()
        self._is_late = False
        """Whether the last round left something for the next."""
        self._held: deque[Channel] = deque()
        self._round: asyncio.TimerHandle | None = None
        self._heartbeat: asyncio.TimerHandle | None = None
        self.routed = journal.last
        """The offset up to which consumers have been given what they want."""
        self.closing = False
        self.consumers = 0
        self.live_bytes = 0
        self.heartbeats = 0
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
        if self.pending > self._limits.pending:
            self._leave_to_journal()
        self._pending.append((last, texts, reports))
        self.pending += len(texts)
        self._plan()

    def _plan(self) -> None:
        if self._round is None:
            limits = self._limits
            pause_s = min(limits.min_pause_s + self.consumers * limits.pause_per_consumer_s, limits.max_pause_s)
            self._round = asyncio.get_running_loop().call_later(pause_s, self._route)

    def _route(self) -> None:
        if self._round is not None:
            self._round.cancel()
            self._round = None
        end = time.thread_time() + self._limits.round_s
        while self._pending and self._encode(self._pending.popleft(), end):
            pass
        # Whoever looks from now on finds everything up to `routed` in batches, and nothing behind it.
        for channel in self._channels.values():
            self._hold(channel, self.routed)
            if channel.next > channel.woken:
                channel.wake()
        while self.live_bytes > self._limits.live_bytes:
            self.live_bytes -= self._held.popleft().drop_oldest()
        self._is_late = bool(self._pending)
        if self._is_late:
            self._plan()

    def _encode(self, commit: _Commit, end: float) -> bool:
        """Encode a commit; False where it was time to end before all of it was, and the rest waits."""
        last, texts, reports = commit
        routes, find = self._routes.known, self._routes.find
        offset = last - len(texts)
        for text, report in zip(texts, reports, strict=True):
            offset += 1
            origin = (report.user_id, report.os_type)
            for channel in routes.get(origin) or find(origin):
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
        batch = channel.cut(last)
        if batch is not None:
            channel.add(batch)
            self._held.append(channel)
            self.live_bytes += len(batch.data)
            self.encoded += batch.events

    def join(self, subscription: Subscription, stream_format: StreamFormat, wake: asyncio.Event) -> Channel:
        """The channel of a subscription, for one more consumer. Raises TooManyConsumers."""
        if self.consumers >= self._limits.consumers:
            self.refused += 1
            raise TooManyConsumers(f"{self.consumers} consumers follow the stream; no more are allowed")
        self.consumers += 1
        channel = self._channels.get((subscription, stream_format))
        if channel is None:
            # What is pending is none of the new channel's business: it begins behind it, unless that is too much.
            if self._pending and not self._is_late:
                self._route()
            channel = Channel(subscription, stream_format, batch_bytes=self._limits.batch_bytes)
            self._channels[subscription, stream_format] = channel
            self._routes.add(channel)
        channel.waiting.add(wake)
        if self._heartbeat is None:
            self._schedule_heartbeat()
        return channel

    def leave(self, channel: Channel, wake: asyncio.Event) -> None:
        """Forget a consumer of a channel, and the channel with the last of them."""
        self.consumers -= 1
        channel.waiting.discard(wake)
        if not channel.waiting:
            del self._channels[channel.subscription, channel.stream_format]
            self._routes.remove(channel)

    async def catch_up(self, offset: int) -> None:
        """Wait until this process has come to an offset, as far as that is to be waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.catches_up_s):
                while self.routed < offset and not self.closing:  # noqa: ASYNC110 - seldom, and over soon
                    await asyncio.sleep(_LOOK_S)

    async def read(self, channel: Channel, after: int) -> PastEvents:
        """What a channel selects of the reports behind `after`, from the journal: a page of them at most."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._read_and_rest, channel, after, self.routed)

    def _read_and_rest(self, channel: Channel, after: int, through: int) -> PastEvents:
        """Rests as long as it worked, so that those who are behind take a bounded share of the processor."""
        began = time.monotonic()
        past = self._read(channel, after, through)
        time.sleep(min(time.monotonic() - began, _MAX_REST_S))
        return past

    def _read(self, channel: Channel, after: int, through: int) -> PastEvents:
        page = self._reader.page(after, through)
        if page is None:
            return PastEvents(through + 1, through, [])
        skipped = max(0, after + 1 - page.first)
        # A round may end within a record.
        last = min(page.last, through)
        end = last - page.first + 1
        reports = page.reports[skipped:end] if channel.subscription.needs_report else None
        first = page.first + skipped
        return PastEvents(first, last, channel.encode(first, page.texts[skipped:end], reports))

    def _schedule_heartbeat(self) -> None:
        self._heartbeat = asyncio.get_running_loop().call_later(self._limits.heartbeat_s, self._send_heartbeat)

    def _send_heartbeat(self) -> None:
        self.heartbeats += 1
        self._heartbeat = None
        for channel in self._channels.values():
            channel.wake()
        if self._channels:
            self._schedule_heartbeat()

    def close(self) -> None:
        """Let all consumers end: the service is stopping."""
        self.closing = True
        for timer in (self._round, self._heartbeat):
            if timer is not None:
                timer.cancel()
        for channel in self._channels.values():
            channel.wake()

    def end(self) -> None:
        """Wait for the journal to be read to the end of the page."""
        self._thread.shutdown()
