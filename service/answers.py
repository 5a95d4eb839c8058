"""What is kept in memory of answers, and read ahead for the first of them.

It needs what the store reads with, not what all questions need: reading begins while the rest is imported
(`service.answering`).
"""

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from contract import times
from contract.metrics import NAMES
from contract.report import Report
from contract.times import DAY_MS, HOUR_MS
from service.dashboard.analysis import Analyst
from service.dashboard.columns import LARGE, LONG, PictureQuestion, counted_range, fitting_ms, usual_spacing
from service.dashboard.fleet import picture_in_parts
from service.dashboard.matrix import FleetCache, MatrixKey
from service.parts import Service
from service.stores.base import StoreUnavailable

_DAY_HOURS: Final = 24
_PAUSE_S: Final = 0.05
_SETTLE_S: Final = 1.0
"""So long after the first picture was asked for its page is there, and the rest is read."""
_LATER_S: Final = 0.3
"""Between ranges: whoever asks meanwhile does not wait for all of them."""
_HOURS: Final = (24, 1, 6, 12, 3, 7 * 24, 30 * 24)
"""The lengths of the ranges that the dashboard offers and people take, what it shows first before the others."""
_MAX_HOST_HOURS: Final = 1 << 23
"""Of a longer range of a larger fleet nothing is read ahead."""
_IN_USE_S: Final = 900.0
"""The dashboard is in use so long after a picture was asked for."""


def read_ahead(cache: FleetCache, ended: threading.Event) -> None:
    """Read what the dashboard shows of a large fleet, so that nobody has to wait for it. Blocks until the service ends.

    The last day is read for whoever comes first. The other usual ranges are read once somebody has come, and while the
    dashboard is in use those again whose ends have moved on by a bucket: until then the interpreter is for reports.
    """
    bucket_s = cache.store.tiers[0] / 1000
    if not _read(cache, _HOURS[:1], ended, with_spacing=False):
        return
    while cache.used.wait() and not ended.wait(_SETTLE_S) and _read(cache, _HOURS, ended):
        if cache.unused_s > _IN_USE_S:
            cache.used.clear()
        else:
            ended.wait(bucket_s)


def _read(cache: FleetCache, ranges: Sequence[int], ended: threading.Event, *, with_spacing: bool = True) -> bool:
    """Read ranges of so many hours. Whether the service goes on.

    How far apart windows are, which ranges of less than a day need, is looked up too, unless the pixels of the first
    picture would wait for that.
    """
    hosts = cache.store.user_count
    for hours in ranges if hosts >= LARGE else ():
        if ended.is_set():
            return False
        if hours * hosts <= _MAX_HOST_HOURS:
            _read_range(cache, hours, ended, with_spacing=with_spacing)
    return not ended.is_set()


def _read_range(cache: FleetCache, hours: int, ended: threading.Event, *, with_spacing: bool) -> None:
    """Read what a picture of the last hours needs, unless the service ends."""
    # Where hosts report more often than that, an hour of them is too much to read for nobody.
    rate_ms = cache.store.tiers[0] if hours < _DAY_HOURS else None
    now_ms = times.now_ms()
    asked = PictureQuestion(
        metric=NAMES["cpuUtilization"], statistic="mean", start_ms=_start_ms(cache, hours, now_ms), end_ms=now_ms,
        rate_ms=rate_ms, columns=400, rows=1,
    )  # fmt: skip
    # Whoever asks later is told that the store is away.
    with contextlib.suppress(StoreUnavailable):
        if hours > _DAY_HOURS and not _read_by_day(cache, asked, ended):
            return
        for _ in picture_in_parts(cache, asked, {}, now_ms):
            pass  # between its parts whoever waits for the first has it
        for end_ms in (now_ms, now_ms // DAY_MS * DAY_MS) if with_spacing else ():
            with cache.lock:
                usual_spacing(cache, replace(asked, end_ms=end_ms))
    ended.wait(_LATER_S)


def _start_ms(cache: FleetCache, hours: int, now_ms: int) -> int:
    """Where the page begins a range of the last hours (`time.js`); short ones begin with a bucket, too."""
    finest_ms, *coarser = cache.store.tiers
    step_ms = max((tier for tier in coarser if hours * HOUR_MS >= LONG * tier), default=finest_ms)
    return (now_ms - hours * HOUR_MS) // step_ms * step_ms


def _read_by_day(cache: FleetCache, asked: PictureQuestion, ended: threading.Event) -> bool:
    """Read what a picture of several days needs, a day at a time, so that nobody waits for all of it meanwhile.

    Whether it is all read: not where the service has ended.
    """
    quantity = asked.metric.quantity
    rate_ms = fitting_ms(cache, asked, max(cache.store.user_count, 1), asked.end_ms)
    key = MatrixKey(quantity, asked.statistic, rate_ms)
    columns_ms = (asked.start_ms // rate_ms * rate_ms, -(-asked.end_ms // rate_ms) * rate_ms)
    counted_ms = counted_range(cache, asked, asked.end_ms)
    for day_ms in range(columns_ms[0] // DAY_MS * DAY_MS, columns_ms[1], DAY_MS):
        if ended.wait(_PAUSE_S):
            return False
        with cache.lock:
            start_ms, end_ms = _on_day(day_ms, columns_ms)
            cache.know(key)
            cache.matrix(key, start_ms, max(1, (end_ms - start_ms) // rate_ms))
            cache.totals.over(quantity, _on_day(day_ms, counted_ms))
    return True


def _on_day(day_ms: int, range_ms: tuple[int, int]) -> tuple[int, int]:
    """The part of a range that is on a day."""
    return max(day_ms, range_ms[0]), min(day_ms + DAY_MS, range_ms[1])


class Answering:
    """What is kept in memory of answers, and read ahead for the first of them."""

    def __init__(self, service: Service) -> None:
        self.fleet_cache = FleetCache(service.store)
        self.analyst = Analyst(service.store, service.annotations)
        self._ends = threading.Event()
        self._reading_ahead = threading.Thread(
            target=read_ahead, args=(self.fleet_cache, self._ends), name="read-ahead"
        )

    def read_ahead(self) -> None:
        """Read what the dashboard shows first, in a thread."""
        self._reading_ahead.start()

    def note(self, reports: Sequence[Report]) -> None:
        """Take reports that the store answers already."""
        self.fleet_cache.note(reports)

    def clear(self) -> None:
        """Give no answer again that was made so far. Blocks."""
        self.fleet_cache.clear()
        self.analyst.clear()

    def close(self) -> None:
        """Wait for what is being read."""
        self._ends.set()
        self.fleet_cache.used.set()  # nobody waits for that any more
        if self._reading_ahead.is_alive():
            self._reading_ahead.join()
