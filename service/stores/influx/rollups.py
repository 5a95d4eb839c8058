"""Rollups: rows that add up, each written once, never over another.

A bucket of 5 min is added up in memory, flush by flush, and is a row (part 0) when it is over and a grace for late
windows has passed. A coarser one is added up of the rows of the next finer tier, when it is over. What comes later
still is a row of its own in each tier whose bucket has been written: part 1, 2 and so on. So any reader adds up what it
finds.

What a row holds is fixed, and on this machine's disk, before it is written (`service.stores.influx.checkpoint`).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from analytics.frames.columns import Windows, concatenate, merge, take
from analytics.frames.tiers import RAW, Rolled
from analytics.sources.influx_points import Cores, Points
from contract.influx import TIERS
from contract.metrics import QUANTITIES
from contract.times import MINUTE_MS
from service.stores.influx.reading import Reader
from service.stores.series import WHOLE, SeriesIndex

GRACE_MS: Final = MINUTE_MS
"""So long after its end a bucket of 5 min still takes windows; what comes later is a row of its own."""
FINEST: Final = next(iter(TIERS))
_FINER: Final = dict(pairwise(reversed((RAW, *TIERS))))
_ROWS: Final = 500_000
"""So many rows, at most, are asked for at once."""
_USERS: Final = 100
"""So many are named in a statement."""


def over(tier_ms: int, now_ms: int) -> int:
    """Before this a tier's buckets are over at the time `now_ms`, epoch ms."""
    return (now_ms - GRACE_MS) // tier_ms * tier_ms


def still_open(windows: Windows, rolled: Rolled) -> Windows:
    """What windows add to the buckets of 5 min that are not written yet."""
    buckets = merge(windows, rate_ms=FINEST)
    return take(buckets, buckets.time >= max(rolled.through_ms[FINEST], rolled.since_ms))


def late(windows: Windows, rolled: Rolled) -> dict[int, Windows]:
    """What windows add to buckets that are written already, by tier; only tiers that have any."""
    found: dict[int, Windows] = {}
    for tier in TIERS:
        windows = merge(windows, rate_ms=tier)
        rows = take(windows, (windows.time >= rolled.since_ms) & (windows.time < rolled.through_ms[tier]))
        if len(rows):
            found[tier] = rows
    return found


class Sealing:
    """Makes the rows of buckets that are over, of what InfluxDB holds. Calls raise Unreachable or Refused."""

    def __init__(self, reader: Reader, index: SeriesIndex) -> None:
        self._reader = reader
        self._index = index

    def open_buckets(self, rolled: Rolled) -> Windows:
        """The buckets of 5 min that are not written yet, added up of the windows in InfluxDB."""
        start = max(rolled.through_ms[FINEST], rolled.since_ms)
        ends = [user.last_seen for user in list(self._index.users.values()) if user.last_seen >= start]
        if not ends:
            return Windows.empty()
        parts = (merge(part, rate_ms=FINEST) for part in self._rows(RAW, start, max(ends) + 1))
        return merge(concatenate([*parts]), rate_ms=FINEST)

    def rows(self, tier_ms: int, start_ms: int, end_ms: int) -> Windows:
        """The buckets of a coarser tier that start in a range, added up of the rows of the next finer one.

        A row without a part is a whole bucket, as an earlier version wrote them: the coarser bucket has it already.
        """
        parts = (merge(part, rate_ms=tier_ms) for part in self._rows(_FINER[tier_ms], start_ms, end_ms, numbered=True))
        return merge(concatenate([*parts]), rate_ms=tier_ms)

    def written(self, tier_ms: int, start_ms: int) -> Windows:
        """The rows, not whole buckets, that a tier has from a time on."""
        return concatenate([*self._rows(tier_ms, start_ms, start_ms + _LONGEST_MS, numbered=True)])

    def _rows(self, tier_ms: int, start_ms: int, end_ms: int, *, numbered: bool = False) -> Iterator[Windows]:
        for users, quantity, kind in self._series(max((end_ms - start_ms) // (tier_ms or _WINDOW_MS), 1)):
            points = Points(QUANTITIES[quantity], tier_ms, start_ms, end_ms, users, kind)
            yield from self._reader.windows(points, numbered=numbered)

    def _series(self, rows_each: int) -> Iterator[tuple[Sequence[str], str, Cores]]:
        """Users, quantity and kind of all series, in parts of not too many rows."""
        # A copy, because series may join meanwhile.
        counted: dict[tuple[str, bool], int] = {}
        for one in list(self._index.all):
            kind = one.quantity, one.core != WHOLE
            counted[kind] = counted.get(kind, 0) + 1
        users = sorted(self._index.users)
        for (quantity, is_core), number in counted.items():
            # Of nobody named everybody's rows are read.
            groups: Sequence[Sequence[str]] = [()]
            if number * rows_each > _ROWS:
                groups = [users[start : start + _USERS] for start in range(0, len(users), _USERS)]
            for group in groups:
                yield group, quantity, "each" if is_core else "whole"


_WINDOW_MS: Final = 5000
_LONGEST_MS: Final = 400 * 24 * 60 * MINUTE_MS


def without(rows: Windows, known: Windows) -> Windows:
    """The rows whose series and time are not among those of `known`."""
    if not len(known) or not len(rows):
        return rows
    width = int(max(rows.time.max(), known.time.max())) + 1
    kept: npt.NDArray[np.bool_] = ~np.isin(rows.series * width + rows.time, known.series * width + known.time)
    return take(rows, kept)
