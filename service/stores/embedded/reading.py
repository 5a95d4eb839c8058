"""Reads: rollups in DuckDB as partial summaries, and the rows that a question needs, from every tier, merged."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analytics.frames.columns import NUMBERS, Windows, concatenate, merge, take
from analytics.frames.frame import frame_of_columns, packed_column
from analytics.frames.packing import pack, unpack
from analytics.frames.statistics import columns_of
from analytics.frames.tiers import RAW, Piece, plan
from contract.times import HOUR_MS
from service.stores.cells import BATCH_ROWS as CELL_BATCH
from service.stores.cells import COLUMNS as CELL_COLUMNS
from service.stores.cells import CellRows
from service.stores.embedded import forms, row_groups
from service.stores.embedded.catalog import add_run, note_fleet, tier_table
from service.stores.embedded.segment import Segment
from service.stores.embedded.segments import windows_in
from service.stores.engine import BATCH_ROWS, WindowSelection, in_memory
from service.stores.retention import TIERS
from service.stores.series import SeriesIndex, fleet_number
from service.stores.sorted_windows import SCHEMA, LoadedRows, WindowsInMemory, binary, numbers, rows_of

_NUMBERS = ("series", "time", "count", "mean", "variance", "minimum", "maximum", "approximated")
ROLLUP_COLUMNS = (*_NUMBERS, "histogram")

_MERGED_ROWS = 1 << 16
"""With their histograms some 40 MB while they are merged."""
Numbers = npt.NDArray[Any]


def windows_of_rollup(batch: pa.Table, *, histograms: bool) -> Windows:
    """The partial summaries of rows of a rollup table."""
    columns = {name: numbers(batch, name) for name in _NUMBERS}
    columns["series"] = columns["series"].astype(np.int64)
    return Windows(**columns, histograms=unpack(binary(batch)) if histograms else None)


class RollingUp:
    """What the catalogue is to say of windows, noted part by part while these are written.

    Parts are sorted by series and time, and those of a series are in one part. Their buckets are kept as they are
    stored, which takes a tenth of what merging takes.
    """

    def __init__(self, index: SeriesIndex) -> None:
        self._index = index
        self._parts: list[pa.Table] = []
        self._wholes: list[pa.Table] = []
        """Of the parts what counts for the fleet."""
        self._newest: list[pa.Table] = []

    def noting(self, parts: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same parts."""
        for part in parts:
            self.note(part)
            yield part

    def note(self, part: pa.RecordBatch | pa.Table) -> None:
        """Take a part."""
        windows = rows_of(part, self._index.bounded(), histograms=True).windows()
        buckets = merge(windows, rate_ms=TIERS[0])
        self._parts.append(rows_of_buckets(buckets))
        self._wholes.append(self._parts[-1].take(np.flatnonzero(self._index.fleet()[buckets.series])))
        last = np.flatnonzero(np.diff(windows.series, append=-1))
        self._newest.append(pa.table({"series": windows.series[last], "time": windows.time[last]}))

    def tiers(self) -> Iterator[tuple[int, Iterator[pa.Table]]]:
        """The buckets of each tier, coarser ones made from finer ones; those of the fleet are the first.

        Each tier's are to be taken before the next one is asked for.
        """
        fleet = fleet_of(windows_of_rollup(pa.concat_tables(self._wholes), histograms=True), self._index)
        self._wholes = []
        for tier in TIERS:
            fleet = fleet if tier == TIERS[0] else merge(fleet, rate_ms=tier)
            yield tier, chain([rows_of_buckets(fleet)], self._of_tier(tier))

    def _of_tier(self, tier: int) -> Iterator[pa.Table]:
        for place, part in enumerate(self._parts):
            if tier != TIERS[0]:
                self._parts[place] = rows_of_buckets(merge(windows_of_rollup(part, histograms=True), rate_ms=tier))
            yield self._parts[place]

    def newest(self) -> pa.Table:
        """The end of the newest window of each series, in the columns `series` and `time`."""
        return pa.concat_tables(self._newest).combine_chunks()


def rollups_of(batch: pa.RecordBatch | pa.Table, index: SeriesIndex) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """The buckets of each tier that the windows of a batch fall into, those of the fleet among them."""
    rolling = RollingUp(index)
    rolling.note(batch)
    return rolling.tiers()


def with_fleet(buckets: Windows, index: SeriesIndex) -> Windows:
    """The buckets of single series, sorted by series, and those of the fleet in front of them."""
    return concatenate([fleet_of(buckets, index), buckets])


def fleet_of(buckets: Windows, index: SeriesIndex) -> Windows:
    """The buckets of all hosts together, of those of single series."""
    number = index.fleet()[buckets.series]
    whole = np.flatnonzero(number)
    return merge(take(buckets, whole), number[whole])


def append_rollup(connection: duckdb.DuckDBPyConnection, tier: int, run: int, parts: Iterable[pa.Table]) -> None:
    """Put buckets, sorted by series and time and the fleet's among them, into a tier's table as one run."""
    add_run(connection, tier, run, sum(_appended(connection, tier, run, part) for part in parts), has_fleet=True)


