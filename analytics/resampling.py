"""The exact resampling of frames of windows."""

import pandas as pd

from analytics.frames import from_frame, to_frame
from analytics.windows import merge
from contract.durations import parse_duration

__all__ = ["resample"]


def resample(frame: pd.DataFrame, rate: str) -> pd.DataFrame:
    """The frame in buckets of `rate`, an InfluxQL duration of 1s to 52w such as `15m`, aligned to the epoch.

    Exact: means are weighted by samples, variances are pooled (the one between windows counts), extremes are
    those of all samples, histograms add up. Each user and core by itself, sorted by user, core and time; only
    buckets with samples. Raises FrameError for what is not a frame of windows, ValueError for a wrong rate.
    """
    rate_ms = parse_duration(rate)
    windows, labels = from_frame(frame)
    buckets = to_frame(merge(windows, rate_ms=rate_ms), labels)
    buckets.attrs = dict(frame.attrs)
    return buckets
