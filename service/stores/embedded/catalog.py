"""The DuckDB file: what the store knows of its segments, its series and users, and the rollups themselves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from contract.later import later
from contract.times import DAY_MS, HOUR_MS
from service.stores import use_schema
from service.stores.base import StoreError
from service.stores.embedded.segment import Segment
from service.stores.retention import TIERS
from service.stores.series import Series, SeriesIndex, User

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
else:
    duckdb, np, pa = later("duckdb"), later("numpy"), later("pyarrow")


class StoreInUse(StoreError):
    """Another process has opened this data folder."""


class NewerCatalog(StoreError):
    """A newer Loadlens wrote it."""


_BLOCK_BYTES = 16_384
"""Of a new file. Every column of every table begins a block of its own, most of which a small fleet never fills."""
_LOCK_S = 5.0
"""How long to wait for another process that is ending: one that was killed lets go a moment later."""
_LOCK_RETRY_S = 0.05


def tier_table(tier_ms: int) -> str:
    """The table of a rollup tier."""
    return f"rollup_{tier_ms // 1000}s"


_ROLLUP = """
CREATE TABLE {table} (
    run INTEGER NOT NULL,      -- rows of a run are sorted by series and time
    series INTEGER NOT NULL,
    time BIGINT NOT NULL,      -- start of the bucket, epoch ms
    count BIGINT NOT NULL,
    mean DOUBLE NOT NULL,
    variance DOUBLE NOT NULL,
    minimum DOUBLE NOT NULL,
    maximum DOUBLE NOT NULL,
    approximated BIGINT NOT NULL,
    histogram BLOB NOT NULL
);
"""

_FIRST = """
CREATE TABLE state (
    flushed BIGINT NOT NULL,   -- the journal offset through which everything is in it
    run INTEGER NOT NULL       -- the newest number of a segment or run
);
INSERT INTO state VALUES (0, 0);
CREATE TABLE series (id INTEGER NOT NULL, user_id VARCHAR NOT NULL, quantity VARCHAR NOT NULL, core INTEGER NOT NULL);
CREATE TABLE stream (series INTEGER PRIMARY KEY, newest BIGINT NOT NULL);
CREATE TABLE machine (
    user_id VARCHAR PRIMARY KEY,
    os_type VARCHAR NOT NULL,
    os_version VARCHAR NOT NULL,
    cores INTEGER NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL
);
CREATE TABLE segment (
    id INTEGER NOT NULL,
    file VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    first_series INTEGER NOT NULL,
    last_series INTEGER NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms BIGINT NOT NULL
);
CREATE TABLE run (tier BIGINT NOT NULL, number INTEGER NOT NULL, rows BIGINT NOT NULL);
""" + "".join(_ROLLUP.format(table=tier_table(ms)) for ms in (300_000, HOUR_MS, DAY_MS))

_SYSTEMS = """
CREATE TABLE system (
    user_id VARCHAR NOT NULL,
    since BIGINT NOT NULL,     -- the end of the first window that came from it, epoch ms
    os_type VARCHAR NOT NULL,
    os_version VARCHAR NOT NULL
);
INSERT INTO system SELECT user_id, last_seen, os_type, os_version FROM machine;
"""

_NAMES = """
ALTER TABLE segment ADD COLUMN has_names BOOLEAN DEFAULT false;
CREATE TABLE garbage (file VARCHAR NOT NULL);  -- listed no more, and to be removed once nobody reads them
CREATE TABLE lost (file VARCHAR NOT NULL, first_ms BIGINT NOT NULL, last_ms BIGINT NOT NULL);
"""

_CHECKSUMS = "ALTER TABLE segment ADD COLUMN checksum VARCHAR;  -- SHA-256 of the file"

_FLEET = """
ALTER TABLE run ADD COLUMN has_fleet BOOLEAN DEFAULT false;  -- buckets of all hosts, series < 0
"""

_LABELS = "ALTER TABLE machine ADD COLUMN labels VARCHAR DEFAULT '{}';  -- JSON: values by name"

_FRACTIONS = """
ALTER TABLE segment ADD COLUMN has_fractions BOOLEAN DEFAULT false;  -- means and variances as fractions
"""

_FORMS = """
ALTER TABLE segment ALTER COLUMN has_fractions SET DATA TYPE INTEGER;
ALTER TABLE segment RENAME COLUMN has_fractions TO form;  -- see service/stores/embedded/forms.py
ALTER TABLE segment ADD COLUMN settled BOOLEAN DEFAULT false;
"""

_DEVICES = "ALTER TABLE machine ADD COLUMN devices VARCHAR DEFAULT '{}';  -- JSON: numbers by type and name"

MIGRATIONS: Sequence[str] = (
    _FIRST, _SYSTEMS, _NAMES, _CHECKSUMS, _FLEET, use_schema.MIGRATION, _LABELS, _FRACTIONS, _DEVICES,
    _FORMS,
)  # fmt: skip
"""What takes a file from each version to the next; the newest version is their number."""


def open_catalog(path: Path, memory: str, migrations: Sequence[str] = MIGRATIONS) -> duckdb.DuckDBPyConnection:
    """Open the file at `path`, made or brought to the newest version where needed.

    `memory` is what DuckDB may use, such as `1GB`; `migrations` is the statements that lead from each version to the
    next. Raises StoreError where another process has the file, or it
    comes from a newer Loadlens, or is no database.
    """
    deadline = time.monotonic() + _LOCK_S
    while (connection := _connected(path, memory)) is None:
        if time.monotonic() > deadline:
            raise StoreInUse(
                f"{path} is in use by another process; one service at a time can have it. Stop the other, "
                "or give this one another --data-dir."
            )
        time.sleep(_LOCK_RETRY_S)
    try:
        _migrate(connection, path, migrations)
    except duckdb.Error as error:
        connection.close()
        raise damaged(path, error) from None
    except BaseException:
        connection.close()
        raise
    return connection


def _connected(path: Path, memory: str) -> duckdb.DuckDBPyConnection | None:
    """The file, opened; None while another process has it."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "preserve_insertion_order": "true",
        "temp_directory": str(path.with_name("tmp")),
        "default_block_size": _BLOCK_BYTES,
        # A thread of its allocator gives back what a compaction took; 160 MB would stay otherwise.
        "allocator_background_threads": "true",
        # All that is needed is built in; nothing is to be fetched from the network.
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    try:
        return duckdb.connect(str(path), config=config)
    except duckdb.IOException as error:
        if "lock" in str(error).lower():
            return None
        raise damaged(path, error) from None
    except duckdb.Error as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> StoreError:
    """The catalogue cannot be read."""
    reason = str(error).partition("\n")[0]
    return StoreError(
        f"{path} cannot be read: {reason}. Put back a copy of it, or run `loadlens-service repair --data-dir "
        f"{path.parent}`, which makes it from the files of windows. Nothing was changed."
    )


