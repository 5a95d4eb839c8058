"""Server-sent events, parsed as they arrive.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream (WHATWG HTML, 9.2.6)
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """More bytes came than an event may have, without its end."""


class ServerSentEvent(NamedTuple):
    """An event."""

    type: str
    """`message` where it has no name."""
    data: str
    id: str
    """The last id that came with this event or one before it; empty without any."""


class EventStreamParser:
    """Bytes in, events out, however the bytes are cut. Comments and unknown fields are passed over."""

    def __init__(self, max_bytes: int) -> None:
        """A parser that holds at most `max_bytes` of an unfinished event or line."""
        self._max_bytes = max_bytes
        self._line: list[bytes] = []  # the pieces of the unfinished line
        self._line_bytes = self._data_bytes = 0
        self._at_start = True
        self._after_cr = False
        self._type = self._id = ""
        self._data: list[str] = []
        self.last_event_id = ""
        """Where to go on after the connection is lost: what `Last-Event-ID` says. A blank line settles it, also one
        that ends no event."""
        self.retry_ms: int | None = None
        """How long the server wants a client to wait before it connects again; None where it did not say."""

    @property
    def amid(self) -> bool:
        """Whether an event has begun that has not ended."""
        return bool(self._line_bytes or self._data or self._type)

    def feed(self, content: bytes) -> Iterator[ServerSentEvent]:
        """The events that end in `content`. Raises EventTooLarge, after which the parser is of no more use."""
        if not content:
            return
        if self._after_cr and content[0] == 0x0A:
            content = content[1:]  # the second half of a CRLF whose first ended the line
        self._after_cr = content.endswith(b"\r")
        *ends, rest = _LINE_END.split(content)
        for end in ends:
            line = self._whole_line(end)
            if line:
                self._field(line)
            elif event := self._dispatched():
                yield event
        self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        """Keep a piece of a line for when the line ends."""
        self._line_bytes += len(piece)
        if self._line_bytes + self._data_bytes > self._max_bytes:
            raise EventTooLarge(f"expected at most {self._max_bytes} bytes an event, got more without an end")
        if piece:
            self._line.append(piece)

    def _whole_line(self, end: bytes) -> bytes:
        self._keep(end)
        line = b"".join(self._line)
        self._line.clear()
        self._line_bytes = 0
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        return line

    def _field(self, line: bytes) -> None:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_bytes += len(line)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)

    def _dispatched(self) -> ServerSentEvent | None:
        """What a blank line ends: an event, or nothing where no data came."""
        self.last_event_id = self._id
        type_, data = self._type or "message", self._data
        self._type, self._data, self._data_bytes = "", [], 0
        return ServerSentEvent(type_, "\n".join(data), self._id) if data else None
