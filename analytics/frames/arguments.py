"""Arguments that the functions of `analytics` share: numbers, durations, moments, time zones, choices.

Each check gives back what it was given, in one type, or raises FrameError: what was expected, and what it got.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta, tzinfo
from numbers import Integral, Real
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from contract.problems import shortened
from contract.times import MAX_RATE_MS, MIN_RATE_MS, WEEK_MS, format_duration, parse_duration, parse_timestamp


class FrameError(ValueError):
    """A DataFrame, or another argument, that is not what a function takes; the message says what would be right."""


class TooFewData(ValueError):
    """There are too few data for what was asked; the message, part of a sentence, says of what."""


def shown(value: object) -> str:
    """A wrong argument as a message quotes it: short, and on one line."""
    if isinstance(value, pd.DataFrame | pd.Series | pd.Index | np.ndarray):
        return f"a {type(value).__name__}"
    try:
        return shortened(" ".join(repr(value).split()))
    except ValueError:  # an int of more digits than Python prints
        return "a number of too many digits"


def number(value: object, name: str, expected: str, holds: Callable[[float], bool]) -> float:
    """A number, not NaN, of which `holds` is true; `expected` says in words which ones those are."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            plain = float(value)
        except OverflowError:
            plain = math.nan
        if not math.isnan(plain) and holds(plain):
            return plain
    raise FrameError(f"{name}: expected {expected}, got {shown(value)}")


def whole(value: object, name: str, expected: str, holds: Callable[[int], bool]) -> int:
    """A whole number of which `holds` is true."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and holds(int(value)):
        return int(value)
    raise FrameError(f"{name}: expected {expected}, got {shown(value)}")


def numbers(values: object, name: str, expected: str, holds: Callable[[float], bool]) -> tuple[float, ...]:
    """Numbers in a list or the like, each one for which `holds` is true."""
    if isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping | pd.DataFrame):
        try:
            return tuple(number(value, name, expected, holds) for value in values)
        except (FrameError, TypeError):  # an array without a dimension says that it can be iterated, and cannot
            pass
    got = ", ".join(map(shown, values)) if isinstance(values, list | tuple) and values else shown(values)
    raise FrameError(f"{name}: expected {expected}, got {shortened(got, 120)}")


def one_of(value: object, name: str, allowed: Sequence[str | None]) -> Any:
    """A text that is among those `allowed`, or None where that is."""
    if (value is None or isinstance(value, str)) and value in allowed:
        return value
    *rest, last = map(str, allowed)
    choices = f"one of {', '.join(rest)} or {last}" if rest else last
    raise FrameError(f"{name}: expected {choices}, got {shown(value)}")


def check_by(by: object, allowed: Sequence[str] = ("user",)) -> None:
    """Raise FrameError for a grouping that is not among those `allowed`."""
    one_of(by, "by", (*allowed, None))


def instance(value: object, name: str, kind: Any, expected: str) -> Any:
    """What is of some type, or of one of several, as `isinstance` takes them."""
    if isinstance(value, kind):
        return value
    raise FrameError(f"{name}: expected {expected}, got {shown(value)}")


def moment(value: object, name: str) -> pd.Timestamp:
    """A moment of ISO 8601, of epoch milliseconds or of a date; in UTC where it names no zone."""
    try:
        if isinstance(value, str | date | np.datetime64):
            stamp: Any = pd.Timestamp(value)
        else:
            plain = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value
            stamp = pd.Timestamp(parse_timestamp(plain), unit="ms")
    except (ValueError, TypeError, OverflowError) as error:
        said = f": {error}" if type(value) is int and abs(value) < 1 << 64 else ""
        raise FrameError(f"{name}: expected a moment such as 2024-03-04T12:00Z, got {shown(value)}{said}") from None
    if stamp is pd.NaT:
        raise FrameError(f"{name}: expected a moment such as 2024-03-04T12:00Z, got {shown(value)}")
    found: pd.Timestamp = stamp.tz_localize("UTC") if stamp.tz is None else stamp
    return found


Duration = str | timedelta | pd.Timedelta | pd.DateOffset
"""`15m` or `1h30m` as InfluxQL writes it, pandas' own `15min`, `D` or `2h`, or a timedelta."""


