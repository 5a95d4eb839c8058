"""The exact resampling of frames of windows: what a service answers with, and what a notebook calls."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, example_of, is_dask, reduced
from analytics.frames.columns import NUMBERS
from analytics.frames.frame import LABELS, checked, factorize_labels, packed, taken, unpacked, utc
from analytics.frames.histograms import merge_histograms
from analytics.frames.merging import Ints, merge_moments
from contract.times import parse_duration

RAW: Final = pd.Timedelta(1, "ms")
"""The width at which windows stay as they came: only those that end in the same millisecond merge."""


def resample(frame: AnyFrame, rate: str | pd.Timedelta) -> AnyFrame:
    """The frame in buckets of `rate`, an InfluxQL duration of 1s to 52w such as `15m`, aligned to the epoch.

    Exact: means are weighted by samples, variances are pooled (the one between windows counts), extremes are
    those of all samples, histograms add up. Each user and core by itself, sorted by user, core and time; only
    buckets with samples. Rows of one bucket are added up in their order: equal frames give equal bits. `rate` may also
    be a Timedelta of whole milliseconds. A Dask DataFrame is resampled when it is computed, and sorted within its
    partitions, each of which then has all of a user. Raises FrameError for what is not a frame of windows, ValueError
    for a wrong rate.
    """
    width = rate if isinstance(rate, pd.Timedelta) else pd.Timedelta(parse_duration(rate), "ms")
    if width < RAW or width % RAW:
        raise ValueError(f"expected a rate of whole milliseconds, at least 1, got {rate}")
    if is_dask(frame):
        return _on_dask(frame, width)
    return _resampled_in_slices(frame, width, f"resampling to {rate}")


def over_all_time(frame: pd.DataFrame) -> pd.DataFrame:
    """One window for each user and core of a frame, of all its samples, as `resample` has them."""
    return _resampled_in_slices(frame, None, "merging")


def _resampled_in_slices(frame: pd.DataFrame, width: pd.Timedelta | None, what: str) -> pd.DataFrame:
    attrs = dict(frame.attrs)
    wanted = [name for name in (*LABELS, *NUMBERS, "histogram") if name in frame]
    work = partial(_resampled, width=width)
    buckets = reduced(frame[wanted], work, partial(_joined, width=width), what)
    buckets.attrs = attrs
    return buckets


def _resampled(part: pd.DataFrame, width: pd.Timedelta | None) -> pd.DataFrame:
    frame = checked(part)
    series, labels = factorize_labels(frame)
    index = pd.DatetimeIndex(frame.index)
    bucket = np.zeros(len(frame), np.int64) if width is None else index.floor(width).asi8
    histograms = None
    if "histogram" in frame:
        histograms, approximated = unpacked(frame)
        frame = frame.assign(approximated=approximated)
    merged, place = merge_moments(frame, [series, bucket] if len(labels.columns) else [bucket])
    columns = taken(labels, _level(merged, 0)) if len(labels.columns) else {}
    columns |= {name: merged[name].to_numpy() for name in NUMBERS}
    if histograms is not None:
        columns["histogram"] = packed(merge_histograms(histograms, place, len(merged)), len(merged))
    return pd.DataFrame(columns, index=utc(_level(merged, -1)), copy=False)


def _level(merged: pd.DataFrame, level: int) -> Ints:
    return merged.index.get_level_values(level).to_numpy(np.int64)


def _joined(parts: Sequence[pd.DataFrame], width: pd.Timedelta | None) -> pd.DataFrame:
    return parts[0] if len(parts) == 1 else _resampled(pd.concat(parts), width)


def _on_dask(frame: AnyFrame, width: pd.Timedelta) -> AnyFrame:
    """Each partition by itself, then, where what belongs together has met, again."""
    work = partial(_partition, width=width)
    example = work(example_of(frame))
    parts = frame.map_partitions(work, meta=example)
    met = parts.shuffle("user") if "user" in example else parts.shuffle(on_index=True)
    return met.map_partitions(partial(_partition, width=width, named=True), meta=_named(example))


def _partition(part: pd.DataFrame, *, width: pd.Timedelta, named: bool = False) -> pd.DataFrame:
    buckets = _resampled(part, width)
    buckets.attrs = dict(part.attrs)
    # Between partitions names are texts: each has categories of its own, which do not fit together.
    return _named(buckets) if named or "user" not in buckets else buckets.astype({"user": "str"})


def _named(buckets: pd.DataFrame) -> pd.DataFrame:
    if "user" not in buckets:
        return buckets
    return buckets.assign(user=pd.Categorical(buckets["user"].astype("str")))
