"""Rollups: windows merged into the buckets of each tier, kept in DuckDB as partial summaries."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.windows import Histograms, Windows, merge, standins
from analytics.windows.packing import pack, unpack
from contract.histogram import LINEAR, LOGARITHMIC
from service.stores.embedded.catalog import add_run, tier_table
from service.stores.embedded.plan import TIERS

__all__ = ["ROLLUP_COLUMNS", "append_rollup", "read_runs", "rollups_of", "windows_of", "windows_of_rollup"]

_NUMBERS = ("series", "time", "count", "mean", "variance", "minimum", "maximum", "approximated")
ROLLUP_COLUMNS = (*_NUMBERS, "histogram")

Numbers = npt.NDArray[Any]


def windows_of(batch: pa.RecordBatch | pa.Table, bounded: Numbers, *, histograms: bool) -> Windows:
    """The windows of a batch of `SCHEMA`, as they came.

    `bounded` has by series number whether its quantity is a share. Windows without extremes or histogram
    get stand-ins (`analytics.windows.standins`; for extremes alone, the outer bins), and count as approximated.
    """
    series, time, count = (_numbers(batch, name) for name in ("series", "time", "count"))
    mean, variance = _numbers(batch, "mean"), _numbers(batch, "variance")
    minimum, maximum = _numbers(batch, "minimum"), _numbers(batch, "maximum")
    packed = _binary(batch)
    found = unpack(packed) if histograms else None
    uncounted = lengths(packed) == 0
    unknown = np.flatnonzero(uncounted | np.isnan(minimum) | np.isnan(maximum))
    approximated = np.zeros(len(series), np.int64)
    if len(unknown):
        low, high, halves = standins(mean[unknown], variance[unknown], count[unknown], bounded[series[unknown]])
        counted = np.flatnonzero(~uncounted[unknown])
        if len(counted):
            low[counted], high[counted] = _span(
                packed.take(pa.array(unknown[counted])), bounded[series[unknown[counted]]]
            )
        minimum, maximum = minimum.copy(), maximum.copy()
        minimum[unknown] = np.where(np.isnan(minimum[unknown]), low, minimum[unknown])
        maximum[unknown] = np.where(np.isnan(maximum[unknown]), high, maximum[unknown])
        # A single sample, or samples all alike, are known though nothing more was said of them.
        approximated[unknown] = np.where((variance[unknown] > 0) & (count[unknown] > 1), count[unknown], 0)
        if found is not None:
            wanted = uncounted[unknown][halves.row]
            found = _combined(found, Histograms(unknown[halves.row[wanted]], halves.bin[wanted], halves.count[wanted]))
    return Windows(series.astype(np.int64), time, count, mean, variance, minimum, maximum, approximated, found)


def windows_of_rollup(batch: pa.Table, *, histograms: bool) -> Windows:
    """The partial summaries of rows of a rollup table."""
    columns = {name: _numbers(batch, name) for name in _NUMBERS}
    columns["series"] = columns["series"].astype(np.int64)
    return Windows(**columns, histograms=unpack(_binary(batch)) if histograms else None)


def rollups_of(batch: pa.Table, bounded: Numbers) -> dict[int, Windows]:
    """The buckets of each tier that the windows of a batch fall into, coarser ones made from finer ones."""
    windows = windows_of(batch, bounded, histograms=True)
    tiers = {}
    for tier in TIERS:
        windows = tiers[tier] = merge(windows, rate_ms=tier)
    return tiers


def append_rollup(connection: duckdb.DuckDBPyConnection, tier: int, run: int, windows: Windows) -> None:
    """Put merged windows, sorted by series and time, into a tier's table as one run."""
    assert windows.histograms is not None
    rows = pa.table(
        {
            "run": pa.array(np.full(len(windows.series), run, np.int32)),
            "series": pa.array(windows.series.astype(np.int32)),
            **{name: pa.array(getattr(windows, name)) for name in _NUMBERS[1:]},
            "histogram": pack(windows.histograms, len(windows.series)),
        }
    )
    connection.register("appended", rows)
    connection.execute(f"INSERT INTO {tier_table(tier)} SELECT * FROM appended")
    connection.unregister("appended")
    add_run(connection, tier, run, len(rows))


def read_runs(connection: duckdb.DuckDBPyConnection, tier: int, runs: Sequence[int]) -> Windows:
    """The rows of some runs of a tier, merged."""
    numbers = ", ".join(f"{run:d}" for run in runs)
    rows = connection.sql(
        f"SELECT {', '.join(ROLLUP_COLUMNS)} FROM {tier_table(tier)} WHERE run IN ({numbers})"
    ).to_arrow_table()
    return merge(windows_of_rollup(rows, histograms=True), rate_ms=tier)


def lengths(column: pa.BinaryArray) -> npt.NDArray[np.int32]:
    """The length in bytes of each value of a column."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return np.diff(offsets)


def _span(packed: pa.BinaryArray, bounded: Numbers) -> tuple[Numbers, Numbers]:
    """The values of the lowest and the highest bin of each histogram, none of them empty."""
    found = unpack(packed)
    order = np.lexsort((found.bin, found.row))
    row, bins = found.row[order], found.bin[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    last = np.append(first[1:], len(row)) - 1
    ends = []
    for places in (first, last):
        scales = (LINEAR if one else LOGARITHMIC for one in bounded.tolist())
        ends.append(np.array([scale.value(bin_) for scale, bin_ in zip(scales, bins[places].tolist(), strict=True)]))
    return ends[0], ends[1]


def _combined(first: Histograms, second: Histograms) -> Histograms:
    row = np.concatenate([first.row, second.row])
    order = np.argsort(row, kind="stable")
    return Histograms(
        row[order],
        np.concatenate([first.bin, second.bin])[order],
        np.concatenate([first.count, second.count])[order],
    )


def _numbers(batch: pa.RecordBatch | pa.Table, name: str) -> Numbers:
    numbers: Numbers = batch[name].to_numpy()
    return numbers


def _binary(batch: pa.RecordBatch | pa.Table) -> pa.BinaryArray:
    column = batch["histogram"]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
