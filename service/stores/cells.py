"""One statistic of many series over time as a table, straight from the rows that were loaded.

A picture of ten thousand machines has millions of cells, and needs one number of each: what makes windows of rows
(their order, their labels, the other numbers) costs several times as much as these numbers do. Extremes are exactly
those that `analytics.resample` has; a mean is that of samples, to the last bits of a double, not bit by bit.
"""

from collections.abc import Iterable
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from service.stores.memtable import LoadedRows

Cell = Literal["mean", "max", "min"]
"""Statistics that need no histogram."""
COLUMNS: Final[dict[Cell, tuple[str, ...]]] = {
    "mean": ("count", "mean"), "max": ("count", "max"), "min": ("count", "min")
}  # fmt: skip
"""The columns of rows that each is made of."""


def cells_of(
    parts: Iterable[LoadedRows],
    row_of: npt.NDArray[np.int64],
    shape: tuple[int, int],
    cell: Cell,
    *,
    first: int,
    rate_ms: int,
) -> npt.NDArray[np.float32]:
    """A row for each series, by its number in `row_of`, and a column for each bucket from number `first` on; NaN where
    there are no samples.
    """
    rows, columns = shape
    table = _Means(rows * columns) if cell == "mean" else _Extremes(rows * columns, cell)
    for part in parts:
        column = pd.DatetimeIndex(part.frame.index).as_unit("ms").asi8 // rate_ms - first
        place = row_of[part.series] * columns + column
        count = part.frame["count"].to_numpy()
        value = part.frame[cell].to_numpy()
        if not count.all():
            place, count, value = (values[count > 0] for values in (place, count, value))
        table.add(place, count, value)
    return table.finished().astype(np.float32).reshape(shape)


class _Means:
    """Means weighted by samples."""

    def __init__(self, cells: int) -> None:
        self._count = np.zeros(cells)
        self._sum = np.zeros(cells)

    def add(self, place: npt.NDArray[np.int64], count: npt.NDArray[np.int64], value: npt.NDArray[np.float64]) -> None:
        # Of one type on both sides: only then is `at` as fast as a loop in C.
        samples = count.astype(np.float64)
        np.add.at(self._count, place, samples)
        np.add.at(self._sum, place, samples * value)

    def finished(self) -> npt.NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            means: npt.NDArray[np.float64] = self._sum / self._count
        return means


class _Extremes:
    """The highest or the lowest values."""

    def __init__(self, cells: int, cell: Cell) -> None:
        self._at = np.maximum.at if cell == "max" else np.minimum.at
        self._values = np.full(cells, -np.inf if cell == "max" else np.inf)

    def add(self, place: npt.NDArray[np.int64], count: npt.NDArray[np.int64], value: npt.NDArray[np.float64]) -> None:
        self._at(self._values, place, value)

    def finished(self) -> npt.NDArray[np.float64]:
        self._values[np.isinf(self._values)] = np.nan
        return self._values
