"""What a token may take: who is over it gets 429, with when to come back (Retry-After) and what is allowed (RateLimit).

Nothing is counted of who shows no token or one of the settings', which many share, nor of enrolment tokens, which have
their number of uses. Addresses have a limit only where one is set, so that any number of agents may share one.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable

import falcon
from falcon.asgi import Request, Response, WebSocket

from contract.logs import Seldom, fields
from contract.times import DAY_S
from service.credentials.identity import Identity
from service.credentials.rates import Rate, network_of
from service.http.access import address_of
from service.http.problems import HTTPProblem
from service.settings import ServiceSettings

_log = logging.getLogger("loadlens.service")
_REQUESTS_WINDOW_S = 60.0
_KEPT = 200_000
"""Tokens that are remembered."""
_STREAM_RETRY_S = 10
_HEALTH = ("/healthz", "/readyz")


class _Quota:
    """A rate with the name that answers give it."""

    def __init__(self, name: str, amount: int, window_s: float, clock: Callable[[], float]) -> None:
        self._name = name
        self._rate = Rate(amount, window_s, _KEPT)
        self._clock = clock

    def check(self, identity: Identity) -> None:
        """Raise ProblemError 429 where nothing is left of it."""
        wait_s = math.ceil(self._rate.wait_s(identity.token, self._clock()))
        if wait_s:
            raise HTTPProblem(
                falcon.HTTP_429,
                f"The token is at its limit of {self._name}; there is room again in {wait_s} s.",
                headers=rate_headers(self._name, self._rate, wait_s),
            )

    def admits(self, identity: Identity) -> bool:
        """Take one where there is one; whether there was."""
        return self._rate.admits(identity.token, self._clock())

    def take(self, identity: Identity, amount: int) -> None:
        """Count what was taken."""
        self._rate.take(identity.token, self._clock(), amount)


class TokenLimits:
    """The limits of each token. What was taken is kept in memory: a service that starts counts from nothing."""

    def __init__(self, settings: ServiceSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""

        def quota(name: str, amount: int, window_s: float) -> _Quota | None:
            return _Quota(name, amount, window_s, clock) if amount else None

        self._requests = quota("requests", settings.token_requests * int(_REQUESTS_WINDOW_S), _REQUESTS_WINDOW_S)
        self._bytes = quota("bytes of reports", settings.agent_daily_bytes, DAY_S)
        self._reports = quota("reports", settings.agent_daily_reports, DAY_S)
        self._streams = settings.token_streams
        self._open: Counter[str] = Counter()
        self._said = Seldom()

    def request(self, identity: Identity) -> None:
        """Count a request. Raises ProblemError 429 for a token that made too many."""
        # Each request comes here, so what lets it pass is one step.
        if self._requests is None or not identity.is_counted or self._requests.admits(identity):
            return
        self._check(self._requests, identity)

    def check_reports(self, identity: Identity) -> None:
        """Raise ProblemError 429 for an agent that may report no more for now."""
        if _is_agent(identity):
            for quota in (self._bytes, self._reports):
                if quota is not None:
                    self._check(quota, identity)

    def took_bytes(self, identity: Identity, number: int) -> None:
        """Count the body of an agent's reports, as long as it is without its compression."""
        if self._bytes is not None and _is_agent(identity):
            self._bytes.take(identity, number)

    def took_reports(self, identity: Identity, number: int) -> None:
        """Count reports of an agent."""
        if self._reports is not None and _is_agent(identity):
            self._reports.take(identity, number)

    def begin_stream(self, identity: Identity) -> None:
        """Count a stream that opens. Raises ProblemError 429 for a token that has too many open."""
        if not identity.is_counted:
            return
        if self._streams and self._open[identity.token] >= self._streams:
            raise HTTPProblem(
                falcon.HTTP_429,
                f"The token has {self._streams} streams open; no more are allowed.",
                headers={
                    "Retry-After": str(_STREAM_RETRY_S),
                    "RateLimit-Policy": f'"streams";q={self._streams};qu="concurrent-requests"',
                    "RateLimit": '"streams";r=0',
                },
            )
        self._open[identity.token] += 1

    def end_stream(self, identity: Identity) -> None:
        """Count one that was begun no more."""
        if not identity.is_counted:
            return
        self._open[identity.token] -= 1
        if not self._open[identity.token]:
            del self._open[identity.token]

    def _check(self, quota: _Quota, identity: Identity) -> None:
        try:
            quota.check(identity)
        except HTTPProblem as error:
            if self._said.allows():
                _log.warning(
                    "the token %s gets 429: %s%s", identity.token, error.description, self._said.left_out(),
                    extra=fields(token=identity.token),
                )  # fmt: skip
            raise


class AddressLimit:
    """Asks every request, but those for the health of the service, whether its address has one left.

    It stands in front of what asks who it is: a token lets nobody pass.
    """

    def __init__(self, requests_a_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that only grow."""
        self._rate = Rate(requests_a_second * int(_REQUESTS_WINDOW_S), _REQUESTS_WINDOW_S, _KEPT)
        self._clock = clock

    async def process_request(self, req: Request, resp: Response) -> None:
        """429 for an address that asked too often."""
        if req.path not in _HEALTH:
            self.count(address_of(req))

    async def process_request_ws(self, req: Request, ws: WebSocket) -> None:
        """429 for a WebSocket of an address that asked too often."""
        self.count(address_of(req))

    def count(self, address: str) -> None:
        """Count a request. Raises ProblemError 429 where nothing is left."""
        network, now_s = network_of(address), self._clock()
        if not self._rate.admits(network, now_s):
            wait_s = math.ceil(self._rate.wait_s(network, now_s))
            raise HTTPProblem(
                falcon.HTTP_429,
                f"This address is at its limit of requests; there is room again in {wait_s} s.",
                headers=rate_headers("requests of an address", self._rate, wait_s),
            )


def rate_headers(name: str, rate: Rate, wait_s: int) -> dict[str, str]:
    """The headers of an answer to who has to wait so many seconds (draft-ietf-httpapi-ratelimit-headers)."""
    return {
        "Retry-After": str(wait_s),
        "RateLimit-Policy": f'"{name}";q={rate.amount};w={rate.window_s:.0f}',
        "RateLimit": f'"{name}";r=0;t={wait_s}',
    }


def _is_agent(identity: Identity) -> bool:
    return identity.role == "agent" and identity.is_counted
