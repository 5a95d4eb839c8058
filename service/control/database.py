"""The control database: what operators have decided, and what is owed to them; one SQLite file.

SQLite has no checksums. So the checksum of the whole file is put beside it when it is closed, and by whoever copies it:
as long as nobody has opened it again, each flipped bit is found.
"""

import contextlib
import hashlib
import logging
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

_log = logging.getLogger("loadlens.service")

LIMIT_BYTES = 1024 * 1024 * 1024
"""The most the file may grow to. What is kept in it is bounded by who keeps it; this is for what they overlook."""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR")
"""What SQLite says of a damaged file, or of a disk that cannot be read."""
_WHAT_TO_DO = "put back a copy where settings, rules or annotations are not what they were"
_ATTEMPT_S = 10.0
"""So long a change is tried again where other processes were first."""
_APPLICATION_ID = 0x4C4F4144
_FORMAT = 1
_PREPARE = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA wal_autocheckpoint = 1000;
PRAGMA journal_size_limit = 16777216;
"""
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS control_schema (room TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT};
COMMIT;
"""


class ControlError(Exception):
    """The file cannot be used; the message says why and what to do."""


class ControlFull(ControlError):
    """Nothing more can be kept: the file is at its limit, or its disk is."""


class ControlOutdated(ControlError):
    """Another process of a cluster has changed the same, and this one has not heard of it yet."""


class ControlSuperseded(ControlError):
    """Another process of a cluster does now what this one did."""


T = TypeVar("T")
RecordKey = int | str


class SharedRecords(NamedTuple):
    """Records that all processes of a cluster have alike: rows of a table, with those of others that belong to each."""

    table: str
    key: str
    """The column that names a record."""
    changed: Callable[[Collection[RecordKey]], None]
    """Called in a thread with the keys of records that other processes have changed; they are in the tables by then."""
    parts: Mapping[str, str] = {}
    """By further table, the column that names the record its rows belong to."""
    local: frozenset[str] = frozenset()
    """Columns that each process has of its own."""


class ReplicatedTable(NamedTuple):
    """A table that one process of a cluster writes for all, which have copies of its rows."""

    table: str
    key: tuple[str, ...]
    """The one or two columns that name a row."""
    guarded: bool = True
    """Whether only the process may write it that evaluates the rules."""
    order: str = "rowid"
    """What its rows are put in order by, so that they have it in copies too."""


class Sharer(Protocol):
    """Gives what is changed here to the other processes."""

    def publish(self, db: sqlite3.Connection) -> None:
        """Give them what the transaction under way has changed. Raises ControlOutdated, and ControlError."""

    def catch_up(self) -> None:
        """Return when all that others have changed so far is in the tables. Raises ControlError."""


