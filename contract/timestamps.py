"""Moments: ISO 8601 or epoch milliseconds coming in, ISO 8601 in UTC going out."""

import re
from datetime import UTC, datetime, timedelta

from contract.problems import shortened

__all__ = ["SECONDS_BELOW", "format_instant", "parse_timestamp"]

SECONDS_BELOW = 20_000_000_000
"""As milliseconds this is August 1970: a smaller number was meant as seconds (until the year 2603)."""
_END_MS = 253_402_300_800_000
"""The first millisecond of the year 10000."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)  # without an offset to print
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}")
_LOST_PLUS = re.compile(r"^(.*[Tt ].*) ([0-9]{2}(?::?[0-9]{2})?)$")


def parse_timestamp(value: object) -> int:
    """Epoch milliseconds of an ISO 8601 text, or of epoch milliseconds given as a number or as digits.

    A text may have any offset (`Z`, `+02:00`) and a fraction of a second; without an offset it is UTC, and
    a date alone is its first moment. Less than a millisecond is rounded up, so that a half-open range
    [start, end) holds the same whole milliseconds as the exact one. Raises ValueError, saying what would be
    right, for anything else, for moments before 1970 or after 9999, and for numbers that look like seconds.
    """
    if isinstance(value, str):
        text = value.strip()
        return _of_number(int(text)) if _NUMBER.fullmatch(text) else _of_text(text)
    if isinstance(value, int) and not isinstance(value, bool):
        return _of_number(value)
    if isinstance(value, float) and value.is_integer():
        return _of_number(int(value))
    raise ValueError(f"{shortened(repr(value))} is not a moment; {_RIGHT}")


_RIGHT = "ISO 8601 such as 2018-07-12T12:15:00Z, or epoch milliseconds such as 1531397700000, is right"


def _of_number(ms: int) -> int:
    if 0 < ms < SECONDS_BELOW:
        raise ValueError(f"{ms} looks like seconds; epoch milliseconds are right, such as {ms * 1000}")
    if ms >= _END_MS:
        raise ValueError(f"{ms} is after the year 9999; epoch milliseconds are right, not micro- or nanoseconds")
    if ms < 0:
        raise ValueError(f"{ms} is before 1970; {_RIGHT}")
    return ms


def _of_text(text: str) -> int:
    # In a query string, the plus of an offset that was not escaped arrives as a space.
    restored = _LOST_PLUS.sub(r"\1+\2", text)
    try:
        moment = datetime.fromisoformat(restored.upper())
    except ValueError:
        raise ValueError(f"{shortened(ascii(text))} is not a moment; {_RIGHT}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    ms = -((_EPOCH - moment) // timedelta(milliseconds=1))
    if ms < 0:
        raise ValueError(f"{text} is before 1970; {_RIGHT}")
    if ms >= _END_MS:
        raise ValueError(f"{text} is after the year 9999 in UTC; {_RIGHT}")
    return ms


def format_instant(ms: int) -> str:
    """The moment as Java's `Instant` prints it: `2018-07-12T13:30:00Z`, milliseconds only where there are some."""
    moment = _NAIVE_EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds") + "Z"