def duration_ms(value: Duration, name: str, *, least_ms: int = MIN_RATE_MS, most_ms: int = MAX_RATE_MS) -> int:
    """The milliseconds of a duration; `name` is the argument's. Raises FrameError for another, or one out of bounds."""
    try:
        ms = _milliseconds(value, least_ms, most_ms)
    except (ValueError, TypeError, OverflowError) as error:
        said = f": {error}" if isinstance(value, str) else ""
        raise FrameError(f"{name}: expected a duration such as 15m or 24h, got {shown(value)}{said}") from None
    if not least_ms <= ms <= most_ms:
        bounds = f"{format_duration(least_ms)} to {format_duration(most_ms)}"
        raise FrameError(f"{name}: expected {bounds}, got {shown(value)}")
    return ms


def signed_ms(value: Duration, name: str) -> int:
    """The milliseconds of a duration that may be 0, or have a minus in front: `-6h`. Raises as `duration_ms` does."""
    if isinstance(value, str) and value.startswith("-"):
        return -duration_ms(value[1:], name, least_ms=0)
    if isinstance(value, timedelta) and value < timedelta(0):
        return -duration_ms(-value, name, least_ms=0)
    return duration_ms(value, name, least_ms=0)


def is_of_weeks(value: object) -> bool:
    """Whether a rate is pandas' `W`, whose weeks are from Monday to Sunday."""
    offset = _frequency(value) if isinstance(value, str) and value[-1:].isupper() else value
    return isinstance(offset, pd.offsets.Week)


def _milliseconds(value: Duration | None, least_ms: int, most_ms: int) -> int:
    if isinstance(value, str):
        try:
            return parse_duration(value, least_ms=least_ms, most_ms=most_ms)
        except ValueError:
            if (value := _frequency(value)) is None:
                raise
    if isinstance(value, pd.offsets.Week) and getattr(value, "weekday", None) in (None, _SUNDAY):
        return value.n * WEEK_MS
    if isinstance(value, pd.offsets.Day):
        # A day of pandas is one of the calendar; in UTC, in which frames are, that is 24 hours.
        value = pd.Timedelta(days=value.n)
    if not isinstance(value, timedelta | pd.offsets.Tick):
        raise TypeError
    whole_ms, rest = divmod(pd.Timedelta(value), pd.Timedelta(1, "ms"))
    if rest:
        raise ValueError("expected whole milliseconds")
    return int(whole_ms)


_SUNDAY = 6
"""The last day of pandas' `W`."""


def _frequency(text: str) -> Any:
    """The frequency, or the length of time, that pandas reads in a text; None where it is not of one length."""
    text = re.sub(r"weeks?$", "W", text)
    for read in (pd.tseries.frequencies.to_offset, pd.Timedelta):
        # A number alone would be nanoseconds.
        if read is not pd.Timedelta or re.match("[^-].*[A-Za-z]", text):
            try:
                found: Any = read(text)
            except ValueError:
                continue
            return found if isinstance(found, _OF_ONE_LENGTH) else None
    return None


_OF_ONE_LENGTH = pd.Timedelta, pd.offsets.Tick, pd.offsets.Day, pd.offsets.Week


def zone_name(tz: str | tzinfo) -> str:
    """The name of a time zone that is given by name, or as Python has it. Raises FrameError for an unknown one."""
    name = getattr(tz, "key", None) or str(tz) if isinstance(tz, tzinfo) else tz
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError, AttributeError):
        expected = "the name of a time zone such as Europe/Berlin or UTC"
        raise FrameError(f"tz: expected {expected}, got {shown(tz)}") from None
