"""One statistic of many series over time as a table, or several over a whole range, straight from the rows that were
loaded.

A picture of ten thousand hosts has millions of cells, and needs one number of each: what makes windows of rows
(their order, their labels, the other numbers) costs several times as much as these numbers do. Rows are taken a batch
at a time, small enough that the memory that they need is used again and again: on a fresh page of it a host spends
as long as on adding up hundreds of rows. Extremes are exactly those that `analytics.resample` has; means are those of
samples, to the last bits of the type that is answered, not bit by bit.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analytics.frames.frame import unpacked
from analytics.frames.kernel import Histograms
from analytics.frames.statistics import quantiles_of_counts
from contract.histogram import LINEAR
from service.stores.sorted_windows import LoadedRows

Cell = Literal["mean", "max", "min"]
"""Statistics that need no histogram."""
COLUMNS: Final[dict[Cell | Literal["totals", "sums"], tuple[str, ...]]] = {
    "mean": ("count", "mean"), "max": ("count", "max"), "min": ("count", "min"),
    "totals": ("count", "mean", "min", "max"), "sums": ("count", "mean", "min", "max"),
}  # fmt: skip
"""The columns of rows that each is made of; totals and sums also of histograms."""
BATCH_ROWS: Final = 1 << 16

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class CellRows(NamedTuple):
    """Some rows as arrays."""

    series: npt.NDArray[np.integer]
    """The number of each row's series."""
    time_ms: Ints
    columns: dict[str, npt.NDArray[Any]]
    """Those of `COLUMNS`, each as long as the others."""
    histograms: Histograms | None = None
    """Where totals are asked for."""

    def with_samples(self) -> "CellRows":
        """The rows that have samples."""
        has = self.columns["count"] > 0
        if has.all():
            return self
        place = np.cumsum(has) - 1
        histograms = self.histograms
        if histograms is not None:
            kept = has[histograms.row]
            histograms = Histograms(place[histograms.row[kept]], histograms.bin[kept], histograms.count[kept])
        columns = {name: column[has] for name, column in self.columns.items()}
        return CellRows(self.series[has], self.time_ms[has], columns, histograms)


def cell_rows(parts: Iterable[CellRows | LoadedRows], *, histograms: bool) -> Iterator[CellRows]:
    """The rows that have samples, small parts of them together: what is added up at once is rounded once."""
    waiting: list[CellRows] = []
    count = 0
    for part in parts:
        rows = part.with_samples() if isinstance(part, CellRows) else _of_loaded(part, histograms=histograms)
        waiting.append(rows)
        count += len(rows.series)
        if count >= BATCH_ROWS // 2:
            yield _joined(waiting)
            waiting, count = [], 0
    if count:
        yield _joined(waiting)


def _of_loaded(rows: LoadedRows, *, histograms: bool) -> CellRows:
    rows = rows.take(rows.frame["count"].to_numpy() > 0)
    frame = rows.frame
    time_ms = pd.DatetimeIndex(frame.index).as_unit("ms").asi8
    columns = {name: frame[name].to_numpy() for name in COLUMNS["totals"]}
    return CellRows(rows.series, time_ms, columns, unpacked(frame)[0] if histograms else None)


def _joined(parts: list[CellRows]) -> CellRows:
    if len(parts) == 1:
        return parts[0]
    names = set.intersection(*(set(part.columns) for part in parts))
    columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
    histograms = None
    if parts[0].histograms is not None:
        found = [part.histograms or Histograms.empty() for part in parts]
        starts = np.cumsum([0, *(len(part.series) for part in parts)])
        histograms = Histograms(
            np.concatenate([one.row + start for one, start in zip(found, starts, strict=False)]),
            np.concatenate([one.bin for one in found]),
            np.concatenate([one.count for one in found]),
        )
    series, times = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    return CellRows(series, times, columns, histograms)