def _migrate(connection: duckdb.DuckDBPyConnection, path: Path, migrations: Sequence[str]) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS version (number INTEGER NOT NULL)")
    ((version,),) = connection.execute("SELECT coalesce(max(number), 0) FROM version").fetchall()
    newest = len(migrations)
    if version > newest:
        raise NewerCatalog(
            f"{path} has format {version}; this Loadlens knows formats up to {newest}. "
            "Use the newer Loadlens that wrote it."
        )
    for number, script in enumerate(migrations[version:], version + 1):
        connection.execute("BEGIN")
        connection.execute(script)
        connection.execute("DELETE FROM version")
        connection.execute("INSERT INTO version VALUES (?)", [number])
        connection.execute("COMMIT")


def copy_to(connection: duckdb.DuckDBPyConnection, path: Path) -> list[Segment]:
    """Put a copy of the file, as of one moment, at `path`; returns the segments that the copy lists.

    Raises duckdb.Error where the file cannot be read to the end, or `path` not be written.
    """
    ((name,),) = connection.execute("SELECT current_database()").fetchall()
    connection.execute(f"ATTACH '{quoted(path)}' AS snapshot")
    try:
        connection.execute("BEGIN")
        connection.execute(f'COPY FROM DATABASE "{name}" TO snapshot')
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT snapshot")
        return [Segment(*row) for row in connection.execute("FROM snapshot.segment ORDER BY id").fetchall()]
    finally:
        with contextlib.suppress(duckdb.Error):  # it may have been committed, or not begun
            connection.execute("ROLLBACK")
        connection.execute("DETACH snapshot")


