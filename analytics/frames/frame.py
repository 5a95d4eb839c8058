"""Windows as DataFrames: the one shape that every function of this library takes and gives.

In every answer what a row is of is a column (`user`, `core`, `metric`, `cluster`), never a level of the index. The
index is `time` where each row has a moment, otherwise 0 to n - 1. `user` is a category.

A frame of windows has the index `time` (UTC, milliseconds: the end of a window, or the start of a bucket after
resampling) and the columns

==============  ============  =====================================================================
column          dtype         what
==============  ============  =====================================================================
`user`          category      whose, a text; left out where the frame is of one user, or of all together
`os_type`,      category      of which system, or version of one, texts; there where users are grouped so
`os_version`
`metric`        category      of which metric of the catalogue; left out where `attrs["metric"]` says so alone
`core`          Int64         which core, missing (`<NA>`) for the whole host; left out where none is named
`device`        category      which disk or interface, missing for the whole host; left out where none is named
`cores`         Int64         optional: how many the host had at the time; `resample` leaves it out
`count`         int64         samples, above 0
`mean`          float64       in the unit of the metric; `1` is a share in [0, 1]
`var`           float64       population variance, in the square of that unit
`min`, `max`    float64       extremes
`approximated`  int64         how many of `count` came without extremes, which are then approximate
`histogram`     large_binary  optional: samples per bin, packed (`analytics.frames.packing`)
==============  ============  =====================================================================

A packed histogram is a few bytes a bin in use, in one Arrow buffer for the whole column
(`pd.ArrowDtype(pa.large_binary())`), so it travels over Arrow and Parquet as it is. The metric says how values are
placed into bins. What sources answer names it in the column `metric`, which pandas keeps on join, merge and concat, as
it does not keep `attrs`; without either, values are shares in [0, 1]. `from_frame` gives the plain arrays of a frame,
`to_frame` the frame of such.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.arguments import FrameError as FrameError  # noqa: PLC0414
from analytics.frames.arguments import TooFewData as TooFewData  # noqa: PLC0414
from analytics.frames.arguments import instance, shown
from analytics.frames.checking import (
    check_identity,
    check_index,
    number_column,
    numbers_of,
    refuse,
    with_samples,
)
from analytics.frames.columns import NUMBERS, Windows
from analytics.frames.kernel import Histograms, Ints, merge_histograms
from analytics.frames.labels import GROUPS, LABELS, factorize_labels, taken
from analytics.frames.packing import pack, unpack
from analytics.frames.standins import bin_indices, standins
from contract.histogram import LINEAR, LOGARITHMIC, Bins
from contract.metrics import NAMES, Quantity

# Known by these names to all that take and give frames.

HISTOGRAM: Final = pd.ArrowDtype(pa.large_binary())
"""The dtype of the column `histogram`; `large` so that a column may exceed 2 GiB."""


def utc(time_ms: Ints) -> pd.DatetimeIndex:
    """The index of a frame whose moments are epoch milliseconds."""
    return pd.DatetimeIndex(time_ms.view("datetime64[ms]"), name="time", copy=False).tz_localize("UTC")


def moments_of(frame: pd.DataFrame) -> pd.DatetimeIndex:
    """The index of a frame that has one of moments; to make another of it, as type checkers ask for, takes 40 us."""
    return cast("pd.DatetimeIndex", frame.index)


def by_user(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with one row a user, to look users up in: the index `user`, of texts, in the place of the column."""
    return frame.drop(columns="user").set_axis(pd.Index(frame["user"].astype("str"), name="user", dtype="str"))


def frame_of_columns(columns: dict[str, Any], time_ms: Ints) -> pd.DataFrame:
    """The frame of some columns, which are not copied."""
    # One index for all frames of a shape: pandas looks its names up in one table, instead of making one each time.
    frame = pd.DataFrame(dict(enumerate(columns.values())), index=utc(time_ms), copy=False)
    frame.columns = _names(tuple(columns))
    return frame


@cache
def _names(columns: tuple[str, ...]) -> "pd.Index[str]":
    return pd.Index(columns, dtype="str")


