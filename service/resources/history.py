"""GET /api/v1/metrics/{metric}/byUser/{user_id}: one machine's history."""

import asyncio

import falcon
from falcon.asgi import Request, Response

from service.answers import form_of, send
from service.evaluate import history
from service.problems import ProblemError
from service.queries import named_metric, read_query
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
        if not self._store.has_user(user_id):
            raise ProblemError(
                falcon.HTTP_404, f"No report of user {user_id!r} has come in. GET /api/v1/users lists those that have."
            )
        if query.core is not None and query.core not in (cores := self._store.cores(user_id, named.quantity)):
            known = ", ".join(map(str, cores)) or "none"
            raise ProblemError(falcon.HTTP_404, f"User {user_id!r} has no core {query.core}; its cores are {known}.")
        send(resp, form, await asyncio.to_thread(history, self._store, named, user_id, query))
