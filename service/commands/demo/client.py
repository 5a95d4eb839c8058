"""Talking to a running service: connections kept open, one for each thread, and patience while it is busy."""

import http.client
import json
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from contract.retry import Backoff, retry_after_s
from contract.times import parse_timestamp
from service.commands.demo.reports import Batch

_TIMEOUT_S = 60.0
_PATIENCE_S = 120.0
"""How long a batch is tried again while the service has no room, or does not answer."""
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 5.0
_LONGEST_RETRY_AFTER_S = 30.0
_BUSY = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)


class ClientError(Exception):
    """The service cannot be reached, or does not take what is sent; the message says which."""


class Cancelled(Exception):
    """The work was given up while a request waited for its next try."""


class Receipt(NamedTuple):
    """What became of the reports of a batch."""

    accepted: int
    duplicates: int
    rejected: int
    reason: str
    """Why the first of the rejected ones was; empty without any."""


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """A service at `url`; may be used by many threads. A context manager, which closes the connections."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._cancelled = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    def cancel(self) -> None:
        """Try nothing again from now on."""
        self._cancelled.set()

    def last_seen(self) -> dict[str, int]:
        """The end of the newest window of each user, epoch milliseconds."""
        # The first question to a service: one that is not there is not waited for.
        answer = self._ask("GET", "/api/v1/users", patience_s=0.0)
        return {user["user_id"]: parse_timestamp(user["last_seen"]) for user in _json(answer)["users"]}

    def post(self, batch: Batch) -> Receipt:
        """Send a batch of reports until the service has taken it."""
        answer = self._ask("POST", "/api/v1/metrics", batch.body, "application/x-ndjson", patience_s=_PATIENCE_S)
        receipt = _json(answer)
        rejected = receipt.get("rejected", [])
        reason = rejected[0]["problems"][0] if rejected else None
        return Receipt(
            receipt["accepted"],
            receipt["duplicates"],
            len(rejected),
            f"{reason['pointer']}: {reason['detail']}" if reason else "",
        )

    def _ask(
        self, method: str, path: str, body: bytes | None = None, media_type: str = "", *, patience_s: float
    ) -> _Answer:
        headers = self._headers | ({"Content-Type": media_type} if media_type else {})
        started = time.monotonic()
        backoff = Backoff(
            first_s=_FIRST_RETRY_S, cap_s=_LONGEST_RETRY_S, retry_after_cap_s=_LONGEST_RETRY_AFTER_S, least=0.5
        )
        while True:
            patient = time.monotonic() - started < patience_s
            try:
                answer = self._once(method, path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                if not patient:
                    raise ClientError(f"{self.url} does not answer: {_reason(error)}") from None
                delay_s = backoff.next_s()
            else:
                if answer.status not in _BUSY or not patient:
                    return self._checked(answer)
                delay_s = backoff.next_s(retry_after_s(answer.headers.get("Retry-After")) or 0.0)
            if self._cancelled.wait(delay_s):
                raise Cancelled

    def _once(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> _Answer:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._kind(self._host, self._port, timeout=_TIMEOUT_S)
            self._connections.append(connection)
        try:
            connection.request(method, self._path + path, body, headers)
            response = connection.getresponse()
            return _Answer(response.status, dict(response.headers), response.read())
        except BaseException:
            connection.close()
            raise

    def _checked(self, answer: _Answer) -> _Answer:
        if answer.status in (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.UNPROCESSABLE_ENTITY):
            return answer
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise ClientError(f"{self.url} asks for a token: give --token, or LOADLENS_TOKEN in the environment")
        detail = answer.body[:300].decode(errors="replace").strip()
        raise ClientError(f"{self.url} answers {answer.status}: {detail}")


def _json(answer: _Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        raise ClientError("the answer is not JSON; is that a Loadlens service?") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