def to_frame(windows: Windows, labels: pd.DataFrame | None = None) -> pd.DataFrame:
    """The frame of `windows`, with their histograms if they have any.

    Row i of `labels` (any of the columns `LABELS`) names series i; without it nothing does.
    """
    instance(windows, "windows", Windows, "what from_frame gives")
    if labels is not None:
        _check_labels(instance(labels, "labels", pd.DataFrame, "a DataFrame with one row a series"), windows.series)
    columns = {} if labels is None else taken(labels, windows.series)
    columns |= {column: getattr(windows, name) for column, name in NUMBERS.items()}
    if windows.histograms is not None:
        columns["histogram"] = packed(windows.histograms, len(windows))
    return frame_of_columns(columns, windows.time)


def _check_labels(labels: pd.DataFrame, series: Ints) -> None:
    if not len(labels.columns):
        return
    if not any(name in labels.columns for name in LABELS):
        raise FrameError(f"labels: expected any of the columns {', '.join(LABELS)}, got {shown(list(labels.columns))}")
    if len(series) and series.max() >= len(labels):
        raise FrameError(f"labels: expected a row for each of {series.max() + 1} series, got {len(labels)}")


def from_frame(frame: pd.DataFrame, *, histograms: bool | None = None) -> tuple[Windows, pd.DataFrame]:
    """The windows of a frame, and the labels of their series for `to_frame`.

    Series are numbered in the order of user and core, the whole host after its cores. Rows without samples are left
    out, as are columns that a frame of windows does not have. By default the windows have histograms where the frame
    has the column. With `histograms=False` they have none, which is quicker; with True they always have: rows without
    one stand for samples with their mean and variance (`analytics.frames.standins`) and count as approximated. Raises
    FrameError where the index or a column is not what a frame of windows has.
    """
    if histograms is not None:
        instance(histograms, "histograms", bool, "True, False or None")
    frame = with_samples(frame)
    numbers = numbers_of(frame)
    series, labels = factorize_labels(frame)
    stored = None
    if "histogram" in frame if histograms is None else histograms:
        stored, numbers["approximated"] = unpacked(frame)
    columns = {name: numbers[column] for column, name in NUMBERS.items()}
    return Windows(series=series, time=moments_of(frame).asi8, **columns, histograms=stored), labels


def frame_of_values(values: pd.DataFrame, *, value: str = "value", metric: str = "cpuLoadAvg") -> pd.DataFrame:
    """The frame of windows of plain measurements: a window of one sample for each, which is exactly its value.

    `values` has the index `time` (with a time zone), the column named by `value`, in the unit of the metric, and,
    where there are several users, `user`; rows without a value are left out. Raises FrameError for another index,
    for hosts that are named in another column, for an unknown metric, and for values outside the metric's range:
    [0, 1] for shares, otherwise at least 0.
    """
    check_index(values)
    check_identity(values)
    quantity = quantity_of(metric)
    values = values[number_column(values, value, "value").notna()]
    numbers = values[value].to_numpy(np.float64)
    refuse(np.isinf(numbers), values[value], "expected finite numbers")
    check_range(numbers, value, quantity)
    ones, zeros = np.ones(len(numbers), np.int64), np.zeros(len(numbers))
    columns: dict[str, Any] = {"user": pd.Categorical(values["user"])} if "user" in values else {}
    columns |= {"count": ones, "mean": numbers, "var": zeros, "min": numbers, "max": numbers.copy()}
    bins = bin_indices(numbers, LINEAR if quantity.bounded else LOGARITHMIC)
    histograms = packed(Histograms(np.arange(len(numbers)), bins, ones), len(numbers))
    columns |= {"approximated": np.zeros(len(numbers), np.int64), "histogram": histograms}
    index = pd.DatetimeIndex(values.index, name="time").tz_convert("UTC").as_unit("ms")
    return of_metric(pd.DataFrame(columns, index=index), metric)


def quantity_of(metric: object) -> Quantity:
    """What a metric of the catalogue measures. Raises FrameError for an unknown name."""
    named = NAMES.get(metric) if isinstance(metric, str) else None
    if named is None:
        raise FrameError(f"metric: expected one of the catalogue, such as cpuUtilization, got {shown(metric)}")
    return named.quantity


