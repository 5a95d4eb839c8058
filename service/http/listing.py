"""Lists: which entries they have, and in which pages.

A page has `limit` entries, behind what `after` names; `next` is the `after` of the page that follows.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

from falcon.asgi import Request

from contract.problems import shortened
from contract.selectors import MAX_PATTERN, MAX_USER_ID, names_labels
from service.alerts.repository import Alert, RuleRepository
from service.dashboard.fleet import Firing
from service.dashboard.hosts import Sort, State
from service.http.operation_parameters import PageParameters
from service.http.parameters import DEFAULT_LIMIT, MAX_LIMIT, names_of
from service.http.requests import Parameters, text

T = TypeVar("T")
_DIGITS = 18
"""Digits of the longest number that is taken: with any more, zeros in front too, it could be any."""


def take_limit(asked: Parameters, most: int = MAX_LIMIT, default: int = DEFAULT_LIMIT) -> int:
    """How many entries a page has at most."""
    limit: int = asked.take("limit", lambda value: whole_number(value, 1, most), default)
    return limit


async def asked_page(req: Request) -> tuple[int, str]:
    """How many entries a page is to have at most, and behind which. Refuses all other parameters."""
    asked = await Parameters.read(req, names_of(PageParameters))
    limit, after = take_limit(asked, default=MAX_LIMIT), asked.take("after", text, "")
    asked.check()
    return limit, after


def page_of(
    entries: Sequence[T], name_of: Callable[[T], str], after: str, limit: int
) -> tuple[Sequence[T], str | None]:
    """The page of entries that are in order of their names, and the `after` of the next, None at the end."""
    behind = [entry for entry in entries if name_of(entry) > after] if after else entries
    page = behind[:limit]
    return page, name_of(page[-1]) if len(behind) > limit else None


def whole_number(value: Any, least: int, most: int) -> int:
    """A number within bounds, of digits or of JSON; raises ValueError."""
    text = str(value)
    is_number = not isinstance(value, bool) and text.isascii() and text.isdecimal() and len(text) <= _DIGITS
    if not is_number or not least <= int(text) <= most:
        raise ValueError(f"expected a whole number from {least} to {most}, got {text[:32]!r}")
    return int(text)


def one_of(value: Any, known: tuple[str, ...]) -> str:
    """A text that is known; raises ValueError for another."""
    if value not in known:
        raise ValueError(f"expected one of {', '.join(known)}, got {str(value)[:32]!r}")
    return str(value)


def flag(value: Any) -> bool:
    """True or false, of JSON or as a word; raises ValueError."""
    return one_of(str(value).lower() if isinstance(value, bool) else value, ("true", "false")) == "true"


_MOST = 10**9
_ALERTS = 10_000


def take_selection(req: Request, asked: Parameters) -> dict[str, Any]:
    """The members of a `service.dashboard.hosts.Selection` that are asked for; what is wrong is refused."""
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
    """The alerts that fire, by host. Blocks."""
    found: dict[str, list[Alert]] = {}
    for alert in repository.alerts("firing", _ALERTS):
        found.setdefault(alert.user, []).append(alert)
    return found


def alerting_users(repository: RuleRepository) -> frozenset[str]:
    """The hosts about which an alert fires. Blocks."""
    return frozenset(firing_alerts(repository))


def _text(value: Any) -> str:
    text = str(value)
    if len(text) > MAX_USER_ID:
        raise ValueError(f"expected at most {MAX_USER_ID} characters, got {len(text)}")
    return text


def labels(value: Any) -> str:
    """What hosts are to be labelled, such as `role=web`, or nothing; raises ValueError for another text."""
    if value and (not names_labels([str(value)]) or len(str(value)) > MAX_PATTERN):
        raise ValueError(f"expected a label such as role=web, got {shortened(repr(value))}")
    return str(value)
