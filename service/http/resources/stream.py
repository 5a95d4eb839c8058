"""/api/v1/stream: the reports as they are acknowledged, as server-sent events or over a WebSocket."""

import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import falcon
from falcon.asgi import Request, Response, WebSocket
from falcon.errors import WebSocketDisconnected
from uvicorn.protocols.utils import ClientDisconnected

from contract.problems import Problem
from service.credentials.identity import Identity
from service.credentials.sessions import Sessions
from service.http.access import is_foreign
from service.http.authentication import identity_of
from service.http.problems import HTTPProblem
from service.http.token_limits import TokenLimits
from service.stream.broker import Broker, TooManyConsumers
from service.stream.channels import StreamFormat
from service.stream.consumer import StreamConsumer
from service.stream.subscription import Subscription, parse_subscription

_log = logging.getLogger("loadlens.service")
_RETRY_MS = 1000
_BEGIN = b"retry: %d\n\n" % _RETRY_MS
_MAX_REASON = 120
"""Bytes of it; a close frame has room for 123 (RFC 6455, 5.5)."""
_UNACCEPTABLE, _TRY_AGAIN, _FOREIGN, _ENDED = 3422, 1013, 3403, 3401
"""Codes that a WebSocket is closed with."""


class _Events:
    """Server-sent events that are encoded already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self, handler: Any = None) -> bytes:
        """The bytes to send."""
        return self._data


class LiveStream:
    """Follows the reports."""

    def __init__(self, broker: Broker, sessions: Sessions, limits: TokenLimits) -> None:
        self._broker = broker
        self._sessions = sessions
        self._limits = limits

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with events until the client hangs up or the service stops."""
        subscription, after = _asked(req)
        identity = identity_of(req)
        resp.set_header("Cache-Control", "no-store")
        resp.set_header("X-Accel-Buffering", "no")
        resp.sse = self._events(self._join(subscription, "events", after, identity), identity)  # type: ignore[assignment]  # they serialize

    async def on_head(self, req: Request, resp: Response) -> None:
        """The headers of the answer to GET, without following anything."""
        _asked(req)
        resp.content_type = "text/event-stream"
        resp.set_header("Cache-Control", "no-store")

    async def _events(self, consumer: StreamConsumer, identity: Identity) -> AsyncIterator[_Events]:
        try:
            yield _Events(_BEGIN)
            async for chunk in consumer.chunks():
                if not self._sessions.is_valid(identity):
                    return
                yield _Events(chunk)
        finally:
            self._leave(consumer, identity)

    def _join(
        self, subscription: Subscription, stream_format: StreamFormat, after: int | None, identity: Identity
    ) -> StreamConsumer:
        self._limits.begin_stream(identity)
        try:
            return StreamConsumer(self._broker, subscription, stream_format, after)
        except TooManyConsumers as error:
            self._limits.end_stream(identity)
            raise HTTPProblem(falcon.HTTP_503, f"{error}.", headers={"Retry-After": "10"}) from None

    def _leave(self, consumer: StreamConsumer, identity: Identity) -> None:
        consumer.leave()
        self._limits.end_stream(identity)

    async def on_websocket(self, req: Request, ws: WebSocket) -> None:
        """Each message has one or more events, a JSON object on a line each."""
        await ws.accept()
        try:
            # Unlike other requests, WebSockets may cross sites.
            if is_foreign(req):
                await ws.close(_FOREIGN, "a page of another site must not follow the stream")
                return
            subscription, after = _asked(req)
            identity = identity_of(req)
            await self._follow(ws, self._join(subscription, "lines", after, identity), identity)
        except HTTPProblem as error:
            code = _TRY_AGAIN if error.status_code in (429, 503) else _UNACCEPTABLE
            reasons = "; ".join(f"{problem.pointer}: {problem.detail}" for problem in error.problems)
            reason = (reasons or error.description or "").encode()[:_MAX_REASON]
            await ws.close(code, reason.decode(errors="ignore"))
        except (WebSocketDisconnected, ClientDisconnected):
            return

    async def _follow(self, ws: WebSocket, consumer: StreamConsumer, identity: Identity) -> None:
        async with contextlib.aclosing(consumer.chunks()) as chunks:
            try:
                async for chunk in chunks:
                    if not self._sessions.is_valid(identity):
                        await ws.close(_ENDED, "the token is revoked or past its end")
                        return
                    await ws.send_text(chunk.decode())
            finally:
                self._leave(consumer, identity)
        await ws.close(1012, "the service stops")


def _asked(req: Request) -> tuple[Subscription, int | None]:
    """What a request wants, and from where. Raises ProblemError 422."""
    parameters = {name: req.get_param_as_list(name) or [] for name in req.params}
    subscription, problems = parse_subscription(parameters)
    text = next(iter(parameters.get("after", [])), None) or req.get_header("Last-Event-ID")
    after = None
    if text:
        if text.isascii() and text.isdigit() and len(text) < 19:
            after = int(text)
        else:
            problems.append(Problem("after", f"expected the id of an event, a whole number, got {text[:32]!r}"))
    if problems:
        raise HTTPProblem(falcon.HTTP_422, "The stream cannot be followed like this.", problems)
    return replace(subscription, scope=identity_of(req).scope), after
