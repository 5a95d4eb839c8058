"""Server-sent events as the service sends them, parsed as they arrive.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["MAX_EVENT", "Event", "EventParser", "EventTooLarge"]

MAX_EVENT = 256 * 1024
"""The most bytes of one event; also of one line."""


class EventTooLarge(Exception):
    """More than `MAX_EVENT` bytes came without the end of an event."""


class Event(NamedTuple):
    """An event."""

    kind: str
    """`message` where it has no name."""
    data: str
    id: str
    """The last id that came with this event or one before it; empty without any."""


class EventParser:
    """Bytes in, events out, however the bytes are cut. Comments and unknown fields are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._kind = self._id = ""
        self._data: list[str] = []
        self._size = 0

    @property
    def amid(self) -> bool:
        """Whether an event has begun that has not ended."""
        return bool(self._rest or self._data or self._kind)

    def feed(self, content: bytes) -> Iterator[Event]:
        """The events that end in `content`; raises EventTooLarge."""
        content = self._rest + content
        # A carriage return at the end may be half of a line's end.
        held = content[-1:] == b"\r"
        lines = (content[:-1] if held else content).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if held else b"")
        for line in lines:
            self._size += len(line)
            self._check()
            if line:
                self._take(line.decode("utf-8", "replace"))
            elif event := self._end():
                yield event
        self._check()

    def _check(self) -> None:
        if self._size + len(self._rest) > MAX_EVENT:
            raise EventTooLarge(f"an event of more than {MAX_EVENT} bytes")

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def _end(self) -> Event | None:
        kind, data = self._kind or "message", self._data
        self._kind, self._data, self._size = "", [], 0
        return Event(kind, "\n".join(data), self._id) if data else None
