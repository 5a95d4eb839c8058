"""User ids with slashes in the middle of paths: %2F belongs to its segment, which the server has decoded already."""

import re
from typing import Any
from urllib.parse import unquote

import falcon
from falcon.asgi import Request, Response, WebSocket
from falcon.routing import CompiledRouter

from service.http.permissions import SLASH, check


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
