"""Reads: the rows that a question needs, from every tier, merged."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from analytics.windows import Windows
from service.stores.embedded.catalog import tier_table
from service.stores.embedded.rollups import ROLLUP_COLUMNS, windows_of_rollup
from service.stores.embedded.segments import Segment
from service.stores.head import Memory
from service.stores.plan import RAW, Piece, plan
from service.stores.selection import BATCH_ROWS, Selection, in_memory
from service.stores.windows import SCHEMA, windows_of

__all__ = ["read"]

_FEW = 256
"""Up to so many series are named in the query's text; more are joined from a table."""


def read(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    segments: Sequence[Segment],
    heads: Sequence[Memory],
    chosen: Selection,
) -> Windows:
    """The selection's windows, merged by group and bucket.

    `connection` is in a transaction; `segments` are those it sees, `heads` what it does not see yet.
    """
    return chosen.merged(chain(_stored(connection, folder, segments, chosen), in_memory(heads, chosen)))


def _stored(
    connection: duckdb.DuckDBPyConnection, folder: Path, segments: Sequence[Segment], chosen: Selection
) -> Iterator[Windows]:
    pieces = [*plan(chosen.start_ms, chosen.end_ms, chosen.rate_ms)]
    # A statement costs more than its rows: the pieces of all tiers are read by one.
    columns = ROLLUP_COLUMNS if chosen.histograms else ROLLUP_COLUMNS[:-1]
    rollups = [_between(columns, tier_table(piece.tier), piece) for piece in pieces if piece.tier != RAW]
    for batch in _selected(connection, rollups, [], chosen):
        yield windows_of_rollup(batch, histograms=chosen.histograms)
    raw = []
    files = []
    for piece in pieces:
        overlapping = [segment for segment in segments if piece.tier == RAW and _overlaps(segment, piece, chosen)]
        if overlapping:
            raw.append(_between(SCHEMA.names, "read_parquet(?)", piece))
            files.append([str(folder / segment.file) for segment in overlapping])
    for batch in _selected(connection, raw, files, chosen):
        yield windows_of(batch, chosen.bounded, histograms=chosen.histograms)


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
