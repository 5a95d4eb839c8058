"""Browsers: pages of other sites may change nothing here, and without a token no name but our own leads here."""

import functools
import ipaddress
from collections.abc import Callable

import falcon
from falcon.asgi import Request, Response, WebSocket

from service.credentials.identity import ANYBODY, Identity
from service.http.problems import HTTPProblem

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing."""
_OWN_SITES = ("same-origin", "none")
_HOSTS_KNOWN = 256


class RequireOwnHost:
    """Answers only who asks for an address, for `localhost` or for the name that the service listens on.

    A page can have its own name lead to this machine, and then is of the same origin for the browser; what it asks
    still names the page's host. Needed where no token is asked for, which such a page could not know.
    """

    def __init__(self, own: str) -> None:
        """`own` is the host that the service listens on."""
        self._is_own = functools.lru_cache(_HOSTS_KNOWN)(functools.partial(_is_own, own.lower()))

    def identity_at_once(self, host: str, token: str | None, address: str) -> Identity | None:
        """Who asks, where the header Host tells; None for another host (as `Authentication.identity_at_once`)."""
        return ANYBODY if not host or self._is_own(host) else None

    def count(self, identity: Identity) -> None:
        """Nothing is counted of who shows no token."""

    async def process_request(self, req: Request, resp: Response) -> None:
        """421 for a request to another host."""
        self._check(req)

    async def process_request_ws(self, req: Request, ws: WebSocket) -> None:
        """403 for a WebSocket to another host."""
        self._check(req)

    def _check(self, req: Request) -> None:
        req.context.identity = ANYBODY
        host = req.get_header("Host")
        if host and not self._is_own(host):
            raise HTTPProblem(
                falcon.HTTP_421,
                "Without a token this service answers only for localhost and for addresses such as 127.0.0.1 in the"
                " header Host. Ask it by one of these, or set a token (--token) to use other names.",
            )


class OnlyEncrypted:
    """Has a browser that has come over TLS come so from then on (HSTS, RFC 6797)."""

    async def process_request(self, req: Request, resp: Response) -> None:
        """Say so in the answer."""
        if req.scheme == "https":
            resp.set_header("Strict-Transport-Security", "max-age=31536000")


class RefuseForeignPages:
    """Refuses what would change something and comes from a page of another site; programs are not concerned."""

    def __init__(self, may_change: Callable[[str | None], bool]) -> None:
        """`may_change` says whether pages of an origin are allowed to."""
        self._may_change = may_change

    async def process_request(self, req: Request, resp: Response) -> None:
        """Answers 403 to a request that would change something and comes from another site's page."""
        if req.method not in SAFE and is_foreign(req) and not self._may_change(req.get_header("Origin")):
            raise HTTPProblem(
                falcon.HTTP_403,
                "A page of another site must not change anything here; requests of programs carry neither Origin nor"
                " Sec-Fetch-Site.",
            )


def is_foreign(req: Request) -> bool:
    """Whether a browser asks for a page of another origin.

    Sec-Fetch-Site says so where the browser sends it (W3C Fetch Metadata); otherwise Origin is compared with Host.
    """
    site = req.get_header("Sec-Fetch-Site")
    if site is not None:
        return site not in _OWN_SITES
    origin = req.get_header("Origin")
    if origin is None:
        return False
    scheme, _, host = origin.lower().partition("://")
    # Whoever is on the way can answer for our name without TLS. That a page came by TLS and its request without is no
    # sign of another: a proxy that is not trusted has ended it.
    return host != req.netloc.lower() or (scheme == "http" and req.scheme in ("https", "wss"))


def says_origin(req: Request) -> bool:
    """Whether a browser says for which page it asks: each of today's does, of what may change something."""
    return req.get_header("Sec-Fetch-Site") is not None or req.get_header("Origin") is not None


def _is_own(own: str, host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    name = name.lower().removesuffix(".")
    if name in ("localhost", own) or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def address_of(req: Request) -> str:
    """Where a request comes from; through a proxy that is trusted, what that says."""
    client = req.scope.get("client")
    return str(client[0]) if client else "127.0.0.1"
