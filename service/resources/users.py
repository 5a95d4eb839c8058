"""GET /api/v1/users: the machines that have reported."""

import msgspec
from falcon.asgi import Request, Response

from contract.times import format_instant
from service.stores.base import Store

__all__ = ["Users"]


class Users:
    """Lists the users, by name."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with what each last said of itself."""
        frame = self._store.users()
        for name in ("first_seen", "last_seen"):
            frame[name] = [format_instant(time.value // 1_000_000) for time in frame[name]]
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"users": frame.to_dict("records")})
