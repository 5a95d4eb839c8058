"""Reads: rollups in DuckDB as partial summaries, and the rows that a question needs, from every tier, merged."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analytics.frames.columns import NUMBERS, Windows, merge
from analytics.frames.frame import frame_of_columns, packed_column
from analytics.frames.packing import pack, unpack
from service.stores.embedded.catalog import add_run, tier_table
from service.stores.embedded.segments import Segment
from service.stores.engine import BATCH_ROWS, RAW, TIERS, Piece, Selection, in_memory, plan
from service.stores.memtable import SCHEMA, Memory, Rows, binary, numbers, rows_of, windows_of

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


_FEW = 256
"""Up to so many series are named in the query's text; more are joined from a table."""


def read(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    segments: Sequence[Segment],
    memtables: Sequence[Memory],
    chosen: Selection,
) -> pd.DataFrame:
    """The selection's windows, resampled.

    `connection` is in a transaction; `segments` are those it sees, `memtables` what it does not see yet.
    """
    return chosen.resampled(chain(_stored(connection, folder, segments, chosen), in_memory(memtables, chosen)))


def _stored(
    connection: duckdb.DuckDBPyConnection, folder: Path, segments: Sequence[Segment], chosen: Selection
) -> Iterator[Rows]:
    question = chosen.question
    pieces = [*plan(question.start_ms, question.end_ms, question.step_ms)]
    # A statement costs more than its rows: the pieces of all tiers are read by one.
    columns = ROLLUP_COLUMNS if question.histograms else ROLLUP_COLUMNS[:-1]
    rollups = [_between(columns, tier_table(piece.tier), piece) for piece in pieces if piece.tier != RAW]
    for batch in _selected(connection, rollups, [], chosen):
        yield _rows_of_rollup(batch)
    raw = []
    files = []
    for piece in pieces:
        overlapping = [segment for segment in segments if piece.tier == RAW and _overlaps(segment, piece, chosen)]
        if overlapping:
            raw.append(_between(SCHEMA.names, "read_parquet(?)", piece))
            files.append([str(folder / segment.file) for segment in overlapping])
    for batch in _selected(connection, raw, files, chosen):
        yield rows_of(batch, chosen.bounded, histograms=question.histograms)


def _rows_of_rollup(batch: pa.Table) -> Rows:
    """The partial summaries of rows of a rollup table, with their histograms where these were read."""
    columns: dict[str, Any] = {column: numbers(batch, name) for column, name in NUMBERS.items()}
    if "histogram" in batch.column_names:
        columns["histogram"] = packed_column(batch["histogram"])
    return Rows(numbers(batch, "series"), frame_of_columns(columns, numbers(batch, "time")))


def _between(columns: Sequence[str], source: str, piece: Piece) -> str:
    condition = f"time >= {piece.start_ms} AND time < {piece.end_ms}"
    return f"SELECT {', '.join(columns)} FROM {source} WHERE {condition}"


def _selected(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[str], parameters: list[list[str]], chosen: Selection
) -> Iterator[pa.Table]:
    """The rows of all parts that belong to the chosen series, in batches; each part ends in a condition."""
    if not parts or not len(chosen.series):
        return
    if len(chosen.series) <= _FEW:
        wanted = f" AND series IN ({', '.join(map(str, chosen.series))})"
        table = connection.sql(" UNION ALL ".join(part + wanted for part in parts), params=parameters).to_arrow_table()
        if len(table):
            yield table
        return
    connection.register("chosen", pa.table({"series": chosen.series}))
    wanted = f" AND series BETWEEN {chosen.series[0]} AND {chosen.series[-1]} AND series IN (FROM chosen)"
    query = " UNION ALL ".join(part + wanted for part in parts)
    for batch in connection.sql(query, params=parameters).to_arrow_reader(BATCH_ROWS):
        if len(batch):
            yield pa.Table.from_batches([batch])
    connection.unregister("chosen")


def _overlaps(segment: Segment, piece: Piece, chosen: Selection) -> bool:
    if segment.last_ms < piece.start_ms or segment.first_ms >= piece.end_ms:
        return False
    place = np.searchsorted(chosen.series, segment.first_series)
    return bool(place < len(chosen.series) and chosen.series[place] <= segment.last_series)
