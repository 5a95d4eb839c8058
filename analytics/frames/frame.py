"""Windows as DataFrames: the one shape that every function of this library takes and gives.

A frame of windows has the index `time` (UTC, milliseconds: the end of a window, or the start of a bucket after
resampling) and the columns

==============  ============  =====================================================================
column          dtype         what
==============  ============  =====================================================================
`user`          category      whose, a text; left out where the frame is of one user, or of all together
`core`          Int64         which core, missing (`<NA>`) for the whole machine; left out where none is named
`count`         int64         samples, above 0
`mean`          float64       in the unit of the metric; `1` is a share in [0, 1]
`var`           float64       population variance, in the square of that unit
`min`, `max`    float64       extremes
`approximated`  int64         how many of `count` came without extremes, which are then approximate
`histogram`     large_binary  optional: samples per bin, packed (`analytics.frames.packing`)
==============  ============  =====================================================================

A packed histogram is a few bytes a bin in use, in one Arrow buffer for the whole column
(`pd.ArrowDtype(pa.large_binary())`), so it travels over Arrow and Parquet as it is. `from_frame` turns it into
arrays, `to_frame` packs it. `attrs["metric"]`, where it is there, names the metric of the catalogue, which says how
values are placed into bins; without it they are shares in [0, 1].
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analytics.frames.columns import Histograms, Windows
from analytics.frames.packing import pack, unpack
from analytics.frames.standins import standins
from contract.histogram import LINEAR, Bins
from contract.metrics import NAMES

HISTOGRAM: Final = pd.ArrowDtype(pa.large_binary())
"""The dtype of the column `histogram`; `large` so that a column may exceed 2 GiB."""

LABELS: Final = ("user", "core")
NUMBERS: Final = {
    "count": "count",
    "mean": "mean",
    "var": "variance",
    "min": "minimum",
    "max": "maximum",
    "approximated": "approximated",
}
"""The columns of numbers, and the attribute of `Windows` that each holds."""
_WHOLE: Final = ("count", "approximated")


class FrameError(ValueError):
    """A DataFrame that is not what a function takes; the message says what would be right."""


class TooFewData(ValueError):
    """There are too few data for what was asked; the message, part of a sentence, says of what."""


def to_frame(windows: Windows, labels: pd.DataFrame | None = None) -> pd.DataFrame:
    """The frame of `windows`, with their histograms if they have any.

    Row i of `labels` (columns `user`, `core` or both) names series i; without it nothing does.
    """
    columns: dict[str, Any] = {}
    if labels is not None:
        if "user" in labels:
            users = pd.Categorical(labels["user"])
            codes = np.asarray(users.codes)[windows.series]
            columns["user"] = pd.Categorical.from_codes(codes, dtype=users.dtype)
        if "core" in labels:
            columns["core"] = labels["core"].astype("Int64").array.take(windows.series)
    columns |= {column: getattr(windows, name) for column, name in NUMBERS.items()}
    if windows.histograms is not None:
        columns["histogram"] = packed(windows.histograms, len(windows))
    index = pd.DatetimeIndex(windows.time.astype("datetime64[ms]"), name="time").tz_localize("UTC")
    return pd.DataFrame(columns, index=index, copy=False)


def from_frame(frame: pd.DataFrame, *, histograms: bool | None = None) -> tuple[Windows, pd.DataFrame]:
    """The windows of a frame, and the labels of their series for `to_frame`.

    Series are numbered in the order of user and core, the whole machine after its cores. Rows without samples
    (`count` 0 or missing, as a regular grid has) are left out, as are columns that a frame of windows does not
    have. By default the windows have histograms where the frame has the column. With `histograms=False` they have
    none, which is quicker; with True they always have: rows without one stand for samples with their mean
    and variance (`analytics.frames.standins`) and count as approximated. Raises FrameError where the index or a column
    is not what a frame of windows has.
    """
    _check(frame)
    count = frame["count"]
    if count.dtype != np.int64 or (count.to_numpy() <= 0).any():
        frame = frame[count.fillna(0) > 0]
    series, labels = _series(frame)
    columns = {name: _column(frame[column], whole=column in _WHOLE) for column, name in NUMBERS.items()}
    time = pd.DatetimeIndex(frame.index).tz_convert("UTC").as_unit("ms").asi8
    wanted = "histogram" in frame if histograms is None else histograms
    if not wanted:
        return Windows(series=series, time=time, **columns, histograms=None), labels
    stored, columns["approximated"] = _histograms(frame, columns)
    return Windows(series=series, time=time, **columns, histograms=stored), labels


def frame_of_values(values: pd.DataFrame, *, value: str = "value", metric: str = "cpuLoadAvg") -> pd.DataFrame:
    """The frame of windows of plain measurements: a window of one sample for each, which is exactly its value.

    `values` has the index `time` (with a time zone), the column named by `value`, in the unit of the metric, and,
    where there are several users, `user`; rows without a value are left out. Raises FrameError for another index,
    or for values outside the metric's range: [0, 1] for shares, otherwise at least 0.
    """
    _check_index(values)
    values = values[values[value].notna()]
    numbers = values[value].to_numpy(np.float64)
    quantity = NAMES[metric].quantity
    if len(numbers) and (numbers.min() < 0 or (quantity.bounded and numbers.max() > 1)):
        right = "shares in [0, 1] (divide percent by 100)" if quantity.bounded else "numbers of at least 0"
        raise FrameError(f"{value} has values from {numbers.min():g} to {numbers.max():g}; {right} are right")
    ones, zeros = np.ones(len(numbers), np.int64), np.zeros(len(numbers))
    _, _, histograms = standins(numbers, zeros, ones, quantity.bounded)
    columns: dict[str, Any] = {"user": pd.Categorical(values["user"])} if "user" in values else {}
    columns |= {"count": ones, "mean": numbers, "var": zeros, "min": numbers, "max": numbers.copy()}
    columns |= {"approximated": np.zeros(len(numbers), np.int64), "histogram": packed(histograms, len(numbers))}
    index = pd.DatetimeIndex(values.index, name="time").tz_convert("UTC").as_unit("ms")
    frame = pd.DataFrame(columns, index=index)
    frame.attrs = {"metric": metric, "unit": quantity.unit}
    return frame


def packed(histograms: Histograms, rows: int) -> pd.api.extensions.ExtensionArray:
    """The column `histogram` of a frame of `rows` rows; `histograms` are sorted by row."""
    array: pd.api.extensions.ExtensionArray = pd.array(
        pa.chunked_array([pack(histograms, rows, large=True)]), dtype=HISTOGRAM
    )
    return array


def in_order(users: Any) -> Any:
    """The same names, a Categorical of texts that sort by themselves instead of in the order they came in."""
    texts = users.rename_categories(users.categories.astype("str"))
    return texts.reorder_categories(texts.categories.sort_values())


def bins_of(frame: pd.DataFrame) -> Bins:
    """How the values of a frame are placed into bins: as its metric's, shares in [0, 1] where it names none."""
    named = NAMES.get(str(frame.attrs.get("metric")))
    return named.quantity.bins if named else LINEAR


