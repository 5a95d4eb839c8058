"""Rollups of points that were there before the first Loadlens: made day by day, backwards."""

from collections.abc import Iterator

from analytics.influx.schema import TIERS
from analytics.windows import Windows, concatenate, merge
from contract.metrics import QUANTITIES
from contract.times import DAY_MS
from service.stores.influx.lines import Lines, bucket_lines
from service.stores.influx.reading import Reader, Wanted
from service.stores.plan import RAW
from service.stores.series import WHOLE, SeriesIndex

__all__ = ["day_lines", "oldest_ms"]

_USERS = 20
"""So many users' windows of a day are merged at once: some 350,000."""


def oldest_ms(index: SeriesIndex) -> int:
    """The start of the day of the oldest window of any user, epoch ms."""
    # A copy, here and below, because users and cores may join meanwhile.
    return min((user.first_seen for user in list(index.users.values())), default=0) // DAY_MS * DAY_MS


def day_lines(reader: Reader, index: SeriesIndex, day_ms: int) -> Iterator[Lines]:
    """The buckets of every tier in the day from `day_ms`, made of all windows that InfluxDB has of it.

    Raises Unreachable where they cannot be read.
    """
    users = sorted(index.users)
    for name, quantity in QUANTITIES.items():
        for start in range(0, len(users), _USERS):
            some = users[start : start + _USERS]
            cores = [core for user in some for core in list(index.cores(user, name))]
            if not cores:
                continue
            for kind in ("whole", "each") if set(cores) != {WHOLE} else ("whole",):
                wanted = Wanted(quantity, RAW, day_ms, day_ms + DAY_MS, some, kind)
                yield from _tiers(reader, index, wanted)


def _tiers(reader: Reader, index: SeriesIndex, wanted: Wanted) -> Iterator[Lines]:
    finest = next(iter(TIERS))
    parts = [merge(part, rate_ms=finest) for part in reader.windows(wanted, histograms=True)]
    buckets: Windows = concatenate(parts)
    for tier in TIERS if len(buckets) else ():
        buckets = merge(buckets, rate_ms=tier)
        yield from bucket_lines(tier, buckets, index)
