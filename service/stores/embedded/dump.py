"""The embedded store's dump: its windows as reports, its rollups, and how many samples it has, read on one cursor."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from analytics.frames.columns import Windows, merge
from analytics.frames.packing import unpack
from contract.report import Report
from service.stores.base import Buckets, Host
from service.stores.dump import ChosenSeries, ReportRows, reports_of
from service.stores.embedded.catalog import tier_table
from service.stores.embedded.forms import read
from service.stores.embedded.reading import ROLLUP_COLUMNS, windows_of_rollup
from service.stores.embedded.segment import Segment
from service.stores.embedded.segments import windows_in


def _register(cursor: duckdb.DuckDBPyConnection, chosen: ChosenSeries) -> str:
    """Make the table `chosen`; returns a condition that lets Parquet files skip most of what is not chosen."""
    table = pa.table(
        {
            "series": pa.array(chosen.numbers, pa.int32()),
            "place": pa.array(range(len(chosen)), pa.int64()),
            "user_place": pa.array(chosen.user_places, pa.int64()),
            "whole": pa.array(chosen.is_whole, pa.bool_()),
        }
    )
    cursor.register("chosen", table)
    return f"series BETWEEN {chosen.numbers.min()} AND {chosen.numbers.max()}"


def kept(
    cursor: duckdb.DuckDBPyConnection,
    tier_ms: int,
    files: Sequence[str] | None,
    chosen: ChosenSeries,
    start_ms: int,
    end_ms: int,
) -> int:
    """The samples of whole hosts in a range of a tier, or of `files` of windows."""
    if files == [] or not len(chosen):
        return 0
    near = _register(cursor, chosen)
    source = tier_table(tier_ms) if files is None else "read_parquet(?)"
    ((count,),) = cursor.execute(
        f"SELECT coalesce(sum(count), 0) FROM {source} SEMI JOIN (FROM chosen WHERE whole) USING (series)"
        f" WHERE {near} AND time >= {start_ms} AND time < {end_ms}",
        [] if files is None else [files],
    ).fetchall()
    return int(count)


def read_reports(
    cursor: duckdb.DuckDBPyConnection,
    folder: Path,
    segments: Sequence[Segment],
    chosen: ChosenSeries,
    start_ms: int,
    end_ms: int,
    hosts: dict[str, Host],
    page_rows: int,
) -> Iterator[list[Report]]:
    """The windows of files in `folder` that end in a range, as reports, `page_rows` windows of series at a time.

    DuckDB sorts them, and spills to disk where it must.
    """
    if not segments or not len(chosen):
        return
    source, files = windows_in(folder, segments)
    near = _register(cursor, chosen)
    reader = cursor.sql(
        f"FROM {source} JOIN chosen USING (series)"
        f" WHERE {near} AND time >= {start_ms} AND time < {end_ms} ORDER BY user_place, time, place",
        params=files,
    ).to_arrow_reader(page_rows)
    rest: pa.Table | None = None
    for batch in reader:
        page = pa.Table.from_batches([read(batch)])
        for name in ("place", "user_place"):
            page = page.append_column(name, batch[name])
        page = page if rest is None else pa.concat_tables([rest, page])
        # The last report may go on in the next batch.
        whole = _last_report(page)
        if whole:
            yield reports_of(_rows(page.slice(0, whole)), chosen.names, hosts)
        rest = page.slice(whole)
    if rest is not None and len(rest):
        yield reports_of(_rows(rest), chosen.names, hosts)


def _last_report(page: pa.Table) -> int:
    """The row with which the last report of a page begins."""
    user, time = page["user_place"].to_numpy(), page["time"].to_numpy()
    others = np.flatnonzero((user != user[-1]) | (time != time[-1]))
    return int(others[-1]) + 1 if len(others) else 0


def _rows(page: pa.Table) -> ReportRows:
    page = page.combine_chunks()
    place, time, duration, count = (
        page[name].to_numpy().astype(np.int64) for name in ("place", "time", "duration", "count")
    )
    mean, variance, minimum, maximum = (page[name].to_numpy() for name in ("mean", "variance", "minimum", "maximum"))
    histograms = unpack(_one_chunk(page["histogram"]))
    return ReportRows(place, time, duration, count, mean, variance, minimum, maximum, histograms)


def _one_chunk(column: pa.ChunkedArray) -> pa.BinaryArray:
    chunks = column.combine_chunks()
    return chunks.chunk(0) if isinstance(chunks, pa.ChunkedArray) else chunks


def read_rollups(
    cursor: duckdb.DuckDBPyConnection, tier_ms: int, chosen: ChosenSeries, start_ms: int, end_ms: int
) -> Buckets:
    """The buckets of a tier in a range, its partial summaries merged."""
    if not len(chosen):
        return Buckets(tier_ms, Windows.empty(), chosen.names)
    _register(cursor, chosen)
    columns = ", ".join(["place AS series", *ROLLUP_COLUMNS[1:]])
    rows = cursor.sql(
        f"SELECT {columns} FROM {tier_table(tier_ms)} JOIN chosen USING (series)"
        f" WHERE time >= {start_ms} AND time < {end_ms}"
    ).to_arrow_table()
    return Buckets(tier_ms, merge(windows_of_rollup(rows, histograms=True), rate_ms=tier_ms), chosen.names)
