"""A receiver of remote write: which version it takes, what it refused, and when to try it again."""

import threading
from collections.abc import Sequence
from typing import Final, Literal

import httpx
import pyarrow as pa

from analytics.sources.prometheus_messages import V1, V2
from contract import __version__
from contract.problems import shortened
from contract.retry import Backoff, retry_after_s
from contract.service_address import proxy_for
from service.commands.forward.series import Point, encode

Protocol = Literal["auto", "1", "2"]
_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
_FIRST_S, _LONGEST_S = 1.0, 60.0
_WRITTEN: Final = "X-Prometheus-Remote-Write-"
_TOO_MANY: Final = 429
_UNKNOWN_TYPE: Final = 415


class Stopped(Exception):
    """It was time to end before the receiver took anything."""


class ForwardTarget:
    """Where points go. Each request is tried until it is taken, or refused for good."""

    def __init__(
        self, url: str, headers: Sequence[tuple[str, str]], protocol: Protocol, stopping: threading.Event
    ) -> None:
        self._url = url
        self._client = httpx.Client(headers=list(headers), timeout=_TIMEOUT, proxy=proxy_for(url), trust_env=False)
        self._message = V1 if protocol == "1" else V2
        self._may_change = protocol == "auto"
        self._stopping = stopping
        self._backoff = Backoff(first_s=_FIRST_S, cap_s=_LONGEST_S, least=0.5)
        self.failures = 0
        """Requests that were to be tried again."""
        self.problem: str | None = None
        """Why the last request was not taken; None where it was."""

    @property
    def version(self) -> str:
        """The version of remote write that is used: `1.0` or `2.0`."""
        return "2.0" if self._message == V2 else "1.0"

    def send(self, points: Sequence[Point]) -> bool:
        """Have points taken; False where they are refused, whole or in part. Raises Stopped."""
        while True:
            wait_s = 0.0
            try:
                answer = self._post(points)
            except httpx.TransportError as error:
                self.problem = f"cannot be reached: {error}"
            else:
                if self._is_of_before(answer):
                    # It may be one of before 2.0, which passes over all that it does not know.
                    self._message = V1
                    continue
                if answer.is_success:
                    self.problem = None
                    self._backoff.reset()
                    return True
                self.problem = shortened(f"answered {answer.status_code}: {answer.text.strip()}", 300)
                if answer.is_client_error and answer.status_code != _TOO_MANY:
                    self._backoff.reset()
                    return False
                wait_s = retry_after_s(answer.headers.get("Retry-After")) or 0.0
            self.failures += 1
            if self._stopping.wait(self._backoff.next_s(wait_s)):
                raise Stopped

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _is_of_before(self, answer: httpx.Response) -> bool:
        if self._message == V1 or not self._may_change:
            return False
        said = any(name.lower().startswith(_WRITTEN.lower()) for name in answer.headers)
        return answer.status_code == _UNKNOWN_TYPE or (answer.is_success and not said)

    def _post(self, points: Sequence[Point]) -> httpx.Response:
        body = encode(points, self._message)
        is_second = self._message == V2
        return self._client.post(
            self._url,
            content=bytes(pa.Codec("snappy").compress(body, asbytes=True)),
            headers={
                "Content-Type": f"application/x-protobuf{f';proto={V2}' if is_second else ''}",
                "Content-Encoding": "snappy",
                "X-Prometheus-Remote-Write-Version": "2.0.0" if is_second else "0.1.0",
                "User-Agent": f"loadlens/{__version__}",
            },
        )
