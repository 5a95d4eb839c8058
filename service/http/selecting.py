"""Which machines are shown: parameters that the fleet's picture and its windows have in common."""

from typing import Any, get_args

from falcon.asgi import Request

from contract.problems import shortened
from contract.selectors import MAX_PATTERN, MAX_USER_ID, names_labels
from service.alerts.repository import Alert, RuleRepository
from service.dashboard.fleet import Firing
from service.dashboard.machines import Sort, State
from service.http.listing import one_of, whole_number
from service.http.requests import Parameters

_MOST = 10**9
_ALERTS = 10_000


def take_selection(req: Request, asked: Parameters) -> dict[str, Any]:
    """The members of a `service.dashboard.machines.Selection` that are asked for; what is wrong is refused."""
    for name in ("first", "count"):
        if req.params.get(name) == "":
            asked.refuse(name, "expected a whole number, got nothing")
    return {
        "sort": asked.take("sort", lambda value: one_of(value, get_args(Sort)), "name"),
        "descending": asked.take("order", lambda value: one_of(value, ("asc", "desc")), "asc") == "desc",
        "text": asked.take("q", _text, ""),
        "label": asked.take("label", labels, ""),
        "os_type": asked.take("os", lambda value: one_of(value, ("Linux", "MacOS", "Windows")), None),
        "state": asked.take("state", lambda value: one_of(value, get_args(State)), None),
        "first": asked.take("first", lambda value: whole_number(value, 0, _MOST), 0),
        "count": asked.take("count", lambda value: whole_number(value, 1, _MOST), None),
    }


def firing_alerts(repository: RuleRepository) -> Firing:
    """The alerts that fire, by machine. Blocks."""
    found: dict[str, list[Alert]] = {}
    for alert in repository.alerts("firing", _ALERTS):
        found.setdefault(alert.user, []).append(alert)
    return found


def alerting_users(repository: RuleRepository) -> frozenset[str]:
    """The machines about which an alert fires. Blocks."""
    return frozenset(firing_alerts(repository))


def _text(value: Any) -> str:
    text = str(value)
    if len(text) > MAX_USER_ID:
        raise ValueError(f"expected at most {MAX_USER_ID} characters, got {len(text)}")
    return text


def labels(value: Any) -> str:
    """What machines are to be labelled, such as `role=web`, or nothing; raises ValueError for another text."""
    if value and (not names_labels([str(value)]) or len(str(value)) > MAX_PATTERN):
        raise ValueError(f"expected a label such as role=web, got {shortened(repr(value))}")
    return str(value)
