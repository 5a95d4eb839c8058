"""The spool on disk: an SQLite file of reports in the order in which they were made."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.clock import REMEMBERED

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE report (number INTEGER PRIMARY KEY, end_ms INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE given_out (number INTEGER PRIMARY KEY, end_ms INTEGER NOT NULL);
CREATE TABLE tally (name TEXT PRIMARY KEY, count INTEGER NOT NULL);
INSERT INTO tally VALUES ('dropped', 0);
PRAGMA user_version = {_VERSION};
"""
_VACUUM_PAGES = 256


class SpoolInUse(Exception):
    """Another agent works with this spool."""


class Entry(NamedTuple):
    """A report of the spool."""

    number: int
    """Its place in the order."""
    end_ms: int
    """The end of its window."""
    body: bytes
    """Its JSON."""


class SpoolFile:
    """Reports on disk, each committed with a sync (write-ahead log, synchronous=FULL).

    The ends of the last `REMEMBERED` windows stay when their reports are gone, so that a later run knows them.

    Raises sqlite3.Error from every method.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, make it where there is none. Raises SpoolInUse while another process has it open."""
        # The lock is held in this mode as long as the file is open, and falls with the process, however it ends.
        self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise SpoolInUse(f"another agent works with {path}; give this one another --spool-dir") from None
            raise

    def _prepare(self) -> None:
        self._db.executescript("""
            PRAGMA locking_mode = EXCLUSIVE;
            PRAGMA auto_vacuum = INCREMENTAL;
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;
            PRAGMA wal_autocheckpoint = 256;
            PRAGMA journal_size_limit = 1048576;
            PRAGMA cache_size = -256;
        """)
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"its format is version {version}; this agent knows version {_VERSION}")
        # Takes the lock also where there was nothing to make.
        self._db.executescript("BEGIN IMMEDIATE; COMMIT;")

        (newest,) = self._db.execute("SELECT max(number) FROM given_out").fetchone()
        self.newest: int = newest or 0
        """The number of the last report that was ever added."""

    def waiting(self) -> tuple[int, int]:
        """How many reports wait, and the bytes of their bodies."""
        count, size = self._db.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM report").fetchone()
        return count, size

    def dropped(self) -> int:
        """How many reports were dropped since the file was made."""
        (count,) = self._db.execute("SELECT count FROM tally WHERE name = 'dropped'").fetchone()
        return int(count)

    def given_out(self) -> list[int]:
        """The ends of the windows that are remembered, in the order of the reports."""
        return [end_ms for (end_ms,) in self._db.execute("SELECT end_ms FROM given_out ORDER BY number")]

    def after(self, number: int) -> Iterator[Entry]:
        """The reports behind `number`, oldest first, each read as it is asked for."""
        query = "SELECT number, end_ms, body FROM report WHERE number > ? ORDER BY number"
        for row in self._db.execute(query, (number,)):
            yield Entry(*row)

    def write(self, entries: Sequence[Entry], done: int, newly_dropped: int) -> None:
        """Add `entries`, take off all up to number `done` and count drops, in one commit."""
        db = self._db
        newest = entries[-1].number if entries else self.newest
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany("INSERT INTO report VALUES (?, ?, ?)", [entry for entry in entries if entry.number > done])
            db.executemany("INSERT INTO given_out VALUES (?, ?)", [entry[:2] for entry in entries])
            db.execute("DELETE FROM report WHERE number <= ?", (done,))
            db.execute("DELETE FROM given_out WHERE number <= ?", (newest - REMEMBERED,))
            if newly_dropped:
                db.execute("UPDATE tally SET count = count + ? WHERE name = 'dropped'", (newly_dropped,))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self.newest = newest

    def shrink(self) -> None:
        """Give disk space back that a long backlog has taken."""
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        if free > _VACUUM_PAGES:
            # As a script: a mere execute() stops after the first page.
            self._db.executescript("PRAGMA incremental_vacuum")

    def close(self) -> None:
        """Close the file, which lets go of the lock."""
        self._db.close()
