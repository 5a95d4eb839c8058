"""What the embedded store hands out when it is copied, and takes in when it is copied to."""

from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa

from analytics.frames.columns import Windows, merge
from analytics.frames.packing import unpack
from contract.report import Report
from service.stores.dump import Chosen, Machine, Rollups, Rows, coarser, heard, machine_of, reports_of
from service.stores.embedded import catalog
from service.stores.embedded.catalog import tier_table
from service.stores.embedded.reading import ROLLUP_COLUMNS, append_rollup, windows_of_rollup
from service.stores.embedded.store import EmbeddedStore
from service.stores.engine import RAW, TIERS

_PAGE_ROWS = 65_536
"""Windows of series in a page: some 30 MB as reports."""


def _register(cursor: duckdb.DuckDBPyConnection, chosen: Chosen) -> str:
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
    chosen: Chosen,
    start_ms: int,
    end_ms: int,
) -> int:
    """The samples of whole machines in a range of a tier, or of `files` of windows."""
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
    files: Sequence[str],
    chosen: Chosen,
    start_ms: int,
    end_ms: int,
    machines: dict[str, Machine],
    page_rows: int,
) -> Iterator[list[Report]]:
    """The windows of `files` that end in a range, as reports, `page_rows` windows of series at a time.

    DuckDB sorts them, and spills to disk where it must.
    """
    if not files or not len(chosen):
        return
    near = _register(cursor, chosen)
    reader = cursor.sql(
        "SELECT place, user_place, time, duration, count, mean, variance, minimum, maximum, histogram"
        " FROM read_parquet(?) JOIN chosen USING (series)"
        f" WHERE {near} AND time >= {start_ms} AND time < {end_ms} ORDER BY user_place, time, place",
        params=[list(files)],
    ).to_arrow_reader(page_rows)
    rest: pa.Table | None = None
    for batch in reader:
        page = pa.Table.from_batches([batch])
        page = page if rest is None else pa.concat_tables([rest, page])
        # The last report may go on in the next batch.
        whole = _last_report(page)
        if whole:
            yield reports_of(_rows(page.slice(0, whole)), chosen.names, machines)
        rest = page.slice(whole)
    if rest is not None and len(rest):
        yield reports_of(_rows(rest), chosen.names, machines)


def _last_report(page: pa.Table) -> int:
    """The row with which the last report of a page begins."""
    user, time = page["user_place"].to_numpy(), page["time"].to_numpy()
    others = np.flatnonzero((user != user[-1]) | (time != time[-1]))
    return int(others[-1]) + 1 if len(others) else 0


def _rows(page: pa.Table) -> Rows:
    page = page.combine_chunks()
    place, time, duration, count = (
        page[name].to_numpy().astype(np.int64) for name in ("place", "time", "duration", "count")
    )
    mean, variance, minimum, maximum = (page[name].to_numpy() for name in ("mean", "variance", "minimum", "maximum"))
    histograms = unpack(_one_chunk(page["histogram"]))
    return Rows(place, time, duration, count, mean, variance, minimum, maximum, histograms)


def _one_chunk(column: pa.ChunkedArray) -> pa.BinaryArray:
    chunks = column.combine_chunks()
    return chunks.chunk(0) if isinstance(chunks, pa.ChunkedArray) else chunks


def read_rollups(
    cursor: duckdb.DuckDBPyConnection, tier_ms: int, chosen: Chosen, start_ms: int, end_ms: int
) -> Rollups:
    """The buckets of a tier in a range, its partial summaries merged."""
    if not len(chosen):
        return Rollups(tier_ms, Windows.empty(), chosen.names)
    _register(cursor, chosen)
    columns = ", ".join(["place AS series", *ROLLUP_COLUMNS[1:]])
    rows = cursor.sql(
        f"SELECT {columns} FROM {tier_table(tier_ms)} JOIN chosen USING (series)"
        f" WHERE time >= {start_ms} AND time < {end_ms}"
    ).to_arrow_table()
    return Rollups(tier_ms, merge(windows_of_rollup(rows, histograms=True), rate_ms=tier_ms), chosen.names)


class PortableEmbeddedStore(EmbeddedStore):
    """A `service.stores.dump.PortableStore`."""

    tiers = TIERS
    overwrites = False
    page_rows = _PAGE_ROWS
    """How many windows of series are read at a time."""

    def kept(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> int:
        """How many samples of whole machines, of all quantities, are on disk at a tier (or `RAW`) in a range."""
        files = self._files(start_ms, end_ms) if tier_ms == RAW else None
        with self._connection.cursor() as cursor:
            return kept(cursor, tier_ms, files, Chosen(self._index, user_ids), start_ms, end_ms)

    def reports(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Iterator[list[Report]]:
        """The windows on disk of some users that end in a range, as reports, a page at a time."""
        machines = {user_id: machine_of(self._index.users[user_id]) for user_id in user_ids}
        chosen = Chosen(self._index, user_ids)
        with self._connection.cursor() as cursor:
            files = self._files(start_ms, end_ms)
            yield from read_reports(cursor, files, chosen, start_ms, end_ms, machines, self.page_rows)

    def _files(self, start_ms: int, end_ms: int) -> list[str]:
        """The files that may have windows which end in a range."""
        segments = self._versions.segments
        return [str(self._raw / one.file) for one in segments if one.last_ms >= start_ms and one.first_ms < end_ms]

    def rollups(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Rollups:
        """The buckets on disk of some users that start in a range."""
        with self._connection.cursor() as cursor:
            return read_rollups(cursor, tier_ms, Chosen(self._index, user_ids), start_ms, end_ms)

    def add_rollups(self, rollups: Rollups, machines: Sequence[Machine]) -> None:
        """Put buckets whose windows are gone on disk, into their tier and every coarser one; all or nothing."""
        # What waits must be on disk first: series are kept in the order of their numbers.
        self.flush()
        with self._flushing, self._connection.cursor() as cursor:
            numbers = [self._index.of_name(name.user_id, name.quantity.name, name.core) for name in rollups.names]
            created, self._index.created = self._index.created, []
            users = [heard(self._index, machine) for machine in machines]
            number = catalog.next_run(cursor)
            with self._versions.change(cursor):
                for tier, windows in coarser(rollups, np.array(numbers, np.int64), TIERS).items():
                    append_rollup(cursor, tier, number, windows)
                catalog.add_series(cursor, created)
                catalog.put_users(cursor, users)

    def rebuild(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> None:
        """Nothing: windows and rollups go on disk together."""
