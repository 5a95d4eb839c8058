"""/api/v1/alerts, /silences and /notifications: what rules have found, and who is told."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import Meta, Struct

from contract import times
from contract.patterns import MAX_PATTERN, matcher
from contract.problems import problem_of
from contract.times import DAY_MS, format_instant, parse_duration, parse_timestamp
from service.alerts.repository import Alert, RuleRepository, Silence, TooMany
from service.alerts.runner import Runner
from service.control.database import ControlError
from service.http.access import actor_of
from service.http.problems import ProblemError, invalid
from service.http.requests import read_json
from service.notifications.queue import STATES, Message, NotificationQueue

_STATES = ("pending", "firing", "resolved")
_MAX = 10_000


class Alerts:
    """Lists alerts."""

    def __init__(self, repository: RuleRepository, runner: Runner) -> None:
        self._repository = repository
        self._runner = runner

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with alerts that are pending or firing, or those of `state`; newest first."""
        state = req.get_param("state")
        if state is not None and state not in _STATES:
            raise invalid("state", f"expected one of {', '.join(_STATES)}, got {state[:32]!r}")
        limit = req.get_param_as_int("limit", min_value=1, max_value=_MAX, default=1000)
        found = await asyncio.to_thread(self._found, state)
        wanted = _wanted(req)
        alerts = [alert for alert in found if wanted(alert)]
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"alerts": alerts[:limit], "total": len(alerts)})

    def _found(self, state: str | None) -> list[dict[str, Any]]:
        alerts = (
            []
            if state == "pending"
            else [_alert_document(alert) for alert in self._repository.alerts(state or "firing", _MAX)]
        )
        if state in (None, "pending"):
            alerts += [
                {
                    "rule": rule,
                    "user": user,
                    "state": "pending",
                    "since": format_instant(since_ms),
                    "value": value,
                }
                for rule, user, since_ms, _, value in self._runner.pending()
            ]
        return alerts


def _wanted(req: Request) -> Callable[[dict[str, Any]], bool]:
    rule, user = _matcher(req, "rule"), _matcher(req, "user")
    return lambda alert: rule(alert["rule"]) and user(alert["user"])


def _matcher(req: Request, name: str) -> Callable[[str], bool]:
    try:
        return matcher([req.get_param(name) or "*"])
    except ValueError as error:
        raise invalid(name, str(error)) from None


def _alert_document(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "rule": alert.rule,
        "user": alert.user,
        "severity": alert.severity,
        "state": alert.state,
        "since": format_instant(alert.since_ms),
        "fired": format_instant(alert.fired_ms),
        "resolved": None if alert.resolved_ms is None else format_instant(alert.resolved_ms),
        "value": alert.value,
        "silenced": not alert.notified,
    }


_LONGEST_MS = 366 * DAY_MS
_Pattern = Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)]


class _Asked(Struct, forbid_unknown_fields=True):
    rule: _Pattern = "*"
    user: _Pattern = "*"
    until: str | int | None = None
    duration: str | None = None
    comment: Annotated[str, Meta(max_length=500)] = ""


class Silences:
    """All silences that are in force."""

    def __init__(self, repository: RuleRepository) -> None:
        self._repository = repository

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the silences, the next to end first."""
        silences = await asyncio.to_thread(self._repository.silences, times.now_ms())
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"silences": [_silence_document(silence) for silence in silences]})

    async def on_post(self, req: Request, resp: Response) -> None:
        """201 with the silence."""
        try:
            asked = msgspec.convert(await read_json(req, "application/json"), _Asked)
        except msgspec.ValidationError as error:
            problem = problem_of(error)
            raise ProblemError(falcon.HTTP_422, "The silence is wrong; nothing was changed.", [problem]) from None
        until_ms = _until_ms(asked)
        try:
            silence = await asyncio.to_thread(
                self._repository.add_silence, asked.rule, asked.user, until_ms, asked.comment, actor_of(req)
            )
        except TooMany as error:
            raise ProblemError(falcon.HTTP_409, str(error)) from None
        except ControlError as error:
            raise ProblemError(falcon.HTTP_503, f"Nothing was changed: {error}", headers={"Retry-After": "5"}) from None
        resp.status = falcon.HTTP_201
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(_silence_document(silence))


class OneSilence:
    """A silence by its id."""

    def __init__(self, repository: RuleRepository) -> None:
        self._repository = repository

    async def on_delete(self, req: Request, resp: Response, silence_id: str) -> None:
        """204; targets are notified of what fires and was silenced."""
        if not await asyncio.to_thread(self._repository.end_silence, silence_id, actor_of(req)):
            raise ProblemError(falcon.HTTP_404, "No such silence; GET /api/v1/silences lists them.")
        resp.status = falcon.HTTP_204


def _until_ms(asked: _Asked) -> int:
    if (asked.until is None) == (asked.duration is None):
        raise invalid(
            "/until",
            f"expected until, a moment, or duration, such as 2h, got {'neither' if asked.until is None else 'both'}",
        )
    now_ms = times.now_ms()
    try:
        if asked.duration is not None:
            return now_ms + parse_duration(asked.duration, 1000, _LONGEST_MS)
        until_ms = parse_timestamp(asked.until)
    except ValueError as error:
        raise invalid("/until" if asked.duration is None else "/duration", str(error)) from None
    if not now_ms < until_ms <= now_ms + _LONGEST_MS:
        raise invalid("/until", f"expected a moment within the next year, got {format_instant(until_ms)}")
    return until_ms


def _silence_document(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "rule": silence.rule,
        "user": silence.user,
        "until": format_instant(silence.until_ms),
        "comment": silence.comment,
        "created": format_instant(silence.created_ms),
    }


class Notifications:
    """Lists notifications."""

    def __init__(self, queue: NotificationQueue) -> None:
        self._queue = queue

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with notifications, newest first, and how many are in each state."""
        state = req.get_param("state")
        if state is not None and state not in STATES:
            raise invalid("state", f"expected one of {', '.join(STATES)}, got {state[:32]!r}")
        limit = req.get_param_as_int("limit", min_value=1, max_value=1000, default=100)
        messages = await asyncio.to_thread(self._queue.messages, state, limit)
        counts = await asyncio.to_thread(self._queue.counts)
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(
            {"notifications": [_notification_document(message) for message in messages], "counts": counts}
        )


class Redelivery:
    """Sends a notification again that was delivered or given up."""

    def __init__(self, queue: NotificationQueue) -> None:
        self._queue = queue

    async def on_post(self, req: Request, resp: Response, message_id: str) -> None:
        """202; its id stays the same."""
        if not await asyncio.to_thread(self._queue.redeliver, message_id, times.now_ms()):
            raise ProblemError(falcon.HTTP_404, "No such notification that is dead or delivered.")
        resp.status = falcon.HTTP_202


def _notification_document(message: Message) -> dict[str, Any]:
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
