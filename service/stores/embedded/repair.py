"""The catalogue and the rollups made again from the files of windows, which say what is needed.

Files that are damaged, or replaced by others that are there, are put aside and never removed; so is the old catalogue.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from contract.metrics import QUANTITIES, TYPES
from service.stores.base import StoreError
from service.stores.embedded import catalog
from service.stores.embedded.catalog import tier_table
from service.stores.embedded.damage import set_aside, window_files
from service.stores.embedded.forms import form_of, read
from service.stores.embedded.reading import append_rollup, rollups_of
from service.stores.embedded.segment import Segment
from service.stores.embedded.segments import Origin, checksum_of, fault_of, origin_of, windows_in
from service.stores.retention import TIERS
from service.stores.series import Series, SeriesIndex, User, nobody_of

_BATCH_ROWS = 1 << 20
_FIRST_QUANTITY = next(iter(QUANTITIES))
_OF_DEVICES = [quantity.name for kind in TYPES for quantity in kind.of_devices]
"""Their series have numbers of devices where others have cores. The names come back with the host's next report."""
Say = Callable[[str], None]


class Repaired(NamedTuple):
    """What a repair has listed, and what it has lost."""

    files: int
    """Files of windows that the catalogue lists now."""
    windows: int
    put_aside: list[Path]
    """Where files are that were damaged, or replaced by others."""
    was_made: bool
    """Whether the catalogue was made anew."""


def repair(folder: Path, database: Path, memory: str, say: Say) -> Repaired:
    """Make a data folder whole again: `folder` has the files of windows, `database` is their catalogue.

    A catalogue that knows all files stays, with its rollups, and lists the damaged ones as lost. One that is missing,
    damaged or older is made anew from the files; of the old one, where it can be read, rollups of times before the
    oldest window are taken over. Raises StoreError where files do not say what they hold.
    """
    faults = {path: fault for path in window_files(folder) if (fault := fault_of(path))}
    whole = [path for path in window_files(folder) if path not in faults]
    for path, fault in faults.items():
        say(f"{path.name} is damaged: {fault}")
    old = _readable(database, memory, say)
    if old is not None:
        with old:
            listed = catalog.segments(old)
            known = {segment.file for segment in listed} | catalog.garbage(old)
            if known.issuperset(path.name for path in whole):
                return _delist(old, folder, listed, faults, say)
    return _made_anew(folder, database, memory, whole, [*faults], say)


def _readable(database: Path, memory: str, say: Say) -> duckdb.DuckDBPyConnection | None:
    """The catalogue, opened, where it can be read to the end."""
    if not database.exists():
        say(f"{database.name} is missing")
        return None
    try:
        connection = catalog.open_catalog(database, memory)
    except (StoreError, duckdb.Error) as error:
        if isinstance(error, catalog.StoreInUse | catalog.NewerCatalog):
            raise
        say(f"{database.name} is damaged: {error}")
        return None
    try:
        for table in ("series", "machine", "stream", "segment", "run", *map(tier_table, TIERS)):
            connection.execute(f"SELECT sum(hash(columns(*))) FROM {table}").fetchall()  # reads all of it
    except duckdb.Error as error:
        connection.close()
        say(f"{database.name} is damaged: {str(error).partition(chr(10))[0]}")
        return None
    return connection


def _delist(
    connection: duckdb.DuckDBPyConnection, folder: Path, listed: Sequence[Segment], faults: dict[Path, str], say: Say
) -> Repaired:
    """The catalogue as it is, but for files that are damaged or gone."""
    lost = [one for one in listed if folder / one.file in faults or not (folder / one.file).exists()]
    connection.execute("BEGIN")
    if lost:
        catalog.lose_segments(connection, lost)
    connection.execute("COMMIT")
    for one in lost:
        say(f"{one.file}: {one.rows} windows are lost; rollups of their times are kept")
    aside = [set_aside(path) for path in faults]
    kept = [one for one in listed if one not in lost]
    return Repaired(len(kept), sum(one.rows for one in kept), aside, was_made=False)


def _made_anew(
    folder: Path, database: Path, memory: str, whole: Sequence[Path], damaged: Sequence[Path], say: Say
) -> Repaired:
    origins = {path: origin_of(path) for path in whole}
    nameless = [path.name for path, origin in origins.items() if origin is None]
    if nameless:
        raise StoreError(
            f"{len(nameless)} files of windows were written by an older release and do not name their series, "
            f"{nameless[0]} among them: only their own {database.name} tells whose they are. Put it back, or move "
            "these files out of the folder and run this again. Nothing was changed."
        )
    replaced = {number for origin in origins.values() if origin for number in origin.merged}
    used = {path: origin for path, origin in origins.items() if origin and int(path.stem) not in replaced}
    unfinished = database.with_suffix(".new")
    for old in (unfinished, Path(f"{unfinished}.wal")):
        old.unlink(missing_ok=True)
    connection = catalog.open_catalog(unfinished, memory)
    try:
        windows = _fill(connection, used, say)
        _take_over(connection, database, used)
        connection.execute("CHECKPOINT")
    finally:
        connection.close()
    # From here on nothing fails but renaming: the files that are not listed go first, the catalogue last.
    aside = [set_aside(path) for path in (*damaged, *(path for path in whole if path not in used))]
    aside += [_kept(old) for old in (Path(f"{database}.wal"), database) if old.exists()]
    unfinished.rename(database)
    return Repaired(len(used), windows, aside, was_made=True)


def _kept(path: Path) -> Path:
    number = 1
    while (target := path.with_name(f"{path.name}.before-repair-{number}")).exists():
        number += 1
    path.rename(target)
    return target


