"""What a frame of windows is checked for where it comes in: its index, its columns, and the numbers in them."""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.arguments import FrameError, shown
from analytics.frames.columns import NUMBERS
from contract.metrics import NAMES

IDENTITIES: Final = ("user_id", "host", "hostname", "machine", "machine_id", "instance")
"""What the column `user` is called elsewhere."""
UTC_MS: Final = pd.DatetimeTZDtype("ms", "UTC")
_KNOWN: Final = {
    *("time", "user", "os_type", "os_version", "label", "metric", "unit", "core", "device", "cores", "histogram"),
    *NUMBERS,
}  # fmt: skip
_WHOLE: Final = ("count", "approximated")
_ROUNDING: Final = 4e-9
"""A few times what reports are allowed (`contract.metrics.ROUNDING`): what was accepted is never refused here."""
_HALF_A_BIN: Final = 1 / 64
"""More than half a bin of any histogram: extremes that nobody told may be middles of bins."""


def check_index(frame: object) -> None:
    """Raise FrameError for what is no DataFrame, for another index than one of moments, and for a repeated column."""
    if not isinstance(frame, pd.DataFrame):
        raise FrameError(f"expected a frame of windows, a DataFrame, got a {type(frame).__name__}")
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None:
        raise FrameError(
            "expected as index a DatetimeIndex with a time zone, such as UTC, got "
            + (f"one of {index.dtype}" if index.nlevels == 1 else f"{index.nlevels} levels")
        )
    if index.hasnans:
        raise FrameError("expected a moment in each row of the index, got a moment that is missing (NaT)")
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()]
        raise FrameError(f"expected columns of different names, got {', '.join(map(shown, twice.unique()))} repeatedly")


def check_identity(frame: Any) -> None:
    """Raise FrameError where a column tells hosts apart that is not `user`: they would become one.

    `frame` is of pandas or Dask, of which only the names of columns are looked at.
    """
    others = [name for name in frame.columns if name not in _KNOWN]
    if not others or "user" in frame.columns:
        return
    if isinstance(frame, pd.DataFrame):
        others = [name for name in others if _tells_apart(name, frame[name])]
    else:
        others = [name for name in others if name in IDENTITIES]
    if others:
        raise FrameError(
            f"expected the names of hosts in the column user, got {', '.join(map(shown, others))}: "
            f"frame.rename(columns={{{others[0]!r}: 'user'}}) names it, frame.drop(columns={others!r}) makes them one"
        )


def _tells_apart(name: Any, column: "pd.Series[Any]") -> bool:
    dtype = column.dtype
    textual = isinstance(dtype, pd.CategoricalDtype | pd.StringDtype) or pd.api.types.is_object_dtype(dtype)
    try:
        return (textual or name in IDENTITIES) and column.nunique() > 1
    except TypeError:  # lists and the like, which name nothing
        return False


def number_column(frame: pd.DataFrame, column: object, argument: str = "column") -> "pd.Series[Any]":
    """A column of numbers, by the name that was given as some argument. Raises FrameError for another."""
    if not isinstance(column, str):
        raise FrameError(f"{argument}: expected the name of a column of numbers, such as mean, got {shown(column)}")
    if column not in frame.columns:
        there = ", ".join(map(str, frame.columns)) or "none"
        raise FrameError(f"{argument}: expected a column {column!r}, got {there}")
    values = frame[column]
    if not has_numbers(values.dtype):
        raise FrameError(f"{argument}: expected numbers in {column!r}, got {values.dtype}")
    return values


def has_numbers(dtype: Any) -> bool:
    """Whether a column has real numbers; truth values are none."""
    types = pd.api.types
    return types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype) and not types.is_complex_dtype(dtype)


def with_samples(frame: pd.DataFrame, columns: Iterable[str] = NUMBERS) -> pd.DataFrame:
    """The rows of a frame that have samples, its index in UTC and milliseconds.

    Rows whose `count` is 0 or missing, as a regular grid has them, are left out. Raises FrameError where the frame has
    another index, lacks one of `columns`, has a `count` that is none, or a `user` that some rows miss.
    """
    check_index(frame)
    check_identity(frame)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise FrameError(f"a frame of windows has the columns {', '.join(NUMBERS)}; {', '.join(missing)} missing")
    count = frame["count"]
    if count.dtype != np.int64 or (len(count) and count.to_numpy().min() <= 0):
        frame = frame[_counts(count) > 0]
    if "user" in frame and frame["user"].isna().any():
        row = int(frame["user"].isna().to_numpy().argmax())
        raise FrameError(f"user is missing in a row that has samples ({frame.index[row]})")
    if frame.index.dtype != UTC_MS:
        frame = frame.set_axis(pd.DatetimeIndex(frame.index, name="time").tz_convert("UTC").as_unit("ms"))
    return frame