class ControlDatabase:
    """The open file. Any thread may use it: one writes at a time, and reading does not wait for it."""

    def __init__(self, path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        """Open the file, make it where there is none; raises ControlError."""
        self._path = path
        self.shared: list[SharedRecords] = []
        """What the processes of a cluster have alike; those who keep it say so."""
        self.replicated: list[ReplicatedTable] = []
        """The tables that one process of a cluster writes for all."""
        self.sharers: list[Sharer] = []
        """Who gives both to the others; none where this process is alone."""
        self._write_lock = threading.RLock()
        self._read_lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        fault = seal_fault(path)
        try:
            if not path.exists():
                _create(path)
            elif not path.stat().st_size:
                # It is never made empty: what it held is gone, tokens too, without which nobody would be asked for any.
                raise sqlite3.DatabaseError("it is empty, and was not when it was made")
            with contextlib.suppress(OSError):
                path.chmod(0o600)
            self._writer = _connect(path)
            _prepare(self._writer)
            (page_size,) = self._writer.execute("PRAGMA page_size").fetchone()
            self._writer.execute(f"PRAGMA max_page_count = {max(limit_bytes // page_size, 1)}").fetchone()
            unseal(path)
            self._reader = _connect(path)
            self._reader.execute("PRAGMA query_only = ON")
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's words may quote what is damaged
            raise ControlError(
                f"{path} cannot be used: {error}; put it aside to begin without settings, rules and audit trail"
            ) from None
        self._damage: str | None = None
        self._said: set[str] = set()
        self._unwritten: str | None = None
        if fault is not None:
            self._damage = f"{path.name}: {fault}; {_WHAT_TO_DO}"
            _log.error("%s", self._damage)

    @property
    def problem(self) -> str | None:
        """What is wrong with the file: damage that was found for good, or why nothing can be kept now; else None.

        It is told without a token, and does not say where the file lies.
        """
        return self._damage or self._unwritten

    def migrate(self, room: str, steps: Sequence[str]) -> None:
        """Bring the tables of `room` up to date: each step, an SQL script, runs once, in order, all or nothing.

        Steps are only ever added at the end. Raises ControlError where the file is of a newer version.
        """
        with self.transaction() as db:
            row = db.execute("SELECT version FROM control_schema WHERE room = ?", (room,)).fetchone()
            version = row[0] if row else 0
            if version > len(steps):
                raise ControlError(f"{self._path} is of a newer version of this service ({room} {version})")
            for step in steps[version:]:
                for statement in _statements(step):
                    db.execute(statement)
            db.execute(
                "INSERT INTO control_schema VALUES (?, ?) ON CONFLICT (room) DO UPDATE SET version = excluded.version",
                (room, len(steps)),
            )

    @contextlib.contextmanager
    def transaction(self, *, published: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction to read and write in: on disk when the block ends, undone where it raises.

        Within another of the same thread it is part of that one. What is shared with other processes is `published` to
        them before. Raises ControlFull where there is no room, ControlOutdated where another process was first,
        ControlSuperseded where another does now what this one did, and ControlError where the disk fails or the others
        cannot be reached.
        """
        with self._write_lock:
            db = self._writer
            if db.in_transaction:
                yield db
                return
            try:
                db.execute("BEGIN IMMEDIATE")
                yield db
                for sharer in self.sharers if published else ():
                    sharer.publish(db)
                db.execute("COMMIT")
                self._unwritten = None
            except sqlite3.OperationalError as error:
                if not hasattr(error, "sqlite_errorname"):
                    self._note_damage(error)
                explained = _explained(self._path, error)
                self._unwritten = str(explained).replace(str(self._path), self._path.name)
                raise explained from error
            except sqlite3.DatabaseError as error:
                self._note_damage(error)
                raise
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def attempt(self, change: Callable[[], T]) -> T:
        """What `change` returns; it is done again where another process was first, once that is known here.

        Nobody else changes anything meanwhile, so that what is in memory is what is in the tables. Raises what it
        raises.
        """
        end = time.monotonic() + _ATTEMPT_S
        while True:
            try:
                with self.alone():
                    return change()
            except ControlOutdated:
                if not self.sharers or time.monotonic() > end:
                    raise
                for sharer in self.sharers:
                    sharer.catch_up()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other thread write until the block ends."""
        with self._write_lock:
            yield

    def read(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query, as last committed. Raises ControlError where the file is damaged."""
        with self._read_lock:
            try:
                return self._reader.execute(query, parameters).fetchall()
            except sqlite3.DatabaseError as error:
                self._note_damage(error)
                if isinstance(error, sqlite3.OperationalError):  # such as a table whose definition is damaged
                    raise ControlError(f"{self._path} cannot be read: {error}") from error
                raise

    def _note_damage(self, error: sqlite3.DatabaseError) -> None:
        """Raise ControlError, and remember why, where SQLite says that the file is damaged or cannot be read."""
        # One without a name is Python's own: a text is no UTF-8.
        if getattr(error, "sqlite_errorname", _DAMAGE[0]).startswith(_DAMAGE):
            self.note_wrong(str(error))
            raise ControlError(f"{self._path} cannot be read: {error}") from error

    def note_wrong(self, what: str) -> None:
        """Remember that something that was written is not there as it was; the first is said as long as this runs."""
        words = f"{self._path.name}: {what}; {_WHAT_TO_DO}"
        if words not in self._said:
            self._said.add(words)
            _log.error("%s", words)
        self._damage = self._damage or words

    @property
    def size(self) -> int:
        """The bytes of the file's pages in use."""
        (pages, free, page_size) = self.read(
            "SELECT page_count, freelist_count, page_size"
            " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
        )[0]
        return int((pages - free) * page_size)

    def close(self) -> None:
        """Let go of the file, after whoever uses it now, and seal it."""
        with self._read_lock:
            self._reader.close()
        with self._write_lock:
            self._writer.close()
            with contextlib.suppress(OSError):
                seal(self._path)


def _create(path: Path) -> None:
    """Make the file, complete or not at all, unless another process does just now."""
    # For its owner alone: files of rules are kept in it, and may hold addresses that are secrets.
    number, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    os.close(number)
    made = Path(name)
    try:
        with contextlib.closing(_connect(made)) as db:
            _prepare(db)
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()


def _prepare(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if version > _FORMAT:
        raise sqlite3.DatabaseError(f"its format {version} is of a newer version of this service")
    if application not in (0, _APPLICATION_ID):
        raise sqlite3.DatabaseError("it is a database of another program")
    db.executescript(_PREPARE)
    if version < _FORMAT:
        db.executescript(_SCHEMA)


def seal(path: Path) -> None:
    """Put the checksum of a closed database beside it; nothing where others have it open still."""
    if not Path(f"{path}-wal").exists():
        _seal(path).write_text(_checksum(path) + "\n", encoding="ascii")


def unseal(path: Path) -> None:
    """Take the checksum away, as the database is written to from now on."""
    _seal(path).unlink(missing_ok=True)


def seal_fault(path: Path) -> str | None:
    """What is wrong with a closed database by its seal; None where nothing is, or there is no seal."""
    try:
        expected = _seal(path).read_text(encoding="ascii", errors="replace").strip()
        return None if expected == _checksum(path) else "its checksum is not that of when it was closed"
    except FileNotFoundError:
        return None


def is_sealed(path: Path) -> bool:
    """Whether a database has a seal."""
    return _seal(path).exists()


def copy_database(path: Path, target: Path) -> None:
    """Put a consistent copy of an SQLite file that may be in use at `target`. Raises sqlite3.Error."""
    with contextlib.closing(_connect(path)) as source, contextlib.closing(_connect(target)) as copy:
        source.backup(copy)
        ((answer,),) = copy.execute("PRAGMA quick_check(1)").fetchall()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)
        copy.execute("PRAGMA journal_mode = DELETE")


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; sqlite3's own executescript would commit what is under way."""
    statement = ""
    for part in re.split("(?<=;)", script):
        statement += part
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement


def _explained(path: Path, error: sqlite3.OperationalError) -> ControlError:
    if error.sqlite_errorname == "SQLITE_FULL":
        return ControlFull(f"{path} takes no more: it is at its limit, or its disk has no room")
    return ControlError(f"{path} cannot be written: {error}")
