"""/api/v1/alerts, /silences and /notifications: what rules have found, and who is told."""

import asyncio
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
from service.http.authentication import actor_of
from service.http.listing import one_of, page_of, take_limit
from service.http.parameters import (
    MAX_ALERTS,
    MAX_LIMIT,
    AlertsParameters,
    NotificationsParameters,
    PageParameters,
    names_of,
)
from service.http.problems import ProblemError, invalid
from service.http.requests import Parameters, read_json
from service.notifications.queue import STATES, Message, NotificationQueue

_STATES = ("pending", "firing", "resolved")


class Alerts:
    """Lists alerts."""

    def __init__(self, repository: RuleRepository, runner: Runner) -> None:
        self._repository = repository
        self._runner = runner

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with alerts that are pending or firing, or those of `state`; newest first."""
        asked = await Parameters.read(req, names_of(AlertsParameters))
        state = asked.take("state", lambda value: one_of(value, _STATES), None)
        limit, after = take_limit(asked, MAX_ALERTS, 1000), asked.take("after", _place, None)
        rule, user = (asked.take(name, lambda value: matcher([value]), None) for name in ("rule", "user"))
        asked.check()
        found = await asyncio.to_thread(self._found, state)
        alerts = [
            alert for alert in found
            if (rule is None or rule(alert["rule"])) and (user is None or user(alert["user"]))
        ]  # fmt: skip
        behind = alerts if after is None else [alert for alert in alerts if _place_of(alert) > after]
        page = behind[:limit]
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(
            {"alerts": page, "total": len(alerts), "next": _named(page[-1]) if len(behind) > limit else None}
        )

    def _found(self, state: str | None) -> list[dict[str, Any]]:
        alerts = (
            []
            if state == "pending"
            else [_alert_document(alert) for alert in self._repository.alerts(state or "firing", MAX_ALERTS)]
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
                for rule, user, since_ms, _, value in sorted(self._runner.pending())
            ]
        return alerts


_Place = tuple[int, int, str, str]
"""Where an alert stands: those that fired first, the newest before all; then the pending ones, by rule and user."""


def _place_of(alert: dict[str, Any]) -> _Place:
    return (0, -alert["id"], "", "") if "id" in alert else (1, 0, alert["rule"], alert["user"])


def _named(alert: dict[str, Any]) -> str:
    return str(alert["id"]) if "id" in alert else f"{alert['rule']}:{alert['user']}"


def _place(value: Any) -> _Place:
    text = str(value)
    rule, colon, user = text.partition(":")
    if colon:
        return (1, 0, rule, user)
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ValueError(f"expected the next of the page before, got {text[:32]!r}")
    return (0, -int(text), "", "")


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


class NewSilence(Struct, forbid_unknown_fields=True):
    """Of what nobody is to be notified, and until when: `until` or `duration`."""

    rule: _Pattern = "*"
    user: _Pattern = "*"
    until: str | int | None = None
    duration: Annotated[str | None, Meta(extra_json_schema={"examples": ["2h"]})] = None
    """How long, in place of `until`."""
    comment: Annotated[str, Meta(max_length=500)] = ""


class Silences:
    """All silences that are in force."""

    def __init__(self, repository: RuleRepository) -> None:
        self._repository = repository

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of the silences, the next to end first."""
        asked = await Parameters.read(req, names_of(PageParameters))
        limit, after = take_limit(asked, default=MAX_LIMIT), asked.take("after", str, "")
        asked.check()
        silences = await asyncio.to_thread(self._repository.silences, times.now_ms())
        page, behind = page_of(sorted(silences, key=_silence_place), _silence_place, after, limit)
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"silences": [_silence_document(silence) for silence in page], "next": behind})

    async def on_post(self, req: Request, resp: Response) -> None:
        """Makes a silence; answers 201 with it."""
        try:
            asked = msgspec.convert(await read_json(req, "application/json"), NewSilence)
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
        """Ends the silence, so that targets are notified of what fires; answers 204."""
        if not await asyncio.to_thread(self._repository.end_silence, silence_id, actor_of(req)):
            raise ProblemError(falcon.HTTP_404, "No such silence; GET /api/v1/silences lists them.")
        resp.status = falcon.HTTP_204


def _until_ms(asked: NewSilence) -> int:
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


def _silence_place(silence: Silence) -> str:
    return f"{silence.until_ms:015}-{silence.id}"


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
