"""/api/v1/notifications and /targets: what is told to whom, sent again, and tried."""

import asyncio
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract import times
from contract.times import format_instant
from service.alerts.runner import Runner
from service.http.listing import one_of, take_limit
from service.http.operation_parameters import NotificationsParameters
from service.http.parameters import names_of
from service.http.problems import HTTPProblem
from service.http.requests import Parameters
from service.notifications.queue import STATES, NotificationQueue, QueuedNotification


class Notifications:
    """Lists notifications."""

    def __init__(self, queue: NotificationQueue) -> None:
        self._queue = queue

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with notifications, newest first, and how many are in each state."""
        asked = await Parameters.read(req, names_of(NotificationsParameters))
        state = asked.take("state", lambda value: one_of(value, STATES), None)
        limit, after = take_limit(asked), asked.take("after", _message_place, None)
        asked.check()
        messages = await asyncio.to_thread(self._queue.messages, state, limit + 1, after)
        page = messages[:limit]
        behind = f"{page[-1].created_ms}-{page[-1].id}" if len(messages) > limit else None
        counts = await asyncio.to_thread(self._queue.counts)
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(
            {
                "notifications": [_notification_document(message) for message in page],
                "counts": counts,
                "next": behind,
            }
        )


class OneNotification:
    """Shows one notification."""

    def __init__(self, queue: NotificationQueue) -> None:
        self._queue = queue

    async def on_get(self, req: Request, resp: Response, message_id: str) -> None:
        """200 with what has become of it."""
        message = await asyncio.to_thread(self._queue.message, message_id)
        if message is None:
            raise HTTPProblem(falcon.HTTP_404, "No such notification; GET /api/v1/notifications lists them.")
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(_notification_document(message))


class TargetTest:
    """Sends a target a notification that says that it is a test."""

    def __init__(self, queue: NotificationQueue, runner: Runner) -> None:
        self._queue = queue
        self._runner = runner

    async def on_post(self, req: Request, resp: Response, name: str) -> None:
        """202 with the notification's id: it is delivered as any other, behind those that wait for the target."""
        targets = self._runner.targets
        if name not in targets:
            known = f"one of {', '.join(targets)}" if targets else "none, as the files of --rules have no targets"
            raise HTTPProblem(falcon.HTTP_404, f"No such target: expected {known}.")
        identity = await asyncio.to_thread(self._queue.add_test, name, times.now_ms())
        resp.status = falcon.HTTP_202
        resp.media = {"id": identity}


def _message_place(value: Any) -> tuple[int, str]:
    created_ms, _, identity = str(value).partition("-")
    if not created_ms.isascii() or not created_ms.isdecimal() or len(created_ms) > 15:
        raise ValueError(f"expected the next of the page before, got {str(value)[:32]!r}")
    return int(created_ms), identity


class Redelivery:
    """Sends a notification again that was delivered or given up."""

    def __init__(self, queue: NotificationQueue) -> None:
        self._queue = queue

    async def on_post(self, req: Request, resp: Response, message_id: str) -> None:
        """202; its id stays the same."""
        if not await asyncio.to_thread(self._queue.redeliver, message_id, times.now_ms()):
            raise HTTPProblem(falcon.HTTP_404, "No such notification that is dead or delivered.")
        resp.status = falcon.HTTP_202


def _notification_document(message: QueuedNotification) -> dict[str, Any]:
    return {
        "id": message.id,
        "rule": message.rule,
        "target": message.target,
        "state": message.state,
        "created": format_instant(message.created_ms),
        "due": format_instant(message.due_ms),
        "attempts": message.attempts,
        "error": message.error,
        "rejected": bool(message.rejected),
        "alerts": message.changes,
    }
