"""GET /api/v1/audit: who changed what."""

import asyncio

import falcon
import msgspec
from falcon.asgi import Request, Response

from service.audit import Audit

__all__ = ["AuditTrail"]

_MOST = 1000


class AuditTrail:
    """Shows the entries of the audit trail, newest first."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of entries; `next` is the `before` of the page after it."""
        limit = req.get_param_as_int("limit", min_value=1, max_value=_MOST, default=100)
        before = req.get_param_as_int("before", min_value=1)
        target = req.get_param("target")
        entries = await asyncio.to_thread(self._audit.entries, target=target, before=before, limit=limit)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(
            {"entries": entries, "next": entries[-1]["id"] if len(entries) == limit else None}
        )