def _fill(connection: duckdb.DuckDBPyConnection, used: dict[Path, Origin], say: Say) -> int:
    """Put all that files say into an empty catalogue; returns how many windows that are."""
    index = SeriesIndex()
    _name_series(connection, index, [str(path) for path in used])
    connection.execute("BEGIN")
    connection.execute("UPDATE state SET run = ?", [max((int(path.stem) for path in used), default=0)])
    catalog.add_series(connection, index.all)
    catalog.put_users(connection, [*index.users.values()])
    total = 0
    for path in used:
        segment = _listed(path)
        catalog.add_segment(connection, segment)
        for windows in _windows(connection, path.parent, segment):
            number = catalog.next_run(connection)
            for tier, rollup in rollups_of(windows, index):
                append_rollup(connection, tier, number, rollup)
            catalog.put_newest(connection, windows, index.streams())
        total += segment.rows
        say(f"{path.name}: {segment.rows} windows")
    catalog.put_flushed(connection, max((origin.through for origin in used.values()), default=0))
    connection.execute("COMMIT")
    return total


def _listed(path: Path) -> Segment:
    """What the catalogue says of a file."""
    rows = first_series = last_series = 0
    first_ms, last_ms = 2**63 - 1, -(2**63)
    with pq.ParquetFile(path) as file:
        form = form_of(file.schema_arrow)
        for windows in file.iter_batches(_BATCH_ROWS, columns=["series", "time"]):
            series, time = windows["series"].to_numpy(), windows["time"].to_numpy()
            first_series = first_series or int(series[0])
            last_series = int(series[-1])
            first_ms, last_ms = min(first_ms, int(time.min())), max(last_ms, int(time.max()))
            rows += len(windows)
    return Segment(
        int(path.stem), path.name, rows, path.stat().st_size, first_series, last_series, first_ms, last_ms, True,
        checksum_of(path), form,
    )  # fmt: skip


def _windows(connection: duckdb.DuckDBPyConnection, folder: Path, segment: Segment) -> Iterator[pa.Table]:
    """The windows of a file, in their order, a part at a time."""
    source, files = windows_in(folder, [segment])
    with connection.cursor() as reading:
        for batch in reading.sql(f"FROM {source}", params=files).to_arrow_reader(_BATCH_ROWS):
            if len(batch):
                yield pa.Table.from_batches([read(batch)])


def _name_series(connection: duckdb.DuckDBPyConnection, index: SeriesIndex, files: Sequence[str]) -> None:
    """The series and users that files name; numbers that none has any more belong to nobody.

    Raises StoreError where two files call a number by different names.
    """
    if not files:
        return
    rows = connection.execute(
        "SELECT DISTINCT series, user_id, quantity, core FROM read_parquet(?) ORDER BY series", [files]
    ).fetchall()
    if len({row[0] for row in rows}) < len(rows):
        raise StoreError("the files of windows are of two stores: they call the same series by different names")
    for number, user_id, quantity, core in rows:
        while len(index.all) < number - 1:
            nobody = len(index.all) + 1
            index.restore(Series(nobody, nobody_of(nobody), _FIRST_QUANTITY, -1))
        index.restore(Series(number, user_id, quantity, core))
    for row in connection.execute(
        "SELECT user_id, arg_max(os_type, time), arg_max(os_version, time),"
        " count(DISTINCT core) FILTER (core >= 0 AND NOT list_contains(?, quantity)), min(time - duration), max(time)"
        " FROM read_parquet(?) GROUP BY user_id",
        [_OF_DEVICES, files],
    ).fetchall():
        index.users[row[0]] = User(*row)


def _take_over(connection: duckdb.DuckDBPyConnection, database: Path, used: dict[Path, Origin]) -> None:
    """Rollups of times before the oldest window, from the old catalogue, where it can be read and means the same."""
    if not database.exists() or not used:
        return
    ((oldest,),) = connection.execute("SELECT min(first_ms) FROM segment").fetchall()
    try:
        connection.execute(f"ATTACH '{catalog.quoted(database)}' AS old (READ_ONLY)")
    except duckdb.Error:
        return
    try:
        ((differs,),) = connection.execute(
            "SELECT count(*) FROM old.series AS one JOIN series AS other USING (id)"
            " WHERE one.user_id[1] <> chr(0) AND other.user_id[1] <> chr(0) AND (one.user_id, one.quantity, one.core)"
            " <> (other.user_id, other.quantity, other.core)"
        ).fetchall()
        if not differs:
            _copy_rollups(connection, oldest)
    except duckdb.Error:
        with contextlib.suppress(duckdb.Error):  # it may not have come as far as a transaction
            connection.execute("ROLLBACK")
    finally:
        connection.execute("DETACH old")


def _copy_rollups(connection: duckdb.DuckDBPyConnection, oldest_ms: int) -> None:
    connection.execute("BEGIN")
    connection.execute("DELETE FROM series WHERE user_id[1] = chr(0) AND id IN (SELECT id FROM old.series)")
    connection.execute("INSERT INTO series SELECT * FROM old.series WHERE id NOT IN (SELECT id FROM series)")
    connection.execute(
        "INSERT INTO machine BY NAME SELECT * FROM old.machine WHERE user_id NOT IN (SELECT user_id FROM machine)"
    )
    for tier in TIERS:
        number, table = catalog.next_run(connection), tier_table(tier)
        ((count,),) = connection.execute(
            f"INSERT INTO {table} SELECT * REPLACE ({number} AS run) FROM old.{table}"
            f" WHERE series > 0 AND time < {oldest_ms // tier * tier} ORDER BY series, time"
        ).fetchall()
        if count:
            catalog.add_run(connection, tier, number, int(count))
    connection.execute("COMMIT")