def quoted(path: Path) -> str:
    """A path within quotes of SQL."""
    return str(path).replace("'", "''")


def flushed(connection: duckdb.DuckDBPyConnection) -> int:
    """The journal offset through which everything is in this file."""
    ((offset,),) = connection.execute("SELECT flushed FROM state").fetchall()
    return int(offset)


def next_run(connection: duckdb.DuckDBPyConnection) -> int:
    """A number for a new segment or run that none had before."""
    ((number,),) = connection.execute("UPDATE state SET run = run + 1 RETURNING run").fetchall()
    return int(number)


def put_flushed(connection: duckdb.DuckDBPyConnection, offset: int) -> None:
    """Everything through journal offset `offset` is in this file, once the transaction is committed."""
    connection.execute("UPDATE state SET flushed = ?", [offset])


def segments(connection: duckdb.DuckDBPyConnection) -> list[Segment]:
    """The segments, oldest first."""
    return [Segment(*row) for row in connection.execute("FROM segment ORDER BY id").fetchall()]


def add_segment(connection: duckdb.DuckDBPyConnection, segment: Segment) -> None:
    """Add a file of windows to the list of those that are read."""
    connection.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", list(segment))


def drop_segments(connection: duckdb.DuckDBPyConnection, old: Sequence[Segment]) -> None:
    """List segments no more: their files are garbage from then on."""
    if not old:
        return
    note_garbage(connection, [segment.file for segment in old])
    connection.execute(f"DELETE FROM segment WHERE id IN ({_list(segment.id for segment in old)})")


def note_garbage(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Note files that are to be removed."""
    if files:
        connection.executemany("INSERT INTO garbage VALUES (?)", [[file] for file in files])


def garbage(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Files that are listed no more, and may be there still."""
    return {file for (file,) in connection.execute("FROM garbage").fetchall()}


def forget_garbage(connection: duckdb.DuckDBPyConnection, file: str | None = None) -> None:
    """Note that the files which were listed no more are removed; or that one `file` is listed now."""
    if file is None:
        connection.execute("DELETE FROM garbage")
    else:
        connection.execute("DELETE FROM garbage WHERE file = ?", [file])


def lose_segments(connection: duckdb.DuckDBPyConnection, old: Sequence[Segment]) -> None:
    """List damaged segments no more; what they held is lost, and their files are kept."""
    connection.executemany("INSERT INTO lost VALUES (?, ?, ?)", [[one.file, one.first_ms, one.last_ms] for one in old])
    connection.execute(f"DELETE FROM segment WHERE id IN ({_list(segment.id for segment in old)})")


def lost(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, int, int]]:
    """Files whose windows are lost: name, and the ends of the oldest and the newest of these windows."""
    return connection.execute("FROM lost ORDER BY first_ms").fetchall()


def newest_run(connection: duckdb.DuckDBPyConnection) -> int:
    """The newest number of a segment or run that was given."""
    ((number,),) = connection.execute("SELECT run FROM state").fetchall()
    return int(number)


def replace_segments(connection: duckdb.DuckDBPyConnection, old: Sequence[Segment], new: Segment) -> None:
    """List `new` in place of `old`."""
    drop_segments(connection, old)
    add_segment(connection, new)


def has_rollups_before(connection: duckdb.DuckDBPyConnection, tier: int, time_ms: int) -> bool:
    """Whether a tier has buckets that end before a time."""
    return bool(
        connection.execute(f"SELECT 1 FROM {tier_table(tier)} WHERE time < {time_ms - tier} LIMIT 1").fetchall()
    )


