"""Connections with limits: what a client sends before it is asked for its token is bounded, in bytes and in time."""

import asyncio
from functools import cached_property
from typing import Any

import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from service.tls import CERTIFICATE_NAME, common_name

MAX_HEAD_BYTES = 64 * 1024
"""The request line and the headers together."""
MAX_IDLE_BODY_BYTES = 32 * 1024 * 1024
"""So much of a body is taken though it is answered already, so that a client that sends it all sees the answer."""
MAX_WAITING = 100
"""Requests that wait for the one before; no more are taken of their connection."""
HEAD_S = 15.0
"""From the connection, or the first byte of a further request, to the end of the headers."""
BODY_S = 60.0
"""From the end of the headers to the end of the body: 8 MiB at 140 KiB a second."""
STOOD_STILL_S = 1.0
"""Who looks so much too late was held up itself: what came meanwhile is still to be read."""
_REASONS = {
    400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large",
    505: b"HTTP Version Not Supported",
}  # fmt: skip
_VERSIONS = ("1.0", "1.1")


class _Waiting(list[Any]):
    """Requests that wait for the one before; a `deque` without any takes 700 bytes more."""

    def appendleft(self, request: Any) -> None:
        """Put it behind all others: the last is the first."""
        self.insert(0, request)


class _Flow(FlowControl):
    """uvicorn's; what waits until it may write is made when something does: a kilobyte."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        vars(self).pop("_is_writable_event")

    @cached_property
    def _is_writable_event(self) -> asyncio.Event:  # type: ignore[override]
        event = asyncio.Event()
        if not self.write_paused:
            event.set()
        return event


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol; whose head or body is too large or too slow is told so, and cut off.

    A connection that waits takes 4 KB; there may be tens of thousands.
    """

    # Not among those of uvicorn: a dictionary of more than thirty shares its keys with no other.
    __slots__ = (
        "_beside_bytes", "_body_bytes", "_came", "_certificate_name", "_due_s", "_head_bytes", "_in_head", "_looks_s",
        "_piece", "_running", "_timer", "is_refused",
    )  # fmt: skip

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.pipeline = _Waiting()  # type: ignore[assignment]
        self._head_bytes = 0
        """Bytes that came while the head was not whole."""
        self._piece = 0
        """Bytes of what came last."""
        self._came = 0
        """Bytes of all pieces that the head is in, with what of others is before and behind it."""
        self._body_bytes = 0
        self._beside_bytes = 0
        """Bytes of a body that came since the last of its content: lengths of pieces, and headers behind it."""
        self._in_head = True
        self._running: RequestResponseCycle | None = None
        """The request that is being answered; `cycle` is the last that came, and may wait for it."""
        self.is_refused = False
        """Whether nothing more is taken of this connection."""
        self._certificate_name = ""
        """The common name of the certificate that the client shows, and that was checked."""
        self._due_s: float | None = None
        """When it is too late for what is waited for, by the loop's clock; None where nothing is."""
        self._timer: asyncio.TimerHandle | None = None
        """Looks whether it is; it is left where it is while requests come and go."""
        self._looks_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, for so long."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._certificate_name = _certificate_name(transport)
        self._expect(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing of a connection that is closed."""
        self._due_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # uvicorn tells the last that came alone.
        running, self._running = self._running, None
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, up to the limit."""
        if self.is_refused:
            return
        self._piece = len(data)
        if self._in_head:
            self._head_bytes += self._piece
            self._came += self._piece
        else:
            self._beside_bytes += self._piece
        super().data_received(data)
        # What ended the headers may have had the beginning of a body behind it, which does not count.
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        elif not self._in_head and self._beside_bytes > MAX_HEAD_BYTES:
            self._refuse(431, f"expected at most {MAX_HEAD_BYTES} bytes beside the content of a body, got more")

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong, but not in the answer to another request."""
        self._refuse(400, msg)

    def handle_websocket_upgrade(self) -> None:
        """From here on the WebSocket has its own deadlines, and the connection for itself."""
        if self.is_refused:
            return
        self._due_s = None
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """A request begins: its headers have a deadline from now."""
        if not self._in_head:
            self._in_head = True
            self._head_bytes, self._came, self._beside_bytes = 0, self._piece, 0
            self._expect(HEAD_S)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The headers are whole: the body has a deadline from now."""
        if self.is_refused:
            return
        if self.parser.get_http_version() not in _VERSIONS:
            self._refuse(505, "expected HTTP/1.1 or HTTP/1.0")
        elif self._came > MAX_HEAD_BYTES and self._named_bytes() > MAX_HEAD_BYTES:
            self._refuse_head()
        elif self._is_running() and self.parser.should_upgrade() and self._should_upgrade():
            self._refuse(400, "expected a WebSocket where no answer is waited for")
        elif len(self.pipeline) >= MAX_WAITING:
            self._end_behind(self.pipeline[0][0])
        else:
            self._in_head = False
            self._body_bytes = 0
            self._expect(BODY_S)
            if self._certificate_name:
                self.scope[CERTIFICATE_NAME] = self._certificate_name  # type: ignore[literal-required]
            super().on_headers_complete()
            if not self.parser.should_upgrade():
                # What comes behind a body is none of the request's headers (RFC 9110, 6.5.1).
                self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, unless the request was refused; what nobody reads any more is not taken for ever."""
        if self.is_refused:
            return
        self._body_bytes += len(body)
        self._beside_bytes = 0
        if self._has_cycle() and self.cycle.response_complete and self._body_bytes > MAX_IDLE_BODY_BYTES:
            self.transport.close()
        elif self._has_cycle():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for nothing but the next request, as long as idle connections are kept."""
        if self.is_refused:
            return
        self._due_s = None
        if self._has_cycle():
            super().on_message_complete()
            if self.cycle.response_complete:
                self._let_go()

    def on_response_complete(self) -> None:
        """Go on with the next request; until it comes nothing is kept of this one."""
        super().on_response_complete()
        # The head of the next may have begun to come.
        if self._has_cycle() and self.cycle.response_complete and not self.cycle.more_body and not self._in_head:
            self._let_go()

    def _let_go(self) -> None:
        """Keep nothing of a request that is read and answered.

        It is some thirty objects. With ten thousand connections that wait they were most of what the garbage collector
        looked at, and 50 MB.
        """
        self.cycle = self.scope = self.headers = None  # type: ignore[assignment]  # as uvicorn has them at first
        self._running = None

    def _named_bytes(self) -> int:
        """Bytes of the path and the headers that are whole."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _has_cycle(self) -> bool:
        """Whether a request has got as far as the application."""
        cycle: object = self.cycle
        return cycle is not None

    def _is_running(self) -> bool:
        """Whether a request is being answered."""
        return self._running is not None and not self._running.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _refuse_head(self) -> None:
        self._refuse(431, f"expected a request line and headers of at most {MAX_HEAD_BYTES} bytes, got more")

    def _expect(self, seconds: float) -> None:
        """Give the client so long from now."""
        self._due_s = due_s = self.loop.time() + seconds
        if self._timer is None or due_s < self._looks_s:
            self._look_at(due_s)

    def _look_at(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_s = due_s
        self._timer = self.loop.call_later(max(0.0, due_s - self.loop.time()), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due_s is None:
            return
        now_s = self.loop.time()
        if now_s < self._due_s:
            self._look_at(self._due_s)
        elif now_s - self._looks_s > STOOD_STILL_S:
            self._look_at(now_s + STOOD_STILL_S / 10)
        else:
            self._late()

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head and not self._came:
            self.transport.close()  # a connection that was opened in advance, and never used
            return
        what = "the headers" if self._in_head else "the body"
        self._refuse(408, f"expected the end of {what} within {HEAD_S if self._in_head else BODY_S:.0f} s")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer where nothing has been answered, and close the connection; once others before are answered."""
        running = self._running
        if running is not None and self._is_running() and (self._in_head or running is not self.cycle):
            self.pipeline.clear()
            self._end_behind(running)
            return
        self._due_s = None
        self.is_refused = True
        if not self.transport.is_closing():
            if running is None or not running.response_started or running.response_complete:
                reason = _REASONS[status]
                problem = {"type": "about:blank", "title": reason.decode(), "status": status, "detail": detail}
                body = msgspec.json.encode(problem)
                self.transport.write(
                    b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n"
                    b"connection: close\r\n\r\n%s" % (status, reason, len(body), body)
                )
            self.transport.close()
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _end_behind(self, last: RequestResponseCycle) -> None:
        """Answer this one, close the connection then, and take nothing more of it meanwhile."""
        self._due_s = None
        self.is_refused = True
        last.keep_alive = False


class CertifiedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol of WebSockets; the application learns whose certificate the client shows, as over HTTP."""

    async def run_asgi(self) -> None:
        """Have the application answer."""
        name = _certificate_name(self.transport)
        if name:
            self.scope[CERTIFICATE_NAME] = name  # type: ignore[literal-required]
        await super().run_asgi()


def _certificate_name(transport: asyncio.BaseTransport) -> str:
    """The common name of the certificate that the client shows, and that was checked."""
    encrypted = transport.get_extra_info("ssl_object")
    return "" if encrypted is None else common_name(encrypted.getpeercert())