def complete_fleet(connection: duckdb.DuckDBPyConnection, tier: int, run: int, index: SeriesIndex) -> None:
    """Add the fleet's buckets to a run that has none."""
    connection.register("wholes", pa.table({"series": np.flatnonzero(index.fleet()).astype(np.int32)}))
    rows = connection.sql(
        f"SELECT {', '.join(ROLLUP_COLUMNS)} FROM {tier_table(tier)} SEMI JOIN wholes USING (series) WHERE run = {run}"
    ).to_arrow_table()
    connection.unregister("wholes")
    fleet = fleet_of(windows_of_rollup(rows, histograms=True), index)
    note_fleet(connection, tier, run, _appended(connection, tier, run, rows_of_buckets(fleet)))


def _appended(connection: duckdb.DuckDBPyConnection, tier: int, run: int, rows: pa.Table) -> int:
    """Put buckets into a tier's table; how many."""
    connection.register("appended", rows)
    connection.execute(f"INSERT INTO {tier_table(tier)} SELECT {run:d}, * FROM appended")
    connection.unregister("appended")
    return len(rows)


def rows_of_buckets(buckets: Windows) -> pa.Table:
    """Buckets as rows of a rollup table, without their run."""
    assert buckets.histograms is not None
    columns = {name: pa.array(getattr(buckets, name)) for name in _NUMBERS[1:]}
    packed = pack(buckets.histograms, len(buckets.series))
    return pa.table({"series": pa.array(buckets.series.astype(np.int32)), **columns, "histogram": packed})


