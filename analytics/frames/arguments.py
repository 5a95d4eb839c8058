"""Arguments that the functions of `analytics` share: durations, time zones, groupings, frames. All raise FrameError."""

from collections.abc import Sequence
from datetime import timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from analytics.frames.frame import FrameError
from contract.times import MAX_RATE_MS, MIN_RATE_MS, parse_duration

Duration = str | timedelta | pd.Timedelta | pd.DateOffset
"""`15m` or `1h30m` as InfluxQL writes it, pandas' own `15min`, `D` or `2h`, or a timedelta."""


def duration_ms(value: Duration, name: str, *, least_ms: int = MIN_RATE_MS, most_ms: int = MAX_RATE_MS) -> int:
    """The milliseconds of a duration; `name` is the argument's. Raises FrameError for another, or one out of bounds."""
    try:
        ms = _milliseconds(value, least_ms, most_ms)
    except (ValueError, TypeError, OverflowError) as error:
        said = f": {error}" if isinstance(value, str) else ""
        raise FrameError(f"{name}: expected a duration such as 15m or 24h, got {value!r}{said}") from None
    if not least_ms <= ms <= most_ms:
        longest = pd.Timedelta(most_ms, "ms")
        raise FrameError(f"{name}: expected from {pd.Timedelta(least_ms, 'ms')} to {longest}, got {value!r}")
    return ms


def signed_ms(value: Duration, name: str) -> int:
    """The milliseconds of a duration that may have a minus in front: `-6h`. Raises FrameError as `duration_ms` does."""
    if isinstance(value, str):
        return -duration_ms(value[1:], name) if value.startswith("-") else duration_ms(value, name)
    if isinstance(value, timedelta) and value < timedelta(0):
        return -duration_ms(-value, name)
    return duration_ms(value, name)


def _milliseconds(value: Duration | None, least_ms: int, most_ms: int) -> int:
    if isinstance(value, str):
        try:
            return parse_duration(value, least_ms=least_ms, most_ms=most_ms)
        except ValueError:
            if (value := _frequency(value)) is None:
                raise
    if isinstance(value, pd.offsets.Day):
        # A day of pandas is one of the calendar; in UTC, in which frames are, that is 24 hours.
        value = pd.Timedelta(days=value.n)
    if not isinstance(value, timedelta | pd.offsets.Tick):
        raise TypeError
    whole, rest = divmod(pd.Timedelta(value), pd.Timedelta(1, "ms"))
    if rest:
        raise ValueError("expected whole milliseconds")
    return int(whole)


def _frequency(text: str) -> Any:
    """The frequency that pandas reads in a text, where it is of one length."""
    try:
        offset: Any = pd.tseries.frequencies.to_offset(text)
    except ValueError:
        return None
    return offset if isinstance(offset, pd.offsets.Tick | pd.offsets.Day) else None


def zone_name(tz: str | tzinfo) -> str:
    """The name of a time zone that is given by name, or as Python has it. Raises FrameError for an unknown one."""
    name = tz if isinstance(tz, str) else getattr(tz, "key", None) or str(tz)
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise FrameError(f"tz: expected the name of a time zone such as Europe/Berlin or UTC, got {tz!r}") from None


def check_by(by: str | None, allowed: Sequence[str] = ("user",)) -> None:
    """Raise FrameError for a grouping that is not among those `allowed`."""
    if by is not None and by not in allowed:
        raise FrameError(f"by: expected one of {', '.join(allowed)} or None, got {by!r}")