def _check_index(frame: pd.DataFrame) -> None:
    if not isinstance(frame.index, pd.DatetimeIndex) or frame.index.tz is None:
        raise FrameError("the index of a frame of windows is a DatetimeIndex with a time zone, such as UTC")
    if frame.index.hasnans:
        raise FrameError("the index has a moment that is missing (NaT)")


def _check(frame: pd.DataFrame) -> None:
    _check_index(frame)
    missing = [column for column in NUMBERS if column not in frame]
    if missing:
        raise FrameError(f"a frame of windows has the columns {', '.join(NUMBERS)}; {', '.join(missing)} missing")
    wrong = [column for column in NUMBERS if not pd.api.types.is_numeric_dtype(frame[column])]
    if wrong:
        raise FrameError(f"{', '.join(wrong)}: numbers are right")


def _series(frame: pd.DataFrame) -> tuple[npt.NDArray[np.int64], pd.DataFrame]:
    """The number of each row's series, and the labels of each series."""
    number = np.zeros(len(frame), np.int64)
    labels: dict[str, Any] = {}
    for name in LABELS:
        if name in frame:
            codes, labels[name] = _ranked(frame[name])
            number = number * (len(labels[name]) + 1) + codes
    if not labels:
        return number, pd.DataFrame(index=[0])
    found, number = np.unique(number, return_inverse=True) if len(frame) else (number, number)
    named = {}
    for name in reversed(labels):
        found, codes = np.divmod(found, len(labels[name]) + 1)
        named[name] = labels[name].take(np.where(codes < len(labels[name]), codes, -1), allow_fill=True)
    return number, pd.DataFrame({name: named[name] for name in labels})


def _ranked(column: "pd.Series[Any]") -> tuple[npt.NDArray[np.int64], Any]:
    """The rank of each label among the different ones, and these in order; what is missing ranks last."""
    coded = pd.Categorical(column).remove_unused_categories()
    order = np.argsort(coded.categories, kind="stable")
    rank = np.empty(len(order) + 1, np.int64)
    rank[order] = np.arange(len(order))
    rank[-1] = len(order)
    if column.name == "core":
        return rank[np.asarray(coded.codes)], coded.categories[order].astype("Int64").array
    categories = coded.categories[order].astype("str")
    return rank[np.asarray(coded.codes)], pd.Categorical(categories, categories=categories)


def _column(values: "pd.Series[Any]", *, whole: bool) -> npt.NDArray[Any]:
    if values.isna().any():
        raise FrameError(f"{values.name} is missing in a row that has samples")
    return values.to_numpy(np.int64 if whole else np.float64)


def _histograms(frame: pd.DataFrame, columns: dict[str, npt.NDArray[Any]]) -> tuple[Histograms, npt.NDArray[np.int64]]:
    """The histograms of all rows, stand-ins among them, and how many samples of each row are approximated."""
    found = _unpacked(frame)
    size = np.bincount(found.row, minlength=len(frame))
    without = np.flatnonzero(size == 0)
    approximated = columns["approximated"]
    if not len(without):
        return found, approximated
    mean, variance, count = (columns[name][without] for name in ("mean", "variance", "count"))
    extremes = columns["minimum"][without], columns["maximum"][without]
    _, _, made = standins(mean, variance, count, bins_of(frame) is LINEAR, extremes)
    row = np.concatenate([found.row, without[made.row]])
    order = np.argsort(row, kind="stable")
    stacked = Histograms(
        row[order],
        np.concatenate([found.bin, made.bin])[order],
        np.concatenate([found.count, made.count])[order],
    )
    approximated = approximated.copy()
    # A single sample, or samples all alike, are known though nothing more was said of them.
    approximated[without] = np.where((variance > 0) & (count > 1), count, approximated[without])
    return stacked, approximated


def _unpacked(frame: pd.DataFrame) -> Histograms:
    if "histogram" not in frame:
        return Histograms.empty()
    column = pa.array(frame["histogram"], pa.large_binary())
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.large_binary())
    try:
        return unpack(column)
    except ValueError as error:
        raise FrameError(f"histogram has a value that is not a packed histogram: {error}") from None
