"""The journal: accepted reports on disk, in order, before they are acknowledged."""

import bisect
import logging
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system has a notion of it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_log = logging.getLogger("loadlens.service")

FILE_BYTES = 8 * 1024 * 1024
MARK_BYTES = 256 * 1024
_MAX_SPARES = 16
"""So many files are kept for use again; more are removed."""
_SHORT_FILES = 8
"""So many files more than fit are kept for readers: a restart begins a new file, however short the one before is."""
_CHECKED = struct.Struct("<IQ")
_HEADER = struct.Struct("<IIQ")
_DSYNC: int = getattr(os, "O_DSYNC", 0)


class JournalFull(Exception):
    """The journal has reached its limit: the store is behind, or its disk has no room."""


class Record(NamedTuple):
    """The reports of one write to the journal."""

    last: int
    """The offset of the last of them."""
    body: bytes
    """A JSON array of the reports."""


@dataclass(slots=True)
class _LogFile:
    """A file of the journal and how far it is filled."""

    path: Path
    after: int
    """The offset in front of its first record."""
    mark_bytes: int
    """How far its marks are apart, in bytes."""
    last: int
    """The offset of its last report."""
    end: int = 0
    """The place behind its last record."""
    taken: int = 0
    """So many of its bytes are pruned: the store has what is in them."""
    marks: list[tuple[int, int]] = field(default_factory=list)
    """Places in it, ascending: the offset in front of a record, and where that record begins."""

    def add(self, last: int, size: int) -> None:
        """Note a record of `size` bytes, the offset of its last report `last`."""
        if not self.marks or self.end - self.marks[-1][1] >= self.mark_bytes:
            self.marks.append((self.last, self.end))
        # In this order: whoever sees the new end sees the new offset too.
        self.last = last
        self.end += size

    def place(self, offset: int) -> tuple[int, int]:
        """The mark nearest before the report that follows `offset`."""
        found = bisect.bisect_right(self.marks, (offset, self.end)) - 1
        return self.marks[found] if found >= 0 else (self.after, 0)

    def prune(self, through: int) -> None:
        """Note that the reports up to `through` are taken."""
        end = self.end
        self.taken = max(self.taken, end if self.last <= through else self.place(through)[1])


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
        for unfinished in folder.glob("*.new"):
            unfinished.unlink()
        self._spares = sorted(folder.glob("*.spare"))
        self._file_bytes = file_bytes
        self._mark_bytes = mark_bytes
        self._files = [_found(path, mark_bytes) for path in sorted(folder.glob("*.journal"))]
        self._warn_of_gaps()
        self._descriptor: int | None = None
        self._capacity = 0
        self._pruned = 0
        self._keep_bytes = keep_bytes
        self.limit_bytes = limit_bytes
        self.last = self._files[-1].last if self._files else 0
        """The offset of the newest report."""

    @property
    def size(self) -> int:
        """The bytes of the records that are not pruned."""
        return sum(file.end - file.taken for file in self._files)

    @property
    def kept(self) -> int:
        """The bytes of the records that are pruned, but can still be read."""
        return sum(file.taken for file in self._files)

    @property
    def first(self) -> int:
        """The offset of the oldest report that can be read; that of the next one where there is none."""
        return self._files[0].after + 1 if self._files else self.last + 1

    def advance_to(self, offset: int) -> None:
        """Count on from `offset` at least: offsets up to it are taken, though their records are pruned."""
        self.last = max(self.last, offset)

    def append(self, reports: Sequence[bytes]) -> int:
        """Put `reports` (each one JSON text) on disk; returns the offset of the last.

        Raises JournalFull at the limit and OSError where the disk fails; then none is kept.
        """
        body = b"[" + b",".join(reports) + b"]"
        last = self.last + len(reports)
        checked = _CHECKED.pack(len(body), last)
        record = struct.pack("<I", zlib.crc32(body, zlib.crc32(checked))) + checked + body
        if self.size + len(record) > self.limit_bytes:
            raise JournalFull(f"the journal holds {self.size} bytes; its limit is {self.limit_bytes}")
        if self._descriptor is None or self._files[-1].end + len(record) > self._capacity:
            self._begin_file(len(record))
        assert self._descriptor is not None
        file = self._files[-1]
        _write(self._descriptor, record, file.end)
        file.add(last, len(record))
        self.last = last
        return last

    def read(self, after: int) -> Iterator[Record]:
        """The records behind offset `after`, oldest first.

        While others prune, whoever reads what is pruned may meet FileNotFoundError, or a file that is used again: then
        a record does not follow the one before.
        """
        for file in list(self._files):
            if file.last > after:
                yield from (record for record in _records(file, file.place(after)) if record.last > after)

    def prune(self, through: int) -> None:
        """Forget the reports up to offset `through`, but for those that are kept for readers.

        The files of what is forgotten are kept for use again, or removed.
        """
        with self._lock:
            self._pruned = max(self._pruned, through)
            for file in self._files:
                file.prune(self._pruned)
            done = self._files[: self._forgotten()]
            self._files = self._files[len(done) :]
            for file in done:
                if len(self._spares) < _MAX_SPARES and file.path.stat().st_size == self._file_bytes:
                    spare = file.path.with_suffix(".spare")
                    file.path.rename(spare)
                    self._spares.append(spare)
                else:
                    file.path.unlink()

    def _forgotten(self) -> int:
        """How many of the oldest files nobody needs."""
        closed = len(self._files) - (self._descriptor is not None)
        pruned = next((place for place in range(closed) if self._files[place].last > self._pruned), closed)
        newer = sum(file.end for file in self._files[pruned:])
        kept = 0
        while kept < pruned and newer < self._keep_bytes and kept < self._keep_bytes // self._file_bytes + _SHORT_FILES:
            kept += 1
            newer += self._files[pruned - kept].end
        return pruned - kept

    def prepare(self) -> None:
        """Have a file ready before the present one is full, so that no append waits for one to be made."""
        with self._lock:
            if self._spares or not self._files or self._files[-1].end < self._file_bytes // 4:
                return
        spare = _fill(self._folder / f"{time.time_ns()}.new", self._file_bytes)
        with self._lock:
            self._spares.append(spare.replace(spare.with_suffix(".spare")))

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
                spare = _fill(path.with_suffix(".new"), size)
            spare.replace(path)
            sync_folder(self._folder)
            self._descriptor = os.open(path, os.O_WRONLY | _DSYNC)
            self._capacity = size
            self._files = [file for file in self._files if file.path != path]
            self._files.append(_LogFile(path, self.last, self._mark_bytes, self.last))

    def _warn_of_gaps(self) -> None:
        for before, behind in zip(self._files, self._files[1:], strict=False):
            if behind.after > before.last:
                _log.error(
                    "the journal lost reports %d to %d: %s is damaged", before.last + 1, behind.after, before.path
                )


