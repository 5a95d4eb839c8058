"""The exact resampling of frames of windows."""

from functools import partial

import pandas as pd

from analytics.frames.aggregation import AnyFrame, bucket, example_of, gather, is_dask
from analytics.frames.columns import merge
from analytics.frames.frame import LABELS, from_frame, to_frame
from contract.times import parse_duration


def resample(frame: AnyFrame, rate: str) -> AnyFrame:
    """The frame in buckets of `rate`, an InfluxQL duration of 1s to 52w such as `15m`, aligned to the epoch.

    Exact: means are weighted by samples, variances are pooled (the one between windows counts), extremes are
    those of all samples, histograms add up. Each user and core by itself, sorted by user, core and time; only
    buckets with samples. A Dask DataFrame is resampled when it is computed, and sorted within its partitions, each of
    which then has all of a user. Raises FrameError for what is not a frame of windows, ValueError for a wrong rate.
    """
    rate_ms = parse_duration(rate)
    if is_dask(frame):
        return _on_dask(frame, rate_ms)
    histograms = "histogram" in frame
    key = partial(bucket, rate_ms=rate_ms)
    windows, labels = gather(frame, key, labels=LABELS, histograms=histograms, what=f"resampling to {rate}")
    buckets = to_frame(windows, labels if len(labels.columns) else None)
    buckets.attrs = dict(frame.attrs)
    return buckets


def _on_dask(frame: AnyFrame, rate_ms: int) -> AnyFrame:
    """Each partition by itself, then, where what belongs together has met, again."""
    work = partial(_resampled, rate_ms=rate_ms)
    example = work(example_of(frame))
    parts = frame.map_partitions(work, meta=example)
    met = parts.shuffle("user") if "user" in example else parts.shuffle(on_index=True)
    return met.map_partitions(partial(_resampled, rate_ms=rate_ms, named=True), meta=_named(example))


def _resampled(part: pd.DataFrame, *, rate_ms: int, named: bool = False) -> pd.DataFrame:
    windows, labels = from_frame(part)
    buckets = to_frame(merge(windows, rate_ms=rate_ms), labels if len(labels.columns) else None)
    buckets.attrs = dict(part.attrs)
    # Between partitions names are texts: each has categories of its own, which do not fit together.
    return _named(buckets) if named or "user" not in buckets else buckets.astype({"user": "str"})


def _named(buckets: pd.DataFrame) -> pd.DataFrame:
    if "user" not in buckets:
        return buckets
    return buckets.assign(user=pd.Categorical(buckets["user"].astype("str")))
