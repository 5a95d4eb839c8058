"""What tells the series of a frame apart: its columns of labels, as numbers and back."""

from typing import Any, Final

import numpy as np
import pandas as pd

from analytics.frames.arguments import FrameError
from analytics.frames.kernel import Ints

GROUPS: Final = ("user", "os_type", "os_version", "label")
"""The columns that name whose windows they are."""
LABELS: Final = (*GROUPS, "metric", "core", "device")
"""The columns that tell series apart."""
NO_CORE: Final = np.iinfo(np.int64).max
_CORES: Final = pd.Int64Dtype()
_NO_LABELS: Final = pd.DataFrame(index=[0])


def factorize_labels(frame: pd.DataFrame) -> tuple[Ints, pd.DataFrame]:
    """The number of each row's series among the different ones, and the labels of each, in order; a missing core last.

    Names are in the order of texts, those of an ordered category in its own. Without labels all rows are of series 0.
    """
    there = {*frame.columns}
    labels = {name: _ranked(frame[name]) for name in LABELS if name in there}
    if not labels:
        return np.zeros(len(frame), np.int64), _NO_LABELS
    number = np.zeros(len(frame), np.int64)
    for codes, ordered in labels.values():
        number = number * (len(ordered) + 1) + codes
    number, found = pd.factorize(number, sort=True)
    named = {}
    for name, (_, ordered) in reversed(labels.items()):
        found, codes = np.divmod(found, len(ordered) + 1)
        named[name] = _named(frame[name].dtype, ordered, codes)
    return number, pd.DataFrame({name: named[name] for name in labels})


def _ranked(column: "pd.Series[Any]") -> tuple[Ints, "pd.Index[Any]"]:
    """The place of each label in an ordered index of them; what is missing is behind all."""
    if column.name == "core":
        try:
            numbers = column.astype("Int64").to_numpy(np.int64, na_value=NO_CORE)
        except (ValueError, TypeError):
            raise FrameError(f"expected whole numbers, or none, in core, got {column.dtype}") from None
        codes, found = pd.factorize(numbers, sort=True)
        ordered = pd.Index(found[found != NO_CORE])
    else:
        coded = pd.Categorical(column)
        codes, ordered = np.asarray(coded.codes, np.int64), coded.categories
        if not coded.ordered and not ordered.is_monotonic_increasing:
            rank = np.empty(len(ordered) + 1, np.int64)
            order = np.argsort(ordered, kind="stable")
            rank[order] = np.arange(len(ordered))
            rank[-1] = -1
            codes, ordered = rank[codes], ordered[order]
    return np.where(codes < 0, len(ordered), codes), ordered


def _named(dtype: Any, ordered: "pd.Index[Any]", codes: Ints) -> Any:
    """The labels at some places of an ordered index, as a frame has them that had them in `dtype`."""
    if pd.api.types.is_integer_dtype(dtype):
        there = codes < len(ordered)
        cores = np.where(there, ordered.to_numpy(np.int64).take(codes, mode="clip") if len(ordered) else 0, 0)
        return pd.arrays.IntegerArray(cores, ~there)
    used, codes = np.unique(codes, return_inverse=True)
    used = used[used < len(ordered)]
    names = pd.CategoricalDtype(ordered[used].astype("str"), ordered=getattr(dtype, "ordered", False))
    return pd.Categorical.from_codes(np.where(codes < len(used), codes, -1), dtype=names)


def taken(labels: pd.DataFrame, series: Ints) -> dict[str, Any]:
    """The columns of labels of rows, given the series of each."""
    columns: dict[str, Any] = {}
    for name in LABELS:
        if name in labels and name == "core":
            cores = labels[name] if labels[name].dtype == _CORES else labels[name].astype(_CORES)
            columns[name] = cores.array.take(series)
        elif name in labels:
            names = pd.Categorical(labels[name])
            columns[name] = pd.Categorical.from_codes(np.asarray(names.codes)[series], dtype=names.dtype)
    return columns
