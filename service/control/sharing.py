"""What all processes of a cluster have alike, such as settings of agents: records in a bucket of keys and values.

The bucket has the truth, and the control database of each process a copy that answers. A transaction that changes such
records puts each into the bucket before it is committed here, and only where the bucket has nothing newer of it than
this process. The others follow the bucket and write what comes into their copies, with the entries of the audit trail
that came with it. A bucket has no transactions over several keys: where the second of two records is refused, the first
stays changed. A process that is alone has no bucket; then its database is the truth.
"""

import base64
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from contract import times
from contract.times import DAY_MS
from service.control.audit import Audit
from service.control.database import ControlDatabase, ControlError, ControlOutdated, RecordKey, SharedRecords

_log = logging.getLogger("loadlens.service")
_JOIN_S = 120.0
_CATCH_UP_S = 5.0
_GONE_MS = 30 * DAY_MS
"""So long the bucket says that a record was deleted; who was away for longer sees that it is not there."""
_STEPS = [
    """
    CREATE TABLE shared_bucket (one INTEGER PRIMARY KEY CHECK (one = 1), identity TEXT NOT NULL) STRICT;
    CREATE TABLE shared_record (
        records TEXT NOT NULL, key ANY NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (records, key)
    ) STRICT, WITHOUT ROWID;
    """
]
_NOTES = (
    "CREATE TEMP TABLE shared_change (records TEXT NOT NULL, key ANY NOT NULL) STRICT",
    "CREATE TEMP TABLE shared_audit (number INTEGER PRIMARY KEY) STRICT",
    """
    CREATE TEMP TRIGGER shared_audit_note AFTER INSERT ON main.audit_entry BEGIN
        INSERT INTO shared_audit VALUES (NEW.id);
    END
    """,
)


class BucketEntry(NamedTuple):
    """A value of the bucket, and the revision under which it was put."""

    revision: int
    value: bytes


class Bucket(Protocol):
    """Keys and values that all processes see; each change has a revision higher than all before."""

    @property
    def identity(self) -> str:
        """Another one where the bucket was made anew, and revisions begin again."""

    def put(self, key: str, value: bytes, revision: int) -> int:
        """Put a value where the newest revision of its key is `revision`, 0 for none; its own revision.

        Raises ControlOutdated where it is not, and ControlError where the bucket cannot be reached.
        """

    def newest(self) -> int:
        """The newest revision of all keys. Raises ControlError."""

    def purge(self, key: str, revision: int) -> None:
        """Forget a key, unless it has been put again since `revision`."""

    def follow(self, take: Callable[[Sequence[BucketEntry]], None], anew: Callable[[], None]) -> None:
        """Have `take` called in a thread with the newest value of every key, then with each change, by revision.

        `anew` is called there too, before the newest values come again, with other revisions.
        """

    def close(self) -> None:
        """Stop following the bucket, and close its connection."""


class _Value(msgspec.Struct):
    """What the bucket has of a record."""

    records: str
    key: RecordKey
    rows: dict[str, list[dict[str, Any]]]
    """By table; no rows where the record was deleted."""
    at_ms: int
    audit: list[list[Any]] = []


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODER = msgspec.msgpack.Decoder(_Value)