def _counts(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """The numbers of samples, 0 where they are missing."""
    if not has_numbers(column.dtype):
        raise FrameError(f"expected numbers in {column.name}, got {column.dtype}")
    count = column.fillna(0)
    plain = count.to_numpy(np.float64)  # Arrow's numbers have no remainder
    refuse((plain < 0) | (plain % 1 != 0), count, "expected whole numbers of at least 0")
    return count


def numbers_of(frame: pd.DataFrame) -> dict[str, npt.NDArray[Any]]:
    """The columns of numbers of a frame whose rows have samples, in the documented dtypes.

    Raises FrameError for a column that has something else, or misses a value, and for numbers that no samples have: a
    variance below 0, a minimum above the maximum, a mean outside both, infinities.
    """
    numbers = {}
    for name in NUMBERS:
        values = frame[name]
        if not has_numbers(values.dtype):
            raise FrameError(f"expected numbers in {name}, got {values.dtype}")
        dtype = np.dtype(np.int64 if name in _WHOLE else np.float64)
        if values.dtype != dtype and values.isna().any():
            raise FrameError(f"{name} is missing in a row that has samples")
        if name in _WHOLE and values.dtype.kind == "f":
            refuse(values.to_numpy(np.float64) % 1 != 0, values, "expected whole numbers")
        numbers[name] = values.to_numpy(dtype)
        if dtype == np.float64 and not np.isfinite(numbers[name]).all():
            if np.isnan(numbers[name]).any():
                raise FrameError(f"{name} is missing in a row that has samples")
            refuse(np.isinf(numbers[name]), values, "expected finite numbers")
    if len(frame):
        _check_together(frame, numbers)
    return numbers


def _check_together(frame: pd.DataFrame, numbers: dict[str, npt.NDArray[Any]]) -> None:
    """Raise FrameError for rows whose numbers cannot be of the same samples.

    A variance that is larger than the extremes allow is taken: senders of reports have their own ways to it (that of a
    sample, or by buckets of theirs), and what was accepted must be answered.
    """
    mean, variance, least, most = (numbers[name] for name in ("mean", "var", "min", "max"))
    check_shares(frame, "max", most)
    approximated = numbers["approximated"]
    if approximated.min() < 0:
        refuse(approximated < 0, frame["approximated"], "expected at least 0")
    if (least > most).any():
        size = np.maximum(np.maximum(np.abs(least), np.abs(most)), 1.0)
        refuse(least > most + _ROUNDING * size, frame["min"], "expected no more than max")
    if ((mean < least) | (mean > most)).any():
        allowed = np.where(approximated > 0, _HALF_A_BIN, _ROUNDING) * np.maximum(np.abs(mean), 1.0)
        refuse((mean < least - allowed) | (mean > most + allowed), frame["mean"], "expected a mean between min and max")
    if variance.min() < 0:
        refuse(variance < -_ROUNDING * np.maximum(mean**2, 1.0), frame["var"], "expected at least 0")


def check_shares(frame: pd.DataFrame, column: str, values: npt.NDArray[Any]) -> None:
    """Raise FrameError where `values`, of that column, are above 1 in rows that name a share as their metric."""
    above = values > 1 + _ROUNDING
    if not above.any():
        return
    named = frame.attrs.get("metric")
    names = frame["metric"].to_numpy(object)[above] if named is None and "metric" in frame else [named]
    if not any(_is_share(name) for name in set(names)):
        return
    rows = np.flatnonzero(above)
    wrong = np.zeros(len(values), np.bool_)
    wrong[rows] = [_is_share(name) for name in names] if len(names) == len(rows) else _is_share(named)
    refuse(wrong, frame[column], "expected shares in [0, 1], as its metric is (divide percent by 100)")


def _is_share(name: object) -> bool:
    metric = NAMES.get(name) if isinstance(name, str) else None
    return metric is not None and metric.quantity.bounded


def refuse(wrong: Any, values: "pd.Series[Any]", expected: str) -> None:
    """Raise FrameError for the first row that is wrong; nothing where none is."""
    rows = np.flatnonzero(np.asarray(wrong, np.bool_))
    if len(rows):
        row = rows[0]
        raise FrameError(
            f"{values.name}: {expected}, got {values.iloc[row]} in row {row} ({values.index[row]})"
            + (f", and {len(rows) - 1:,} more" if len(rows) > 1 else "")
        )
