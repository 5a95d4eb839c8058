"""Which picture of the fleet is wanted, how wide its columns are, and what its statistics are over.

A column is as wide as fits the picture, what is kept of the range, how often hosts report, and what can be read at
once.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from contract.metrics import NamedMetric
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.dashboard.hosts import Selection
from service.dashboard.matrix import FleetCache, Floats, Shown
from service.stores.base import Question, Store

MAX_COLUMNS: Final = 1000
LARGE: Final = 100
"""Of fewer hosts a picture takes no longer than a person notices."""
_RATES: Final = tuple(
    [1000 * second for second in (1, 2, 5, 10, 15, 30)]
    + [MINUTE_MS * minute for minute in (1, 2, 5, 10, 15, 30)]
    + [HOUR_MS * hour for hour in (1, 2, 3, 6, 12)]
    + [DAY_MS * day for day in (1, 7, 28, 84, 364)]
)
_MAX_CELLS: Final = 1 << 22
"""Hosts times columns that are looked at for a picture: some 100 ms of work where all of it is new."""
_MAX_ROWS: Final = 1 << 23
"""Rows of rollups that are read for it: a month of ten thousand hosts by the hour."""
SPARSE: Final = 1.5
ABOUT: Final = 0.9
"""How far windows are apart is known to some part of a column: five minutes and a second are five minutes."""
_ENOUGH: Final = 1000
"""So many hosts say whether columns are as wide as that."""
_SAMPLED: Final = 128
"""So many hosts tell how far windows are apart,"""
_LOOKED_AT_MS: Final = 15 * MINUTE_MS
"""by their last windows, at first those of so long,"""
_MOST_LOOKED_AT_MS: Final = DAY_MS
"""at most those of so long."""
_SPACING_FRESH_S: Final = 300.0
LONG: Final = 72
"""A range of so many buckets of a rollup may begin and end with whole ones: they make it 2.8 % longer at most."""
_NOW_MS: Final = 10_000
"""The clock of whoever asks for a range up to now may be so far behind."""


@dataclass(frozen=True, slots=True)
class PictureQuestion(Selection):
    """Which picture is wanted. Times are epoch milliseconds, the range is half-open."""

    metric: NamedMetric
    statistic: Shown
    start_ms: int
    end_ms: int
    rate_ms: int | None
    """The width of a column; None for what fits `columns` and the data."""
    columns: int
    rows: int


def fitting_ms(cache: FleetCache, asked: PictureQuestion, hosts: int, now_ms: int) -> int:
    """The width of a column that fits the picture, what is kept, how often hosts report, and what can be read."""
    store, range_ms = cache.store, asked.end_ms - asked.start_ms
    finest_ms = store.finest_ms(asked.start_ms, now_ms)
    columns = max(1, min(asked.columns, _MAX_CELLS // hosts))
    rate_ms = rate_of(store, max(range_ms / columns, finest_ms), finest_ms, range_ms * hosts)
    if hosts >= LARGE and rate_ms % store.tiers[0]:
        # Windows of all hosts are much to read for a picture that then shows that they are fewer than its columns.
        coarser = usual_spacing(cache, asked)
        if coarser > rate_ms * SPARSE:
            rate_ms = rate_of(store, coarser * ABOUT, finest_ms)
    return rate_ms


def counted_range(cache: FleetCache, asked: PictureQuestion, now_ms: int) -> tuple[int, int]:
    """What the statistics of hosts are over, which no width of columns changes.

    It is the range, or where part of a bucket of the finest rollup is much to read for little, whole ones: of long
    ranges, and where large fleets report no more often than that. No windows have come from behind now, so that a
    range that ends there may end with a bucket.
    """
    store, start_ms, end_ms = cache.store, asked.start_ms, asked.end_ms
    step_ms, bucket_ms = store.finest_ms(start_ms, now_ms), store.tiers[0]
    if end_ms - start_ms >= LONG * bucket_ms or (
        store.user_count >= LARGE and usual_spacing(cache, asked) >= ABOUT * bucket_ms
    ):
        step_ms = max(step_ms, bucket_ms)
    until_ms = max(step_ms, bucket_ms) if end_ms > now_ms - _NOW_MS else step_ms
    return start_ms // step_ms * step_ms, -(-end_ms // until_ms) * until_ms


def rate_of(store: Store, least_ms: float, finest_ms: int = 1, read_ms: int = 0) -> int:
    """The least width of a column, at least so wide, that can be made of what is kept.

    Of widths that rollups have, it is one for which not too many rows are read of `read_ms` host milliseconds: where
    a cell has several rows of a rollup, one of a coarser rollup is quicker by as much.
    """
    possible = [rate for rate in _RATES if rate >= least_ms and rate % finest_ms == 0]
    tiers = [(rate, max((tier for tier in store.tiers if rate % tier == 0), default=None)) for rate in possible]
    found = next((rate for rate, tier in tiers if tier is None or read_ms // tier <= _MAX_ROWS), None)
    return found or next((rate for rate, tier in tiers if tier == store.tiers[-1]), _RATES[-1])


def usual_spacing(cache: FleetCache, asked: PictureQuestion) -> float:
    """How far apart in ms windows are, as some hosts say at the end of the range; 0 where that is not known."""

    def looked() -> float:
        names = cache.rows.names or cache.store.users()["user_id"].tolist()
        some = frozenset(names[:: max(1, len(names) // _SAMPLED)])
        length_ms = _LOOKED_AT_MS
        while True:
            start_ms = max(0, asked.end_ms - length_ms)
            rate_ms = max(1000, length_ms // MAX_COLUMNS)
            values = cache.store.answer(
                Question(quantity=asked.metric.quantity, start_ms=start_ms // rate_ms * rate_ms, end_ms=asked.end_ms,
                         rate_ms=rate_ms, by="user", users=some, cells="mean")
            ).to_numpy()  # fmt: skip
            several = np.isfinite(values).sum(axis=1) > 1
            if length_ms >= _MOST_LOOKED_AT_MS or several.sum() * 2 >= len(values):
                return spacing(values) * rate_ms if several.any() else 0.0
            length_ms = min(8 * length_ms, _MOST_LOOKED_AT_MS)

    # Hosts may be set to report otherwise at some time: it is looked at for each day that a range ends on.
    day_ms = (asked.end_ms - 1) // DAY_MS * DAY_MS
    return cache.kept(f"spacing {asked.metric.quantity.name}", (day_ms, day_ms + DAY_MS), looked, _SPACING_FRESH_S)


def spacing(values: Floats) -> float:
    """How many columns lie from one window of a host to its next, for the host in the middle of some."""
    found = np.isfinite(values[:: max(1, len(values) // _ENOUGH)])
    counts = found.sum(axis=1)
    several = counts > 1
    if not several.any():
        return 1.0
    found, counts = found[several], counts[several]
    columns = values.shape[1]
    spans = columns - np.argmax(found, axis=1) - np.argmax(found[:, ::-1], axis=1) - 1
    return float(np.median(spans / (counts - 1)))