def drop_rollups_before(connection: duckdb.DuckDBPyConnection, tier: int, time_ms: int) -> None:
    """Forget a tier's buckets that end before a time."""
    connection.execute(f"DELETE FROM {tier_table(tier)} WHERE time < {time_ms - tier}")


def runs(connection: duckdb.DuckDBPyConnection, tier: int) -> dict[int, int]:
    """The runs of a rollup tier, and how many rows each has."""
    return dict(connection.execute("SELECT number, rows FROM run WHERE tier = ? ORDER BY number", [tier]).fetchall())


def add_run(
    connection: duckdb.DuckDBPyConnection, tier: int, number: int, rows: int, *, has_fleet: bool = False
) -> None:
    """List a run; `has_fleet` where its rows have the buckets of all hosts together."""
    connection.execute("INSERT INTO run VALUES (?, ?, ?, ?)", [tier, number, rows, has_fleet])


def note_fleet(connection: duckdb.DuckDBPyConnection, tier: int, number: int, rows: int) -> None:
    """Note that so many rows of all hosts together were added to a run."""
    connection.execute(
        f"UPDATE run SET has_fleet = true, rows = rows + {rows:d} WHERE tier = {tier:d} AND number = {number:d}"
    )


def runs_without_fleet(connection: duckdb.DuckDBPyConnection, tier: int | None = None) -> list[int]:
    """The runs, of a tier or of all, whose rows do not have the buckets of all hosts together."""
    of_tier = "" if tier is None else f" AND tier = {tier:d}"
    found = connection.execute(f"SELECT number FROM run WHERE NOT has_fleet{of_tier} ORDER BY number").fetchall()
    return [number for (number,) in found]


