"""The buckets of an answer: of one width, of a place's clock, shifted, or one for the whole range."""

import functools
import math
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
from msgspec import Struct

from contract.problems import did_you_mean, shortened
from contract.times import DAY_MS, HOUR_MS, format_duration, parse_duration
from service.http.requests import Parameters, duration
from service.stores.base import Store

MAX_BUCKETS = 100_000
DEFAULT_RATE_MS = 15 * 60 * 1000
WHOLE_RANGE = "all"
"""In place of a rate: one bucket, the range itself."""
_ROUND_RATES = (
    "1s", "2s", "5s", "10s", "15s", "30s", "1m", "2m", "5m", "10m", "15m", "30m", "1h", "2h", "3h", "6h", "12h", "1d",
    "1w", "4w", "12w", "52w",
)  # fmt: skip


class Buckets(Struct, frozen=True):
    """Where buckets begin: at multiples of a rate, or at `edges` (epoch ms, ascending), as `Question` has them."""

    rate_ms: int
    edges: tuple[int, ...] | None = None

    @property
    def step_ms(self) -> int:
        """What divides every edge between two buckets; 0 where there is none."""
        return self.rate_ms if self.edges is None else math.gcd(*self.edges[1:])


def take_buckets(asked: Parameters, start_ms: int, end_ms: int) -> Buckets:
    """The buckets that parameters ask for of a range; what is wrong with them is refused.

    `resample_rate` is a duration or `all`; `tz` names a place whose clock buckets follow, `offset` shifts their edges.
    """
    rate_ms = asked.take("resample_rate", _rate, DEFAULT_RATE_MS)
    zone = asked.take("tz", _zone, None)
    offset_ms = asked.take("offset", _offset, 0)
    if asked.refused:
        return Buckets(DEFAULT_RATE_MS)
    if end_ms < start_ms:
        asked.refuse("end", "is before start; the range is [start, end)")
        return Buckets(DEFAULT_RATE_MS)
    if rate_ms is None:
        if zone is not None or offset_ms:
            asked.refuse("tz" if zone is not None else "offset", "does not go with resample_rate=all: it is one bucket")
        return Buckets(end_ms - start_ms, (start_ms,))
    if abs(offset_ms) >= rate_ms:
        asked.refuse("offset", f"expected less than the rate, {format_duration(rate_ms)}")
        return Buckets(rate_ms)
    count = -(-(end_ms - start_ms) // rate_ms)
    if count > MAX_BUCKETS:
        asked.refuse(
            "resample_rate",
            f"{format_duration(rate_ms)} makes {count} buckets of this range; at most {MAX_BUCKETS} are "
            f"answered: {fitting_rate(end_ms - start_ms, MAX_BUCKETS)}",
        )
        return Buckets(rate_ms)
    if zone is None and not offset_ms:
        return Buckets(rate_ms)
    if zone is None:
        first_ms = (start_ms - offset_ms) // rate_ms * rate_ms + offset_ms
        return Buckets(rate_ms, tuple(range(first_ms, max(end_ms, first_ms + 1), rate_ms)))
    return Buckets(rate_ms, _of_clock(start_ms, end_ms, rate_ms, offset_ms, zone))


def check_kept(asked: Parameters, store: Store, start_ms: int, step_ms: int, now_ms: int) -> None:
    """Refuse buckets that are finer than what is still kept; `step_ms` divides all their edges."""
    finest_ms = store.finest_ms(start_ms, now_ms)
    if step_ms % finest_ms:
        kept = format_duration(finest_ms)
        asked.refuse(
            "resample_rate",
            f"expected a multiple of {kept}, as so far back only rollups are kept, got {format_duration(step_ms)}",
        )


def fitting_rate(range_ms: int, buckets: int) -> str:
    """Advice on a rate that cuts a range into at most so many buckets."""
    least_ms = -(-range_ms // max(buckets, 1))
    fitting = next((rate for rate in _ROUND_RATES if parse_duration(rate) >= least_ms), None)
    return f"a rate of {fitting} would do" if fitting else "ask for a shorter range"


def _of_clock(start_ms: int, end_ms: int, rate_ms: int, offset_ms: int, zone: zoneinfo.ZoneInfo) -> tuple[int, ...]:
    """The moments at which a place's clock shows a multiple of the rate, from the one before the range to its end.

    Multiples are counted from 1970-01-01T00:00 on that clock. A day is from midnight to midnight, so of 23 or 25 hours
    where clocks change. What the clock skips begins where it goes on. What it shows twice begins twice where buckets
    are of an hour at most, otherwise at the first.
    """
    # The clock is less than a day off UTC, and changes by less than a day.
    first_ms = ((start_ms - 2 * DAY_MS - offset_ms) // rate_ms - 1) * rate_ms + offset_ms
    shown = pd.DatetimeIndex(np.arange(first_ms, end_ms + 2 * DAY_MS, rate_ms).view("M8[ms]"))
    edges = _moments(shown, zone, first=True)
    if rate_ms <= HOUR_MS:
        edges = np.concatenate([edges, _moments(shown, zone, first=False)])
    edges = np.unique(edges)
    begin = max(int(np.searchsorted(edges, start_ms, side="right")) - 1, 0)
    end = max(int(np.searchsorted(edges, end_ms, side="left")), begin + 1)
    return tuple(edges[begin:end].tolist())


def _moments(shown: pd.DatetimeIndex, zone: zoneinfo.ZoneInfo, *, first: bool) -> Any:
    local = shown.tz_localize(zone, ambiguous=np.full(len(shown), first), nonexistent="shift_forward")
    return local.as_unit("ms").asi8


def _rate(value: Any) -> int | None:
    return None if value == WHOLE_RANGE else duration(value)


def _offset(value: Any) -> int:
    text = value if isinstance(value, str) else ""
    sign = -1 if text.startswith("-") else 1
    return sign * duration(text.removeprefix("-") if text else value)


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _zone(value: Any) -> zoneinfo.ZoneInfo:
    if not isinstance(value, str) or value not in _zones():
        near = did_you_mean(value, _zones()) if isinstance(value, str) else ""
        raise ValueError(
            f"expected a zone of the IANA database such as Europe/Berlin, got {shortened(repr(value))}{near}"
        )
    return zoneinfo.ZoneInfo(value)
