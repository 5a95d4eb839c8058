"""Who may ask what: bearer tokens, and pages of other sites in a browser, which may change nothing here."""

import base64
import binascii
import functools
import hmac
import ipaddress
from collections.abc import Callable

import falcon
from falcon.asgi import Request, Response, WebSocket

from service.control.audit import Actor
from service.http.problems import ProblemError

_OPEN = ("/healthz", "/readyz")
_AGENTS = "/api/v1/agents/"
_BASIC = 'Basic realm="Loadlens: any name, and the token as the password", charset="UTF-8"'
_MAX_ACTOR = 100
"""Characters of the name that a caller gives."""


class RequireToken:
    """Asks every request but the health checks for `Authorization: Bearer <token>`.

    A browser gives it as the password of `Basic` (RFC 7617), with any name: it asks a person for that by itself, and
    sends it with all that a page of ours asks for, the live stream among it.

    With an operator's token beside it, `token` is that of agents: good for reports, for an agent's state and for
    what is asked of it. Everything else needs the operator's.
    """

    def __init__(self, token: str, operator_token: str = "") -> None:
        self._token = f"Bearer {token}".encode()
        self._operator = f"Bearer {operator_token}".encode() if operator_token else None

    async def process_request(self, req: Request, resp: Response) -> None:
        """401 for a request without a token, 403 for one that the agents' token is not good for."""
        self._check(req)

    async def process_request_ws(self, req: Request, ws: WebSocket) -> None:
        """403 for a WebSocket without a token, or with the agents'."""
        self._check(req)

    def _check(self, req: Request) -> None:
        if req.path in _OPEN:
            return
        given = f"Bearer {token_of(req) or ''}".encode()
        if self._operator is not None and hmac.compare_digest(given, self._operator):
            req.context.token = "operator"  # noqa: S105 - which one was shown
            return
        if not hmac.compare_digest(given, self._token):
            raise ProblemError(
                falcon.HTTP_401,
                "This service asks for the header 'Authorization: Bearer <token>' with the token of its settings.",
                headers={"WWW-Authenticate": _BASIC if "text/html" in req.accept else "Bearer"},
            )
        req.context.token = "token"  # noqa: S105
        if self._operator is not None and not _is_for_agents(req):
            raise ProblemError(
                falcon.HTTP_403, "The agents' token lets agents report; this asks for the operator's token."
            )


def token_of(req: Request) -> str | None:
    """The token that a request shows, as `Bearer` or as the password of `Basic`; None where it shows none."""
    scheme, _, value = (req.get_header("Authorization") or "").partition(" ")
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


def _is_for_agents(req: Request) -> bool:
    if req.path == "/api/v1/metrics":
        return bool(req.method == "POST")
    if not req.path.startswith(_AGENTS):
        return False
    if req.method == "POST":
        return bool(req.path.endswith("/state"))
    return bool(req.method == "GET" and req.path.endswith("/commands") and "text/event-stream" in req.accept)


_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
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

    async def process_request(self, req: Request, resp: Response) -> None:
        """421 for a request to another host."""
        self._check(req)

    async def process_request_ws(self, req: Request, ws: WebSocket) -> None:
        """403 for a WebSocket to another host."""
        self._check(req)

    def _check(self, req: Request) -> None:
        host = req.get_header("Host")
        if host and not self._is_own(host):
            raise ProblemError(
                falcon.HTTP_421,
                "Without a token this service answers only for localhost and for addresses such as 127.0.0.1 in the"
                " header Host. Ask it by one of these, or set a token (--token) to use other names.",
            )


class RefuseForeignPages:
    """Refuses what would change something and comes from a page of another site; programs are not concerned."""

    def __init__(self, may_change: Callable[[str | None], bool]) -> None:
        """`may_change` says whether pages of an origin are allowed to."""
        self._may_change = may_change

    async def process_request(self, req: Request, resp: Response) -> None:
        """Answers 403 to a request that would change something and comes from another site's page."""
        if req.method not in _SAFE and is_foreign(req) and not self._may_change(req.get_header("Origin")):
            raise ProblemError(
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
    return origin is not None and origin.partition("://")[2].lower() != req.netloc.lower()


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


def actor_of(req: Request) -> Actor:
    """Who makes this request, for the audit trail."""
    name = (req.get_header("X-Loadlens-Actor") or "")[:_MAX_ACTOR]
    token = str(getattr(req.context, "token", "none"))
    return Actor(token, str(req.remote_addr), name if name.isprintable() else ascii(name))