def forget_fleet(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the buckets of all hosts together, which compaction makes anew: where those of some were changed."""
    for tier in TIERS:
        connection.execute(f"DELETE FROM {tier_table(tier)} WHERE series < 0")
    connection.execute("UPDATE run SET has_fleet = false")


def forget_user(connection: duckdb.DuckDBPyConnection, user_id: str, series: Collection[int]) -> None:
    """Forget a user, whose series are these: they belong to nobody from then on.

    The segments that may have windows of theirs are to be written again.
    """
    connection.execute("UPDATE series SET user_id = chr(0) || id WHERE user_id = ?", [user_id])
    for table in ("machine", "system", "process_window", "process_use"):
        connection.execute(f"DELETE FROM {table} WHERE user_id = ?", [user_id])
    if not series:
        return
    numbers = _list(series)
    connection.execute(f"DELETE FROM stream WHERE series IN ({numbers})")
    for tier in TIERS:
        table = tier_table(tier)
        connection.execute(f"DELETE FROM {table} WHERE series IN ({numbers})")
        connection.execute(
            f"UPDATE run SET rows = (SELECT count(*) FROM {table} WHERE {table}.run = run.number) WHERE tier = {tier:d}"
        )
    forget_fleet(connection)
    spans = " OR ".join(f"{number:d} BETWEEN first_series AND last_series" for number in series)
    connection.execute(f"UPDATE segment SET has_names = false WHERE {spans}")


def drop_runs(connection: duckdb.DuckDBPyConnection, tier: int, numbers: Sequence[int]) -> None:
    """Forget runs and their rows."""
    connection.execute(f"DELETE FROM {tier_table(tier)} WHERE run IN ({_list(numbers)})")
    connection.execute(f"DELETE FROM run WHERE tier = {tier:d} AND number IN ({_list(numbers)})")


_AT_ONCE = 4096
"""Python's objects become columns so many at a time: nobody else has the interpreter meanwhile."""
_SERIES = ("id", "user_id", "quantity", "core")
_HOST = ("user_id", "os_type", "os_version", "cores", "first_seen", "last_seen")
_LABELS_OF = msgspec.json.Decoder(dict[str, str])
_DEVICES_OF = msgspec.json.Decoder(dict[str, dict[str, int]])


def load_index(connection: duckdb.DuckDBPyConnection, index: SeriesIndex) -> None:
    """Fill `index` with the series and users on disk."""
    for row in connection.execute("SELECT id, user_id, quantity, core FROM series ORDER BY id").fetchall():
        index.restore(Series(*row))
    text = f"SELECT {', '.join(_HOST)}, labels, devices FROM machine"
    for *known, labels, devices in connection.execute(text).fetchall():
        user = index.users[known[0]] = User(*known)
        user.labels, user.devices = _LABELS_OF.decode(labels), _DEVICES_OF.decode(devices)
    query = "SELECT user_id, since, os_type, os_version FROM system ORDER BY user_id, since"
    for user_id, since, os_type, os_version in connection.execute(query).fetchall():
        index.users[user_id].systems.append((since, index.system(os_type, os_version)))


def add_series(connection: duckdb.DuckDBPyConnection, series: Sequence[Series]) -> None:
    """Add series that were not known."""
    _insert(connection, "INSERT INTO series", _columns(series, _SERIES))


def put_users(connection: duckdb.DuckDBPyConnection, users: Sequence[User]) -> None:
    """Keep what is now known of users."""
    columns = _columns(users, (*_HOST, "labels", "devices"))
    for told in ("labels", "devices"):
        columns[told] = [msgspec.json.encode(one).decode() if one else "{}" for one in columns[told]]
    _insert(connection, "INSERT OR REPLACE INTO machine", columns)


def put_systems(
    connection: duckdb.DuckDBPyConnection, users: Sequence[tuple[User, list[tuple[int, int]]]], index: SeriesIndex
) -> None:
    """Keep what users ran when, in place of what was kept of them."""
    rows = [(user.user_id, since, *index.systems[system]) for user, systems in users for since, system in systems]
    connection.register("changed", pa.table({"user_id": pa.array([user.user_id for user, _ in users], pa.string())}))
    connection.execute("DELETE FROM system WHERE user_id IN (FROM changed)")
    connection.unregister("changed")
    names = ("user_id", "since", "os_type", "os_version")
    columns = {name: [*column] for name, column in zip(names, zip(*rows, strict=True), strict=False)}
    _insert(connection, "INSERT INTO system", columns)


def newest(connection: duckdb.DuckDBPyConnection) -> dict[int, int]:
    """The end of the newest window of each stream."""
    return dict(connection.execute("SELECT series, newest FROM stream").fetchall())


def put_newest(connection: duckdb.DuckDBPyConnection, windows: pa.Table, is_stream: npt.NDArray[np.bool_]) -> None:
    """Keep the newest end of each stream among `windows`, which are sorted by series and time."""
    series, time = windows["series"].to_numpy(), windows["time"].to_numpy()
    last = np.flatnonzero(np.diff(series, append=-1) != 0)
    last = last[is_stream[series[last]]]
    connection.register("ended", pa.table({"series": series[last], "newest": time[last]}))
    connection.execute(
        "INSERT INTO stream SELECT series, newest FROM ended"
        " ON CONFLICT (series) DO UPDATE SET newest = greatest(newest, excluded.newest)"
    )
    connection.unregister("ended")


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(f"{number:d}" for number in numbers)


def _columns(ones: Sequence[object], names: Sequence[str]) -> dict[str, list[Any]]:
    """The attributes of many objects, name by name: a fleet has tens of thousands."""
    return {name: [*map(attrgetter(name), ones)] for name in names}


def _insert(connection: duckdb.DuckDBPyConnection, statement: str, columns: Mapping[str, Sequence[object]]) -> None:
    if not any(columns.values()):
        return
    rows = {
        name: pa.chunked_array([pa.array(column[at : at + _AT_ONCE]) for at in range(0, len(column), _AT_ONCE)])
        for name, column in columns.items()
    }
    connection.register("inserted", pa.table(rows))
    connection.execute(f"{statement} FROM inserted")
    connection.unregister("inserted")