def check_range(numbers: npt.NDArray[np.float64], column: str, quantity: Quantity) -> None:
    """Raise FrameError for values of a column that the quantity cannot have."""
    if len(numbers) and (numbers.min() < 0 or (quantity.bounded and numbers.max() > 1)):
        right = "shares in [0, 1] (divide percent by 100)" if quantity.bounded else "numbers of at least 0"
        raise FrameError(f"expected {right} in {column}, got {numbers.min():g} to {numbers.max():g}")


def packed(histograms: Histograms, rows: int) -> pd.api.extensions.ExtensionArray:
    """The column `histogram` of a frame of `rows` rows; `histograms` are sorted by row."""
    return packed_column(pack(histograms, rows, large=True))


def packed_column(values: pa.Array | pa.ChunkedArray) -> pd.api.extensions.ExtensionArray:
    """The column `histogram` of a frame, of packed histograms in Arrow."""
    chunks = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])
    column: pd.api.extensions.ExtensionArray = pd.array(chunks.cast(pa.large_binary()), dtype=HISTOGRAM)
    return column


def in_order(users: Any) -> Any:
    """The same names, a Categorical of texts that sort by themselves instead of in the order they came in."""
    texts = users.rename_categories(users.categories.astype("str"))
    return texts.reorder_categories(texts.categories.sort_values())


