"""How requests find what answers them: paths, parameters that somebody reads, pages of other origins.

%2F belongs to its segment, which the server has decoded already. A query string that says what nobody reads is refused:
a parameter that is misspelt would change the wrong thing. Pages of other origins may use the interface where the
settings name them (CORS, https://fetch.spec.whatwg.org).
"""

import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, get_origin, get_type_hints
from urllib.parse import unquote

import falcon
import msgspec
from falcon.asgi import Request, Response, WebSocket
from falcon.routing import CompiledRouter
from msgspec import Struct

from contract.problems import shortened
from service.http.permissions import SLASH, check
from service.http.problems import invalid
from service.http.requests import unknown_parameter

HEALTH = frozenset(("/healthz", "/readyz"))
REPORTS = "/api/v1/metrics"


def under(prefix: str, scope: dict[str, Any]) -> dict[str, Any] | None:
    """The scope of a request with `prefix` as its `root_path`, and the rest as its path; None for what is elsewhere.

    Supervisors ask for health without it. A prefix that is written with escapes is elsewhere too.
    """
    if not prefix or scope["path"] in HEALTH:
        return scope
    path, raw = scope["path"], bytes(scope.get("raw_path") or b"")
    behind = raw[len(prefix) :]
    if (path != prefix and not path.startswith(f"{prefix}/")) or not raw.startswith(prefix.encode()):
        return None
    if behind[:1] not in (b"/", b"?", b""):
        return None
    return scope | {"root_path": prefix, "path": path[len(prefix) :] or "/", "raw_path": behind or b"/"}


def _saying(status: int, title: str, detail: str) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """An ASGI application that answers everything with a problem."""
    problem = msgspec.json.encode({"type": "about:blank", "title": title, "status": status, "detail": detail})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        headers = [(b"content-type", b"application/problem+json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": problem})

    return app


elsewhere = _saying(404, "Not Found", "Nothing is at this path.")
"""An ASGI application that says 404 to what is not under the prefix."""
ending = _saying(503, "Service Unavailable", "The service ends; ask again once it has started.")
"""One that says 503 to what comes too late."""


class Slashes:
    """A sink for paths that no route has: looks whether one has them when their %2F is no separator.

    Only paths that fail otherwise come here, so that no other request pays for it.
    """

    def __init__(self, router: CompiledRouter) -> None:
        self._router = router

    async def __call__(self, req: Request, resp: Response | None, ws: WebSocket | None = None, **_: Any) -> None:
        """Answer as the route that is found; raises 404 without one, 405 where it lacks the method.

        No route here takes a WebSocket, which falcon hands over as `ws`.
        """
        if ws is not None:
            raise falcon.HTTPNotFound
        raw = bytes(req.scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
        path = unquote(re.sub("%2f", SLASH, raw, flags=re.IGNORECASE))
        found = self._router.find(path, req=req) if SLASH in path else None
        if found is None:
            raise falcon.HTTPNotFound
        methods: Any = found[1]
        # Who may ask this was not looked at before: no route was known.
        req.uri_template = found[3]
        check(req, found[2])
        await methods[req.method](req, resp, **found[2])


class RefuseUnknownParameters:
    """Middleware for the operations of the API. Reports are taken with whatever a sender puts behind the address."""

    async def process_resource(self, req: Request, resp: Response, resource: object, params: dict[str, Any]) -> None:
        """Raise ProblemError 422 for a parameter that the operation does not have, or that comes more than once."""
        if not req.query_string or (req.method == "POST" and req.uri_template == REPORTS):
            return
        # What all operations are made of is much, and nobody waits for it who sends reports.
        from service.http.openapi.operations import OPERATIONS

        operation = OPERATIONS.get((req.uri_template or "").replace(":path", ""), {}).get(
            "GET" if req.method == "HEAD" else req.method
        )
        if operation is None or (operation.tag == "reports" and req.method == "POST"):
            return
        names, several = _names(operation.query) if operation.query else ((), frozenset[str]())
        for name, value in req.params.items():
            if name not in names:
                raise invalid(shortened(name), unknown_parameter(name, names))
            if not isinstance(value, str) and name not in several:
                raise invalid(name, "is given more than once")


@cache
def _names(query: type[Struct]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names of the parameters, and of those that may come more than once."""
    from service.http.parameters import names_of

    kinds = get_type_hints(query)
    return names_of(query), frozenset(name for name, kind in kinds.items() if get_origin(kind) is list)


ANY = "*"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_READING = "GET, HEAD"
_HEADERS = "Authorization, Content-Type, Content-Encoding, If-Match, If-None-Match, Last-Event-ID, X-Loadlens-Actor"
_EXPOSED = "Approximation, Deprecation, ETag, Link, Location, Retry-After, Sunset"
_KEPT_S = "600"


class AllowOrigins:
    """Answers the questions of browsers before they ask for a page of another origin, and marks the answers."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        """`origins` may read and change, as far as their tokens allow; `*` lets all others read."""
        self._origins = frozenset(origins)

    def may_change(self, origin: str | None) -> bool:
        """Whether pages of this origin may change something."""
        return origin is not None and origin != ANY and origin in self._origins

    async def process_request(self, req: Request, resp: Response) -> None:
        """Answer a preflight; it comes without a token."""
        origin = req.get_header("Origin")
        if not self._origins or origin is None:
            return
        resp.append_header("Vary", "Origin")
        if origin not in self._origins and ANY not in self._origins:
            return
        resp.set_header("Access-Control-Allow-Origin", origin)
        resp.set_header("Access-Control-Expose-Headers", _EXPOSED)
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            resp.set_header("Access-Control-Allow-Methods", _METHODS if self.may_change(origin) else _READING)
            resp.set_header("Access-Control-Allow-Headers", _HEADERS)
            resp.set_header("Access-Control-Max-Age", _KEPT_S)
            resp.status = 204
            resp.complete = True
