"""The spool's file: reports in SQLite, and what can be read of one that is damaged."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.clock import REMEMBERED

_VERSION = 2
_TIMES = """
ALTER TABLE report ADD COLUMN at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE report ADD COLUMN placed INTEGER NOT NULL DEFAULT 1;
CREATE TABLE clock (boot TEXT NOT NULL, base_ms INTEGER NOT NULL, first_ms INTEGER NOT NULL);
"""
_SCHEMA = f"""
CREATE TABLE report (number INTEGER PRIMARY KEY, end_ms INTEGER NOT NULL, body BLOB NOT NULL);
{_TIMES}
CREATE TABLE given_out (number INTEGER PRIMARY KEY, end_ms INTEGER NOT NULL);
CREATE TABLE tally (name TEXT PRIMARY KEY, count INTEGER NOT NULL);
INSERT INTO tally VALUES ('dropped', 0);
PRAGMA user_version = {_VERSION};
"""
_VACUUM_PAGES = 256
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")
_MAX_SALVAGED = 1_000_000
"""Numbers that are asked for one by one at worst."""


class SpoolInUse(Exception):
    """Another agent works with this spool."""


class SpooledReport(NamedTuple):
    """A report that waits in the spool."""

    number: int
    """Its place in the order of all reports ever spooled, from 1."""
    end_ms: int
    """The end of its window, epoch milliseconds."""
    body: bytes
    """Its JSON, in UTF-8."""
    at_ms: int = 0
    """When its window ended, by the spool's own clock (`Spool`)."""
    is_placed: bool = True
    """Whether its times are final: what was sent once is sent with the same times again."""


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
        elif version == 1:
            self._db.executescript(f"BEGIN IMMEDIATE; {_TIMES} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"its format is version {version}; this agent knows version {_VERSION}")
        # Takes the lock also where there was nothing to make.
        self._db.executescript("BEGIN IMMEDIATE; COMMIT;")

        (newest,) = self._db.execute("SELECT max(number) FROM given_out").fetchone()
        self.newest: int = newest or 0
        """The number of the last report that was ever added."""

    def clock(self, boot: str, now_ms: int) -> tuple[int, int]:
        """What to add to the host's steady clock for the spool's, and what that says first of this run of the host.

        `boot` names the run of the host, `now_ms` is its steady clock.
        """
        row = self._db.execute("SELECT boot, base_ms, first_ms FROM clock").fetchone()
        if row is not None and row[0] == boot:
            return int(row[1]), int(row[2])
        (last,) = self._db.execute("SELECT coalesce(max(at_ms), 0) FROM report").fetchone()
        first_ms = last + 1
        self._db.executescript("BEGIN IMMEDIATE; DELETE FROM clock")
        self._db.execute("INSERT INTO clock VALUES (?, ?, ?)", (boot, first_ms - now_ms, first_ms))
        self._db.execute("COMMIT")
        return first_ms - now_ms, first_ms

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

    def after(self, number: int) -> Iterator[SpooledReport]:
        """The reports behind `number`, oldest first, each read as it is asked for."""
        query = "SELECT number, end_ms, body, at_ms, placed FROM report WHERE number > ? ORDER BY number"
        for row in self._db.execute(query, (number,)):
            yield _entry(*row)

    def replace(self, entries: Sequence[SpooledReport]) -> None:
        """Write reports anew in their places, those that are there, in one commit."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "UPDATE report SET end_ms = ?, body = ?, at_ms = ?, placed = ? WHERE number = ?",
                [(*entry[1:], entry.number) for entry in entries],
            )
            self._db.executemany(
                "UPDATE given_out SET end_ms = ? WHERE number = ?", [(entry.end_ms, entry.number) for entry in entries]
            )

    def write(self, entries: Sequence[SpooledReport], done: int, newly_dropped: int) -> None:
        """Add `entries`, take off all up to number `done` and count drops, in one commit."""
        db = self._db
        newest = entries[-1].number if entries else self.newest
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany(
                "INSERT INTO report VALUES (?, ?, ?, ?, ?)", [entry for entry in entries if entry.number > done]
            )
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


def _entry(number: int, end_ms: object, body: object, at_ms: object, placed: object) -> SpooledReport:
    """The report of a row. What a changed bit made something else is sent without it, for the service to refuse."""
    end, at = (one if isinstance(one, int) else 0 for one in (end_ms, at_ms))
    return SpooledReport(number, end, body if isinstance(body, bytes) else b"", at, bool(placed))


def salvaged(path: Path, after: int) -> list[SpooledReport]:
    """The reports behind a number that can be read of a file that is damaged, oldest first."""
    found: list[SpooledReport] = []
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
            (last,) = db.execute("SELECT max(number) FROM report").fetchone()
            ranges = [(after + 1, last)] if isinstance(last, int) and last - after <= _MAX_SALVAGED else []
            while ranges:
                first, last = ranges.pop()
                query = "SELECT number, end_ms, body, at_ms, placed FROM report WHERE number BETWEEN ? AND ?"
                try:
                    found += [_entry(*row) for row in db.execute(query, (first, last)) if first <= row[0] <= last]
                except (sqlite3.Error, TypeError, UnicodeDecodeError):
                    # By halves: what stands on other pages is whole.
                    middle = (first + last) // 2
                    ranges += [(first, middle), (middle + 1, last)] if first < last else []
    except (sqlite3.Error, TypeError, UnicodeDecodeError):
        pass
    return sorted({entry.number: entry for entry in found}.values())


def is_damaged(error: Exception) -> bool:
    """Whether the file itself is bad, not the disk or its permissions."""
    if isinstance(error, TypeError | UnicodeDecodeError):
        return True
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", _DAMAGED[0]).startswith(_DAMAGED)
