"""The utilization of each user and day as counts by bin: what quantiles and the bootstrap over days are made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.aggregation import numbered_users
from analytics.frames.columns import merge
from analytics.frames.frame import FrameError, from_frame
from contract.histogram import LINEAR
from contract.times import DAY_MS

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_MEAN_BINS: Final = 200
"""Means are counted in steps of half a percent."""
_ROWS_AT_ONCE: Final = 400_000


@dataclass(frozen=True, slots=True)
class Days:
    """The days of some users: rows sorted by user and day."""

    users: list[Any]
    user: Ints
    """Of each row, its place in `users`."""
    day: Ints
    """Days since the epoch (UTC)."""
    counts: Float32s
    """Samples in each bin of utilization: shape (rows, bins)."""
    values: Floats
    """The utilization that stands for each bin, in [0, 1]."""


def machines(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of whole machines that have a value; raises FrameError for what cannot be read so."""
    if not isinstance(frame.index, pd.DatetimeIndex) or frame.index.tz is None:
        raise FrameError("the index is to be a DatetimeIndex with a time zone, such as UTC")
    if "mean" not in frame or not pd.api.types.is_numeric_dtype(frame["mean"]):
        raise FrameError("the column mean, utilization as a share in [0, 1], is needed")
    if "core" in frame and frame["core"].notna().any():
        frame = frame[frame["core"].isna()]
        if frame.empty:
            raise FrameError("all rows are of single cores; those of whole machines, without a core, are right")
    seen = frame["mean"].notna() & (frame["count"].fillna(0) > 0 if "count" in frame else True)
    if not seen.all():
        frame = frame[seen]
    if frame.empty:
        raise FrameError("no row has a value: at least one is needed")
    low, high = frame["mean"].min(), frame["mean"].max()
    if low < 0 or high > 1:
        raise FrameError(f"mean reaches from {low:g} to {high:g}; utilization as a share in [0, 1] is right")
    return frame


def days_of(frame: pd.DataFrame) -> Iterator[Days]:
    """The days of all users, some users at a time, in the order of users; `frame` is of whole machines."""
    codes, named = numbered_users(frame)
    users = [None] if named is None else named
    order = np.argsort(codes, kind="stable") if (np.diff(codes) < 0).any() else None
    if order is not None:
        frame, codes = frame.iloc[order], codes[order]
    ends = np.searchsorted(codes, np.arange(len(users)), side="right")
    first_user, first_row = 0, 0
    while first_user < len(users):
        last_user = max(int(np.searchsorted(ends, first_row + _ROWS_AT_ONCE, side="right")), first_user + 1)
        rows = slice(first_row, int(ends[last_user - 1]))
        part, user = frame.iloc[rows], codes[rows] - first_user
        read = _from_histograms if "histogram" in frame else _from_means
        yield read(part, user, users[first_user:last_user])
        first_user, first_row = last_user, rows.stop


def _from_histograms(frame: pd.DataFrame, user: Ints, users: list[Any]) -> Days:
    windows, _ = from_frame(frame.drop(columns=["user", "core"], errors="ignore"), histograms=True)
    merged = merge(windows, series=user, rate_ms=DAY_MS)
    histograms = merged.histograms
    assert histograms is not None
    bins = LINEAR.last - LINEAR.first + 1
    place = histograms.row * bins + (histograms.bin - LINEAR.first)
    counts = np.bincount(place, histograms.count, len(merged) * bins).reshape(-1, bins)
    values = np.array([LINEAR.value(index) for index in range(LINEAR.first, LINEAR.last + 1)])
    return Days(users, merged.series, merged.time // DAY_MS, counts.astype(np.float32), values)


def _from_means(frame: pd.DataFrame, user: Ints, users: list[Any]) -> Days:
    day = pd.DatetimeIndex(frame.index).as_unit("ms").asi8 // DAY_MS
    first, last = int(day.min()), int(day.max())
    key, row = np.unique(user * (last - first + 1) + (day - first), return_inverse=True)
    bin_ = np.minimum((frame["mean"].to_numpy(np.float64) * _MEAN_BINS).astype(np.int64), _MEAN_BINS - 1)
    weight = frame["count"].fillna(0).to_numpy(np.float64) if "count" in frame else np.ones(len(frame))
    counts = np.bincount(row * _MEAN_BINS + bin_, weight, len(key) * _MEAN_BINS).reshape(-1, _MEAN_BINS)
    values = (np.arange(_MEAN_BINS) + 0.5) / _MEAN_BINS
    return Days(users, key // (last - first + 1), key % (last - first + 1) + first, counts.astype(np.float32), values)
