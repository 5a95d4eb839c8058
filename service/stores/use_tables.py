"""Who used the CPU, in tables of DuckDB: rows of windows, and hours that windows were merged into.

A merged hour is a summary of heavy hitters as a window is one, of `MERGED` at most (`contract.processes`): whoever is
left out used no more than the hour has beyond. The embedded store has the tables in its catalogue; what is kept
elsewhere comes into tables in memory to be answered from, or merged.
"""

from collections.abc import Iterable, Sequence

import duckdb
import pyarrow as pa

from contract.times import HOUR_MS, WEEK_MS
from service.stores.process_use import (
    KINDS,
    NOBODY,
    SCHEMAS,
    TopUse,
    UseAnswer,
    UseBucket,
    UseDump,
    UseQuestion,
    UseTables,
    tables_of,
)
from service.stores.use_schema import MIGRATION

WINDOWS_KEPT_MS = WEEK_MS
"""Older windows are merged into hours."""
_NEVER_MS = 1 << 60
_FOLDED_ROWS = 500_000
"""After so many processes of windows in memory they are added up: some 100 MB."""
MERGED = 20
"""How many processes and units an hour names."""


def put(cursor: duckdb.DuckDBPyConnection, tables: UseTables, *, merged: bool = False) -> None:
    """Keep what windows, or merged hours, say, sorted by host and time."""
    if not len(tables.windows):
        return
    cursor.register("told_windows", tables.windows)
    cursor.register("told_uses", tables.uses)
    cursor.execute("INSERT INTO process_window SELECT *, ? FROM told_windows ORDER BY user_id, time", [merged])
    cursor.execute("INSERT INTO process_use SELECT * FROM told_uses ORDER BY user_id, time, kind, cpu_s DESC")
    cursor.unregister("told_windows")
    cursor.unregister("told_uses")


def answer(cursor: duckdb.DuckDBPyConnection, question: UseQuestion, memory: UseTables) -> UseAnswer:
    """Who used most of what is on disk and in memory."""
    kind = KINDS.index(question.by)
    cursor.register("memory_windows", memory.windows)
    cursor.register("memory_uses", memory.uses)
    asked = "time >= $start AND time < $end"
    values: dict[str, object] = {"start": question.start_ms, "end": question.end_ms}
    if question.user_id is not None:
        asked += " AND user_id = $user_id"
        values["user_id"] = question.user_id
    elif question.covers is not None:
        known = cursor.execute(
            "SELECT DISTINCT user_id FROM process_window UNION SELECT user_id FROM memory_windows"
        ).fetchall()
        names = pa.array([name for (name,) in known if question.covers(name)], pa.string())
        cursor.register("covered", pa.table({"user_id": names}))
        asked += " AND user_id IN (FROM covered)"
    windows = (
        f"(SELECT user_id, time, seconds, core_s, busy_s, {question.by}_beyond_s AS beyond_s FROM process_window "
        f"WHERE {asked} UNION ALL SELECT user_id, time, seconds, core_s, busy_s, {question.by}_beyond_s "
        f"FROM memory_windows WHERE {asked})"
    )
    uses = (
        f"(FROM process_use WHERE {asked} AND kind = {kind} UNION ALL FROM memory_uses WHERE {asked} AND kind = {kind})"
    )
    ((hosts, seconds, core_s, busy_s, beyond_s),) = cursor.execute(
        f"SELECT count(DISTINCT user_id), sum(seconds), sum(core_s), sum(busy_s), sum(beyond_s) FROM {windows}", values
    ).fetchall()
    if not hosts:
        return NOBODY
    rows = cursor.execute(
        "SELECT name, owner, unit, command, sum(cpu_s) AS cpu, sum(cpu_s + more_s), max(resident_bytes), "
        f"count(DISTINCT user_id) FROM {uses} GROUP BY ALL ORDER BY cpu DESC, name, owner, unit, command "
        f"LIMIT {question.top:d}",
        values,
    ).fetchall()
    top = [
        TopUse(name, owner, unit, command, cpu_s, max(cpu_s, most_s + beyond_s), resident_bytes, on_hosts)
        for name, owner, unit, command, cpu_s, most_s, resident_bytes, on_hosts in rows
    ]
    buckets = _buckets(cursor, question.rate_ms, top, windows, uses, values) if question.rate_ms else []
    return UseAnswer(top, hosts, seconds, core_s, busy_s, beyond_s, buckets)


