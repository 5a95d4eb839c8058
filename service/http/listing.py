"""Lists in pages: `limit` entries, behind what `after` names; `next` is the `after` of the page that follows."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from service.http.parameters import DEFAULT_LIMIT, MAX_LIMIT
from service.http.requests import Parameters

T = TypeVar("T")
_DIGITS = 18
"""Digits of the longest number that is taken: with any more, zeros in front too, it could be any."""


def take_limit(asked: Parameters, most: int = MAX_LIMIT, default: int = DEFAULT_LIMIT) -> int:
    """How many entries a page has at most."""
    limit: int = asked.take("limit", lambda value: whole_number(value, 1, most), default)
    return limit


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
