"""Reads: the rows of windows and buckets that InfluxDB holds, as columns with our numbers of series."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.columns import Windows, take
from analytics.frames.packing import unpack
from analytics.sources.influx import packed_of
from analytics.sources.influx_client import InfluxClient
from contract.influx import (
    CORE,
    DURATION,
    ORIGINAL_OBSERVATIONS,
    USER_ID,
    between,
    fields_of,
    identifier,
    literal,
    measurement_of,
    tag_literal,
    tag_value,
)
from contract.metrics import Quantity
from service.stores.engine import RAW
from service.stores.memtable import windows_of
from service.stores.series import WHOLE, SeriesIndex

Ints = npt.NDArray[np.int64]


class Keys:
    """The pairs of a series and a time, for fast membership; some may occur twice."""

    def __init__(self, series: Ints, time: Ints) -> None:
        self._series = (int(series.min()), int(series.max())) if len(series) else (0, -1)
        self._time = (int(time.min()), int(time.max())) if len(time) else (0, -1)
        self._sorted = np.unique(self._combined(series.astype(np.int64), time))

    def _combined(self, series: Ints, time: Ints) -> Ints:
        combined: Ints = (series - self._series[0]) * (self._time[1] - self._time[0] + 1) + (time - self._time[0])
        return combined

    def hold(self, series: Ints, time: Ints) -> npt.NDArray[np.bool_]:
        """Which of the pairs are among them."""
        inside: npt.NDArray[np.bool_] = (
            (series >= self._series[0])
            & (series <= self._series[1])
            & (time >= self._time[0])
            & (time <= self._time[1])
        )
        rows = np.flatnonzero(inside)
        if len(rows):
            wanted = self._combined(series[rows].astype(np.int64), time[rows])
            place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
            inside[rows] = self._sorted[place] == wanted
        return inside


_ROWS = 500_000
"""About so many rows are asked for at once."""
_WINDOW_MS = 5000
_FEW = 100
"""Up to so many users are named in a statement; of more, everybody's rows are read."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are wanted."""

    quantity: Quantity
    tier: int
    """Of which rollup, or RAW for windows."""
    start_ms: int
    end_ms: int
    users: Sequence[str]
    cores: int | Literal["whole", "each"] = "whole"


