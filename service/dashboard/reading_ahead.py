"""Reading what the dashboard shows first before anybody asks for it."""

import contextlib
import threading
from dataclasses import replace
from typing import Final

from contract import times
from contract.metrics import NAMES
from contract.times import DAY_MS, HOUR_MS
from service.dashboard.columns import LARGE, PictureQuestion, fitting_ms, usual_spacing
from service.dashboard.fleet import picture
from service.dashboard.matrix import FleetCache, MatrixKey
from service.stores.base import StoreUnavailable

_LATER_S: Final = 3.0
_PAUSE_S: Final = 0.05


def read_ahead(cache: FleetCache, ended: threading.Event) -> None:
    """Read what the dashboard shows first of a large fleet, the last day, so that nobody has to wait for it. Blocks.

    Then the last hour, as the finest rollup has it, and the last week, unless the service has ended.
    """
    if cache.store.user_count < LARGE:
        return
    for length_ms, rate_ms in ((DAY_MS, None), (HOUR_MS, cache.store.tiers[0]), (7 * DAY_MS, None)):
        # Whoever asks for the first picture right after the start does not wait for the others.
        if ended.wait(0 if length_ms == DAY_MS else _LATER_S):
            return
        now_ms = times.now_ms()
        asked = PictureQuestion(
            NAMES["cpuUtilization"], "mean", now_ms - length_ms, now_ms, rate_ms, columns=400, rows=1
        )
        # Whoever asks later is told that the store is away.
        with contextlib.suppress(StoreUnavailable):
            if length_ms > DAY_MS and not _read_by_day(cache, asked, ended):
                return
            picture(cache, asked, {}, now_ms)
            for end_ms in (now_ms, now_ms // DAY_MS * DAY_MS):
                with cache.lock:
                    usual_spacing(cache, replace(asked, end_ms=end_ms))


def _read_by_day(cache: FleetCache, asked: PictureQuestion, ended: threading.Event) -> bool:
    """Read what a picture of several days needs, a day at a time, so that nobody waits for all of it meanwhile.

    Whether it is all read: not where the service has ended.
    """
    quantity = asked.metric.quantity
    rate_ms = fitting_ms(cache, asked, max(cache.store.user_count, 1), asked.end_ms)
    key = MatrixKey(quantity, asked.statistic, rate_ms)
    range_ms = (asked.start_ms // rate_ms * rate_ms, -(-asked.end_ms // rate_ms) * rate_ms)
    for day_ms in range(range_ms[0] // DAY_MS * DAY_MS, range_ms[1], DAY_MS):
        start_ms, end_ms = max(day_ms, range_ms[0]), min(day_ms + DAY_MS, range_ms[1])
        if ended.wait(_PAUSE_S):
            return False
        with cache.lock:
            cache.know(key)
            cache.matrix(key, start_ms, max(1, (end_ms - start_ms) // rate_ms))
            cache.totals.over(quantity, (start_ms, end_ms))
    return True
