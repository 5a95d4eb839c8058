"""Channels, whose consumers share subscription and format, and so encoded events; and which report goes where."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

from contract.report import OS_TYPES, Report
from service.stream.subscription import Subscription

StreamFormat = Literal["events", "lines"]
"""`events`: server-sent events; `lines`: JSON lines, for WebSockets."""
BATCH_BYTES = 32 * 1024
"""A batch of events is about so large at most: what lies in a socket's buffer is bounded with it."""


class EventBatch(NamedTuple):
    """Some events, encoded."""

    last: int
    """The offset of the last report that was looked at for it."""
    data: bytes
    events: int


class Channel:
    """Selects and encodes, and holds what was encoded last until the broker takes it away."""

    def __init__(
        self, subscription: Subscription, stream_format: StreamFormat, *, batch_bytes: int = BATCH_BYTES
    ) -> None:
        """Events are cut into batches of about `batch_bytes`."""
        self.subscription = subscription
        self.stream_format = stream_format
        self._batch_bytes = batch_bytes
        self.waiting: set[asyncio.Event] = set()
        """The consumers of it, to be woken."""
        self.batches: deque[EventBatch] = deque()
        self.first = 0
        """The number of the first of `batches`, counted from the channel's beginning."""
        self.woken = 0
        """The number that the next batch had when the consumers were woken."""
        self._frame = b"id: %d\ndata: %b\n\n" if stream_format == "events" else b'{"id":%d,"report":%b}\n'
        self._static = subscription.is_static
        self._plain = not subscription.fields
        self._events: list[bytes] = []
        self._size = 0

    def put(self, offset: int, text: bytes, report: Report | None) -> None:
        """Encode a report whose user and system the subscription takes, if its content is wanted too."""
        subscription = self.subscription
        if not self._static and not subscription.takes(report):  # type: ignore[arg-type]  # it is there where it is needed
            return
        is_ready = self._plain and text.isascii() and b"\n" not in text and b"\r" not in text
        body = text if is_ready else subscription.body(report, text)
        event = self._frame % (offset, body)
        self._events.append(event)
        self._size += len(event)

    def cut(self, last: int, *, least: int = 1) -> EventBatch | None:
        """What was put since the last cut, if that is at least `least` bytes; None otherwise."""
        if self._size < least:
            return None
        batch = EventBatch(last, b"".join(self._events), len(self._events))
        self._events, self._size = [], 0
        return batch

    def is_large(self) -> bool:
        """Whether what was put is enough for a batch."""
        return self._size >= self._batch_bytes

    def add(self, batch: EventBatch) -> None:
        """Hold a batch for the consumers."""
        self.batches.append(batch)

    def drop_oldest(self) -> int:
        """Let go of the oldest batch; returns its bytes."""
        self.first += 1
        return len(self.batches.popleft().data)

    def skip(self) -> None:
        """Go on as if a batch had been there and were gone; there are no others."""
        self.first += 1

    @property
    def next(self) -> int:
        """The number that the next batch will have."""
        return self.first + len(self.batches)

    def wake(self) -> None:
        """Have all consumers look for new batches."""
        self.woken = self.next
        for event in self.waiting:
            event.set()

    def encode(self, first: int, texts: Sequence[bytes], reports: Sequence[Report] | None) -> list[EventBatch]:
        """The batches of reports that lie at offsets `first` and following: for those who read the journal."""
        other = Channel(self.subscription, self.stream_format, batch_bytes=self._batch_bytes)
        batches = []
        for place, text in enumerate(texts):
            report = reports[place] if reports is not None else None
            if report is None or self.subscription.takes_origin(report.user_id, report.os_type):
                other.put(first + place, text, report)
                if other.is_large() and (batch := other.cut(first + place)):
                    batches.append(batch)
        if batch := other.cut(first + len(texts) - 1):
            batches.append(batch)
        return batches

    def notice(self, name: str, offset: int, start: int, end: int) -> bytes:
        """An event that says of reports `start` to `end` that they will not come; it goes on behind `offset`."""
        if self.stream_format == "events":
            return b'id: %d\nevent: %b\ndata: {"from":%d,"to":%d}\n\n' % (offset, name.encode(), start, end)
        return b'{"id":%d,"event":"%b","from":%d,"to":%d}\n' % (offset, name.encode(), start, end)

    def heartbeat(self, offset: int) -> bytes:
        """Says that all is well, and up to where: nothing for a consumer of it to look at."""
        if self.stream_format == "events":
            # An id without data sets the browser's last id and shows it no event (WHATWG HTML, 9.2.6).
            return b"id: %d\n\n" % offset
        return b'{"id":%d,"event":"heartbeat"}\n' % offset


UserAndSystem = tuple[str, str]
"""The user id and the operating system of a report."""
_MAX_KNOWN = 100_000


class Routes:
    """Finds the channels of a report; those that name their users cost nothing to anybody else's reports."""

    def __init__(self) -> None:
        self.known: dict[UserAndSystem, list[Channel]] = {}
        """The channels of each user and system that was asked for; to look at, not to change."""
        self._named: defaultdict[str, list[Channel]] = defaultdict(list)
        """Channels that name their users, by user."""
        self._wide: list[Channel] = []
        """Channels whose subscription has patterns."""

    def find(self, origin: UserAndSystem) -> list[Channel]:
        """The channels that take reports of a user and system; remembered in `known`."""
        if origin not in self.known:
            if len(self.known) >= _MAX_KNOWN:
                self.known.clear()
            candidates = self._named.get(origin[0], []) + self._wide
            self.known[origin] = [one for one in candidates if one.subscription.takes_origin(*origin)]
        return self.known[origin]

    def add(self, channel: Channel) -> None:
        """Have a channel found from now on."""
        for group in self._groups(channel):
            group.append(channel)
        for origin in self._touched(channel):
            if channel.subscription.takes_origin(*origin):
                self.known[origin].append(channel)

    def remove(self, channel: Channel) -> None:
        """Have a channel, which was added, found no more."""
        for group in self._groups(channel):
            group.remove(channel)
        for name in channel.subscription.names or ():
            if not self._named[name]:
                del self._named[name]
        for origin in self._touched(channel):
            if channel in self.known[origin]:
                self.known[origin].remove(channel)

    def _groups(self, channel: Channel) -> list[list[Channel]]:
        names = channel.subscription.names
        return [self._wide] if names is None else [self._named[name] for name in names]

    def _touched(self, channel: Channel) -> list[UserAndSystem]:
        """The known users and systems that a channel may take."""
        names = channel.subscription.names
        if names is None:
            return list(self.known)
        return [(name, system) for name in names for system in OS_TYPES if (name, system) in self.known]
