"""The exact resampling of frames of windows: what a service answers with, and what a notebook calls."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, example_of, is_dask, reduced
from analytics.frames.columns import NUMBERS
from analytics.frames.frame import factorize_labels, frame_of_columns, numbers_of, packed, taken, unpacked, with_samples
from analytics.frames.kernel import merge
from contract.times import parse_duration

RAW: Final = 1
"""The rate in ms at which windows stay as they came: only those that end in the same millisecond merge."""


def resample(frame: AnyFrame, rate: str | int) -> AnyFrame:
    """The frame in buckets of `rate`, an InfluxQL duration of 1s to 52w such as `15m`, aligned to the epoch.

    Exact: means are weighted by samples, variances are pooled (the one between windows counts), extremes are
    those of all samples, histograms add up. Each user and core by itself, sorted by user, core and time; only
    buckets with samples. Rows of one bucket are added up in their order: equal frames give equal bits. `rate` may also
    be a number of milliseconds. A Dask DataFrame is resampled when it is computed, and sorted within its partitions,
    each of which then has all of a user. Raises FrameError for what is not a frame of windows, ValueError for a wrong
    rate.
    """
    rate_ms = rate if isinstance(rate, int) else parse_duration(rate)
    if rate_ms < RAW:
        raise ValueError(f"expected a rate of at least 1 ms, got {rate}")
    width = pd.Timedelta(rate_ms, "ms")
    return _on_dask(frame, width) if is_dask(frame) else _in_slices(frame, width)


def over_all_time(frame: pd.DataFrame) -> pd.DataFrame:
    """One window for each user and core of a frame, of all its samples, as `resample` has them."""
    return _in_slices(frame, None)


def _in_slices(frame: pd.DataFrame, width: pd.Timedelta | None) -> pd.DataFrame:
    attrs = dict(frame.attrs)
    buckets: pd.DataFrame = reduced(
        frame, partial(_resampled, width=width), partial(_joined, width=width), "resampling"
    )
    buckets.attrs = attrs
    return buckets


def _resampled(part: pd.DataFrame, width: pd.Timedelta | None) -> pd.DataFrame:
    frame = with_samples(part)
    numbers = numbers_of(frame)
    series, labels = factorize_labels(frame)
    bucket = np.zeros(len(frame), np.int64) if width is None else pd.DatetimeIndex(frame.index).floor(width).asi8
    histograms = None
    if "histogram" in frame:
        histograms, numbers["approximated"] = unpacked(frame)
    merged = merge(numbers, [series, bucket] if len(labels.columns) else [bucket], histograms)
    *series_of, start = merged.keys
    columns = taken(labels, *series_of) if len(labels.columns) else {}
    columns |= {name: merged.numbers[name] for name in NUMBERS}
    if merged.histograms is not None:
        columns["histogram"] = packed(merged.histograms, len(start))
    return frame_of_columns(columns, start)


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