def merged_runs(connection: duckdb.DuckDBPyConnection, tier: int, runs: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of some runs of a tier, merged, some `_MERGED_ROWS` at a time; those of a series together."""
    source = f"FROM {tier_table(tier)} WHERE run IN ({', '.join(f'{run:d}' for run in runs)})"
    held = connection.sql(f"SELECT series, count(*) AS rows {source} GROUP BY series ORDER BY series").to_arrow_table()
    series, rows = numbers(held, "series"), numbers(held, "rows")
    part = (np.cumsum(rows) - rows) // _MERGED_ROWS
    firsts, lasts = np.flatnonzero(np.diff(part, prepend=-1)), np.flatnonzero(np.diff(part, append=-1))
    for first, last in zip(series[firsts].tolist(), series[lasts].tolist(), strict=True):
        found = connection.sql(
            f"SELECT {', '.join(ROLLUP_COLUMNS)} {source} AND series BETWEEN {first:d} AND {last:d}"
        ).to_arrow_table()
        yield rows_of_buckets(merge(windows_of_rollup(found, histograms=True), rate_ms=tier))


_MOST = 0.5
"""Of so many of all series it is quicker to read the others too than to tell them apart by a join."""
_FEW = 256
"""Up to so many series are named in the query's text; more are joined from a table."""
_LONG_MS = HOUR_MS
"""In a piece of time so long there may be row groups of which most is wanted."""


def read(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    segments: Sequence[Segment],
    memtables: Sequence[WindowsInMemory],
    chosen: WindowSelection,
    cuts: Sequence[int] = (),
    *,
    has_fleet: bool = False,
) -> pd.DataFrame:
    """What the selection's question asks for; no rollup spans one of `cuts`.

    `connection` is in a transaction; `segments` are those it sees, `memtables` what it does not see yet. `has_fleet`
    says that the rollups have the buckets of all hosts together.
    """
    stored = _stored(connection, folder, segments, chosen, cuts, has_fleet=has_fleet)
    return chosen.answered(chain(stored, in_memory(memtables, chosen)))


def _stored(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    segments: Sequence[Segment],
    chosen: WindowSelection,
    cuts: Sequence[int],
    *,
    has_fleet: bool,
) -> Iterator[LoadedRows | CellRows]:
    if not len(chosen.series):
        return
    question = chosen.question
    pieces = [*plan(question.start_ms, question.end_ms, question.step_ms, TIERS, cuts)]
    is_fleet = has_fleet and chosen.is_whole_fleet
    wanted = columns_of(question.statistic) if question.cells is None else CELL_COLUMNS[question.cells]
    columns = ["time", *(NUMBERS[column] for column in wanted), *(["histogram"] if question.histograms else [])]
    if question.cells is not None or (len(chosen.series) > 1 and not is_fleet):
        columns.insert(0, "series")
    # A statement costs more than its rows: the pieces of all tiers are read by one.
    rollups = [_between(columns, tier_table(piece.tier), piece) for piece in pieces if piece.tier != RAW]
    if question.cells is not None:
        yield from _cells(connection, rollups, chosen.series)
    else:
        # The fleet's buckets stand for all that is chosen.
        read = np.array([fleet_number(question.quantity.name)]) if is_fleet else chosen.series
        for batch in _selected(connection, rollups, [], read):
            yield _plain_rows(batch, chosen.series[0])
    yield from _of_windows(connection, folder, segments, chosen, [piece for piece in pieces if piece.tier == RAW])


def _of_windows(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    segments: Sequence[Segment],
    chosen: WindowSelection,
    pieces: Sequence[Piece],
) -> Iterator[LoadedRows | CellRows]:
    """Windows in files that end in some pieces of time."""
    question = chosen.question
    # What a report left out is never its mean: of means no histogram is read.
    of_means = question.cells == "mean" or {*columns_of(question.statistic)} <= {"count", "mean"}
    columns = ("series", "time", "count", "mean") if of_means else SCHEMA.names
    columns = tuple(name for name in columns if name != "duration")
    names = forms.needed(columns)
    raw = []
    files: list[list[str]] = []
    batches: list[Iterable[pa.RecordBatch]] = []
    for piece in pieces:
        overlapping = [segment for segment in segments if _overlaps(segment, piece, chosen)]
        if piece.end_ms - piece.start_ms >= _LONG_MS and len(chosen.series) <= _FEW and question.cells is None:
            whole, overlapping = row_groups.divided(folder, overlapping, piece, chosen.series)
            batches.append(row_groups.read(whole, names, piece, chosen.series))
        if overlapping:
            source, of_source = windows_in(folder, overlapping, columns)
            raw.append(_between(names, source, piece))
            files += of_source
    if question.cells == "mean":
        yield from _cells(connection, raw, chosen.series, files)
        return
    histograms = question.histograms
    for batch in chain(*batches, _selected(connection, raw, files, chosen.series)):
        windows = forms.read(batch, histograms=histograms)
        if of_means:
            yield _plain_rows(windows, chosen.series[0])
        else:
            yield rows_of(windows, chosen.bounded, histograms=histograms)


def _cells(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[str], series: Numbers, files: list[list[str]] | None = None
) -> Iterator[CellRows]:
    """Rows of rollups, or of `files`, as what cells are made of.

    Those of other series are among them where these are few.
    """
    columns = {column: name for column, name in NUMBERS.items() if column in CELL_COLUMNS["totals"]}
    for stored in _selected(connection, parts, files or [], series, CELL_BATCH, least_share=_MOST):
        batch = stored if files is None else forms.read(stored)
        there = {column: numbers(batch, name) for column, name in columns.items() if name in batch.schema.names}
        found = unpack(binary(batch)) if "histogram" in batch.schema.names else None
        yield CellRows(numbers(batch, "series"), numbers(batch, "time"), there, found)


def _plain_rows(batch: pa.Table | pa.RecordBatch, series: int) -> LoadedRows:
    """Rows of which nothing is filled in, those columns that were read; they are of `series` where none was."""
    there = batch.schema.names
    columns: dict[str, Any] = {column: numbers(batch, name) for column, name in NUMBERS.items() if name in there}
    if "histogram" in there:
        columns["histogram"] = packed_column(batch["histogram"])
    whose = numbers(batch, "series") if "series" in there else np.full(len(batch), series)
    return LoadedRows(whose, frame_of_columns(columns, numbers(batch, "time")))


def _between(columns: Sequence[str], source: str, piece: Piece) -> str:
    condition = f"time >= {piece.start_ms} AND time < {piece.end_ms}"
    return f"SELECT {', '.join(columns)} FROM {source} WHERE {condition}"


def _selected(
    connection: duckdb.DuckDBPyConnection,
    parts: Sequence[str],
    parameters: list[list[str]],
    series: Numbers,
    batch_rows: int = BATCH_ROWS,
    least_share: float = math.inf,
) -> Iterator[pa.RecordBatch]:
    """The rows of all parts that belong to some series, ascending, in batches; each part ends in a condition.

    Where these are at least `least_share` of the numbers from the first to the last, rows of the others come too.
    """
    if not parts:
        return
    if len(series) <= _FEW:
        wanted = f" AND series IN ({', '.join(map(str, series.tolist()))})"
        if series[-1] - series[0] == len(series) - 1:
            wanted = f" AND series BETWEEN {series[0]} AND {series[-1]}"
        table = connection.sql(" UNION ALL ".join(part + wanted for part in parts), params=parameters).to_arrow_table()
        yield from (batch for batch in table.to_batches() if len(batch))
        return
    connection.register("chosen", pa.table({"series": series}))
    wanted = f" AND series BETWEEN {series[0]} AND {series[-1]}"
    if len(series) < least_share * (int(series[-1]) - int(series[0]) + 1):
        wanted += " AND series IN (FROM chosen)"
    query = " UNION ALL ".join(part + wanted for part in parts)
    for batch in connection.sql(query, params=parameters).to_arrow_reader(batch_rows):
        if len(batch):
            yield batch
    connection.unregister("chosen")


def _overlaps(segment: Segment, piece: Piece, chosen: WindowSelection) -> bool:
    if segment.last_ms < piece.start_ms or segment.first_ms >= piece.end_ms:
        return False
    place = np.searchsorted(chosen.series, segment.first_series)
    return bool(place < len(chosen.series) and chosen.series[place] <= segment.last_series)
