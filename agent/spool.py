"""The spool: reports wait here, on disk, until the service has them."""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from agent.clock import REMEMBERED, boot_id, steady_s

_log = logging.getLogger(__name__)

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
            ranges = [(after + 1, last)] if isinstance(last, int) and last - after <= _MOST_SALVAGED else []
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


_MOST_SALVAGED = 1_000_000
"""Numbers that are asked for one by one at worst."""
SAY_DROPPED_S = 3600.0
"""How often dropped reports are said in the log at most, with their count."""
IN_MEMORY = 1000
"""How many reports are kept in memory while the disk takes none."""
_NAME = "spool.db"
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")


class Spool:
    """A queue of reports that outlives the process. Used by two threads: one puts, one takes.

    - A report that `put` has taken is on disk, unless the disk fails; then it waits in memory, and is written as
      soon as the disk takes it. No failure of the disk raises.
    - What `done` takes off is written with the next `put`: a process killed in between sends it again.
    - Bounded by bytes and by age: the oldest are dropped first, and counted; the count outlives the process too.
    - Age is by a clock of its own, which goes on with the host and stands still while the host is off: a wall clock
      that is wrong, or set right, drops nothing.
    """

    def __init__(self, directory: Path, max_bytes: int, max_age_s: float) -> None:
        """Open the spool in `directory`; raises SpoolInUse where another agent has it."""
        self._path = directory / _NAME
        self._max_bytes = max_bytes
        self._max_age_ms = max_age_s * 1000
        self._lock = Lock()
        self._unwritten: list[SpooledReport] = []
        self._file: SpoolFile | None = None
        self._failing = False
        self._uncounted = 0
        self._unsaid = 0
        self._say_at = 0.0
        self._number = self._done = self.waiting = self._size = self.dropped = 0
        self._base_ms = self._first_ms = 0
        self._open()

    def put(self, body: bytes, end_ms: int, ended_at: float | None = None, *, is_placed: bool = True) -> None:
        """Add a report whose window ended at `end_ms`, and at `ended_at` by the steady clock; None is now.

        One that is not placed yet waits for `place` before it is sent.
        """
        with self._lock:
            at_ms = round((steady_s() if ended_at is None else ended_at) * 1000) + self._base_ms
            self._number += 1
            self._unwritten.append(SpooledReport(self._number, end_ms, body, at_ms, is_placed))
            self.waiting += 1
            self._size += len(body)
            self._drop_oldest(at_ms)
            self._write()

    def place(
        self, entries: Sequence[SpooledReport], placed: Callable[[SpooledReport, float | None], SpooledReport]
    ) -> list[SpooledReport]:
        """Settle the times of what `peek` gave, once, on disk before it is sent; returns the reports to send.

        `placed` gives a report with its final times; it is told when its window ended by the steady clock, or None
        where that was in another run of the host.
        """
        fresh = [entry for entry in entries if not entry.is_placed]
        if not fresh:
            return [*entries]
        settled = {
            entry.number: placed(entry, self.ended_at(entry))._replace(number=entry.number, is_placed=True)
            for entry in fresh
        }
        with self._lock:
            self._unwritten = [settled.get(entry.number, entry) for entry in self._unwritten]
            waiting = [entry for entry in fresh if entry.number > self._done]
            self._size += sum(len(settled[entry.number].body) - len(entry.body) for entry in waiting)
            try:
                if self._file is not None:
                    self._file.replace([*settled.values()])
            except sqlite3.Error as error:
                self._failed(error)
        return [settled.get(entry.number, entry) for entry in entries]

    def ended_at(self, entry: SpooledReport) -> float | None:
        """When a report's window ended by the steady clock; None where that was in another run of the host."""
        return (entry.at_ms - self._base_ms) / 1000 if entry.at_ms >= self._first_ms else None

    def peek(self, max_count: int, max_bytes: int) -> list[SpooledReport]:
        """The oldest reports, as many as both bounds allow; at least one where any waits."""
        entries: list[SpooledReport] = []
        with self._lock:
            for entry in self._oldest_first():
                max_bytes -= len(entry.body)
                if entries and max_bytes < 0:
                    break
                entries.append(entry)
                if len(entries) == max_count:
                    break
        return entries

    def done(self, entries: Sequence[SpooledReport]) -> None:
        """Take off what `peek` gave."""
        with self._lock:
            for entry in entries:
                self._take_off(entry)

    @property
    def newest(self) -> int:
        """The number of the last report that was added."""
        return self._number

    @property
    def waiting_bytes(self) -> int:
        """The bytes of the reports that wait."""
        return self._size

    def given_out(self) -> list[int]:
        """The ends of the windows that are remembered, of earlier runs too, oldest first."""
        with self._lock:
            try:
                return self._file.given_out() if self._file is not None else []
            except sqlite3.Error as error:
                self._failed(error)
                return []

    def close(self) -> None:
        """Write what is not written, and let go of the file."""
        with self._lock:
            self._write()
            if self._file is not None:
                self._file.close()
                self._file = None

    def _oldest_first(self) -> Iterator[SpooledReport]:
        try:
            if self._file is not None:
                yield from self._file.after(self._done)
        except sqlite3.Error as error:
            self._failed(error)
        yield from [entry for entry in self._unwritten if entry.number > self._done]

    def _take_off(self, entry: SpooledReport) -> bool:
        """False where it was taken off already: dropped while it was being sent."""
        if entry.number <= self._done:
            return False
        self._done = entry.number
        self.waiting -= 1
        self._size -= len(entry.body)
        return True

    def _drop_oldest(self, now_ms: int) -> None:
        """Keep the bounds, at a moment of the spool's own clock."""
        dropped = 0
        for entry in self._oldest_first():
            if self._size <= self._max_bytes and entry.at_ms >= now_ms - self._max_age_ms:
                break
            dropped += self._take_off(entry)
        if dropped:
            self._count_dropped(dropped, "as the spool is full or they are too old")

    def _count_dropped(self, count: int, reason: str) -> None:
        self.dropped += count
        self._uncounted += count
        self._unsaid += count
        now = time.monotonic()
        # A full spool drops one report for each new one: a line for each would fill the log of a full disk.
        if now >= self._say_at:
            _log.warning("reports dropped: %d, %s; %d in all", self._unsaid, reason, self.dropped)
            self._unsaid, self._say_at = 0, now + SAY_DROPPED_S

    def _write(self) -> None:
        """Bring the disk up to date; where that fails, the next report tries again."""
        if self._file is not None:
            try:
                self._file.write(self._unwritten, self._done, self._uncounted)
                if self.waiting <= 1:
                    self._file.shrink()
            except sqlite3.Error as error:
                self._failed(error)
            else:
                self._unwritten.clear()
                self._uncounted = 0
                if self._failing:
                    self._failing = False
                    _log.info("the spool %s can be written again", self._path)
        if len(self._unwritten) > IN_MEMORY:
            entry = self._unwritten.pop(0)
            if entry.number > self._done:
                self.waiting -= 1
                self._size -= len(entry.body)
                self._count_dropped(1, "as the disk takes none and memory is limited")

    def _failed(self, error: sqlite3.Error) -> None:
        if _is_damaged(error):
            assert self._file is not None
            self._file.close()
            self._file = None
            lost = self.waiting - sum(entry.number > self._done for entry in self._unwritten)
            self._start_anew(error, lost)
        elif not self._failing:
            self._failing = True
            _log.warning(
                "the spool %s cannot be written: %s; reports wait in memory, at most %d", self._path, error, IN_MEMORY
            )

    def _open(self) -> None:
        file = None
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            file = SpoolFile(self._path)
            self._base_ms, self._first_ms = file.clock(boot_id(), round(steady_s() * 1000))
            waiting, size = file.waiting()
            dropped = file.dropped()
        except (OSError, sqlite3.Error, TypeError, UnicodeDecodeError) as error:
            if file is not None:
                file.close()
            if _is_damaged(error):
                self._base_ms = 0
                self._start_anew(error, 0)
            else:
                _log.warning(
                    "the spool %s cannot be used: %s; reports wait in memory, at most %d, until the agent ends",
                    self._path,
                    error,
                    IN_MEMORY,
                )
            return
        self._file = file
        self._number = file.newest
        self.waiting, self._size, self.dropped = waiting, size, dropped

    def _start_anew(self, error: Exception, lost: int) -> None:
        aside = self._path.with_name(_NAME + ".damaged")
        _log.error(
            "the spool %s is damaged: %s; it is put aside as %s, and a new one made", self._path, error, aside.name
        )
        try:
            for suffix in ("", "-wal"):
                if (file := Path(f"{self._path}{suffix}")).exists():
                    file.replace(f"{aside}{suffix}")
            self._file = SpoolFile(self._path)
            saved = salvaged(aside, self._done)
            self._file.write(saved, self._done, 0)
            if not self._base_ms:
                # Of an earlier run: when their windows ended by the steady clock nobody can tell.
                self._base_ms, self._first_ms = self._file.clock(boot_id(), round(steady_s() * 1000))
        except (OSError, sqlite3.Error, SpoolInUse) as another:
            _log.error("no new spool can be made: %s; reports wait in memory, at most %d", another, IN_MEMORY)
            saved = []
        unwritten = [entry for entry in self._unwritten if entry.number > self._done]
        self._number = max([self._number, *(entry.number for entry in saved)])
        self.waiting = len(unwritten) + len(saved)
        self._size = sum(len(entry.body) for entry in (*unwritten, *saved))
        lost -= len(saved)
        if lost > 0:
            self._count_dropped(lost, "which were in the damaged spool")


def _is_damaged(error: Exception) -> bool:
    """Whether the file itself is bad, not the disk or its permissions."""
    if isinstance(error, TypeError | UnicodeDecodeError):
        return True
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", _DAMAGED[0]).startswith(_DAMAGED)