def _buckets(
    cursor: duckdb.DuckDBPyConnection, rate_ms: int, top: list[TopUse], windows: str, uses: str,
    values: dict[str, object],
) -> list[UseBucket]:  # fmt: skip
    names = ("name", "owner", "unit", "command")
    columns = {name: pa.array([one[place] for one in top], pa.string()) for place, name in enumerate(names)}
    cursor.register("chosen", pa.table(columns | {"place": pa.array(range(len(top)), pa.int32())}))
    bucket = f"time // {rate_ms:d} * {rate_ms:d}"
    used: dict[int, list[float]] = {}
    for start, place, cpu_s in cursor.execute(
        f"SELECT {bucket} AS bucket, place, sum(cpu_s) FROM {uses} JOIN chosen USING (name, owner, unit, command) "
        "GROUP BY bucket, place",
        values,
    ).fetchall():
        used.setdefault(start, [0.0] * len(top))[place] = cpu_s
    totals = cursor.execute(
        f"SELECT {bucket} AS bucket, sum(core_s), sum(busy_s) FROM {windows} GROUP BY bucket ORDER BY bucket", values
    ).fetchall()
    return [
        UseBucket(start, core_s, busy_s, tuple(used.get(start, [0.0] * len(top)))) for start, core_s, busy_s in totals
    ]


def answered(parts: Iterable[UseTables], question: UseQuestion) -> UseAnswer:
    """Who used most of what some parts say, which are taken one by one.

    Memory follows the hosts, names and buckets that there are, not the windows.
    """
    rows = 0
    with _in_memory() as cursor:
        for part in parts:
            put(cursor, part)
            rows += len(part.uses)
            if rows > _FOLDED_ROWS:
                _fold(cursor, question)
                rows = 0
        return answer(cursor, question, tables_of([]))


def _fold(cursor: duckdb.DuckDBPyConnection, question: UseQuestion) -> None:
    """Add up what each host and name has in each bucket: sums and extremes are all that is asked for."""
    bucket = f"time // {question.rate_ms or _NEVER_MS:d}"
    cursor.execute(
        "CREATE OR REPLACE TABLE process_window AS SELECT user_id, max(time) AS time, sum(seconds) AS seconds, "
        "sum(core_s) AS core_s, sum(busy_s) AS busy_s, sum(process_beyond_s) AS process_beyond_s, "
        f"sum(unit_beyond_s) AS unit_beyond_s, false AS merged FROM process_window GROUP BY user_id, {bucket}"
    )
    cursor.execute(
        "CREATE OR REPLACE TABLE process_use AS SELECT user_id, max(time) AS time, kind, name, owner, unit, command, "
        "sum(cpu_s) AS cpu_s, sum(more_s) AS more_s, max(resident_bytes) AS resident_bytes FROM process_use "
        f"WHERE kind = {KINDS.index(question.by):d} GROUP BY user_id, kind, name, owner, unit, command, {bucket}"
    )


def hours_of(windows: UseTables) -> UseTables:
    """The hours that windows, or rows of hours, become, each with its last millisecond as its time."""
    if not len(windows.windows):
        return windows
    with _in_memory() as cursor:
        put(cursor, windows)
        _merge_hours(cursor, _NEVER_MS)
        cursor.execute(f"UPDATE process_window SET time = time // {HOUR_MS} * {HOUR_MS} + {HOUR_MS - 1}")
        cursor.execute(f"UPDATE process_use SET time = time // {HOUR_MS} * {HOUR_MS} + {HOUR_MS - 1}")
        return dump(cursor, None, 0, _NEVER_MS).hours


def _in_memory() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    connection.execute(MIGRATION)
    return connection


def dump(cursor: duckdb.DuckDBPyConnection, user_ids: Sequence[str] | None, start_ms: int, end_ms: int) -> UseDump:
    """All rows of some users (None: of all) in a range."""
    asked = f"time >= {start_ms:d} AND time < {end_ms:d}"
    if user_ids is not None:
        cursor.register("asked_users", pa.table({"user_id": pa.array(user_ids, pa.string())}))
        asked += " AND user_id IN (FROM asked_users)"
    found = []
    for merged in ("false", "true"):
        windows = f"SELECT * EXCLUDE merged FROM process_window WHERE {asked} AND merged = {merged}"
        uses = f"SELECT u.* FROM process_use u SEMI JOIN ({windows}) w ON u.user_id = w.user_id AND u.time = w.time"
        tables = (cursor.sql(text).to_arrow_table() for text in (windows, uses))
        found.append(UseTables(*(table.cast(schema) for table, schema in zip(tables, SCHEMAS, strict=True))))
    return UseDump(*found)


