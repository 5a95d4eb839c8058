"""One HTTP connection to the service, kept open between requests."""

import http.client
import io
import select
import socket
import time
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from secrets import token_hex
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from agent.clock import steady_s
from contract import __version__
from contract.agent_protocol import INSTANCE_HEADER
from contract.retry import retry_after_s

if TYPE_CHECKING:
    import ssl

PATH = "/api/v1/metrics"
_PROXY_PORT = 3128
_ANSWER_BYTES = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS
_STALE = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, http.client.RemoteDisconnected)


class ServiceUnreachable(Exception):
    """No answer came; the message says why."""

    def __init__(self, reason: str, *, is_perhaps_taken: bool = True) -> None:
        """`is_perhaps_taken`: whether what was asked may have been done."""
        super().__init__(reason)
        self.is_perhaps_taken = is_perhaps_taken


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """Status, body and headers of an answer of the service."""

    status: int
    body: bytes
    media_type: str
    """The media type of the body, in lower case, without parameters."""
    retry_after_s: float
    """How long it asks to wait; 0 where it does not."""
    date: str = ""
    """The service's clock, as the header Date has it; empty where it does not tell."""
    asked_at: float = 0.0
    answered_at: float = 0.0
    """When it was asked, and had answered, by the steady clock (`agent.clock.steady_s`)."""
    is_repeated: bool = False
    """Whether it was asked twice, as a connection that had been open ended without an answer."""

    @property
    def date_s(self) -> float | None:
        """`date` in epoch seconds; None where it does not tell, or not in a way that can be read."""
        try:
            return parsedate_to_datetime(self.date).timestamp()
        except (ValueError, OverflowError):
            return None


def reports_url(url: str) -> str:
    """Where reports are posted: `url` itself where it names that place already, as the original system's did."""
    url = url.rstrip("/")
    return url if url.endswith(PATH) else url + PATH


