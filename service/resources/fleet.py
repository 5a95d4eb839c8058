"""GET /api/v1/metrics/{metric}/fleet: all machines together, or in groups."""

import asyncio

from falcon.asgi import Request, Response

from service.answers import form_of, send
from service.evaluate import fleet
from service.problems import invalid
from service.queries import named_metric, read_query
from service.stores.base import Store

__all__ = ["Fleet"]


class Fleet:
    """Answers the values of a metric over the fleet."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def on_get(self, req: Request, resp: Response, metric: str) -> None:
        """200 with entries, which name their group where `by` asks for groups."""
        named = named_metric(metric)
        form = form_of(req)
        if named.over_cores:
            raise invalid(
                "metric", f"{metric} is about one machine's cores; for the fleet ask for cpuLoadAvg or cpuLoadVar"
            )
        query = await read_query(req, named, self._store, fleet=True)
        send(resp, form, await asyncio.to_thread(fleet, self._store, named, query))