class Reader:
    """Reads one database. Calls raise Unreachable or Refused."""

    def __init__(self, client: InfluxClient, index: SeriesIndex) -> None:
        self._client = client
        self._index = index

    def windows(self, wanted: Wanted, *, histograms: bool) -> Iterator[Windows]:
        """The rows as windows, a part at a time; only those of series that the index knows."""
        step = max(_ROWS * (wanted.tier or _WINDOW_MS) // max(len(wanted.users), 1), wanted.tier, 60_000)
        for start in range(wanted.start_ms, wanted.end_ms, step):
            rows = self._rows(wanted, start, min(start + step, wanted.end_ms), histograms=histograms)
            if len(rows):
                found = self._raw(rows, wanted) if wanted.tier == RAW else self._buckets(rows, wanted)
                if len(found):
                    yield found

    def ends(self, quantity: Quantity, start_ms: int, end_ms: int, users: Sequence[str]) -> tuple[list[str], Ints]:
        """User and end of each window of machines in [start, end)."""
        mean = fields_of(quantity).mean
        rows = self._client.select(
            f"SELECT {identifier(mean)}, {identifier(USER_ID)} FROM {identifier(measurement_of())}"
            f" WHERE {between(start_ms, end_ms)}{_of_users(users)}",
            {"time": pa.int64(), mean: pa.float64(), USER_ID: pa.string()},
        )
        rows = rows.filter(pc.is_valid(rows[mean]))
        return [tag_value(user) for user in rows[USER_ID].to_pylist()], rows["time"].to_numpy()

    def _rows(
        self, wanted: Wanted, start_ms: int, end_ms: int, *, histograms: bool, duration: bool = False
    ) -> pa.Table:
        names = fields_of(wanted.quantity)
        types = {"time": pa.int64(), names.count: pa.int64()}
        types |= {name: pa.float64() for name in (names.mean, names.variance, names.minimum, names.maximum)}
        if wanted.tier != RAW:
            types[names.approximated] = pa.int64()
        if histograms or wanted.tier == RAW:  # whether a window has one says whether it is approximated
            types[names.histogram] = pa.string()
        if duration:
            types[DURATION] = pa.int64()
        labels = pa.dictionary(pa.int32(), pa.string())
        if len(wanted.users) != 1:
            types[USER_ID] = labels
        if wanted.cores == "each":
            types[CORE] = labels
        condition = between(start_ms, end_ms) + _of_users(wanted.users)
        if isinstance(wanted.cores, int):
            condition += f" AND {identifier(CORE)} = {literal(str(wanted.cores))}"
        columns = ", ".join(identifier(name) for name in types if name != "time")
        measurement = identifier(measurement_of(wanted.tier, cores=wanted.cores != "whole"))
        rows = self._client.select(f"SELECT {columns} FROM {measurement} WHERE {condition}", types)
        return rows.filter(pc.is_valid(rows[names.mean])) if rows[names.mean].null_count else rows

    def as_came(self, wanted: Wanted) -> pa.Table:
        """Windows with the columns of `SCHEMA`; of a core's, `duration` is 0."""
        rows = self._rows(wanted, wanted.start_ms, wanted.end_ms, histograms=True, duration=wanted.cores == "whole")
        table = self._table(rows, wanted)
        return table.take(pa.array(np.flatnonzero((table["series"].to_numpy() > 0) & _first_of_each(table))))

    def _table(self, rows: pa.Table, wanted: Wanted) -> pa.Table:
        names = fields_of(wanted.quantity)
        nothing = pa.array(np.zeros(len(rows), np.int64))
        return pa.table(
            {
                "series": self._series(rows, wanted),
                "time": rows["time"],
                "duration": rows[DURATION].fill_null(0) if DURATION in rows.column_names else nothing,
                "count": rows[names.count].fill_null(ORIGINAL_OBSERVATIONS),
                "mean": rows[names.mean],
                "variance": rows[names.variance].fill_null(0.0),
                "minimum": _or_nan(rows[names.minimum]),
                "maximum": _or_nan(rows[names.maximum]),
                "histogram": packed_of(rows[names.histogram]),
            }
        )

    def _raw(self, rows: pa.Table, wanted: Wanted) -> Windows:
        uncounted = rows[fields_of(wanted.quantity).count].is_null().to_numpy()
        table = self._table(rows, wanted)
        kept = np.flatnonzero((table["series"].to_numpy() > 0) & _first_of_each(table))
        if len(kept) < len(table):
            table, uncounted = table.take(pa.array(kept)), uncounted[kept]
        windows = windows_of(table, self._index.bounded(), histograms=True)
        windows.approximated[uncounted] = windows.count[uncounted]
        return windows

    def _buckets(self, rows: pa.Table, wanted: Wanted) -> Windows:
        names = fields_of(wanted.quantity)
        columns = {
            name: rows[getattr(names, name)].to_numpy() for name in ("count", "mean", "variance", "minimum", "maximum")
        }
        histograms = unpack(packed_of(rows[names.histogram])) if names.histogram in rows.column_names else None
        series = self._series(rows, wanted)
        windows = Windows(
            series=series, time=rows["time"].to_numpy(), **columns,
            approximated=rows[names.approximated].fill_null(0).to_numpy(), histograms=histograms,
        )  # fmt: skip
        return windows if np.all(series > 0) else take(windows, series > 0)

    def _series(self, rows: pa.Table, wanted: Wanted) -> Ints:
        """Our number of each row's series, 0 where we have none."""
        users, user_of = _labels(rows, USER_ID) if len(wanted.users) != 1 else ([wanted.users[0]], 0)
        core = wanted.cores if isinstance(wanted.cores, int) else WHOLE
        cores, core_of = _labels(rows, CORE) if wanted.cores == "each" else ([str(core)], 0)
        numbers = np.zeros((len(users), len(cores)), np.int64)
        for place, user in enumerate(users):
            known = self._index.cores(user, wanted.quantity.name)
            numbers[place] = [known.get(int(name), 0) if name.lstrip("-").isdecimal() else 0 for name in cores]
        found: Ints = np.broadcast_to(numbers[user_of, core_of], len(rows))
        return found


def without(windows: Windows, keys: Keys | None) -> Windows:
    """The windows that are not among `keys`."""
    if keys is None:
        return windows
    held = keys.hold(windows.series, windows.time)
    return take(windows, ~held) if held.any() else windows


def condition(users: Sequence[str], start_ms: int, end_ms: int) -> str:
    """What points of some users in a range fulfil; of many users, everybody's."""
    return between(start_ms, end_ms) + _of_users(users)


def _of_users(users: Sequence[str]) -> str:
    if not 0 < len(users) <= _FEW:
        return ""
    return f" AND ({' OR '.join(f'{identifier(USER_ID)} = {tag_literal(user)}' for user in users)})"


def _labels(rows: pa.Table, name: str) -> tuple[list[str], npt.NDArray[Any]]:
    """The values of a tag, and the place of each row's among them."""
    column = rows[name].unify_dictionaries().combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    if column.null_count:
        column = column.fill_null("")
    return [tag_value(value) for value in column.dictionary.to_pylist()], column.indices.to_numpy()


def _first_of_each(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows are the first of their series and time: a user that changes its system has two series there."""
    series, time = table["series"].to_numpy(), table["time"].to_numpy()
    if np.all((series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (time[1:] > time[:-1]))):
        return np.ones(len(series), np.bool_)
    order = np.lexsort((time, series))
    first = np.ones(len(series), np.bool_)
    first[order[1:]] = (np.diff(series[order]) != 0) | (np.diff(time[order]) != 0)
    return first


def _or_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.fill_null(float("nan")) if column.null_count else column