class Sharing:
    """Keeps the records of a control database as the bucket has them."""

    def __init__(self, control: ControlDatabase, audit: Audit, bucket: Bucket) -> None:
        """Take up what the bucket has, bring what was never shared, and share from now on. Raises ControlError."""
        self._control = control
        self._audit = audit
        self._bucket = bucket
        self._kinds = {kind.table: kind for kind in control.shared}
        self._columns = {table: _columns(control, kind, table) for kind in control.shared for table in _tables(kind)}
        self._taken = threading.Condition()
        self._revision = 0
        self._met: dict[tuple[str, RecordKey], BucketEntry] | None = {}
        """What the bucket has, while this process joins."""
        control.migrate("control.sharing", _STEPS)
        self._prepare()
        bucket.follow(self._take, self._begin_anew)
        try:
            self._wait_for(bucket.newest(), _JOIN_S)
            self._settle()
        except BaseException:
            bucket.close()
            raise
        control.sharers.append(self)

    def close(self) -> None:
        """Stop sharing: changes of others are no longer taken, and own ones stay here."""
        self._bucket.close()
        if self in self._control.sharers:
            self._control.sharers.remove(self)

    def catch_up(self) -> None:
        """Return when all that others have changed so far is in the tables. Raises ControlError."""
        self._wait_for(self._bucket.newest(), _CATCH_UP_S)

    def _wait_for(self, revision: int, timeout_s: float) -> None:
        with self._taken:
            if not self._taken.wait_for(lambda: self._revision >= revision, timeout_s):
                raise ControlError("what other processes have changed is not known here yet")

    # What this process changes

    def publish(self, db: sqlite3.Connection) -> None:
        """Give the others what the transaction under way has changed. Raises ControlOutdated, and ControlError."""
        changes = db.execute(
            "SELECT records, key FROM shared_change GROUP BY records, key ORDER BY min(rowid)"
        ).fetchall()
        audit = []
        if changes:
            numbers = db.execute("SELECT number FROM shared_audit ORDER BY number").fetchall()
            audit = [self._audit.copy(db, number) for (number,) in numbers]
        for records, key in changes:
            audit = [] if self._put(db, self._kinds[records], key, audit) else audit
        _forget_notes(db)

    def _put(self, db: sqlite3.Connection, kind: SharedRecords, key: RecordKey, audit: list[list[Any]]) -> bool:
        """Put a record into the bucket as it is; False where it has come and gone unseen."""
        revision = _revision_of(db, kind, key)
        if revision < 0:
            raise ControlOutdated("what the bucket has of it is being read anew; try again")
        rows = {table: self._rows(db, table, column, key) for table, column in _tables(kind).items()}
        if not rows[kind.table] and not revision:
            return False
        value = _ENCODE(_Value(kind.table, key, rows if rows[kind.table] else {}, times.now_ms(), audit))
        _note(db, kind, key, self._bucket.put(_name(kind, key), value, revision))
        return True

    def _rows(self, db: sqlite3.Connection, table: str, column: str, key: RecordKey) -> list[dict[str, Any]]:
        names = self._columns[table]
        rows = db.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {column} = ? ORDER BY rowid", (key,))
        return [dict(zip(names, row, strict=True)) for row in rows]

    # What others change

    def _take(self, entries: Sequence[BucketEntry]) -> None:
        """Write what the bucket has into the tables, and tell those who keep them."""
        with self._control.alone():
            changed = self._write(entries)
            for table, keys in changed.items():
                self._kinds[table].changed(keys)
        with self._taken:
            self._revision = entries[-1].revision
            self._taken.notify_all()

    def _write(self, entries: Sequence[BucketEntry]) -> dict[str, list[RecordKey]]:
        """Write what is new of entries into the tables; the keys of that by table."""
        changed: dict[str, list[RecordKey]] = {}
        with self._control.transaction(published=False) as db:
            for entry, kind, value in self._known(entries):
                if self._met is not None:
                    self._met[kind.table, value.key] = entry
                known = _revision_of(db, kind, value.key)
                if entry.revision > known:
                    self._replace(db, kind, value, is_again=known < 0)
                    _note(db, kind, value.key, entry.revision)
                    changed.setdefault(kind.table, []).append(value.key)
            _forget_notes(db)
        return changed

    def _known(self, entries: Iterable[BucketEntry]) -> Iterator[tuple[BucketEntry, SharedRecords, _Value]]:
        """The entries of records that are kept here: a newer release may share others."""
        for entry in entries:
            try:
                value = _DECODER.decode(entry.value)
            except msgspec.MsgspecError as error:
                _log.error("revision %d of the shared records is left out: %s", entry.revision, error)
                continue
            kind = self._kinds.get(value.records)
            if kind is not None:
                yield entry, kind, value

    def _begin_anew(self) -> None:
        """Take that the revisions that are known are those of another copy of the bucket."""
        with self._control.alone(), self._control.transaction(published=False) as db:
            db.execute("UPDATE shared_record SET revision = -abs(revision)")
            _forget_notes(db)
        with self._taken:
            self._revision = 0

    def _replace(self, db: sqlite3.Connection, kind: SharedRecords, value: _Value, *, is_again: bool) -> None:
        for one in value.audit:
            if not is_again or not self._audit.has(db, one):
                self._audit.take(db, one)
        for table, column in kind.parts.items():
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", (value.key,))
        if not value.rows.get(kind.table):
            db.execute(f"DELETE FROM {kind.table} WHERE {kind.key} = ?", (value.key,))
            if isinstance(value.key, int):
                _never_again(db, kind.table, value.key)
        for table in _tables(kind):
            for row in value.rows.get(table, ()):
                # A process of another release may have columns that are not here, and the other way round.
                names = [name for name in self._columns[table] if name in row]
                kept = ", ".join(f"{name} = excluded.{name}" for name in names)
                again = f"ON CONFLICT ({kind.key}) DO UPDATE SET {kept}" if table == kind.table else ""
                db.execute(
                    f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) {again}",
                    [row[name] for name in names],
                )

    # Joining

    def _prepare(self) -> None:
        """Note from now on which records are changed; forget revisions of another bucket."""
        with self._control.transaction(published=False) as db:
            for statement in _NOTES:
                db.execute(statement)
            for kind in self._kinds.values():
                for table, column in _tables(kind).items():
                    for event, row in (
                        ("INSERT", "NEW"), ("DELETE", "OLD"), (f"UPDATE OF {', '.join(self._columns[table])}", "NEW"),
                    ):  # fmt: skip
                        db.execute(
                            f"CREATE TEMP TRIGGER shared_{table}_{event[:6]} AFTER {event} ON main.{table} BEGIN"
                            f" INSERT INTO shared_change VALUES ('{kind.table}', {row}.{column}); END"
                        )
            identity = self._bucket.identity
            if db.execute("SELECT identity FROM shared_bucket").fetchone() != (identity,):
                db.execute("DELETE FROM shared_record")
                db.execute("INSERT OR REPLACE INTO shared_bucket VALUES (1, ?)", (identity,))

    def _settle(self) -> None:
        """Bring what was never shared or was deleted here meanwhile; forget what others have deleted for good."""
        met, self._met = self._met or {}, None
        here = {table: self._keys(kind) for table, kind in self._kinds.items()}
        for table, kind in self._kinds.items():
            gone = []
            for key in here[table]:
                if (kind.table, key) in met:
                    continue
                with self._control.transaction(published=False) as db:
                    if _revision_of(db, kind, key):
                        db.execute(f"DELETE FROM {kind.table} WHERE {kind.key} = ?", (key,))
                        db.execute("DELETE FROM shared_record WHERE records = ? AND key = ?", (kind.table, key))
                        gone.append(key)
                    else:
                        self._bring(db, kind, key)
                    _forget_notes(db)
            if gone:
                kind.changed(gone)
        for (table, key), entry in met.items():
            value = _DECODER.decode(entry.value)
            if value.rows and key not in here[table]:
                with self._control.transaction(published=False) as db:
                    self._bring(db, self._kinds[table], key)
            # The newest revision stays: whoever joins waits for it.
            if entry.revision < self._revision and not value.rows and value.at_ms < times.now_ms() - _GONE_MS:
                self._bucket.purge(_name(self._kinds[table], key), entry.revision)

    def _keys(self, kind: SharedRecords) -> dict[RecordKey, None]:
        """The keys of what is here, in their order."""
        rows = self._control.read(f"SELECT {kind.key} FROM {kind.table} ORDER BY {kind.key}")
        return dict.fromkeys(key for (key,) in rows)

    def _bring(self, db: sqlite3.Connection, kind: SharedRecords, key: RecordKey) -> None:
        try:
            self._put(db, kind, key, [])
        except ControlOutdated:
            _log.warning("%s %r of this process gives way to that of another, which joined before", kind.table, key)


