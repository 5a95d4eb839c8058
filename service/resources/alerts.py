"""GET /api/v1/alerts: what rules have found."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from falcon.asgi import Request, Response

from contract.patterns import matcher
from contract.times import format_instant
from service.problems import invalid
from service.rules.runner import Runner
from service.rules.shelf import Alert, Shelf

__all__ = ["Alerts"]

_STATES = ("pending", "firing", "resolved")
_MOST = 10_000


class Alerts:
    """Lists alerts."""

    def __init__(self, shelf: Shelf, runner: Runner) -> None:
        self._shelf = shelf
        self._runner = runner

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with alerts that are pending or firing, or those of `state`; newest first."""
        state = req.get_param("state")
        if state is not None and state not in _STATES:
            raise invalid("state", f"{state[:32]!r} is none of {', '.join(_STATES)}")
        limit = req.get_param_as_int("limit", min_value=1, max_value=_MOST, default=1000)
        found = await asyncio.to_thread(self._found, state)
        wanted = _wanted(req)
        alerts = [alert for alert in found if wanted(alert)]
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"alerts": alerts[:limit], "total": len(alerts)})

    def _found(self, state: str | None) -> list[dict[str, Any]]:
        alerts = [] if state == "pending" else [_shown(alert) for alert in self._shelf.alerts(state or "firing", _MOST)]
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


def _shown(alert: Alert) -> dict[str, Any]:
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
