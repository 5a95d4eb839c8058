"""Paths: those under a prefix, and those with slashes in a user id.

%2F belongs to its segment, which the server has decoded already.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import falcon
import msgspec
from falcon.asgi import Request, Response, WebSocket
from falcon.routing import CompiledRouter

from service.http.permissions import SLASH, check

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
