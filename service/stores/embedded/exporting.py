"""What the embedded store hands out when it is copied, and takes in when it is copied to."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.windows import Windows, merge
from analytics.windows.packing import unpack
from contract.metrics import QUANTITIES
from contract.report import OsType, Report
from service.stores.assembly import Rows, name_order, reports_of
from service.stores.embedded.catalog import tier_table
from service.stores.embedded.rollups import ROLLUP_COLUMNS, windows_of_rollup
from service.stores.plan import TIERS
from service.stores.portable import Machine, Rollups, SeriesName
from service.stores.series import WHOLE, SeriesIndex, User

__all__ = ["Chosen", "coarser", "heard", "kept", "machine_of", "read_reports", "read_rollups"]

_PAGE_ROWS = 65_536
"""Windows of series in a page: some 30 MB as reports."""


class Chosen:
    """All series of some users, in the order in which reports are put together."""

    def __init__(self, index: SeriesIndex, user_ids: Iterable[str]) -> None:
        named = [
            (SeriesName(user_id, QUANTITIES[quantity], None if core == WHOLE else core), number)
            for user_id in user_ids
            for quantity, cores in index.quantities(user_id).items()
            for core, number in cores.items()
        ]
        named.sort(key=lambda one: name_order(one[0]))
        self.names = [name for name, _ in named]
        self.numbers = np.array([number for _, number in named], np.int64)
        self.user_ids = sorted(user_ids)
        place_of_user = {user_id: place for place, user_id in enumerate(self.user_ids)}
        self._table = pa.table(
            {
                "series": pa.array(self.numbers, pa.int32()),
                "place": pa.array(range(len(named)), pa.int64()),
                "user_place": pa.array([place_of_user[name.user_id] for name in self.names], pa.int64()),
                "whole": pa.array([name.core is None for name in self.names], pa.bool_()),
            }
        )

    def register(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the table `chosen`: `series`, its `place` in `names`, `user_place`, and whether it is `whole`."""
        cursor.register("chosen", self._table)

    def between(self) -> str:
        """A condition that lets Parquet files skip most of what is not chosen."""
        return f"series BETWEEN {self.numbers.min()} AND {self.numbers.max()}"


def kept(
    cursor: duckdb.DuckDBPyConnection,
    tier_ms: int,
    files: Sequence[str] | None,
    chosen: Chosen,
    start_ms: int,
    end_ms: int,
) -> int:
    """The samples of whole machines in a range of a tier, or of `files` of windows."""
    if files == [] or not len(chosen.numbers):
        return 0
    chosen.register(cursor)
    source = tier_table(tier_ms) if files is None else "read_parquet(?)"
    ((count,),) = cursor.execute(
        f"SELECT coalesce(sum(count), 0) FROM {source} SEMI JOIN (FROM chosen WHERE whole) USING (series)"
        f" WHERE {chosen.between()} AND time >= {start_ms} AND time < {end_ms}",
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
) -> Iterator[list[Report]]:
    """The windows of `files` that end in a range, as reports. DuckDB sorts them, and spills to disk where it must."""
    if not files or not len(chosen.numbers):
        return
    chosen.register(cursor)
    reader = cursor.sql(
        "SELECT place, user_place, time, duration, count, mean, variance, minimum, maximum, histogram"
        " FROM read_parquet(?) JOIN chosen USING (series)"
        f" WHERE {chosen.between()} AND time >= {start_ms} AND time < {end_ms} ORDER BY user_place, time, place",
        params=[list(files)],
    ).to_arrow_reader(_PAGE_ROWS)
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
    if not len(chosen.numbers):
        return Rollups(tier_ms, Windows.empty(), chosen.names)
    chosen.register(cursor)
    columns = ", ".join(["place AS series", *ROLLUP_COLUMNS[1:]])
    rows = cursor.sql(
        f"SELECT {columns} FROM {tier_table(tier_ms)} JOIN chosen USING (series)"
        f" WHERE time >= {start_ms} AND time < {end_ms}"
    ).to_arrow_table()
    return Rollups(tier_ms, merge(windows_of_rollup(rows, histograms=True), rate_ms=tier_ms), chosen.names)


def coarser(rollups: Rollups, numbers: npt.NDArray[np.int64]) -> dict[int, Windows]:
    """The buckets of every tier that can be made of some; `numbers` are the series of their names."""
    windows = rollups.windows
    series = numbers[windows.series]
    tiers: dict[int, Windows] = {}
    for tier in TIERS:
        if tier % rollups.tier_ms == 0:
            windows = tiers[tier] = merge(windows, series, tier)
            series = windows.series
    return tiers


def machine_of(user: User) -> Machine:
    """What is known of a user."""
    return Machine(
        user.user_id, cast("OsType", user.os_type), user.os_version, user.cores, user.first_seen, user.last_seen
    )


def heard(index: SeriesIndex, machine: Machine) -> User:
    """The user of a machine, which may be known from elsewhere already."""
    user = index.users.get(machine.user_id)
    if user is None:
        user = index.users[machine.user_id] = User(*machine)
    elif machine.last_seen_ms > user.last_seen:
        user.last_seen, user.cores = machine.last_seen_ms, machine.cores
        user.os_type, user.os_version = machine.os_type, machine.os_version
    user.first_seen = min(user.first_seen, machine.first_seen_ms)
    return user
