"""/api/v1/notifications: what is said to whom; those that were given up can be sent again."""

import asyncio
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract import times
from contract.times import format_instant
from service.notifications.queue import STATES, Message, Queue
from service.problems import ProblemError, invalid

__all__ = ["Notifications", "Redelivery"]


class Notifications:
    """Lists notifications."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with notifications, newest first, and how many are in each state."""
        state = req.get_param("state")
        if state is not None and state not in STATES:
            raise invalid("state", f"{state[:32]!r} is none of {', '.join(STATES)}")
        limit = req.get_param_as_int("limit", min_value=1, max_value=1000, default=100)
        messages = await asyncio.to_thread(self._queue.messages, state, limit)
        counts = await asyncio.to_thread(self._queue.counts)
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"notifications": [_shown(message) for message in messages], "counts": counts})


class Redelivery:
    """Sends one again."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def on_post(self, req: Request, resp: Response, message_id: str) -> None:
        """202; its id stays the same."""
        if not await asyncio.to_thread(self._queue.redeliver, message_id, times.now_ms()):
            raise ProblemError(falcon.HTTP_404, "No such notification that is dead or delivered.")
        resp.status = falcon.HTTP_202


def _shown(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "rule": message.rule,
        "target": message.target,
        "state": message.state,
        "created": format_instant(message.created_ms),
        "due": format_instant(message.due_ms),
        "attempts": message.attempts,
        "error": message.error,
        "alerts": message.changes,
    }
