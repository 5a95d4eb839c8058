"""Durations as InfluxQL writes them: `15m`, `500ms`, `1h30m`.

https://docs.influxdata.com/influxdb/v1/query_language/spec/#durations
"""

import re

from contract.problems import shortened

__all__ = ["LEAST_MS", "MOST_MS", "format_duration", "format_seconds", "parse_duration", "parse_seconds"]

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
_PART = re.compile("([0-9]{1,18})(" + "|".join(sorted(_NS, key=len, reverse=True)) + ")")

LEAST_MS = _MS["s"]
MOST_MS = 52 * _MS["w"]
"""The bounds of a resampling rate, 1s and 52w."""


def parse_duration(text: str, least_ms: int = LEAST_MS, most_ms: int = MOST_MS) -> int:
    """The milliseconds of a duration: whole numbers, each with a unit, added up.

    Raises ValueError, saying what would be right, for any other text, for a duration that is not a whole
    number of milliseconds, and for one outside [`least_ms`, `most_ms`].
    """
    total = end = 0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        end = part.end()
        total += int(part[1]) * _NS[part[2]]
    shown = shortened(ascii(text))
    if not text or end != len(text):
        raise ValueError(f"{shown} is not a duration; {_hint(text)}")
    ms, rest = divmod(total, _NS["ms"])
    if rest:
        raise ValueError(f"{shown} is not a whole number of milliseconds")
    if not least_ms <= ms <= most_ms:
        bound = "less than" if ms < least_ms else "more than"
        limit = format_duration(least_ms if ms < least_ms else most_ms)
        raise ValueError(
            f"{shown} is {bound} {limit}; {format_duration(least_ms)} to {format_duration(most_ms)} is right"
        )
    return ms


def format_duration(ms: int) -> str:
    """The duration in the largest unit that divides it, as InfluxDB writes it: 90 minutes are `90m`."""
    unit = next(unit for unit, size in _MS.items() if ms % size == 0 and (ms or unit == "s"))
    return f"{ms // _MS[unit]}{unit}"


def parse_seconds(text: str) -> float:
    """The seconds of `50ms`, `7d` or, without a unit, `0.05`; raises ValueError."""
    try:
        return float(text)
    except ValueError:
        return parse_duration(text, least_ms=1, most_ms=3650 * _MS["d"]) / 1000


def format_seconds(seconds: float) -> str:
    """The seconds as a duration, to the millisecond."""
    return format_duration(round(seconds * 1000))


def _hint(text: str) -> str:
    if text.isascii() and text.isdigit():
        return f"a unit is missing, as in {shortened(text)}s"
    if re.search("[0-9](M|mo|y|Y)", text):
        return "months and years differ in length: 30d, 4w or 52w is right"
    return "numbers with units (ms, s, m, h, d, w) such as 15m or 1h30m are right"
