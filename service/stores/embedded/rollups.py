"""Rollups: windows merged into the buckets of each tier, kept in DuckDB as partial summaries."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.windows import Windows, merge
from analytics.windows.packing import pack, unpack
from service.stores.embedded.catalog import add_run, tier_table
from service.stores.plan import TIERS
from service.stores.windows import binary, numbers, windows_of

__all__ = ["ROLLUP_COLUMNS", "append_rollup", "read_runs", "rollups_of", "windows_of_rollup"]

_NUMBERS = ("series", "time", "count", "mean", "variance", "minimum", "maximum", "approximated")
ROLLUP_COLUMNS = (*_NUMBERS, "histogram")

Numbers = npt.NDArray[Any]


def windows_of_rollup(batch: pa.Table, *, histograms: bool) -> Windows:
    """The partial summaries of rows of a rollup table."""
    columns = {name: numbers(batch, name) for name in _NUMBERS}
    columns["series"] = columns["series"].astype(np.int64)
    return Windows(**columns, histograms=unpack(binary(batch)) if histograms else None)


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
    wanted = ", ".join(f"{run:d}" for run in runs)
    rows = connection.sql(
        f"SELECT {', '.join(ROLLUP_COLUMNS)} FROM {tier_table(tier)} WHERE run IN ({wanted})"
    ).to_arrow_table()
    return merge(windows_of_rollup(rows, histograms=True), rate_ms=tier)