class Connection:
    """Posts reports and states, and opens streams. Not for use by several threads."""

    def __init__(
        self, url: str, token: str | None, proxy: str | None = None, tls: "ssl.SSLContext | None" = None
    ) -> None:
        """`proxy` is the address of an HTTP proxy on the way; None where there is none.

        `tls` is what HTTPS is checked with, in place of what the system trusts.
        """
        self.url = reports_url(url)
        parts = urlsplit(self.url)
        self._instance = token_hex(8)
        on_the_way = urlsplit(proxy) if proxy else parts
        host, port = on_the_way.hostname or "", on_the_way.port or (_PROXY_PORT if proxy else None)
        if parts.scheme == "https":
            self._http: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, context=tls)
        else:
            self._http = http.client.HTTPConnection(host, port)
        self._answered_by = float("inf")
        self._is_sent = False
        self._http.response_class = self._response  # type: ignore[assignment]
        self._target = parts.path
        self._agents = parts.path.removesuffix(PATH) + "/api/v1/agents/"
        self._headers = {"Content-Type": "application/json", "User-Agent": f"loadlens-agent/{__version__}"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        if proxy:
            self._through(on_the_way, parts)

    def _through(self, proxy: SplitResult, service: SplitResult) -> None:
        """Reach the service by a proxy: through a tunnel where it is encrypted, by its whole address otherwise."""
        user = f"{unquote(proxy.username or '')}:{unquote(proxy.password or '')}"
        credentials = f"Basic {b64encode(user.encode()).decode()}" if proxy.username else None
        if service.scheme == "https":
            headers = {"Proxy-Authorization": credentials} if credentials else {}
            self._http.set_tunnel(service.hostname or "", service.port, headers)
            return
        origin = f"http://{service.netloc.rpartition('@')[2]}"
        self._target, self._agents = origin + self._target, origin + self._agents
        if credentials:
            self._headers["Proxy-Authorization"] = credentials

    def post(self, bodies: Sequence[bytes], timeout_s: float) -> ServiceAnswer:
        """Send reports: one as it is, several as a JSON array, compressed.

        `timeout_s` bounds connecting, and from then on all of the exchange: a server that answers a byte at a time
        holds the sender no longer than one that does not answer. Raises ServiceUnreachable.
        """
        headers, body = self._headers, bodies[0]
        if len(bodies) > 1:
            headers, body = headers | {"Content-Encoding": "gzip"}, _array(bodies)
        return self._post(self._target, body, headers, timeout_s)

    def post_state(self, user_id: str, body: bytes, timeout_s: float) -> ServiceAnswer:
        """Send an agent's state; as `post`."""
        return self._post(f"{self._agents}{quote(user_id, safe='')}/state", body, self._headers, timeout_s)

    def post_enrolment(self, body: bytes, timeout_s: float) -> ServiceAnswer:
        """Ask for a token of the agent's own; as `post`."""
        return self._post(self._target.removesuffix(PATH) + "/api/v1/enrolments", body, self._headers, timeout_s)

    def get(self, path: str, timeout_s: float) -> ServiceAnswer:
        """Ask for `path` of the service, such as `/readyz`; as `post`."""
        return self._post(self._target.removesuffix(PATH) + path, b"", self._headers, timeout_s, "GET")

    def listen(self, user_id: str, last_event_id: str | None, timeout_s: float) -> http.client.HTTPResponse:
        """Open an agent's stream; `timeout_s` bounds this and each read. Raises ServiceUnreachable."""
        headers = self._headers | {"Accept": "text/event-stream", INSTANCE_HEADER: self._instance}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        self.close()
        self._http.timeout = timeout_s
        self._answered_by = float("inf")
        self._is_sent = False
        try:
            self._http.request("GET", f"{self._agents}{quote(user_id, safe='')}/commands", headers=headers)
            return self._http.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ServiceUnreachable(reason_of(error)) from None

    def _post(
        self, target: str, body: bytes, headers: dict[str, str], timeout_s: float, method: str = "POST"
    ) -> ServiceAnswer:
        self._is_sent = False
        try:
            return self._exchange_again(target, body, headers, timeout_s, method)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ServiceUnreachable(reason_of(error), is_perhaps_taken=self._is_sent) from None

    def _exchange_again(
        self, target: str, body: bytes, headers: dict[str, str], timeout_s: float, method: str
    ) -> ServiceAnswer:
        if self._http.sock is not None and select.select([self._http.sock], [], [], 0)[0]:
            # It was closed meanwhile: nobody asked for what could be read. So nothing is sent into it, and in doubt.
            self.close()
        reused = self._http.sock is not None
        try:
            return self._exchange(target, body, headers, timeout_s, method)
        except _STALE:
            # The service closes connections that are idle for long, and may do so just now.
            if not reused:
                raise
            self.close()
            return replace(self._exchange(target, body, headers, timeout_s, method), is_repeated=True)

    def _exchange(
        self, target: str, body: bytes, headers: dict[str, str], timeout_s: float, method: str
    ) -> ServiceAnswer:
        self._http.timeout = timeout_s
        self._answered_by = time.monotonic() + timeout_s
        if self._http.sock is not None:
            self._http.sock.settimeout(timeout_s)
        asked_at = steady_s()
        if self._http.sock is None:
            self._http.connect()
        self._is_sent = True
        self._http.request(method, target, body or None, headers)
        response = self._http.getresponse()
        answered_at = steady_s()
        content = response.read(_ANSWER_BYTES)
        if not response.isclosed():
            if response.length and len(content) < _ANSWER_BYTES:
                raise http.client.IncompleteRead(content, response.length)
            self.close()
        wait_s = retry_after_s(response.getheader("Retry-After")) or 0.0
        date = response.getheader("Date") or ""
        media_type = response.headers.get_content_type()
        return ServiceAnswer(response.status, content, media_type, wait_s, date, asked_at, answered_at)

    def _response(self, sock: socket.socket, *, method: str | None = None) -> http.client.HTTPResponse:
        """What http.client makes to read an answer, with a deadline for all of it where there is one."""
        response = http.client.HTTPResponse(sock, method=method)
        if self._answered_by != float("inf"):
            response.fp = io.BufferedReader(_UntilDeadline(response.fp.detach(), sock, self._answered_by))
        return response

    def close(self) -> None:
        """Close the connection; the next post opens it again."""
        self._http.close()


class _UntilDeadline(io.RawIOBase):
    """What is read from a socket until a moment of the monotonic clock; raises TimeoutError after it."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        """True: it is there to be read."""
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """Read into `buffer` what has come, as io.RawIOBase does."""
        left = self._deadline - time.monotonic()
        if left <= 0.0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Close the socket."""
        # The socket lives on until the last that reads from it is closed.
        self._raw.close()
        super().close()


def _array(bodies: Sequence[bytes]) -> bytes:
    """The gzip-compressed JSON array of JSON texts, without ever holding it uncompressed."""
    gzip = zlib.compressobj(level=3, wbits=_GZIP)
    parts = [gzip.compress(b"["), gzip.compress(bodies[0])]
    for body in bodies[1:]:
        parts += [gzip.compress(b","), gzip.compress(body)]
    parts += [gzip.compress(b"]"), gzip.flush()]
    return b"".join(parts)


def reason_of(error: Exception) -> str:
    """What went wrong on the way, in words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