def _found(path: Path, mark_bytes: int) -> _LogFile:
    """A file on disk, read to its end."""
    after = int(path.stem)
    file = _LogFile(path, after, mark_bytes, after)
    for record in _records(file, (after, 0)):
        file.add(record.last, _HEADER.size + len(record.body))
    return file


def _records(file: _LogFile, start: tuple[int, int]) -> Iterator[Record]:
    """The whole records of a file from a place in it, one after the other."""
    last, place = start
    with file.path.open("rb") as content:
        content.seek(place)
        while len(header := content.read(_HEADER.size)) == _HEADER.size:
            crc, length, offset = _HEADER.unpack(header)
            if offset <= last:
                return
            body = content.read(length)
            if len(body) < length or zlib.crc32(body, zlib.crc32(header[4:])) != crc:
                return
            last = offset
            yield Record(offset, body)


def _fill(path: Path, size: int) -> Path:
    """Make a file of zeros that is on disk; nothing is left of one that could not be made."""
    try:
        with path.open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(bytes(min(1 << 20, size - start)))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def _write(descriptor: int, record: bytes, place: int) -> None:
    """Write a record in place; it is on disk when this returns."""
    if hasattr(os, "pwrite"):
        written = os.pwrite(descriptor, record, place)
        while written < len(record):
            written += os.pwrite(descriptor, record[written:], place + written)
    else:
        os.lseek(descriptor, place, os.SEEK_SET)
        os.write(descriptor, record)
    if not _DSYNC:
        os.fsync(descriptor)
