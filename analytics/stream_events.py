"""The events of a service's live stream, typed, made of server-sent events."""

from dataclasses import dataclass
from typing import Any

import msgspec

from analytics.answers import ServiceError
from contract.report import Report
from contract.server_sent_events import EventStreamParser, EventTooLarge, ServerSentEvent

__all__ = ["Event", "LostEvent", "Parser", "ReportEvent", "ValuesEvent"]

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


class Parser:
    """The events of a service's stream, from its bytes as they arrive."""

    def __init__(self, *, typed: bool) -> None:
        """`typed` makes reports of the data, otherwise it is values."""
        self._typed = typed
        self._parser = EventStreamParser(_MOST_BYTES)

    def feed(self, data: bytes) -> list[Event]:
        """The events that are complete with more data; raises ServiceError for what is no such stream."""
        try:
            return [self._event(event) for event in self._parser.feed(data)]
        except EventTooLarge:
            raise ServiceError("The service sent an event without an end: is it Loadlens?") from None

    @property
    def last_id(self) -> int | None:
        """Behind which id the stream goes on, by events and heartbeats; None before the first. Raises ServiceError."""
        text = self._parser.last_event_id
        return _number(text) if text else None

    def _event(self, event: ServerSentEvent) -> Event:
        id_ = _number(event.id)
        try:
            if event.type == "message":
                if self._typed:
                    return ReportEvent(id_, _REPORT.decode(event.data))
                return ValuesEvent(id_, _decoded(event.data))
            lost = _decoded(event.data)
            return LostEvent(id_, lost["from"], lost["to"], event.type == "missed")
        except (KeyError, msgspec.DecodeError) as error:
            raise ServiceError(f"The service sent an event that cannot be read: {error}") from error


def _number(event_id: str) -> int:
    try:
        return int(event_id)
    except ValueError as error:
        raise ServiceError(f"The service sent an event that cannot be read: {error}") from error


def _decoded(data: str) -> dict[str, Any]:
    return msgspec.json.decode(data, type=dict[str, Any])
