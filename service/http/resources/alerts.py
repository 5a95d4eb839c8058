"""/api/v1/alerts and /silences: what rules have found, and of what nobody is told."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import Meta, Struct

from contract import times
from contract.selectors import MAX_PATTERN, host_matcher, matcher
from contract.times import DAY_MS, format_instant, parse_duration, parse_timestamp
from service.alerts.repository import Alert, RuleRepository, Silence, TooMany
from service.alerts.runner import Runner
from service.http.authentication import actor_of
from service.http.listing import asked_page, one_of, page_of, take_limit
from service.http.operation_parameters import AlertsParameters
from service.http.parameters import MAX_ALERTS, names_of
from service.http.problems import HTTPProblem, invalid
from service.http.requests import Parameters, read_as, text

_STATES = ("pending", "firing", "resolved")


class Alerts:
    """Lists alerts."""

    def __init__(
        self, repository: RuleRepository, runner: Runner, labels_of: Callable[[str], Mapping[str, str]]
    ) -> None:
        """`labels_of` says what a host is labelled; nothing of who is not known."""
        self._repository = repository
        self._runner = runner
        self._labels_of = labels_of

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with alerts that are pending or firing, or those of `state`; newest first."""
        asked = await Parameters.read(req, names_of(AlertsParameters))
        state = asked.take("state", lambda value: one_of(value, _STATES), None)
        limit, after = take_limit(asked, MAX_ALERTS, 1000), asked.take("after", _place, None)
        rule = asked.take("rule", lambda value: matcher([text(value)]), None)
        host = asked.take("user", lambda value: host_matcher([text(value)]), None)
        asked.check()
        found = await asyncio.to_thread(self._found, state)
        alerts = [
            alert
            for alert in found
            if (rule is None or rule(alert["rule"]))
            and (host is None or host(alert["user"], self._labels_of(alert["user"])))
        ]
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
        "who": alert.who,
    }


_LONGEST_MS = 366 * DAY_MS
_Pattern = Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)]


class NewSilence(Struct, forbid_unknown_fields=True):
    """Of what nobody is to be notified, and until when: `until` or `duration`, from `start` on or at once."""

    rule: _Pattern = "*"
    user: _Pattern = "*"
    start: str | int | None = None
    until: str | int | None = None
    duration: Annotated[str | None, Meta(extra_json_schema={"examples": ["2h"]})] = None
    """How long, in place of `until`."""
    comment: Annotated[str, Meta(max_length=500)] = ""


class Silences:
    """All silences that are in force or are to be."""

    def __init__(self, repository: RuleRepository, runner: Runner) -> None:
        self._repository = repository
        self._runner = runner

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of the silences, the next to end first, and those of the files."""
        limit, after = await asked_page(req)
        now_ms = times.now_ms()
        silences = await asyncio.to_thread(self._repository.silences, now_ms)
        page, behind = page_of(sorted(silences, key=_silence_place), _silence_place, after, limit)
        resp.content_type = "application/json"
        weekly = [{"silence": silence, "in_force": silence.covers(now_ms)} for silence in self._runner.weekly_silences]
        resp.data = msgspec.json.encode(
            {"silences": [_silence_document(silence) for silence in page], "weekly": weekly, "next": behind}
        )

    async def on_post(self, req: Request, resp: Response) -> None:
        """Makes a silence; answers 201 with it."""
        asked = await read_as(req, NewSilence, "The silence is wrong; nothing was changed.")
        start_ms, until_ms = _range_ms(asked, times.now_ms())
        try:
            silence = await asyncio.to_thread(
                self._repository.add_silence, asked.rule, asked.user, until_ms, asked.comment, actor_of(req),
                start_ms=start_ms,
            )  # fmt: skip
        except TooMany as error:
            raise HTTPProblem(falcon.HTTP_409, str(error)) from None
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
            raise HTTPProblem(falcon.HTTP_404, "No such silence; GET /api/v1/silences lists them.")
        resp.status = falcon.HTTP_204


def _range_ms(asked: NewSilence, now_ms: int) -> tuple[int, int]:
    """From when, 0 for now, and until when; both within the next year."""
    if (asked.until is None) == (asked.duration is None):
        raise invalid(
            "/until",
            f"expected until, a moment, or duration, such as 2h, got {'neither' if asked.until is None else 'both'}",
        )
    begin_ms = now_ms if asked.start is None else _moment("/start", asked.start)
    if not begin_ms <= now_ms + _LONGEST_MS:
        raise invalid("/start", f"expected a moment within the next year, got {format_instant(begin_ms)}")
    if asked.duration is None:
        until_ms = _moment("/until", asked.until)
    else:
        try:
            until_ms = begin_ms + parse_duration(asked.duration, 1000, _LONGEST_MS)
        except ValueError as error:
            raise invalid("/duration", str(error)) from None
    if not max(begin_ms, now_ms) < until_ms <= now_ms + 2 * _LONGEST_MS:
        expected = "expected a moment within the next year" + ("" if asked.start is None else ", after start")
        raise invalid("/until", f"{expected}, got {format_instant(until_ms)}")
    return 0 if asked.start is None else begin_ms, until_ms


def _moment(pointer: str, value: str | int | None) -> int:
    try:
        return parse_timestamp(value)
    except ValueError as error:
        raise invalid(pointer, str(error)) from None


def _silence_place(silence: Silence) -> str:
    return f"{silence.until_ms:015}-{silence.id}"


def _silence_document(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "rule": silence.rule,
        "user": silence.user,
        "start": format_instant(silence.start_ms or silence.created_ms),
        "until": format_instant(silence.until_ms),
        "comment": silence.comment,
        "created": format_instant(silence.created_ms),
    }
