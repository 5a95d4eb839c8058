"""The buckets of an answer: of one width, of a place's clock, shifted, or one for the whole range."""

import functools
import math
import zoneinfo
from typing import Any

from msgspec import Struct

from analytics.frames.resampling import clock_edges, shifted_edges
from contract.problems import did_you_mean, shortened
from contract.times import format_duration, parse_duration, wrong_end
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


class AskedBuckets(Struct, frozen=True):
    """Where buckets begin: at multiples of a rate, or at `edges` (epoch ms, ascending), as `Question` has them."""

    rate_ms: int
    edges: tuple[int, ...] | None = None

    @property
    def step_ms(self) -> int:
        """What divides every edge between two buckets; 0 where there is none."""
        return self.rate_ms if self.edges is None else math.gcd(*self.edges[1:])


def take_buckets(asked: Parameters, start_ms: int, end_ms: int) -> AskedBuckets:
    """The buckets that parameters ask for of a range; what is wrong with them is refused.

    `resample_rate` is a duration or `all`; `tz` names a place whose clock buckets follow, `offset` shifts their edges.
    """
    rate_ms = asked.take("resample_rate", _rate, DEFAULT_RATE_MS)
    zone = asked.take("tz", zone_of, None)
    offset_ms = asked.take("offset", _offset, 0)
    if asked.refused:
        return AskedBuckets(DEFAULT_RATE_MS)
    if end_ms < start_ms:
        asked.refuse("end", wrong_end(start_ms, end_ms, may_be_empty=True))
        return AskedBuckets(DEFAULT_RATE_MS)
    if rate_ms is None:
        if zone is not None or offset_ms:
            asked.refuse("tz" if zone is not None else "offset", "does not go with resample_rate=all: it is one bucket")
        return AskedBuckets(end_ms - start_ms, (start_ms,))
    if abs(offset_ms) >= rate_ms:
        asked.refuse("offset", f"expected less than the rate, {format_duration(rate_ms)}")
        return AskedBuckets(rate_ms)
    count = -(-(end_ms - start_ms) // rate_ms)
    if count > MAX_BUCKETS:
        asked.refuse(
            "resample_rate",
            f"{format_duration(rate_ms)} makes {count} buckets of this range; at most {MAX_BUCKETS} are "
            f"answered: {fitting_rate(end_ms - start_ms, MAX_BUCKETS)}",
        )
        return AskedBuckets(rate_ms)
    if zone is None and not offset_ms:
        return AskedBuckets(rate_ms)
    if zone is None:
        return AskedBuckets(rate_ms, tuple(shifted_edges(start_ms, end_ms, rate_ms, offset_ms).tolist()))
    return AskedBuckets(rate_ms, tuple(clock_edges(start_ms, end_ms, rate_ms, offset_ms, zone).tolist()))


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


def _rate(value: Any) -> int | None:
    return None if value == WHOLE_RANGE else duration(value)


def _offset(value: Any) -> int:
    text = value if isinstance(value, str) else ""
    sign = -1 if text.startswith("-") else 1
    return sign * duration(text.removeprefix("-") if text else value)


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def zone_of(value: Any) -> zoneinfo.ZoneInfo:
    """The zone of the IANA database with a name; raises ValueError for anything else."""
    if not isinstance(value, str) or value not in _zones():
        near = did_you_mean(value, _zones()) if isinstance(value, str) else ""
        raise ValueError(
            f"expected a zone of the IANA database such as Europe/Berlin, got {shortened(repr(value))}{near}"
        )
    return zoneinfo.ZoneInfo(value)
