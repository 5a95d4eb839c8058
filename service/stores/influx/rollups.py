"""Rollups: what each touched bucket holds, the new windows among it, computed before anything is written.

A bucket is one point that is written whole, so writing it again does no harm, and late windows only make it fuller.
What a bucket held before is known in one of three ways:

- it was touched lately, and is kept here;
- it begins behind the newest window of its stream, so it held nothing;
- otherwise it is read: the finest tier from the windows in InfluxDB, a coarser one from the next finer.

So every bucket is a function of the windows, whatever was written before a crash.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from analytics.frames.columns import Windows, concatenate, merge, take
from analytics.frames.tiers import RAW
from analytics.sources.influx_points import Points
from contract.influx import TIERS
from contract.metrics import QUANTITIES
from service.stores.influx.reading import Reader, without
from service.stores.keys import Keys
from service.stores.series import WHOLE, SeriesIndex

_KEPT_ROWS = 200_000
"""Most buckets of a tier that are kept; of larger fleets they are read each time."""
_KEPT_ENTRIES = 4_000_000
"""Most entries of their histograms: some 80 MB."""

_WINDOW_MS = 5000
_NEAR_ROWS = 1000
"""Over a gap of so many rows it is quicker to read on than to ask again."""

Ints = npt.NDArray[np.int64]
Tiers = Mapping[int, Windows]


class Rollups:
    """The newest bucket of each series and tier, and what new windows make of these and others."""

    def __init__(self, reader: Reader, index: SeriesIndex) -> None:
        self._reader = reader
        self._index = index
        self._kept: dict[int, Windows] = {tier: Windows.empty() for tier in TIERS}

    def upon(self, windows: Windows, newest: Ints) -> dict[int, Windows]:
        """Every bucket that holds one of `windows`, whole, by tier.

        `windows` are sorted and have histograms; `newest` is by series the end of its newest window before, epoch ms.
        Nothing is kept yet. Raises Unreachable where what must be read cannot be.
        """
        touched: dict[int, Windows] = {}
        finer, finer_tier, added = windows, RAW, windows
        for tier in TIERS:
            added = merge(added, rate_ms=tier)
            kept = self._kept[tier]
            is_kept = Keys(kept.series, kept.time).hold(added.series, added.time)
            unread = np.flatnonzero(~is_kept & (added.time <= newest[added.series]))
            known = added if not len(unread) else take(added, np.setdiff1d(np.arange(len(added)), unread))
            before = take(kept, Keys(known.series, known.time).hold(kept.series, kept.time))
            parts = [known, before]
            if len(unread):
                parts.append(self._read(tier, take(added, unread), finer_tier, finer))
            touched[tier] = merge(concatenate(parts), rate_ms=tier)
            finer, finer_tier = touched[tier], tier
        return touched

    def keep(self, touched: Tiers) -> None:
        """The buckets that `upon` gave are in InfluxDB now."""
        for tier, windows in touched.items():
            kept = without(self._kept[tier], Keys(windows.series, windows.time))
            together = concatenate([kept, windows])
            order = np.lexsort((together.time, together.series))
            is_last = np.diff(together.series[order], append=-1) != 0
            together = take(together, order[is_last])
            assert together.histograms is not None
            is_small = len(together) <= _KEPT_ROWS and len(together.histograms) <= _KEPT_ENTRIES
            self._kept[tier] = together if is_small else Windows.empty()

    def _read(self, tier: int, buckets: Windows, finer_tier: int, finer: Windows) -> Windows:
        """The finer rows in some buckets: those in InfluxDB, and in their place those of `finer`, which are newer."""
        wanted = Keys(buckets.series, buckets.time)
        mine = take(finer, wanted.hold(finer.series, finer.time // tier * tier))
        known = Keys(finer.series, finer.time)
        parts = [mine]
        for question in self._questions(tier, buckets, finer_tier):
            for part in self._reader.windows(question):
                inside = take(part, wanted.hold(part.series, part.time // tier * tier))
                parts.append(merge(without(inside, known), rate_ms=tier))
        return merge(concatenate(parts), rate_ms=tier)

    def _questions(self, tier: int, buckets: Windows, finer_tier: int) -> Iterator[Points]:
        """What to ask for: for each quantity, machines and cores apart, stretches of buckets near each other."""
        near = max(tier, _NEAR_ROWS * (finer_tier or _WINDOW_MS))
        groups: dict[tuple[str, bool], list[int]] = {}
        for number in np.unique(buckets.series).tolist():
            one = self._index.all[number - 1]
            groups.setdefault((one.quantity, one.core != WHOLE), []).append(number)
        for (quantity, is_core), numbers in groups.items():
            rows = np.isin(buckets.series, numbers)
            times = np.unique(buckets.time[rows])
            ends = np.flatnonzero(np.diff(times, append=times[-1] + 2 * near) > near)
            begin = 0
            for end in ends.tolist():
                start_ms, last_ms = int(times[begin]), int(times[end])
                inside = rows & (buckets.time >= start_ms) & (buckets.time <= last_ms)
                users = {self._index.all[number - 1].user_id for number in np.unique(buckets.series[inside]).tolist()}
                yield Points(
                    QUANTITIES[quantity], finer_tier, start_ms, last_ms + tier, sorted(users),
                    "each" if is_core else "whole",
                )  # fmt: skip
                begin = end + 1
