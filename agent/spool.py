"""The spool: reports wait here, on disk, until the service has them."""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock

from agent.clock import boot_id, steady_s
from agent.spool_file import SpooledReport, SpoolFile, SpoolInUse, is_damaged, salvaged

_log = logging.getLogger(__name__)

SAY_DROPPED_S = 3600.0
"""How often dropped reports are said in the log at most, with their count."""
IN_MEMORY = 1000
"""How many reports are kept in memory while the disk takes none."""
_NAME = "spool.db"


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
        if is_damaged(error):
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
            if is_damaged(error):
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
