"""Who asks: the token or the session that a request shows, and whether its role may ask this."""

import base64
import binascii
import hmac
import math
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import falcon
from falcon.asgi import Request, Response, WebSocket

from contract import times
from service.control.audit import Actor
from service.credentials.identity import ANYBODY, EVERYONE, Identity
from service.credentials.rates import FailedAttempts
from service.credentials.sessions import Sessions
from service.credentials.tokens import Tokens
from service.http.access import SAFE, address_of, is_foreign, says_origin
from service.http.permissions import OPEN, check
from service.http.problems import HTTPProblem
from service.http.token_limits import TokenLimits, rate_headers
from service.tls import CERTIFICATE_NAME

_SIGN_IN = "/sign-in"
_LONG = 32
"""Characters of a setting's token that nobody guesses, however often they may try."""
_MAX_ACTOR = 100
"""Characters of the name that a caller gives."""
_OF_SETTINGS = Identity("admin", token="token")  # noqa: S106 - which one was shown
_OF_AGENTS = Identity("agent", token="token")  # noqa: S106
_OF_OPERATORS = Identity("admin", token="operator")  # noqa: S106


class Authentication:
    """Asks every request but a few for a token, and lets it do what the token's role may do.

    A program shows its token as `Authorization: Bearer <token>`, or as the password of `Basic` (RFC 7617) with any
    name. The two tokens of the settings are the old way: `token` alone is good for everything; with an operator's
    beside it, for what agents do, of any user id. A browser shows the
    cookie of a session.
    """

    def __init__(
        self,
        tokens: Tokens,
        sessions: Sessions,
        attempts: FailedAttempts,
        limits: TokenLimits,
        token: str = "",
        operator_token: str = "",
    ) -> None:
        self._tokens = tokens
        self._attempts = attempts
        self._limits = limits
        self._sessions = sessions
        self._old: list[tuple[bytes, Identity]] = []
        if token:
            self._old.append((token.encode(), _OF_AGENTS if operator_token else _OF_SETTINGS))
        if operator_token:
            self._old.append((operator_token.encode(), _OF_OPERATORS))

    async def process_request(self, req: Request, resp: Response) -> None:
        """401 for a request that nobody is known to make; a person is shown where to sign in."""
        if req.path not in OPEN:
            req.context.identity = self._identity(req)
        elif req.path == _SIGN_IN:
            req.context.identity = self._known(req)

    async def process_request_ws(self, req: Request, ws: WebSocket) -> None:
        """403 for a WebSocket that nobody is known to open."""
        req.context.identity = self._identity(req)

    async def process_resource(self, req: Request, resp: Response, resource: object, params: dict[str, Any]) -> None:
        """403 for a request that the role or the scope is not good for."""
        check(req, params)

    async def process_resource_ws(self, req: Request, ws: WebSocket, resource: object, params: dict[str, Any]) -> None:
        """403 for a WebSocket that the role is not good for."""
        check(req, params)

    def identity_of_token(self, text: str, req: Request) -> Identity | None:
        """Who shows this token in a request; None where it opens nothing.

        Raises ProblemError 429 for an address that has shown too many wrong ones; but what nobody guesses is let in:
        a token that was made, or one of the settings that is long. So is a short one where it was shown before from
        the same address, so that a fleet behind one address is not slowed by who guesses there.
        """
        address = address_of(req)
        known = self.identity_at_once("", text, address)
        if known is not None:
            return known
        identity = self._old_identity(text)
        self._refuse_who_guesses(address)
        if identity is None:
            self._attempts.note(address, time.monotonic())
        else:
            self._attempts.note_success(address)
        return identity

    def identity_at_once(self, host: str, token: str | None, address: str) -> Identity | None:
        """Who shows this token, where nobody guesses it; None where more is to be looked at, or no token is shown."""
        if token is None:
            return None
        identity = self._tokens.identity(token, times.now_ms(), address)
        if identity is not None:
            return identity
        identity = self._old_identity(token)
        return identity if identity is not None and (len(token) >= _LONG or self._attempts.knows(address)) else None

    def count(self, identity: Identity) -> None:
        """Count a request of somebody whose token came otherwise. Raises ProblemError 429 where there are too many."""
        self._limits.request(identity)

    def _identity_of_cookie(self, cookie: str, req: Request) -> Identity | None:
        """Who shows this cookie of a session; one that opens nothing counts as a wrong token does."""
        identity = self._sessions.identity(cookie, times.now_ms())
        if identity is None:
            self._refuse_who_guesses(address_of(req))
            self._attempts.note(address_of(req), time.monotonic())
        return identity

    def _refuse_who_guesses(self, address: str) -> None:
        wait_s = math.ceil(self._attempts.wait_s(address, time.monotonic()))
        if wait_s:
            raise HTTPProblem(
                falcon.HTTP_429,
                "Too many wrong tokens have come from this address.",
                headers=rate_headers("wrong tokens", self._attempts.rate, wait_s),
            )

    def _known(self, req: Request) -> Identity | None:
        text = token_of(req)
        if text is not None:
            return self.identity_of_token(text, req)
        name = req.scope.get(CERTIFICATE_NAME)
        if name and name != EVERYONE:
            return Identity("agent", name, f"certificate:{name}")
        cookie = req.cookies.get(_cookie_name(req))
        # The browser must say that a page of ours asks; where it says nothing, only what changes nothing is answered.
        if cookie is None or is_foreign(req) or (req.method not in SAFE and not says_origin(req)):
            return None
        return self._identity_of_cookie(cookie, req)

    def _identity(self, req: Request) -> Identity:
        identity = self._known(req)
        if identity is not None:
            self._limits.request(identity)
            return identity
        by_person = req.method == "GET" and not req.is_websocket and "text/html" in req.accept
        if by_person and req.get_header("Authorization") is None:
            raise falcon.HTTPSeeOther(f"{req.root_path}{_SIGN_IN}?{urlencode({'next': req.relative_uri})}")
        raise HTTPProblem(
            falcon.HTTP_401,
            "This service asks for the header 'Authorization: Bearer <token>' with a token that it knows and that is "
            "neither revoked nor past its end.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _old_identity(self, text: str) -> Identity | None:
        given = text.encode()
        found = None
        for token, identity in self._old:
            if hmac.compare_digest(given, token):
                found = identity
        return found


def token_of(req: Request) -> str | None:
    """The token that a request shows, as `Bearer` or as the password of `Basic`; None where it shows none."""
    shown = req.get_header("Authorization")
    if shown is None:
        return None
    if shown.startswith("Bearer "):
        return shown[7:]
    scheme, _, value = shown.partition(" ")
    scheme = scheme.lower()
    if scheme == "bearer":
        return value
    if scheme != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


def set_cookie(req: Request, resp: Response, value: str, expires_ms: int) -> None:
    """Have the browser show a session from now on, to this service and nobody else, and no script read it."""
    resp.set_cookie(
        _cookie_name(req), value, expires=datetime.fromtimestamp(expires_ms / 1000, UTC), path=req.root_path or "/",
        secure=_is_encrypted(req), http_only=True, same_site="Strict",
    )  # fmt: skip


def clear_cookie(req: Request, resp: Response) -> None:
    """Have the browser forget it."""
    set_cookie(req, resp, "", 0)


def _is_encrypted(req: Request) -> bool:
    return req.scheme in ("https", "wss")


def _cookie_name(req: Request) -> str:
    """With `__Host-` the browser takes it over TLS only, for all paths, and from no other name's page."""
    if not _is_encrypted(req):
        return "loadlens"
    return "__Secure-loadlens" if req.root_path else "__Host-loadlens"


def identity_of(req: Request) -> Identity:
    """Who makes this request."""
    identity: Identity = getattr(req.context, "identity", ANYBODY)
    return identity


def actor_of(req: Request) -> Actor:
    """Who makes this request, for the audit trail."""
    name = (req.get_header("X-Loadlens-Actor") or "")[:_MAX_ACTOR]
    return Actor(identity_of(req).token, address_of(req), name if name.isprintable() else ascii(name))
