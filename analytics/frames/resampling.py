"""The exact resampling of frames of windows: what a service answers with, and what a notebook calls.

Buckets are of UTC, moved by an offset, or of a place's clock: days from midnight to midnight, weeks from
Monday to Monday.
"""

from collections.abc import Callable, Sequence
from datetime import tzinfo
from functools import partial
from numbers import Integral
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.aggregation import AnyFrame, check_frame, example_of, is_dask, reduced
from analytics.frames.arguments import Duration, duration_ms, is_of_weeks, signed_ms, whole, zone_name
from analytics.frames.checking import numbers_of, with_samples
from analytics.frames.columns import NUMBERS
from analytics.frames.frame import FrameError, frame_of_columns, moments_of, packed, unpacked, unpacked_runs
from analytics.frames.kernel import Ints, merge, order_of
from analytics.frames.labels import factorize_labels, taken
from contract.times import DAY_MS, HOUR_MS, WEEK_MS, format_duration

_MONDAY_MS: Final = 4 * DAY_MS
"""From the epoch, a Thursday, to the first Monday after it."""

EVERYTHING_MS: Final = 100_000 * DAY_MS
"""The widest bucket in ms: one for everything."""
RAW_MS: Final = 1
"""The rate in ms at which windows stay as they came: only those that end in the same millisecond merge."""


def resample(
    frame: AnyFrame, rate: Duration | int, *, tz: str | tzinfo | None = None, offset: Duration | None = None
) -> AnyFrame:
    """The frame in buckets of `rate`, a duration such as `15m` or pandas' `15min`, aligned to the epoch.

    With `tz`, a time zone such as `Europe/Berlin`, buckets follow the clock there: days from midnight to midnight, of
    23 or 25 hours where clocks change, and weeks from Monday to Monday. `offset`, a duration below the rate, with a
    minus in front for earlier, moves where buckets begin: `6h` for days from six to six. The weeks of pandas' `W` are
    from Monday to Sunday without `tz` too, in UTC; those of `1w` are then aligned to the epoch, a Thursday.

    Exact: means are weighted by samples, variances are pooled (the one between windows counts), extremes are
    those of all samples, histograms add up. Each user and core by itself, sorted by user, core and time; only
    buckets with samples. Rows of one bucket are added up in their order: equal frames give equal bits. `rate` may also
    be a number of milliseconds. A Dask DataFrame is resampled when it is computed, and sorted within its partitions,
    each of which then has all of a user. Raises FrameError for what is not a frame of windows, and for a wrong rate,
    zone or offset.
    """
    check_frame(frame)
    rate_ms = _rate_ms(rate)
    if tz is None and is_of_weeks(rate):
        tz = "UTC"
    key = (
        partial(_floored, width=pd.Timedelta(rate_ms, "ms"))
        if tz is None and offset is None
        else _placing(rate_ms, tz, offset)
    )
    return _on_dask(frame, key) if is_dask(frame) else _in_slices(frame, key)


def _rate_ms(rate: Duration | int) -> int:
    if isinstance(rate, Integral) and not isinstance(rate, bool):
        return whole(rate, "rate", "from 1 ms to 100,000 days", lambda ms: RAW_MS <= ms <= EVERYTHING_MS)
    return duration_ms(rate, "rate")  # type: ignore[arg-type]  # what is no duration either is refused there


def resample_rows(
    rows: pd.DataFrame, series: Ints, labels: pd.DataFrame, rate_ms: int, edges: Sequence[int] | None = None
) -> pd.DataFrame:
    """What `resample`, or `resample_at`, makes of a frame behind its checks: for who has rows that were checked.

    `series` says whose each row is, by the number of its row in `labels`, which are in order and may have no columns.
    Of the columns of numbers `rows` may have those alone that are wanted: `count`, and `mean` where there is `var`.
    They are of one slice (`analytics.frames.aggregation.slice_rows`).
    """
    count = rows["count"].to_numpy()
    if len(count) and count.min() <= 0:
        rows, series = rows[count > 0], series[count > 0]
    numbers = {name: rows[name].to_numpy() for name in NUMBERS if name in rows}
    key = partial(_floored, width=pd.Timedelta(rate_ms, "ms"))
    if edges is not None:
        key = partial(_placed, edges=np.asarray(edges, np.int64))
    return _bucketed(rows, numbers, series, labels, key(moments_of(rows)))


