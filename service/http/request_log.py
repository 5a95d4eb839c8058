"""Each request: its id, how long its answer took to begin, what it was; counted for /metrics, and logged if asked."""

from __future__ import annotations

import logging
import random
import re
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from falcon.asgi import Request, Response

from contract.logs import REQUEST_ID, Seldom, fields
from contract.problems import display, shortened
from service.settings import LogRequests

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_log = logging.getLogger("loadlens.requests")
_ROUTE = "loadlens.route"
ID_HEADER: Final = b"x-request-id"
_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_FAILED = 400
_LONGEST_PATH = 300
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Answerer = Callable[[Any, Receive, Send], Awaitable[None]]


class NameRoute:
    """Middleware that notes which of the routes a request is for: there are few of these, and no end of paths."""

    async def process_resource(self, req: Request, resp: Response, resource: object, params: dict[str, Any]) -> None:
        """Note it where `RequestLog` finds it."""
        req.scope[_ROUTE] = req.uri_template


class RequestLog:
    """Stands around the application. Everything here runs on the event loop."""

    def __init__(self, logged: LogRequests) -> None:
        """`failed` logs those with a status of 400 and more, some lines of them where there are very many."""
        self._logged = logged
        self._seldom = Seldom()
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._seconds: dict[tuple[str, str], float] = {}
        self._statuses: dict[tuple[str, str, int], int] = {}

    async def answer(self, app: Answerer, scope: Any, receive: Receive, send: Send) -> None:
        """Have `app` answer a request; the answer's `X-Request-ID` is its id: the asker's where that one is usable."""
        began = time.perf_counter()
        request_id = id_of(next((value for name, value in scope["headers"] if name == ID_HEADER), None))
        named = REQUEST_ID.set(request_id)
        status, first_s, sent = 0, 0.0, 0

        async def count(event: Any) -> None:
            nonlocal status, first_s, sent
            if event["type"] == "http.response.start":
                status, first_s = event["status"], time.perf_counter() - began
                event["headers"] = [*event.get("headers", ()), (ID_HEADER, request_id.encode())]
            elif event["type"] == "http.response.body":
                sent += len(event.get("body", b""))
            await send(event)

        try:
            await app(scope, receive, count)
        finally:
            self.note(scope, scope.get(_ROUTE) or "none", status, sent, first_s or time.perf_counter() - began, began)
            REQUEST_ID.reset(named)

    def note(self, scope: Any, route: str, status: int, sent: int, first_s: float, began: float) -> None:
        """Count a request that is answered, and log it if asked.

        `sent` are the bytes of its body, `first_s` the seconds until the answer began; `began` is of `perf_counter`.
        """
        self._count(scope["method"], route, status, first_s)
        if self._is_logged(status):
            self._say(scope, status, sent, time.perf_counter() - began)

    def collect(self) -> Iterator[Metric]:
        """The families for /metrics: requests by status, and the time until an answer began."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        statuses = CounterMetricFamily(
            "loadlens_http_requests", "Requests answered; status 0 is a client that was gone.",
            labels=("method", "route", "status"),
        )  # fmt: skip
        for (method, route, status), number in [*self._statuses.items()]:
            statuses.add_metric((method, route, str(status)), number)
        yield statuses
        latency = HistogramMetricFamily(
            "loadlens_http_request_seconds", "Time until an answer began.", labels=("method", "route")
        )
        for key, counts in [*self._buckets.items()]:
            total, buckets = 0, []
            for bound, number in zip((*map(str, _BOUNDS_S), "+Inf"), counts, strict=True):
                total += number
                buckets.append((bound, float(total)))
            latency.add_metric(key, buckets, self._seconds[key])
        yield latency

    def _count(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method if method in _METHODS else "other", route)
        counts = self._buckets.get(key)
        if counts is None:
            counts = self._buckets[key] = [0] * (len(_BOUNDS_S) + 1)
            self._seconds[key] = 0.0
        counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self._seconds[key] += seconds
        by_status = (*key, status)
        self._statuses[by_status] = self._statuses.get(by_status, 0) + 1

    def _is_logged(self, status: int) -> bool:
        if self._logged == "failed":
            return (status >= _FAILED or status == 0) and self._seldom.allows()
        return self._logged == "all"

    def _say(self, scope: Any, status: int, sent: int, seconds: float) -> None:
        method, path = shortened(display(scope["method"]), 20), shortened(display(scope["path"]), _LONGEST_PATH)
        milliseconds = round(1000 * seconds, 3)
        client = scope.get("client")
        _log.info(
            "%s %s %d in %.1f ms, %d bytes%s", method, path, status, milliseconds, sent, self._seldom.left_out(),
            extra=fields(
                method=method, path=path, status=status, milliseconds=milliseconds, bytes=sent,
                client=client[0] if client else None,
            ),
        )  # fmt: skip


def id_of(given: bytes | None) -> str:
    """The id that the asker gave the request in its header, where that one is usable, or a new one."""
    if given is not None and _GIVEN.fullmatch(given):
        return given.decode()
    # Nobody guesses at anything by it: the system's random numbers take longer than all else of a request's log.
    return f"{random.getrandbits(64):016x}"
