"""Lists in pages: `limit` entries, behind what `after` names; `next` is the `after` of the page that follows."""

from typing import Any

from service.http.requests import Parameters

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


def take_limit(asked: Parameters, most: int = MAX_LIMIT, default: int = DEFAULT_LIMIT) -> int:
    """How many entries a page has at most."""
    limit: int = asked.take("limit", lambda value: whole_number(value, 1, most), default)
    return limit


def whole_number(value: Any, least: int, most: int) -> int:
    """A number within bounds, of digits or of JSON; raises ValueError."""
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or not least <= int(text[:20]) <= most:
        raise ValueError(f"expected a whole number from {least} to {most}, got {text[:32]!r}")
    return int(text)


def one_of(value: Any, known: tuple[str, ...]) -> str:
    """A text that is known; raises ValueError for another."""
    if value not in known:
        raise ValueError(f"expected one of {', '.join(known)}, got {str(value)[:32]!r}")
    return str(value)
