"""Windows as DataFrames, and their exact resampling.

A frame of windows has the index `time` (UTC, milliseconds: the end of a window, or the start of a bucket after
resampling) and the columns

==============  =======  ==========================================================================
column          dtype    what
==============  =======  ==========================================================================
`user`          str      whose; left out where the frame is of one user, or of all together
`core`          Int64    which core, missing (`<NA>`) for the whole machine; left out where none is named
`count`         int64    samples, above 0
`mean`          float64  in the unit of the metric; `1` is a share in [0, 1]
`var`           float64  population variance, in the square of that unit
`min`, `max`    float64  extremes
`approximated`  int64    how many of `count` came without extremes, which are then approximate
==============  =======  ==========================================================================

Histograms stay out of frames: quantiles are taken where they are, of `analytics.windows.Windows`.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.windows import Windows, merge
from contract.durations import parse_duration

__all__ = ["FrameError", "from_frame", "resample", "to_frame"]

_LABELS: Final = ("user", "core")
_NUMBERS: Final = {
    "count": "count",
    "mean": "mean",
    "var": "variance",
    "min": "minimum",
    "max": "maximum",
    "approximated": "approximated",
}
_WHOLE: Final = ("count", "approximated")


class FrameError(ValueError):
    """A DataFrame that is not a frame of windows; the message says what would be right."""


def to_frame(windows: Windows, labels: pd.DataFrame | None = None) -> pd.DataFrame:
    """The frame of `windows`; histograms are left out.

    Row i of `labels` (columns `user`, `core` or both) names series i; without it nothing does.
    """
    index = pd.DatetimeIndex(windows.time.astype("datetime64[ms]"), name="time").tz_localize("UTC")
    frame = pd.DataFrame({column: getattr(windows, name) for column, name in _NUMBERS.items()}, index=index)
    if labels is None:
        return frame
    named = labels.iloc[windows.series].set_axis(index)
    if "core" in named:
        named = named.astype({"core": "Int64"})
    return pd.concat([named, frame], axis=1)


def from_frame(frame: pd.DataFrame) -> tuple[Windows, pd.DataFrame]:
    """The windows of a frame, without histograms, and the labels of their series for `to_frame`.

    Series are numbered in the order of user and core, the whole machine after its cores. Rows without samples
    (`count` 0 or missing, as a regular grid has) are left out, as are columns that a frame of windows does not
    have. Raises FrameError where the index or a column is not what a frame of windows has.
    """
    _check(frame)
    frame = frame[frame["count"].fillna(0) > 0]
    keys = [name for name in _LABELS if name in frame]
    series, labels = _series(frame[keys])
    columns = {name: _column(frame[column], whole=column in _WHOLE) for column, name in _NUMBERS.items()}
    time = pd.DatetimeIndex(frame.index).tz_convert("UTC").as_unit("ms").asi8
    return Windows(series=series, time=time, **columns, histograms=None), labels


def resample(frame: pd.DataFrame, rate: str) -> pd.DataFrame:
    """The frame in buckets of `rate`, an InfluxQL duration of 1s to 52w such as `15m`, aligned to the epoch.

    Exact: means are weighted by samples, variances are pooled (the one between windows counts), extremes are
    those of all samples. Each user and core by itself, sorted by user, core and time; only buckets with
    samples. Raises FrameError for what is not a frame of windows, ValueError for a wrong rate.
    """
    rate_ms = parse_duration(rate)
    windows, labels = from_frame(frame)
    return to_frame(merge(windows, rate_ms=rate_ms), labels)


def _check(frame: pd.DataFrame) -> None:
    if not isinstance(frame.index, pd.DatetimeIndex) or frame.index.tz is None:
        raise FrameError("the index of a frame of windows is a DatetimeIndex with a time zone, such as UTC")
    if frame.index.hasnans:
        raise FrameError("the index has a moment that is missing (NaT)")
    missing = [column for column in _NUMBERS if column not in frame]
    if missing:
        raise FrameError(f"a frame of windows has the columns {', '.join(_NUMBERS)}; {', '.join(missing)} missing")
    wrong = [column for column in _NUMBERS if not pd.api.types.is_numeric_dtype(frame[column])]
    if wrong:
        raise FrameError(f"{', '.join(wrong)}: numbers are right")


def _series(labels: pd.DataFrame) -> tuple[npt.NDArray[np.int64], pd.DataFrame]:
    """The number of each row's series, and the labels of each series."""
    if labels.columns.empty:
        return np.zeros(len(labels), np.int64), pd.DataFrame(index=[0])
    groups = labels.groupby(list(labels.columns), dropna=False)
    number = np.asarray(groups.ngroup(), np.int64)
    _, first = np.unique(number, return_index=True)
    return number, labels.iloc[first]


def _column(values: "pd.Series[Any]", *, whole: bool) -> npt.NDArray[Any]:
    if values.isna().any():
        raise FrameError(f"{values.name} is missing in a row that has samples")
    return values.to_numpy(np.int64 if whole else np.float64)
