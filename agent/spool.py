"""The spool: reports wait here, on disk, until the service has them."""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

from agent.spool_file import Entry, SpoolFile, SpoolInUse

IN_MEMORY = 1000
"""How many reports are kept in memory while the disk takes none."""
_NAME = "spool.db"
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_ERROR")

_log = logging.getLogger(__name__)


class Spool:
    """A queue of reports that outlives the process. Used by two threads: one puts, one takes.

    - A report that `put` has taken is on disk, unless the disk fails; then it waits in memory, and is written as
      soon as the disk takes it. No failure of the disk raises.
    - What `done` takes off is written with the next `put`: a process killed in between sends it again.
    - Bounded by bytes and by age: the oldest are dropped first, and counted; the count outlives the process too.
    """

    def __init__(self, directory: Path, max_bytes: int, max_age_s: float) -> None:
        """Open the spool in `directory`; raises SpoolInUse where another agent has it."""
        self._path = directory / _NAME
        self._max_bytes = max_bytes
        self._max_age_ms = max_age_s * 1000
        self._lock = Lock()
        self._unwritten: list[Entry] = []
        self._file: SpoolFile | None = None
        self._failing = False
        self._uncounted = 0
        self._number = self._done = self.waiting = self._size = self.dropped = 0
        self._open()

    def put(self, body: bytes, end_ms: int) -> None:
        """Add a report whose window ended at `end_ms`."""
        with self._lock:
            self._number += 1
            self._unwritten.append(Entry(self._number, end_ms, body))
            self.waiting += 1
            self._size += len(body)
            self._drop_oldest(end_ms)
            self._write()

    def peek(self, max_count: int, max_bytes: int) -> list[Entry]:
        """The oldest reports, as many as both bounds allow; at least one where any waits."""
        entries: list[Entry] = []
        with self._lock:
            for entry in self._oldest_first():
                max_bytes -= len(entry.body)
                if entries and max_bytes < 0:
                    break
                entries.append(entry)
                if len(entries) == max_count:
                    break
        return entries

    def done(self, entries: Sequence[Entry]) -> None:
        """Take off what `peek` gave."""
        with self._lock:
            for entry in entries:
                self._take_off(entry)

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

    def _oldest_first(self) -> Iterator[Entry]:
        try:
            if self._file is not None:
                yield from self._file.after(self._done)
        except sqlite3.Error as error:
            self._failed(error)
        yield from [entry for entry in self._unwritten if entry.number > self._done]

    def _take_off(self, entry: Entry) -> bool:
        """False where it was taken off already: dropped while it was being sent."""
        if entry.number <= self._done:
            return False
        self._done = entry.number
        self.waiting -= 1
        self._size -= len(entry.body)
        return True

    def _drop_oldest(self, now_ms: int) -> None:
        dropped = 0
        for entry in self._oldest_first():
            if self._size <= self._max_bytes and entry.end_ms >= now_ms - self._max_age_ms:
                break
            dropped += self._take_off(entry)
        if dropped:
            self._count_dropped(dropped, "the spool is full, or they are too old")

    def _count_dropped(self, count: int, reason: str) -> None:
        self.dropped += count
        self._uncounted += count
        _log.warning("%d reports dropped: %s (%d in all)", count, reason, self.dropped)

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
                self._count_dropped(1, "the disk takes none, and memory is limited")

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
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            file = SpoolFile(self._path)
        except (OSError, sqlite3.Error) as error:
            if _is_damaged(error):
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
        self.waiting, self._size = file.waiting()
        self.dropped = file.dropped()

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
        except (OSError, sqlite3.Error, SpoolInUse) as another:
            _log.error("no new spool can be made: %s; reports wait in memory, at most %d", another, IN_MEMORY)
        self.waiting -= lost
        self._size = sum(len(entry.body) for entry in self._unwritten if entry.number > self._done)
        if lost:
            self._count_dropped(lost, "they were in the damaged spool")


def _is_damaged(error: Exception) -> bool:
    """Whether the file itself is bad, not the disk or its permissions."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", _DAMAGED[0]).startswith(_DAMAGED)