def expire(cursor: duckdb.DuckDBPyConnection, kept_ms: int | None, now_ms: int) -> None:
    """Forget what has been kept for long enough, and merge whole hours that are over for a week; in a transaction."""
    old_ms, cut_ms = _edges(kept_ms, now_ms)
    for table in ("process_window", "process_use"):
        cursor.execute(f"DELETE FROM {table} WHERE time < {old_ms:d}")
    _merge_hours(cursor, cut_ms)


def _merge_hours(cursor: duckdb.DuckDBPyConnection, cut_ms: int) -> None:
    """Merge the windows that end before a time, in whole hours."""
    # Of hours that were merged before, and of which a late window has come, all is merged again.
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE hour_window AS SELECT user_id, max(time) AS last, min(time) AS first, "
        "sum(seconds) AS seconds, sum(core_s) AS core_s, sum(busy_s) AS busy_s, "
        "[sum(process_beyond_s), sum(unit_beyond_s)] AS beyond "
        f"FROM process_window SEMI JOIN (SELECT DISTINCT user_id, time // {HOUR_MS} AS hour FROM process_window "
        f"WHERE NOT merged AND time < {cut_ms:d}) d "
        f"ON process_window.user_id = d.user_id AND process_window.time // {HOUR_MS} = d.hour "
        f"GROUP BY user_id, time // {HOUR_MS}"
    )
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE hour_use AS SELECT *, row_number() OVER "
        "(PARTITION BY user_id, last, kind ORDER BY at_most_s DESC, name, owner, unit, command) AS place FROM "
        "(SELECT h.user_id, h.last, u.kind, name, owner, unit, command, sum(cpu_s) AS cpu_s, "
        "sum(cpu_s + more_s) + any_value(h.beyond[u.kind + 1]) AS at_most_s, max(resident_bytes) AS resident_bytes "
        "FROM process_use u JOIN hour_window h ON u.user_id = h.user_id AND u.time BETWEEN h.first AND h.last "
        "GROUP BY h.user_id, h.last, u.kind, name, owner, unit, command)"
    )
    # Whoever is left out, and whoever no window names, used no more than this.
    cursor.execute(
        "CREATE OR REPLACE TEMP TABLE hour_beyond AS SELECT h.user_id, h.last, k.kind, greatest(h.beyond[k.kind + 1], "
        f"coalesce(max(u.at_most_s) FILTER (u.place > {MERGED}), 0)) AS beyond_s "
        "FROM hour_window h CROSS JOIN (VALUES (0), (1)) k(kind) LEFT JOIN hour_use u "
        "ON u.user_id = h.user_id AND u.last = h.last AND u.kind = k.kind GROUP BY h.user_id, h.last, k.kind, h.beyond"
    )
    for table in ("process_window", "process_use"):
        cursor.execute(
            f"DELETE FROM {table} USING hour_window h "
            f"WHERE {table}.user_id = h.user_id AND {table}.time BETWEEN h.first AND h.last"
        )
    cursor.execute(
        "INSERT INTO process_window SELECT h.user_id, h.last, seconds, core_s, busy_s, p.beyond_s, u.beyond_s, true "
        "FROM hour_window h JOIN hour_beyond p ON p.user_id = h.user_id AND p.last = h.last AND p.kind = 0 "
        "JOIN hour_beyond u ON u.user_id = h.user_id AND u.last = h.last AND u.kind = 1 ORDER BY h.user_id, h.last"
    )
    cursor.execute(
        "INSERT INTO process_use SELECT u.user_id, u.last, u.kind, name, owner, unit, command, cpu_s, "
        "at_most_s - cpu_s - b.beyond_s, resident_bytes FROM hour_use u JOIN hour_beyond b "
        f"ON b.user_id = u.user_id AND b.last = u.last AND b.kind = u.kind WHERE place <= {MERGED} "
        "ORDER BY u.user_id, u.last, u.kind, cpu_s DESC"
    )


def _edges(kept_ms: int | None, now_ms: int) -> tuple[int, int]:
    """What is older than the first is kept no longer, and what is older than the second as hours; full hours both."""
    old_ms = 0 if kept_ms is None else max(0, now_ms - kept_ms) // HOUR_MS * HOUR_MS
    return old_ms, (now_ms - WINDOWS_KEPT_MS) // HOUR_MS * HOUR_MS


def is_due(cursor: duckdb.DuckDBPyConnection, kept_ms: int | None, now_ms: int) -> bool:
    """Whether `expire` has anything to do."""
    old_ms, cut_ms = _edges(kept_ms, now_ms)
    found = cursor.execute(
        f"SELECT 1 FROM process_window WHERE time < {old_ms:d} OR (NOT merged AND time < {cut_ms:d}) LIMIT 1"
    )
    return bool(found.fetchall())
