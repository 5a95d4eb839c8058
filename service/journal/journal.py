"""The journal: accepted reports on disk, in order, before they are acknowledged."""

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from service.journal.files import (
    HEADER_BYTES,
    Damage,
    LogFile,
    Record,
    copy_file,
    encoded,
    fill,
    open_file,
    open_for_writing,
    put_aside,
    sync_folder,
    write,
)

_log = logging.getLogger("loadlens.service")

FILE_BYTES = 8 * 1024 * 1024
MARK_BYTES = 256 * 1024
DAMAGED = "damaged"
"""The folder, within the journal's, to which damaged files are put aside."""
_MAX_SPARES = 16
"""So many files are kept for use again; more are removed."""
_SHORT_FILES = 8
"""So many files more than fit are kept for readers: a restart begins a new file, however short the one before is."""
_OURS = re.compile(r"[0-9]{20}\.journal|[0-9]{1,20}\.(new|spare)")


class JournalFull(Exception):
    """The journal has reached its limit: the store is behind, or its disk has no room."""


class Journal:
    """An append-only log of reports in `folder`, with at most `limit_bytes` of them that are not pruned.

    Of those that are, about the newest `keep_bytes` can still be read.
    `append` is called by one thread at a time, the others by any. Raises OSError where the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        keep_bytes: int = 0,
        *,
        file_bytes: int = FILE_BYTES,
        mark_bytes: int = MARK_BYTES,
    ) -> None:
        """Open the journal, or make an empty one.

        A file has `file_bytes`, more only where a single record needs it. Places in it are noted every `mark_bytes`, so
        that reading need not begin at a file's first record.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        for unfinished in _found(folder, ".new"):
            unfinished.unlink()
        self._spares = _found(folder, ".spare")
        self._file_bytes = file_bytes
        self._mark_bytes = mark_bytes
        self._files = [open_file(path, mark_bytes) for path in _found(folder, ".journal")]
        self.damage = _damage_of(self._files, file_bytes)
        """What could not be read when the journal was opened, oldest first."""
        self._descriptor: int | None = None
        self._capacity = 0
        self._pruned = 0
        self.problem: str | None = None
        """Why the last write failed, until one has gone well; None before."""
        self.failures = 0
        """Writes that failed."""
        self._held = 0
        self._keep_bytes = keep_bytes
        self.limit_bytes = limit_bytes
        self.last = max((file.last for file in self._files), default=0)
        """The offset of the newest report."""
        for file in self._files:
            if file.is_cut:
                _log.warning("%s ends with a write that was cut short, and that nobody acknowledged", file.path)
        _say_strangers(folder)
        if self._files and self._files[-1].lacks_end(file_bytes):
            # Its name keeps the offsets that were given from being given again.
            self._begin_file(0)

    @property
    def size(self) -> int:
        """The bytes of the records that are not pruned."""
        return sum(file.end - file.taken for file in self._files)

    @property
    def kept(self) -> int:
        """The bytes of the records that are pruned, but can still be read."""
        return sum(file.taken for file in self._files)

    @property
    def is_empty(self) -> bool:
        """Whether no report can be read."""
        return not any(file.end for file in self._files)

    @property
    def first(self) -> int:
        """The offset of the oldest report that can be read; that of the next one where there is none."""
        return self._files[0].after + 1 if self._files else self.last + 1

    def missing(self, after: int) -> list[Damage]:
        """The reports behind offset `after` that cannot be read, oldest first, as far as they were ever here.

        They are damaged, or pruned already, for the sake of a store that was ahead of `after`; behind offset 0 nothing
        is known of what is pruned.
        """
        damage = [one._replace(first=max(one.first, after + 1)) for one in self.damage if one.last > after]
        if 0 < after < self.first - 1:
            damage.insert(0, Damage(self._folder, after + 1, self.first - 1))
        return damage

    def holds(self, after: int, through: int) -> bool:
        """Whether every report behind offset `after` up to `through` can be read."""
        is_here = self.first <= after + 1 and through <= self.last
        return is_here and all(one.first > through or one.last <= after for one in self.damage)

    def advance_to(self, offset: int) -> None:
        """Count on from `offset` at least: offsets up to it are taken, though their records are pruned."""
        self.last = max(self.last, offset)

    def append(self, reports: Sequence[bytes]) -> int:
        """Put `reports` (each one JSON text) on disk; returns the offset of the last.

        Raises JournalFull at the limit and OSError where the disk fails; then none is kept.
        """
        last = self.last + len(reports)
        record = encoded(b"[" + b",".join(reports) + b"]", last)
        if self.size + len(record) > self.limit_bytes:
            raise JournalFull(f"the journal holds {self.size} bytes; its limit is {self.limit_bytes}")
        try:
            if self._descriptor is None or self._files[-1].end + len(record) > self._capacity:
                self._begin_file(len(record))
            self._put(record, last)
        except OSError as error:
            self.failures += 1
            self.problem = str(error)
            raise
        self.problem = None
        self.last = last
        return last

    def _put(self, record: bytes, last: int) -> None:
        """Write a record behind the newest one."""
        assert self._descriptor is not None
        file = self._files[-1]
        has_room = file.end + len(record) + HEADER_BYTES <= self._capacity
        try:
            write(self._descriptor, record + encoded(b"", last) if has_room else record, file.end)
        except OSError:
            # What is there of the record is none of the journal, and must not look like damage.
            with contextlib.suppress(OSError):
                write(self._descriptor, encoded(b"", file.last), file.end)
            raise
        file.add(last, len(record))

    def read(self, after: int) -> Iterator[Record]:
        """The records behind offset `after`, oldest first.

        While others prune, whoever reads what is pruned may meet FileNotFoundError, or a file that is used again: then
        a record does not follow the one before. Damaged records are left out; then too.
        """
        for file in list(self._files):
            for record in file.records(after) if file.last > after else ():
                if record.last > after:
                    after = record.last
                    yield record

    def waiting(self, through: int) -> int:
        """How many reports lie behind offset `through`, up to which a store has them, or rules have seen them."""
        return max(self.last - through, 0)

    def prune(self, through: int) -> None:
        """Forget the reports up to offset `through`, but for those that are kept for readers.

        The files of what is forgotten are kept for use again, or removed; damaged ones are put aside.
        """
        with self._lock:
            self._pruned = max(self._pruned, through)
            for file in self._files:
                file.prune(self._pruned)
            done = self._files[: self._forgotten()]
            self._files = self._files[len(done) :]
            for file in done:
                if file.damage:
                    self._put_aside(file.path)
                elif len(self._spares) < _MAX_SPARES and file.path.stat().st_size == self._file_bytes:
                    spare = file.path.with_suffix(".spare")
                    file.path.rename(spare)
                    self._spares.append(spare)
                else:
                    file.path.unlink()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While the block runs no file is removed or used again; what is pruned does not count for the limit."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1

    def copy_to(self, folder: Path) -> None:
        """Put a copy of the journal as it is now into an empty `folder`, in a `held` block."""
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            files = list(self._files)
        for file in files:
            copy_file(file, folder, self._mark_bytes)

    def _forgotten(self) -> int:
        """How many of the oldest files nobody needs."""
        if self._held:
            return 0
        closed = len(self._files) - (self._descriptor is not None)
        pruned = next((place for place in range(closed) if self._files[place].last > self._pruned), closed)
        newer = sum(file.end for file in self._files[pruned:])
        kept = 0
        while kept < pruned and newer < self._keep_bytes and kept < self._keep_bytes // self._file_bytes + _SHORT_FILES:
            kept += 1
            newer += self._files[pruned - kept].end
        return pruned - kept

    def prepare(self) -> None:
        """Have a file ready before the present one is full, so that no append waits for one to be made.

        After a write that failed it is tried whether the disk takes a file again. Raises OSError where it does not.
        """
        failed = self.problem
        with self._lock:
            is_early = not self._files or self._files[-1].end < self._file_bytes // 4
            if failed is None and (self._spares or is_early):
                return
        spare = fill(self._folder / f"{time.time_ns()}.new", self._file_bytes)
        with self._lock:
            if len(self._spares) < _MAX_SPARES:
                self._spares.append(spare.replace(spare.with_suffix(".spare")))
            else:
                spare.unlink()
        if self.problem == failed:
            self.problem = None

    def turn_over(self) -> int:
        """Have the next report go into a new file, called as `append` is; returns the offset of the last before it."""
        self.close()
        return self.last

    def erase(self, through: int) -> bool:
        """Remove what is kept of reports up to offset `through`, where a file ends, and of earlier uses of files.

        False where it has to be tried again: they are not pruned, somebody holds files, or the last file goes on.
        """
        with self._lock:
            closed = self._files if self._descriptor is None else self._files[:-1]
            is_open = any(file.after < through for file in self._files[len(closed) :])
            if self._held or self._pruned < through or is_open:
                return False
            for file in [file for file in closed if file.last <= through]:
                if file.damage:
                    self._put_aside(file.path)
                else:
                    file.path.unlink()
                self._files.remove(file)
            while self._spares:
                self._spares.pop().unlink()
            sync_folder(self._folder)
        return True

    def close(self) -> None:
        """Close the file that is written to."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _begin_file(self, least: int) -> None:
        """Go on in a new file, with room for a record of `least` bytes."""
        self.close()
        path = self._folder / f"{self.last:020d}.journal"
        with self._lock:
            spare = self._spares.pop() if self._spares and least <= self._file_bytes else None
            size = max(least, self._file_bytes)
            if spare is None:
                spare = fill(path.with_suffix(".new"), size)
            descriptor = open_for_writing(spare)
            try:
                # What is left in it of an earlier use is behind its end from now on.
                write(descriptor, encoded(b"", self.last), 0)
                if path.exists() and not self._is_empty(path):
                    self._put_aside(path)
                spare.replace(path)
                sync_folder(self._folder)
            except OSError:
                os.close(descriptor)
                raise
            self._descriptor = descriptor
            self._capacity = size
            self._files = [file for file in self._files if file.path != path]
            self._files.append(LogFile(path, self.last, self._mark_bytes, self.last))

    def _is_empty(self, path: Path) -> bool:
        """Whether a file is one of ours in which nothing was ever begun."""
        return any(file.path == path and not file.end and not file.is_cut for file in self._files)

    def _put_aside(self, path: Path) -> None:
        """Move a file to where nothing is ever written over or removed."""
        target = put_aside(path, self._folder / DAMAGED)
        _log.warning("%s is put aside as %s", path, target)


def faults(folder: Path, file_bytes: int = FILE_BYTES) -> Iterator[str]:
    """What is wrong with the journal in `folder`, which nobody uses, in words; nothing is changed."""
    files = [open_file(path, MARK_BYTES) for path in _found(folder, ".journal")]
    for file in files:
        if file.has_marred_mark:
            yield f"{file.path.name}: its end mark is damaged; no report is lost by that"
    for one in _damage_of(files, file_bytes):
        if one.is_bound:
            yield f"{one.path.name}: it lacks its end, and reports from offset {one.first} on, if it had any"
        else:
            yield f"{one.path.name}: {one.reports} reports (offsets {one.first} to {one.last}) are damaged"


def _found(folder: Path, suffix: str) -> list[Path]:
    """The journal's own files of a kind, oldest first."""
    return sorted(path for path in folder.glob(f"*{suffix}") if _OURS.fullmatch(path.name) and path.is_file())


def _say_strangers(folder: Path) -> None:
    strangers = sorted(
        path.name for path in folder.iterdir() if path.name != DAMAGED and not _OURS.fullmatch(path.name)
    )
    if strangers:
        _log.warning("%s holds what is not of the journal, and is left as it is: %s", folder, ", ".join(strangers[:5]))


def _damage_of(files: Sequence[LogFile], file_bytes: int) -> list[Damage]:
    """What the files miss within themselves, from one to the next, and behind the newest where that was cut.

    A report has a byte at least: no more offsets were given than the bytes that are gone.
    """
    damage = [one for file in files for one in file.damage]
    if files and files[-1].lacks_end(file_bytes):
        newest = files[-1]
        lost = Damage(newest.path, newest.last + 1, newest.last + file_bytes - newest.end, is_bound=True)
        newest.damage.append(lost)
        damage.append(lost)
        newest.last = lost.last
    for before, behind in pairwise(files):
        if behind.after > before.last:
            # The end of the one before is damaged as well, or a file between them is gone.
            lost = Damage(before.path, before.last + 1, behind.after, is_bound=before.lacks_end(file_bytes))
            before.damage.append(lost)
            damage.append(lost)
    return sorted(damage, key=lambda one: one.first)