def cells_of(
    parts: Iterable[CellRows | LoadedRows],
    row_of: Ints,
    shape: tuple[int, int],
    cell: Cell,
    *,
    first: int,
    rate_ms: int,
) -> npt.NDArray[np.float32]:
    """A row for each series, by its number in `row_of`, and a column for each bucket from number `first` on; NaN where
    there are no samples. Rows of series whose number there is below 0 are left out.
    """
    rows, columns = shape
    table = _Means(rows * columns) if cell == "mean" else _Extremes(rows * columns, cell)
    for part in cell_rows(parts, histograms=False):
        row = row_of[part.series]
        place = row * columns + (part.time_ms // rate_ms - first)
        count, value = part.columns["count"], part.columns[cell]
        if row.min() < 0:
            place, count, value = (values[row >= 0] for values in (place, count, value))
        table.add(place, count, value)
    return table.finished().reshape(shape)


class _Means:
    """Means weighted by samples. Each cell is read and written once a batch."""

    def __init__(self, cells: int) -> None:
        self._count = np.zeros(cells, np.float32)
        self._mean = np.empty(cells, np.float32)

    def add(self, place: Ints, count: npt.NDArray[np.integer], mean: Floats) -> None:
        place, samples, mean = _one_a_place(place, count.astype(np.float64), mean)
        before = self._count[place]
        if before.any():
            known = before.astype(np.float64)
            total = samples * mean + known * np.where(known > 0, self._mean[place], 0)
            samples = samples + known
            mean = total / samples
        self._count[place] = samples
        self._mean[place] = mean

    def finished(self) -> npt.NDArray[np.float32]:
        self._mean[self._count == 0] = np.nan
        return self._mean


def _one_a_place(place: Ints, samples: Floats, mean: Floats) -> tuple[Ints, Floats, Floats]:
    """Rows added up to one for each place."""
    if np.all(place[1:] > place[:-1]):
        return place, samples, mean
    if np.any(place[1:] < place[:-1]):
        order = np.argsort(place, kind="stable")
        place, samples, mean = place[order], samples[order], mean[order]
    first = np.flatnonzero(np.diff(place, prepend=-1))
    total = np.add.reduceat(samples * mean, first)
    samples = np.add.reduceat(samples, first)
    return place[first], samples, total / samples


class _Extremes:
    """The highest or the lowest values."""

    def __init__(self, cells: int, cell: Cell) -> None:
        self._at = np.maximum.at if cell == "max" else np.minimum.at
        self._values = np.full(cells, -np.inf if cell == "max" else np.inf, np.float32)

    def add(self, place: Ints, count: npt.NDArray[np.integer], value: Floats) -> None:
        self._at(self._values, place, value.astype(np.float32))

    def finished(self) -> npt.NDArray[np.float32]:
        self._values[np.isinf(self._values)] = np.nan
        return self._values


BINS: Final = range(LINEAR.first, LINEAR.last + 1)
"""The bins of shares."""


class Sums:
    """What is known of all samples of shares of n hosts: arrays of n, which add up."""

    def __init__(self, rows: int) -> None:
        self.count, self.total = np.zeros(rows), np.zeros(rows)
        self.least, self.most = np.full(rows, np.inf), np.full(rows, -np.inf)
        self.bins = np.zeros((rows, len(BINS)), np.uint32)

    def add(self, row: Ints, part: CellRows, kept: npt.NDArray[np.bool_] | slice) -> None:
        """Add rows of windows, those that are `kept`, each to its row."""
        samples = part.columns["count"][kept].astype(np.float64)
        np.add.at(self.count, row[kept], samples)
        np.add.at(self.total, row[kept], samples * part.columns["mean"][kept])
        np.minimum.at(self.least, row[kept], part.columns["min"][kept])
        np.maximum.at(self.most, row[kept], part.columns["max"][kept])
        found = part.histograms or Histograms.empty()
        kept = kept if isinstance(kept, slice) else kept[found.row]
        place = row[found.row[kept]] * len(BINS) + (found.bin[kept] - BINS.start)
        np.add.at(self.bins.reshape(-1), place, found.count[kept].astype(np.uint32))

    def statistics(self) -> pd.DataFrame:
        """`mean`, `p95` and `max` of each; NaN where there are no samples."""
        with np.errstate(invalid="ignore"):
            mean = self.total / self.count
        p95 = quantiles_of_counts(self.bins, self.least, self.most, 0.95, LINEAR)
        return pd.DataFrame({"mean": mean, "p95": p95, "max": np.where(self.count > 0, self.most, np.nan)})


def totals_of(parts: Iterable[CellRows | LoadedRows], row_of: Ints, rows: int) -> pd.DataFrame:
    """All samples of shares of each of so many rows: `mean`, `p95` and `max`; NaN where there are none."""
    sums = Sums(rows)
    for part in cell_rows(parts, histograms=True):
        row = row_of[part.series]
        sums.add(row, part, slice(None) if row.min() >= 0 else row >= 0)
    return sums.statistics()


def sums_of(
    parts: Iterable[CellRows | LoadedRows], row_of: Ints, shape: tuple[int, int], *, first: int, rate_ms: int
) -> pd.DataFrame:
    """The samples of shares of each row and bucket (`shape`), from bucket number `first` on, as numbers that add up.

    A line for each row and bucket that has samples, by bucket and then by row: `row`, `bucket`, `count`, `total`, `min`
    and `max`, and `bins`, how many samples each of `BINS` has (`bins_of`).
    """
    rows, columns = shape
    sums = Sums(rows * columns)
    for part in cell_rows(parts, histograms=True):
        row = row_of[part.series]
        sums.add((part.time_ms // rate_ms - first) * rows + row, part, slice(None) if row.min() >= 0 else row >= 0)
    place = np.flatnonzero(sums.count)
    filled: Any = slice(None) if len(place) == rows * columns else place
    column, row = np.divmod(place, max(rows, 1))
    # Columns as they are: a table of a column a bin would be copied three times on its way.
    bins = pa.FixedSizeListArray.from_arrays(pa.array(sums.bins[filled].reshape(-1)), len(BINS))
    return pd.DataFrame(
        {
            "row": row, "bucket": first + column, "count": sums.count[filled], "total": sums.total[filled],
            "min": sums.least[filled], "max": sums.most[filled], "bins": pd.arrays.ArrowExtensionArray(bins),
        }, copy=False,
    )  # fmt: skip


def bins_of(sums: pd.DataFrame) -> npt.NDArray[np.uint32]:
    """The column `bins` of sums: a line for each of theirs, a column for each of `BINS`."""
    column = pa.array(sums["bins"].array)
    flat: npt.NDArray[np.uint32] = (
        column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    ).flatten().to_numpy()  # fmt: skip
    return flat.reshape(-1, len(BINS))