def _tables(kind: SharedRecords) -> dict[str, str]:
    """The tables of a record, with the column that names it."""
    return {kind.table: kind.key, **kind.parts}


def _columns(control: ControlDatabase, kind: SharedRecords, table: str) -> list[str]:
    """The columns of a table that are shared."""
    names = [name for (name,) in control.read("SELECT name FROM pragma_table_info(?)", (table,))]
    return [name for name in names if name not in kind.local]


def _name(kind: SharedRecords, key: RecordKey) -> str:
    """The key of a record in the bucket, whose keys have no other signs than these."""
    return f"{kind.table}.{base64.urlsafe_b64encode(str(key).encode()).decode().rstrip('=')}"


def _revision_of(db: sqlite3.Connection, kind: SharedRecords, key: RecordKey) -> int:
    row = db.execute("SELECT revision FROM shared_record WHERE records = ? AND key = ?", (kind.table, key)).fetchone()
    return row[0] if row else 0


def _note(db: sqlite3.Connection, kind: SharedRecords, key: RecordKey, revision: int) -> None:
    db.execute("INSERT OR REPLACE INTO shared_record VALUES (?, ?, ?)", (kind.table, key, revision))


def _never_again(db: sqlite3.Connection, table: str, number: int) -> None:
    """Have later rows of a table with AUTOINCREMENT get higher numbers than one that was here, or never was."""
    if not db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (number, table)).rowcount:
        db.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, number))


def _forget_notes(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM shared_change")
    db.execute("DELETE FROM shared_audit")
