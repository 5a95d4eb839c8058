"""The events of a service's live stream, typed, and how they are read from server-sent events."""

from dataclasses import dataclass
from typing import Any

import msgspec

from analytics.answers import ServiceError
from contract.report import Report

__all__ = ["Event", "Heartbeat", "LostEvent", "Parser", "ReportEvent", "ValuesEvent"]

_MOST_BYTES = 16 * 1024 * 1024
"""Of one event: twice what the service takes as a report."""
_REPORT = msgspec.json.Decoder(Report)


@dataclass(frozen=True, slots=True)
class Event:
    """Something on the stream."""

    id: int
    """Behind this id the stream goes on: `after`."""


@dataclass(frozen=True, slots=True)
class ReportEvent(Event):
    """A report, as it was acknowledged."""

    report: Report


@dataclass(frozen=True, slots=True)
class ValuesEvent(Event):
    """What was asked for of a report, where `fields` are chosen."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LostEvent(Event):
    """Reports that will not come: the service has them no more on its stream, but still answers for them."""

    first: int
    """The first id that is lost."""
    last: int
    was_slow: bool
    """True where this consumer was too slow, False where it was away for too long."""


@dataclass(frozen=True, slots=True)
class Heartbeat(Event):
    """All is well up to here; `analytics.stream` does not hand it on."""


class Parser:
    """Reads server-sent events (WHATWG HTML, section 9.2), as far as the service writes them, piece by piece."""

    def __init__(self, *, typed: bool) -> None:
        """`typed` makes reports of the data, otherwise it is values."""
        self._typed = typed
        self._rest = b""

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete with more data; raises ServiceError for what is no such stream."""
        *texts, self._rest = (self._rest + data).split(b"\n\n")
        if len(self._rest) > _MOST_BYTES:
            raise ServiceError("The service sent an event without an end: is it Loadlens?")
        return [event for text in texts if (event := self._event(text)) is not None]

    def _event(self, text: bytes) -> Event | None:
        fields = dict(line.split(b": ", 1) for line in text.split(b"\n") if b": " in line)
        if b"id" not in fields:
            return None
        try:
            id_, data = int(fields[b"id"]), fields.get(b"data")
            name = fields.get(b"event", b"message")
            if data is None:
                return Heartbeat(id_)
            if name == b"message":
                return ReportEvent(id_, _REPORT.decode(data)) if self._typed else ValuesEvent(id_, _decoded(data))
            lost = _decoded(data)
            return LostEvent(id_, lost["from"], lost["to"], name == b"missed")
        except (ValueError, KeyError, msgspec.DecodeError) as error:
            raise ServiceError(f"The service sent an event that cannot be read: {error}") from error


def _decoded(data: bytes) -> dict[str, Any]:
    return msgspec.json.decode(data, type=dict[str, Any])
