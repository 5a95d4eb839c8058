"""Calls of a Loadlens service's HTTP API, and what can go wrong with them as exceptions.

It knows nothing of DataFrames, so that commands which only send and print JSON start quickly;
`analytics.sources.service.Client` adds the frames.
"""

import json
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload
from urllib.parse import quote

import httpx
import msgspec

from contract.problems import Problem, decode_json
from contract.retry import Backoff, retry_after_s
from contract.service_address import check_service_url, proxy_for, tls_context

PROBLEM_TYPE = "application/problem+json"
"""The media type of refusals (RFC 9457)."""
JSON_TYPE = "application/json"
SUCCESS = range(200, 300)
TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 5.0
_BUSY = (429, 503)
_T = TypeVar("_T")


class ServiceError(Exception):
    """A question that was not answered; the message says why."""


class UnreachableError(ServiceError):
    """No answer came: nothing listens there, or it took too long."""


class CutShortError(ServiceError):
    """An answer began, and ended before it was whole; the service's log says why."""


class ProblemError(ServiceError):
    """The service refused, or failed, and said why (RFC 9457)."""

    def __init__(self, status: int, detail: str, problems: tuple[Problem, ...] = (), title: str = "") -> None:
        reasons = "".join(
            f"\n  {problem.pointer.lstrip('/')}: {problem.detail}" for problem in problems if problem.detail != detail
        )
        super().__init__(detail + reasons)
        self.status = status
        """The HTTP status, such as 404."""
        self.title = title
        """The kind of problem, such as "Not Found"."""
        self.detail = detail
        """What is wrong, in the service's words."""
        self.problems = problems
        """The single parameters or members that are wrong (`errors` of the answer), where there are such."""


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """What the service answered to a call of its API."""

    status: int
    headers: Mapping[str, str]
    """By name, in any case."""
    body: bytes

    @overload
    def document(self) -> Any: ...
    @overload
    def document(self, kind: type[_T]) -> _T: ...
    def document(self, kind: Any = Any) -> Any:
        """The JSON of the body, checked to be of a type; raises ServiceError where it is not."""
        try:
            return decode_json(self.body, kind)
        except msgspec.DecodeError as error:
            raise ServiceError(
                f"expected JSON from the service, got what cannot be read: {error}. Is it Loadlens?"
            ) from error


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long, and how often, a call is made again while the service is busy (429, 503) or does not answer.

    The waits double from `first_s` to `cap_s`, with jitter, on top of what a Retry-After header asks for, of which
    `retry_after_cap_s` at most is honoured. All are seconds.
    """

    total_s: float
    """No new try begins after this time."""
    first_s: float = 0.5
    cap_s: float = 5.0
    retry_after_cap_s: float = 30.0
    sleep: Callable[[float], object] = time.sleep
    """Waits that many seconds between two tries; what it raises ends the call."""


IMPATIENT = Patience(0.0)
"""One try."""


_PATH: Any = (str, Path)


def trust(ca_file: Path | None, check_name: bool = True) -> ssl.SSLContext | bool:
    """What httpx checks certificates with; raises ValueError for a file that cannot be used."""
    if ca_file is None:
        return True
    if not str(ca_file) or not isinstance(ca_file, _PATH):
        raise ValueError(f"ca_file: expected a file of certificates or None, got {ca_file!r}")
    context = tls_context(ca_file)
    context.check_hostname = check_name
    return context


class ServiceApi:
    """The HTTP API of the service at `url`, called with `token` where it asks for one. A context manager.

    Connections are kept open between calls, and threads may share one object. `headers` go with each call. A call
    gives up after `timeout_s` seconds without a byte of the answer. Nothing is sent before the first call. With
    `ca_file` the certificates in it are trusted, and no others; without `check_name` whatever the name in them. Raises
    ValueError for what is not an http(s) address, and for a file that cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        ca_file: Path | None = None,
        check_name: bool = True,
    ) -> None:
        check_service_url(url)
        self.url = url.rstrip("/")
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=url,
            headers=authorization | dict(headers or {}),
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            # A second try to connect, as the first may meet a closing socket.
            transport=httpx.HTTPTransport(retries=1, proxy=proxy_for(url), verify=trust(ca_file, check_name)),
        )

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        expected: Collection[int] = SUCCESS,
        patience: Patience = IMPATIENT,
    ) -> ApiResponse:
        """Call the API: `path` is what follows `/api/v1/`, its segments escaped (`path_segment`); with a slash
        before it, a path from the root.

        `document` is sent as JSON; otherwise `body` is sent as it is, with a Content-Type in `headers`. Of `params`,
        those that are None are left out. Returns the answer if its status is one of `expected`. With `patience`, the
        same call is made again while the service is busy or does not answer, so it has to be one that may come twice.

        Raises ProblemError with the service's reasons for any other status, UnreachableError where no answer comes,
        CutShortError where it ends early, and ServiceError for answers that are not a Loadlens service's.
        """
        if document is not None:
            body = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
            headers = {"Content-Type": JSON_TYPE} | dict(headers or {})
        backoff = Backoff(
            first_s=patience.first_s, cap_s=patience.cap_s, retry_after_cap_s=patience.retry_after_cap_s, least=0.5
        )
        end_s = time.monotonic() + patience.total_s
        while True:
            may_try_again = time.monotonic() < end_s
            try:
                with self._answering(method, path, body=body, params=params, headers=headers) as response:
                    content = response.read()
            except (UnreachableError, CutShortError):
                if not may_try_again:
                    raise
                patience.sleep(backoff.next_s())
                continue
            if response.status_code in expected:
                return ApiResponse(response.status_code, response.headers, content)
            if response.status_code not in _BUSY or not may_try_again:
                raise refusal(response.status_code, response.headers.get("Content-Type", ""), content)
            patience.sleep(backoff.next_s(retry_after_s(response.headers.get("Retry-After")) or 0.0))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _answering(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer to a call, before its body is read."""
        begun = False
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            with self._http.stream(
                method, path if path.startswith("/") else f"api/v1/{path}", content=body, params=given, headers=headers
            ) as response:
                begun = True
                yield response
        except httpx.TimeoutException as error:
            raise UnreachableError(f"{self.url} did not answer in time") from error
        except httpx.TransportError as error:
            if begun:
                raise CutShortError(f"{self.url}: the answer ended early; ask again") from error
            raise UnreachableError(f"{self.url} cannot be reached: {str(error) or type(error).__name__}") from error
        except httpx.HTTPError as error:
            raise ServiceError(f"{self.url} gave an answer that cannot be read: {error}") from error


class _ProblemDocument(msgspec.Struct):
    title: str = ""
    detail: str = ""
    errors: tuple[Problem, ...] = ()


def refusal(status: int, media_type: str, body: bytes, expected: str = JSON_TYPE) -> ServiceError:
    """The error of an answer that is not the one that was `expected` (a media type): ProblemError where it says why."""
    media_type = media_type.partition(";")[0].strip().lower()
    if media_type != PROBLEM_TYPE:
        given = media_type or "something without a type"
        return ServiceError(f"expected {expected} from the service, got status {status} with {given}: is it Loadlens?")
    try:
        document = msgspec.json.decode(body, type=_ProblemDocument)
    except msgspec.DecodeError:
        document = _ProblemDocument()
    detail = document.detail or document.title or f"HTTP status {status}"
    return ProblemError(status, detail, document.errors, document.title)


def path_segment(text: str) -> str:
    """A segment of a path, whatever characters it has; `..` would otherwise be another path."""
    return text.replace(".", "%2E") if text in (".", "..") else quote(text, safe="")