def resample_at(frame: pd.DataFrame, edges: Sequence[int]) -> pd.DataFrame:
    """The frame in buckets that begin at `edges` (epoch ms, ascending), each up to the next: days of a place, say.

    Exact as `resample` is. Raises FrameError for what is not a frame of windows, ValueError for a window before the
    first edge.
    """
    return _in_slices(frame, partial(_placed, edges=np.asarray(edges, np.int64)))


def _placing(rate_ms: int, tz: str | tzinfo | None, offset: Duration | None) -> "_Key":
    """The key of buckets that follow a clock, or are moved."""
    offset_ms = 0 if offset is None else signed_ms(offset, "offset")
    if abs(offset_ms) >= rate_ms:
        raise FrameError(f"offset: expected less than the rate, {format_duration(rate_ms)}, got {offset!r}")
    if tz is None:
        return partial(_within, edges_of=partial(shifted_edges, rate_ms=rate_ms, offset_ms=offset_ms))
    zone = ZoneInfo(zone_name(tz))
    return partial(_within, edges_of=partial(clock_edges, rate_ms=rate_ms, offset_ms=offset_ms, zone=zone))


def _within(index: pd.DatetimeIndex, *, edges_of: Callable[[int, int], Ints]) -> Ints:
    time = index.asi8
    return _placed(index, edges=edges_of(int(time.min()), int(time.max()) + 1)) if len(time) else time


def _floored(index: pd.DatetimeIndex, *, width: pd.Timedelta) -> Ints:
    starts: Ints = index.floor(width).asi8
    return starts


def _placed(index: pd.DatetimeIndex, *, edges: Ints) -> Ints:
    place = np.searchsorted(edges, index.asi8, side="right") - 1
    if len(place) and place.min() < 0:
        raise ValueError(f"expected windows from {edges[0]} on, got one at {index.asi8.min()}")
    starts: Ints = edges[place]
    return starts


def _all_time(index: pd.DatetimeIndex) -> Ints:
    return np.zeros(len(index), np.int64)


_Key = Callable[[pd.DatetimeIndex], Ints]
"""From the moments of rows to the starts of their buckets, epoch ms."""


def over_all_time(frame: pd.DataFrame) -> pd.DataFrame:
    """One window for each user and core of a frame, of all its samples, as `resample` has them."""
    return _in_slices(frame, _all_time)


def _in_slices(frame: pd.DataFrame, key: _Key) -> pd.DataFrame:
    attrs = dict(frame.attrs)
    buckets: pd.DataFrame = reduced(frame, partial(_resampled, key=key), partial(_joined, key=key), "resampling")
    buckets.attrs = attrs
    return buckets


def _resampled(part: pd.DataFrame, key: _Key) -> pd.DataFrame:
    frame = with_samples(part)
    numbers = numbers_of(frame)
    series, labels = factorize_labels(frame)
    bucket = key(moments_of(frame))
    return _bucketed(frame, numbers, series, labels, bucket)


def _bucketed(
    rows: pd.DataFrame, numbers: dict[str, Any], series: Ints, labels: pd.DataFrame, bucket: Ints
) -> pd.DataFrame:
    """The frame of rows that are merged by series and bucket; `numbers` are their columns of numbers."""
    keys = [series, bucket] if len(labels.columns) else [bucket]
    histograms = None
    if "histogram" in rows:
        histograms, numbers["approximated"] = unpacked_runs(rows, keys)
    merged = merge(numbers, keys, histograms)
    *series_of, start = merged.keys
    columns = taken(labels, *series_of) if len(labels.columns) else {}
    columns |= {name: merged.numbers[name] for name in NUMBERS if name in merged.numbers}
    if merged.histograms is not None:
        columns["histogram"] = packed(merged.histograms, len(start))
    return frame_of_columns(columns, start)


