"""Following a service: each report as it is acknowledged, typed, in a loop."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import httpx
import msgspec

from analytics.sources.service_api import ServiceError, UnreachableError, refusal, trust
from contract.metrics import Statistic
from contract.problems import decode_json
from contract.report import Report
from contract.retry import Backoff
from contract.server_sent_events import EventStreamParser, EventTooLarge, ServerSentEvent
from contract.service_address import check_service_url, proxy_for

_MAX_BYTES = 16 * 1024 * 1024
"""Of one event: twice what the service takes as a report."""
_REPORT = msgspec.json.Decoder(Report)


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the stream; its subclasses say of what."""

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
        self._parser = EventStreamParser(_MAX_BYTES)

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
    return decode_json(data.encode(), dict[str, Any])


_TIMEOUT = httpx.Timeout(20.0, connect=5.0)
"""Four heartbeats that did not come."""
_FIRST_S, _LONGEST_S = 0.5, 30.0
_TRY_AGAIN = (502, 503, 504)


class Stream:
    """Events of a service, for `for` and `async for`; made by `stream`.

    When the connection ends it comes back by itself and goes on behind the last event, so each report comes once. Leave
    the loop to stop it; a new loop over the same object goes on behind the last event. Raises, when it is iterated,
    UnreachableError if the service cannot be reached the first time, and ProblemError where it refuses.
    """

    def __init__(
        self, url: str, token: str | None, parameters: dict[str, Any], after: int | None, ca_file: Path | None = None
    ) -> None:
        self._verify = trust(ca_file)
        self._url = url
        self._proxy = proxy_for(url)
        self._headers = {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._parameters = parameters
        self._backoff = Backoff(first_s=_FIRST_S, cap_s=_LONGEST_S, least=0.5)
        self._was_there = False
        self.after = after
        """The id of the last event; None before the first."""

    def __iter__(self) -> Iterator[Event]:
        with httpx.Client(
            base_url=self._url, timeout=_TIMEOUT, transport=httpx.HTTPTransport(proxy=self._proxy, verify=self._verify)
        ) as client:
            while True:
                try:
                    with client.stream("GET", "/api/v1/stream", **self._request()) as response:
                        if self._is_fine(response) or self._refused(response, response.read()):
                            parser = self._parser()
                            for data in response.iter_raw():
                                yield from self._new(parser, data)
                except httpx.TransportError as error:
                    self._failed(error)
                time.sleep(self._backoff.next_s())

    async def __aiter__(self) -> AsyncIterator[Event]:
        async with httpx.AsyncClient(
            base_url=self._url,
            timeout=_TIMEOUT,
            transport=httpx.AsyncHTTPTransport(proxy=self._proxy, verify=self._verify),
        ) as client:
            while True:
                try:
                    async with client.stream("GET", "/api/v1/stream", **self._request()) as response:
                        if self._is_fine(response) or self._refused(response, await response.aread()):
                            parser = self._parser()
                            async for data in response.aiter_raw():
                                for event in self._new(parser, data):
                                    yield event
                except httpx.TransportError as error:
                    self._failed(error)
                await asyncio.sleep(self._backoff.next_s())

    def _request(self) -> dict[str, Any]:
        resume = {} if self.after is None else {"Last-Event-ID": str(self.after)}
        return {"params": self._parameters, "headers": self._headers | resume}

    def _parser(self) -> Parser:
        self._was_there = True
        return Parser(typed="fields" not in self._parameters)

    def _is_fine(self, response: httpx.Response) -> bool:
        is_stream = response.headers.get("Content-Type", "").startswith("text/event-stream")
        return response.status_code == 200 and is_stream

    def _refused(self, response: httpx.Response, body: bytes) -> bool:
        """False where it is worth trying again; raises otherwise."""
        if response.status_code not in _TRY_AGAIN:
            raise refusal(response.status_code, response.headers.get("Content-Type", ""), body, "text/event-stream")
        return False

    def _failed(self, error: httpx.TransportError) -> None:
        if not self._was_there:
            raise UnreachableError(f"{self._url} cannot be reached: {error}") from error

    def _new(self, parser: Parser, data: bytes) -> Iterator[Event]:
        for event in parser.feed(data):
            is_new = self.after is None or event.id > self.after or isinstance(event, LostEvent)
            self.after = event.id
            if is_new:
                yield event
        if parser.last_id is not None:
            # Heartbeats count: they are ids without an event.
            self._backoff.reset()
            self.after = parser.last_id


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        # Not quoted, as it may be a token.
        raise ValueError(f"{name}: expected a text, got a {type(text).__name__}")


def _check_id(after: object) -> None:
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise ValueError(f"after: expected the id of an event, got {after!r}")


def _level(name: str, level: float | None) -> float | None:
    if level is None or (isinstance(level, Real) and not isinstance(level, bool) and -math.inf < level < math.inf):
        return level
    raise ValueError(f"{name}: expected a finite number, got {level!r}")


def _texts(name: str, texts: object) -> list[str] | None:
    """A text, or several, as a list."""
    if texts is None or isinstance(texts, str):
        return None if texts is None else [texts]
    if isinstance(texts, list | tuple | set) and texts and all(isinstance(text, str) for text in texts):
        return list(texts)
    raise ValueError(f"{name}: expected a text, or several in a list, got {texts!r}")


def stream(
    url: str = "http://localhost:8888",
    *,
    token: str | None = None,
    user: str | Sequence[str] | None = None,
    os: str | Sequence[str] | None = None,
    type: str | Sequence[str] | None = None,  # noqa: A002 - as the service names it
    metric: str | None = None,
    stat: Statistic | None = None,
    above: float | None = None,
    below: float | None = None,
    fields: Sequence[str] | None = None,
    after: int | None = None,
    ca_file: Path | None = None,
) -> Stream:
    """Follow a service: an iterator, and an async iterator, of events.

    `user` takes names and patterns such as `web-*`, `os` operating systems, `type` metric types such as `CPU`. `metric`
    takes reports that have it, with `above` and `below` those whose value (statistic `stat`, its own by default) lies
    beyond a level. With `fields`, members of a report and metrics such as `cpuLoadAvg.p95`, the events are
    `ValuesEvent`s, otherwise `ReportEvent`s. `after` is the id of an event behind which to begin; by default it begins
    with what is acknowledged next. A `LostEvent` says which reports will not come.

    With `ca_file` the certificates in it are trusted, and no others. Raises ValueError for a wrong argument, for
    what is not an http(s) address, and for a file that cannot be used.
    """
    for name, text in (("url", url), ("token", token), ("metric", metric), ("stat", stat)):
        if name == "url" or text is not None:
            _check_text(name, text)
    check_service_url(url)
    if after is not None:
        _check_id(after)
    chosen = _texts("fields", fields)
    asked = {
        "user": _texts("user", user), "os": _texts("os", os), "type": _texts("type", type), "metric": metric,
        "stat": stat, "above": _level("above", above), "below": _level("below", below),
        "fields": None if chosen is None else ",".join(chosen),
    }  # fmt: skip
    return Stream(url, token, {name: value for name, value in asked.items() if value is not None}, after, ca_file)
