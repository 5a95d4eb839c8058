"""The one request that there is most of, a single report, answered without a router and middleware before it.

What is asked of any other request is asked of these too: who sends it, whether the token may, its limits, its count in
/metrics and its line in the log. What is not plainly right is handed on as it came, so that everything that is wrong is
said in one place.
"""

import time
from typing import Any, Final, Protocol

import falcon

from contract import times
from contract.logs import REQUEST_ID
from contract.validation import Accepted, InvalidReport
from service.credentials.identity import Identity
from service.http.encoding import MIN_BYTES, preferred, whole
from service.http.permissions import is_plain
from service.http.problems import PROBLEM_JSON, fault, problem_details
from service.http.request_log import ID_HEADER, Answerer, Receive, RequestLog, Send, id_of
from service.http.requests import MAX_BODY
from service.http.resources.ingest import LINES, Metrics
from service.http.routing import REPORTS
from service.http.token_limits import TokenLimits

_NEEDED: Final = b"content-length"
_PLAIN: Final = frozenset(
    (
        b"host", b"content-type", b"content-length", b"user-agent", b"accept", b"accept-encoding", b"authorization",
        b"connection", b"x-forwarded-for", b"x-forwarded-proto", ID_HEADER,
    )
)  # fmt: skip
"""Headers of programs, and of proxies, which the server has read. Others say what is to be looked at: what a body is
packed with, which page asks."""
_LINES: Final = tuple(one.encode() for one in LINES)
_BEARER: Final = b"Bearer "
_VARY: Final = (b"vary", b"Accept-Encoding")
_JSON_TYPE: Final = (b"content-type", falcon.MEDIA_JSON.encode())
_PROBLEM_TYPE: Final = (b"content-type", PROBLEM_JSON.encode())
_ENCRYPTED: Final = (b"strict-transport-security", b"max-age=31536000")
_ACCEPTED: Final = 202
_MOST_DIGITS: Final = 19
"""Of a length; Python takes no number with thousands of them, and some may be zeros."""
_Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body."""


class Access(Protocol):
    """Who asks (`service.http.access`, `service.http.authentication`)."""

    def identity_at_once(self, host: str, token: str | None, address: str) -> Identity | None:
        """Who shows a token, or names a host; None where that alone does not tell."""

    def count(self, identity: Identity) -> None:
        """Count a request. Raises ProblemError 429 where there are too many."""


class DirectReports:
    """An ASGI application in front of another: takes a single report, and hands on what is anything else."""

    def __init__(
        self, behind: Answerer, metrics: Metrics, access: Access, limits: TokenLimits, requests: RequestLog
    ) -> None:
        self._behind = behind
        self._metrics = metrics
        self._access = access
        self._limits = limits
        self._requests = requests

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a POST of reports."""
        began = time.perf_counter()
        if not isinstance(scope["headers"], list):
            # ASGI allows what can be read only once.
            scope = {**scope, "headers": [(name, value) for name, value in scope["headers"]]}
        headers = dict(scope["headers"])
        identity = self._identity(scope, headers)
        if identity is None:
            await self._behind(scope, receive, send)
            return
        event = await receive()
        now_ms = times.now_ms()
        read = self._read(event, now_ms)
        if read is None:
            await self._behind(scope, _again(event, receive), send)
            return
        request_id = id_of(headers.get(ID_HEADER))
        named = REQUEST_ID.set(request_id)
        status, first_s, sent = 0, 0.0, 0
        try:
            answered, more, body = await self._take(read, len(event["body"]), identity, now_ms)
            if scope["scheme"] == "https":
                more.append(_ENCRYPTED)
            if len(body) >= MIN_BYTES and (coding := preferred(headers.get(b"accept-encoding", b"").decode("latin-1"))):
                body = await whole(body, coding)
                more.append((b"content-encoding", coding.encode()))
            more += ((b"content-length", b"%d" % len(body)), (ID_HEADER, request_id.encode()))
            status, first_s = answered, time.perf_counter() - began
            await send({"type": "http.response.start", "status": status, "headers": more})
            await send({"type": "http.response.body", "body": body})
            sent = len(body)
        finally:
            self._requests.note(scope, REPORTS, status, sent, first_s or time.perf_counter() - began, began)
            REQUEST_ID.reset(named)

    async def _take(self, read: Accepted, size: int, identity: Identity, now_ms: int) -> _Answer:
        try:
            self._access.count(identity)
            self._limits.check_reports(identity)
            self._limits.took_bytes(identity, size)
            return _ACCEPTED, [_JSON_TYPE, _VARY], await self._metrics.take_one(read, identity, now_ms)
        except Exception as error:  # noqa: BLE001 - a fault of ours is answered, and logged
            problem = error if isinstance(error, falcon.HTTPError) else fault("POST", REPORTS, error)
            return problem.status_code, _headers(problem), problem_details(problem)

    def _identity(self, scope: Any, headers: dict[bytes, bytes]) -> Identity | None:
        """Who sends what may be a single report; None where that is to be looked at, or a header."""
        if (
            len(headers) != len(scope["headers"])
            or not headers.keys() <= _PLAIN
            or headers.get(b"content-type", b"").startswith(_LINES)
            or not headers.get(_NEEDED, b"").isdigit()
            or len(headers[_NEEDED]) > _MOST_DIGITS
            or int(headers[_NEEDED]) > MAX_BODY
        ):
            return None
        shown = headers.get(b"authorization")
        if shown is not None and not shown.startswith(_BEARER):
            return None
        token = None if shown is None else shown[len(_BEARER) :].decode("latin-1")
        client = scope.get("client")
        host, address = headers.get(b"host", b"").decode("latin-1"), client[0] if client else "127.0.0.1"
        identity = self._access.identity_at_once(host, token, address)
        return identity if identity is not None and is_plain(REPORTS, "POST", identity.role) else None

    def _read(self, event: Any, now_ms: int) -> Accepted | None:
        """The report of a body that came as one, and is nothing but a valid report."""
        if event["type"] != "http.request" or event.get("more_body") or event.get("body", b"")[:1] != b"{":
            return None
        try:
            return self._metrics.read(event["body"], now_ms)
        except InvalidReport:
            return None


def _again(event: Any, receive: Receive) -> Receive:
    """As `receive`, but with an event first that was taken already."""
    events = [event]

    async def first() -> Any:
        return events.pop() if events else await receive()

    return first


def _headers(problem: falcon.HTTPError) -> list[tuple[bytes, bytes]]:
    named = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in dict(problem.headers or {}).items()
    ]
    return [*named, _PROBLEM_TYPE, _VARY]