def _joined(parts: Sequence[pd.DataFrame], key: _Key) -> pd.DataFrame:
    del key  # Where a bucket begins is in it.
    return parts[0] if len(parts) == 1 else regrouped(pd.concat(parts))


def regrouped(buckets: pd.DataFrame) -> pd.DataFrame:
    """Rows that `resample` made of parts of a frame as it makes them of the whole frame.

    Rows that belong together are merged. A row that is alone is taken as it is, its histogram unread: that is most of
    them where parts are of different users or times.
    """
    series, labels = factorize_labels(buckets)
    start = moments_of(buckets).asi8
    order = order_of([series, start])
    rows = np.arange(len(buckets)) if order is None else order
    differs = (np.diff(series[rows]) != 0) | (np.diff(start[rows]) != 0)
    alone = np.empty(len(buckets), np.bool_)
    alone[rows] = np.append(True, differs) & np.append(differs, True) if len(rows) else True
    if "histogram" in buckets:
        length = pc.fill_null(pc.binary_length(pa.array(buckets["histogram"], pa.large_binary())), 0)
        alone &= np.asarray(length) > 0
    if alone.all():
        return _taken(buckets, labels, series, rows)
    met = buckets[~alone]
    histograms, numbers = None, numbers_of(met)
    if "histogram" in met:
        histograms, numbers["approximated"] = unpacked(met)
    merged = merge(numbers, [series[~alone], start[~alone]], histograms)
    columns: dict[str, Any] = dict(merged.numbers)
    if merged.histograms is not None:
        columns["histogram"] = packed(merged.histograms, len(merged.keys[0]))
    together = pd.concat([buckets.loc[alone, [*columns]], frame_of_columns(columns, merged.keys[1])])
    series = np.concatenate([series[alone], merged.keys[0]])
    order = order_of([series, moments_of(together).asi8])
    return _taken(together, labels, series, np.arange(len(together)) if order is None else order)


def _taken(buckets: pd.DataFrame, labels: pd.DataFrame, series: Ints, rows: Ints) -> pd.DataFrame:
    """Some rows of buckets, in that order, with the labels of their series."""
    columns: dict[str, Any] = taken(labels, series[rows]) if len(labels.columns) else {}
    columns |= {name: buckets[name].to_numpy()[rows] for name in NUMBERS}
    if "histogram" in buckets:
        columns["histogram"] = buckets["histogram"].array.take(rows)
    return frame_of_columns(columns, moments_of(buckets).asi8[rows])


def _on_dask(frame: AnyFrame, key: _Key) -> AnyFrame:
    """Each partition by itself, then, where what belongs together has met, again."""
    work = partial(_partition, key=key)
    example = work(example_of(frame))
    parts = frame.map_partitions(work, meta=example)
    met = parts.shuffle("user") if "user" in example else parts.shuffle(on_index=True)
    return met.map_partitions(partial(_partition, key=key, named=True), meta=_named(example))


_NAMES: Final = ("user", "metric")


def _partition(part: pd.DataFrame, *, key: _Key, named: bool = False) -> pd.DataFrame:
    buckets = _resampled(part, key)
    buckets.attrs = dict(part.attrs)
    # Between partitions names are texts: each has categories of its own, which do not fit together.
    return _named(buckets) if named else buckets.astype({name: "str" for name in _NAMES if name in buckets})


def _named(buckets: pd.DataFrame) -> pd.DataFrame:
    return buckets.assign(**{name: pd.Categorical(buckets[name].astype("str")) for name in _NAMES if name in buckets})


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
