"""Time as the tiers agree on it: lengths in milliseconds, durations and moments as text, the clock.

Durations are written as InfluxQL writes them (`15m`, `500ms`, `1h30m`):
https://docs.influxdata.com/influxdb/v1/query_language/spec/#durations
Moments come in as ISO 8601 or epoch milliseconds and go out as ISO 8601 in UTC.
"""

import re
import time
from datetime import UTC, datetime, timedelta

from contract.problems import shortened

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


def now_ms() -> int:
    """The system's clock, epoch milliseconds."""
    return time.time_ns() // 1_000_000


_NS = {
    "ns": 1,
    "u": 1_000,
    "\u00b5": 1_000,  # micro sign
    "\u03bc": 1_000,  # Greek small letter mu, which looks the same
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_MS = {unit: ns // 1_000_000 for unit, ns in reversed(_NS.items()) if ns >= 1_000_000}
_MAX_TEXT = 64
"""Characters of a duration or a moment."""
_DURATION_PART = re.compile("([0-9]{1,18})(" + "|".join(sorted(_NS, key=len, reverse=True)) + ")")

MIN_RATE_MS = SECOND_MS
MAX_RATE_MS = 52 * WEEK_MS
"""The bounds of a resampling rate, 1s and 52w."""


def parse_duration(text: str, least_ms: int = MIN_RATE_MS, most_ms: int = MAX_RATE_MS) -> int:
    """The milliseconds of a duration: whole numbers, each with a unit, added up.

    Raises ValueError, saying what is expected, for any other text, for a duration that is not a whole
    number of milliseconds, and for one outside [`least_ms`, `most_ms`].
    """
    if len(text) > _MAX_TEXT:
        raise ValueError(f"expected a duration such as 15m, got {len(text)} characters")
    total = end = 0
    for part in _DURATION_PART.finditer(text):
        if part.start() != end:
            break
        end = part.end()
        total += int(part[1]) * _NS[part[2]]
    shown = shortened(ascii(text))
    if not text or end != len(text):
        raise ValueError(f"expected {_expected_duration(text)}, got {shown}")
    ms, rest = divmod(total, _NS["ms"])
    if rest:
        raise ValueError(f"expected a whole number of milliseconds, got {shown}")
    if not least_ms <= ms <= most_ms:
        raise ValueError(f"expected {format_duration(least_ms)} to {format_duration(most_ms)}, got {shown}")
    return ms


def wrong_end(start_ms: int, end_ms: int, *, may_be_empty: bool = False) -> str:
    """What is wrong with a range that ends before it begins, or where it does: what was expected, and what came."""
    how = "not before" if may_be_empty else "after"
    return f"expected a moment {how} start, {format_instant(start_ms)}, got {format_instant(end_ms)}"


def format_duration(ms: int) -> str:
    """The duration in the largest unit that divides it, as InfluxDB writes it: 90 minutes are `90m`."""
    unit = next(unit for unit, size in _MS.items() if ms % size == 0 and (ms or unit == "s"))
    return f"{ms // _MS[unit]}{unit}"


def parse_seconds(text: str) -> float:
    """The seconds of `50ms`, `7d` or, without a unit, `0.05`; raises ValueError."""
    if len(text) > _MAX_TEXT:
        raise ValueError(f"expected a number of seconds or a duration such as 15m, got {len(text)} characters")
    try:
        return float(text)
    except ValueError:
        return parse_duration(text, least_ms=1, most_ms=3650 * DAY_MS) / 1000


def format_seconds(seconds: float) -> str:
    """The seconds as a duration, to the millisecond."""
    return format_duration(round(seconds * 1000))


def _expected_duration(text: str) -> str:
    if text.isascii() and text.isdigit():
        return f"a duration with a unit such as {shortened(text)}s"
    if re.search("[0-9](M|mo|y|Y)", text):
        return "a duration without months and years, which differ in length, such as 30d, 4w or 52w"
    return "a duration of numbers with units (ms, s, m, h, d, w) such as 15m or 1h30m"


SECONDS_BELOW = 20_000_000_000
"""As milliseconds this is August 1970: a smaller number was meant as seconds (until the year 2603)."""
_END_MS = 253_402_300_800_000
"""The first millisecond of the year 10000."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)  # without an offset to print
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}")
_LOST_PLUS = re.compile(r"^([0-9-]+[Tt ][^ ]*) ([0-9]{2}(?::?[0-9]{2})?)$")


def parse_timestamp(value: object) -> int:
    """Epoch milliseconds of an ISO 8601 text, or of epoch milliseconds given as a number or as digits.

    A text may have any offset (`Z`, `+02:00`) and a fraction of a second; without an offset it is UTC, and
    a date alone is its first moment. Less than a millisecond is rounded up, so that a half-open range
    [start, end) holds the same whole milliseconds as the exact one. Raises ValueError, saying what is
    expected, for anything else, for moments before 1970 or after 9999, and for numbers that look like seconds.
    """
    if isinstance(value, str):
        if len(value) > _MAX_TEXT:
            raise ValueError(f"{_EXPECTED_MOMENT}, got {len(value)} characters")
        text = value.strip()
        return _checked_ms(int(text)) if _NUMBER.fullmatch(text) else _ms_of_text(text)
    if isinstance(value, int) and not isinstance(value, bool):
        return _checked_ms(value)
    if isinstance(value, float) and value.is_integer():
        return _checked_ms(int(value))
    raise ValueError(f"{_EXPECTED_MOMENT}, got {shortened(repr(value))}")


_EXPECTED_MOMENT = "expected ISO 8601 such as 2018-07-12T12:15:00Z or epoch milliseconds such as 1531397700000"


def _checked_ms(ms: int) -> int:
    if 0 < ms < SECONDS_BELOW:
        raise ValueError(f"expected epoch milliseconds such as {ms * 1000}, got {ms}, which looks like seconds")
    if ms >= _END_MS:
        raise ValueError(f"expected epoch milliseconds, got {ms}, which is after the year 9999: micro- or nanoseconds?")
    if ms < 0:
        raise ValueError(f"expected a moment of 1970 or later, got {ms}")
    return ms


def _ms_of_text(text: str) -> int:
    # In a query string, the plus of an offset that was not escaped arrives as a space.
    restored = _LOST_PLUS.sub(r"\1+\2", text)
    try:
        moment = datetime.fromisoformat(restored.upper())
    except ValueError:
        raise ValueError(f"{_EXPECTED_MOMENT}, got {shortened(ascii(text))}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    ms = -((_EPOCH - moment) // timedelta(milliseconds=1))
    if ms < 0:
        raise ValueError(f"expected a moment of 1970 or later, got {text}")
    if ms >= _END_MS:
        raise ValueError(f"expected a moment up to the year 9999 in UTC, got {text}")
    return ms


def format_instant(ms: int) -> str:
    """The moment as Java's `Instant` prints it: `2018-07-12T13:30:00Z`, milliseconds only where there are some."""
    moment = _NAIVE_EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds") + "Z"