def of_metric(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The frame, named as of one metric of the catalogue: in its column `metric`, and in `attrs` with the unit."""
    column = pd.Categorical.from_codes(np.zeros(len(frame), np.int8), pd.Index([metric]))
    if "metric" in frame:
        frame = frame.assign(metric=column)
    else:
        frame = frame.copy(deep=False)
        frame.insert(sum(name in frame for name in GROUPS), "metric", pd.Series(column, frame.index))
    frame.attrs = {"metric": metric, "unit": NAMES[metric].quantity.unit}
    return frame


def metric_of(frame: pd.DataFrame) -> str | None:
    """The metric that a frame names, in `attrs` or else in its column; None where it names none.

    Raises FrameError where its rows are of several, or some name none.
    """
    named = sorted("" if pd.isna(name) else str(name) for name in frame["metric"].unique()) if "metric" in frame else []
    if len(named) > 1:
        several = ", ".join(name or "none" for name in named)
        raise FrameError(
            f"expected rows of one metric, got {several}: take those of one, as by "
            f"frame[frame['metric'] == '{named[-1]}']"
        )
    # What somebody has put into `attrs` by hand is newer than the column.
    return str(frame.attrs.get("metric", "") or "".join(named)) or None


def bins_of(frame: pd.DataFrame) -> Bins:
    """How the values of a frame are placed into bins: as its metric's, shares in [0, 1] where it names none.

    Raises FrameError where its rows are of several metrics, or where it names none and its values, or its histograms,
    are not those of shares: pandas has dropped the name on the way.
    """
    named = NAMES.get(str(metric_of(frame)))
    if named:
        return named.quantity.bins
    if ("max" in frame and len(frame) and frame["max"].max() > 1.0) or not _are_shares(frame):
        raise FrameError(
            "expected the metric's name in the column metric or in attrs, got a frame without it, whose values are no "
            "shares: name it with "
            'frame["metric"] = "diskReads" or as it is named'
        )
    return LINEAR


_LOOKED_AT: Final = 2000
"""So many rows of a frame without a name are looked at, spread over all of it."""


def _are_shares(frame: pd.DataFrame) -> bool:
    """Whether histograms have only bins of shares; other values, below 1, have bins far below those."""
    if "histogram" not in frame:
        return True
    found = histograms_of(frame.iloc[:: max(1, len(frame) // _LOOKED_AT)])
    return not len(found) or bool(found.bin.min() >= LINEAR.first and found.bin.max() <= LINEAR.last)


def unpacked(frame: pd.DataFrame) -> tuple[Histograms, Ints]:
    """The histograms of rows that have samples, stand-ins among them, and how many samples of each have these.

    Raises FrameError for a histogram of more or fewer samples than its row has.
    """
    found = histograms_of(frame)
    size = np.bincount(found.row, minlength=len(frame))
    if len(found):
        held = np.bincount(found.row, found.count, minlength=len(frame))
        if (wrong := (size > 0) & (held != frame["count"].to_numpy())).any():
            counts = pd.Series(held.astype(np.int64), frame.index, name="histogram")
            refuse(wrong, counts, "expected as many samples as count says")
    without = np.flatnonzero(size == 0)
    approximated = frame["approximated"].to_numpy()
    if not len(without):
        return found, approximated
    mean, variance, count, least, most = (
        frame[name].to_numpy()[without] for name in ("mean", "var", "count", "min", "max")
    )
    _, _, made = standins(mean, variance, count, bins_of(frame) is LINEAR, (least, most))
    approximated = approximated.copy()
    # A single sample, or samples all alike, are known though nothing more was said of them.
    approximated[without] = np.where((variance > 0) & (count > 1), count, approximated[without])
    return found.joined(Histograms(without[made.row], made.bin, made.count)), approximated


_RUN_ROWS: Final = 1024
"""Histograms of so many rows are added up together: what that takes stays in the processor's cache."""


def unpacked_runs(frame: pd.DataFrame, keys: Sequence[Ints]) -> tuple[Histograms, Ints]:
    """As `unpacked`, but of rows that follow each other and have equal `keys` the first has the histogram of all.

    For who merges by these keys: there is less to merge then.
    """
    column = _packed_histograms(frame)
    starts = np.zeros(len(frame), np.bool_)
    starts[:1] = True
    for key in keys:
        starts[1:] |= key[1:] != key[:-1]
    first = np.flatnonzero(starts)
    lengths = pc.binary_length(column)
    if len(first) * 2 > len(frame) or lengths.null_count or not (pc.min(lengths).as_py() or 0):
        return unpacked(frame)
    # Runs that begin in the same stretch of rows are added up together.
    cuts = [*np.flatnonzero(np.diff(first // _RUN_ROWS, prepend=-1)).tolist(), len(first)]
    bounds = [*first[cuts[:-1]].tolist(), len(frame)]
    size = np.diff(first, append=len(frame))
    count = frame["count"].to_numpy()
    found = []
    for (run, behind), (row, end) in zip(pairwise(cuts), pairwise(bounds), strict=True):
        part = _unpacked(column.slice(row, end - row))
        held = np.add.reduceat(part.count, np.flatnonzero(np.diff(part.row, prepend=-1)))
        if not np.array_equal(held, count[row:end]):
            return unpacked(frame)  # which says what is wrong
        runs = np.repeat(np.arange(behind - run), size[run:behind])
        added = merge_histograms(part, runs, behind - run)
        found.append(Histograms(first[run:behind][added.row], added.bin, added.count))
    together = (np.concatenate([getattr(one, name) for one in found]) for name in ("row", "bin", "count"))
    return Histograms(*together), frame["approximated"].to_numpy()


def with_histograms(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame, whose rows have samples, in which all have a histogram, stand-ins where they had none."""
    if "histogram" in frame:
        lengths = pc.binary_length(pa.array(frame["histogram"], pa.large_binary()))
        if lengths.null_count == 0 and (pc.min(lengths).as_py() or 0) > 0:
            return frame
    histograms, approximated = unpacked(frame)
    return frame.assign(approximated=approximated, histogram=packed(histograms, len(frame)))


def histograms_of(frame: pd.DataFrame) -> Histograms:
    """The histograms that a frame has, none where it lacks the column. Raises FrameError for what is not packed so."""
    return _unpacked(_packed_histograms(frame)) if "histogram" in frame else Histograms.empty()


def _packed_histograms(frame: pd.DataFrame) -> pa.LargeBinaryArray:
    column = pa.array(frame["histogram"], pa.large_binary())
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.large_binary())
    return column


def _unpacked(column: pa.LargeBinaryArray) -> Histograms:
    try:
        return unpack(column)
    except ValueError as error:
        raise FrameError(f"histogram has a value that is not a packed histogram: {error}") from None
