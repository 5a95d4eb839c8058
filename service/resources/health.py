"""GET /healthz and /readyz, for supervisors and load balancers."""

from typing import TYPE_CHECKING

import falcon
from falcon.asgi import Request, Response

if TYPE_CHECKING:
    from service.app import Service

__all__ = ["Health", "Ready"]


class Health:
    """Says that the process answers."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 while the event loop runs."""
        resp.media = {"status": "ok"}


class Ready:
    """Says whether reports are taken now."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    async def on_get(self, req: Request, resp: Response) -> None:
        """200, or 503 with the reason. A store that is away is said, and no reason: the journal takes reports."""
        journal, store = self._service.journal, self._service.store
        about = {"store": store.description} | ({"problem": store.problem} if store.problem else {})
        if journal.size >= journal.limit_bytes:
            resp.status = falcon.HTTP_503
            resp.media = {"status": "full", "detail": "The journal is at its limit; the store is behind."} | about
        else:
            resp.media = {"status": "ready"} | about
