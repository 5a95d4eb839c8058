"""Channels: consumers with the same selection and form, whose events are encoded once; and which reports go where."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

from contract.patterns import exact_names
from contract.report import OS_TYPES, Report
from service.stream.selection import Selection

Form = Literal["events", "lines"]
"""`events`: server-sent events; `lines`: JSON lines, for WebSockets."""
_PIECE_BYTES = 32 * 1024
"""A piece is about so large at most: what lies in a socket's buffer is bounded with it."""


class Piece(NamedTuple):
    """Some events, encoded."""

    last: int
    """The offset of the last report that was looked at for it."""
    data: bytes
    events: int


class Channel:
    """Selects and encodes, and holds what was encoded last until the hub takes it away."""

    def __init__(self, selection: Selection, form: Form) -> None:
        self.selection = selection
        self.form = form
        self.waiting: set[asyncio.Event] = set()
        """The consumers of it, to be woken."""
        self.pieces: deque[Piece] = deque()
        self.first = 0
        """The number of the first of `pieces`, counted from the channel's beginning."""
        self.woken = 0
        """The number that the next piece had when the consumers were woken."""
        self._frame = b"id: %d\ndata: %b\n\n" if form == "events" else b'{"id":%d,"report":%b}\n'
        self._static = selection.is_static
        self._plain = not selection.fields
        self._events: list[bytes] = []
        self._size = 0

    def put(self, offset: int, text: bytes, report: Report | None) -> None:
        """Encode a report whose stream the selection takes, if its content is wanted too."""
        selection = self.selection
        if not self._static and not selection.takes(report):  # type: ignore[arg-type]  # it is there where it is needed
            return
        is_ready = self._plain and text.isascii() and b"\n" not in text and b"\r" not in text
        body = text if is_ready else selection.body(report, text)
        event = self._frame % (offset, body)
        self._events.append(event)
        self._size += len(event)

    def cut(self, last: int, *, least: int = 1) -> Piece | None:
        """What was put since the last cut, if that is at least `least` bytes; None otherwise."""
        if self._size < least:
            return None
        piece = Piece(last, b"".join(self._events), len(self._events))
        self._events, self._size = [], 0
        return piece

    def is_large(self) -> bool:
        """Whether it is time to cut."""
        return self._size >= _PIECE_BYTES

    def add(self, piece: Piece) -> None:
        """Hold a piece for the consumers."""
        self.pieces.append(piece)

    def drop_oldest(self) -> int:
        """Let go of the oldest piece; returns its bytes."""
        self.first += 1
        return len(self.pieces.popleft().data)

    def skip(self) -> None:
        """Go on as if a piece had been there and were gone; there are no others."""
        self.first += 1

    @property
    def next(self) -> int:
        """The number that the next piece will have."""
        return self.first + len(self.pieces)

    def wake(self) -> None:
        """Let all consumers look."""
        self.woken = self.next
        for event in self.waiting:
            event.set()

    def encode(self, first: int, texts: Sequence[bytes], reports: Sequence[Report] | None) -> list[Piece]:
        """The pieces of reports that lie at offsets `first` and following: for those who read the journal."""
        other = Channel(self.selection, self.form)
        pieces = []
        for place, text in enumerate(texts):
            report = reports[place] if reports is not None else None
            if report is None or self.selection.takes_stream(report.user_id, report.os_type):
                other.put(first + place, text, report)
                if other.is_large() and (piece := other.cut(first + place)):
                    pieces.append(piece)
        if piece := other.cut(first + len(texts) - 1):
            pieces.append(piece)
        return pieces

    def notice(self, name: str, offset: int, start: int, end: int) -> bytes:
        """An event that says of reports `start` to `end` that they will not come; it goes on behind `offset`."""
        if self.form == "events":
            return b'id: %d\nevent: %b\ndata: {"from":%d,"to":%d}\n\n' % (offset, name.encode(), start, end)
        return b'{"id":%d,"event":"%b","from":%d,"to":%d}\n' % (offset, name.encode(), start, end)

    def heartbeat(self, offset: int) -> bytes:
        """Says that all is well, and up to where: nothing for a consumer of it to look at."""
        if self.form == "events":
            # An id without data sets the browser's last id and shows it no event (WHATWG HTML, 9.2.6).
            return b"id: %d\n\n" % offset
        return b'{"id":%d,"event":"heartbeat"}\n' % offset


Stream = tuple[str, str]
"""User and operating system."""
_MAX = 100_000


class Routes:
    """Finds the channels of a stream; those that name their users cost nothing to anybody else's reports."""

    def __init__(self) -> None:
        self.known: dict[Stream, list[Channel]] = {}
        """The channels of streams that were asked for; to look at, not to change."""
        self._named: defaultdict[str, list[Channel]] = defaultdict(list)
        """Channels that name their users, by user."""
        self._wide: list[Channel] = []
        """Channels with patterns."""

    def find(self, stream: Stream) -> list[Channel]:
        """The channels whose selection takes a stream; remembered in `known`."""
        if stream not in self.known:
            if len(self.known) >= _MAX:
                self.known.clear()
            candidates = self._named.get(stream[0], []) + self._wide
            self.known[stream] = [one for one in candidates if one.selection.takes_stream(*stream)]
        return self.known[stream]

    def add(self, channel: Channel) -> None:
        """Have a channel found from now on."""
        for group in self._groups(channel):
            group.append(channel)
        for stream in self._touched(channel):
            if channel.selection.takes_stream(*stream):
                self.known[stream].append(channel)

    def remove(self, channel: Channel) -> None:
        """Have a channel, which was added, found no more."""
        for group in self._groups(channel):
            group.remove(channel)
        for name in exact_names(channel.selection.users) or ():
            if not self._named[name]:
                del self._named[name]
        for stream in self._touched(channel):
            if channel in self.known[stream]:
                self.known[stream].remove(channel)

    def _groups(self, channel: Channel) -> list[list[Channel]]:
        names = exact_names(channel.selection.users)
        return [self._wide] if names is None else [self._named[name] for name in names]

    def _touched(self, channel: Channel) -> list[Stream]:
        """The known streams that a channel may take."""
        names = exact_names(channel.selection.users)
        if names is None:
            return list(self.known)
        return [(name, system) for name in names for system in OS_TYPES if (name, system) in self.known]
