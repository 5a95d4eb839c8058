"""GET /api/v1/metrics/{metric}/byUser/{user_id}: one machine's history."""

import asyncio

from falcon.asgi import Request, Response

from service.answers import form_of, send
from service.evaluate import history
from service.queries import check_user, named_metric, read_query
from service.stores.base import Store

__all__ = ["History"]


class History:
    """Answers the values of one user's metric, one for each bucket that has data."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def on_get(self, req: Request, resp: Response, metric: str, user_id: str) -> None:
        """200 with entries; 404 for a metric or user that is not known."""
        named = named_metric(metric)
        form = form_of(req)
        query = await read_query(req, named, self._store, fleet=False)
        check_user(self._store, user_id, named.quantity, query.core)
        send(resp, form, await asyncio.to_thread(history, self._store, named, user_id, query))
