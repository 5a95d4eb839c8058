"""Where buckets of a place's clock begin: days from midnight to midnight, weeks from Monday to Monday."""

from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from analytics.frames.kernel import Ints
from contract.times import DAY_MS, HOUR_MS, WEEK_MS

_MONDAY_MS: Final = 4 * DAY_MS
"""From the epoch, a Thursday, to the first Monday after it."""


def shifted_edges(start_ms: int, end_ms: int, rate_ms: int, offset_ms: int) -> Ints:
    """The multiples of a rate, moved by an offset, from the one before a range to its end; epoch ms, ascending."""
    first_ms = (start_ms - offset_ms) // rate_ms * rate_ms + offset_ms
    edges: Ints = np.arange(first_ms, max(end_ms, first_ms + 1), rate_ms, dtype=np.int64)
    return edges


def clock_edges(start_ms: int, end_ms: int, rate_ms: int, offset_ms: int, zone: ZoneInfo) -> Ints:
    """The moments at which a place's clock shows a multiple of the rate, from the one before the range to its end.

    Multiples are counted from 1970-01-01T00:00 on that clock, of weeks from Monday, 1970-01-05. A day is from midnight
    to midnight, so of 23 or 25 hours where clocks change. What the clock skips begins where it goes on. What it shows
    twice begins twice where buckets are of an hour at most, otherwise at the first.
    """
    if rate_ms % WEEK_MS == 0:
        offset_ms += _MONDAY_MS
    # The clock is less than a day off UTC, and changes by less than a day.
    first_ms = ((start_ms - 2 * DAY_MS - offset_ms) // rate_ms - 1) * rate_ms + offset_ms
    shown = pd.DatetimeIndex(np.arange(first_ms, end_ms + 2 * DAY_MS, rate_ms).view("M8[ms]"))
    edges = _moments(shown, zone, first=True)
    if rate_ms <= HOUR_MS:
        edges = np.concatenate([edges, _moments(shown, zone, first=False)])
    edges = np.unique(edges)
    begin = max(int(np.searchsorted(edges, start_ms, side="right")) - 1, 0)
    end = max(int(np.searchsorted(edges, end_ms, side="left")), begin + 1)
    kept: Ints = edges[begin:end]
    return kept


def _moments(shown: pd.DatetimeIndex, zone: ZoneInfo, *, first: bool) -> Any:
    local = shown.tz_localize(zone, ambiguous=np.full(len(shown), first), nonexistent="shift_forward")
    return local.as_unit("ms").asi8
