"""The journal: accepted reports on disk, in order, before they are acknowledged.

A folder of files, each made of records; a record holds the reports of all requests that waited for the same
write. Files are filled with zeros when they are made and used again later: writing in place, with O_DSYNC, costs
a third of what a database commit or an append costs, because the file system has nothing to log.

==================  ======================================================================
part of a record    content
==================  ======================================================================
4 bytes             CRC-32 of all that follows
4 bytes             length of the body
8 bytes             offset of the last report in it; offsets count reports from 1
the body            a JSON array of reports
==================  ======================================================================

Numbers are little-endian. A file is named after the offset in front of its first record. Its content ends at the
first record that is broken (a crash cut it off) or not newer than the one before (left from an earlier use).
"""

import logging
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from service.files import sync_folder

__all__ = ["Entry", "Journal", "JournalFull"]

_log = logging.getLogger("loadlens.service")

FILE_BYTES = 8 * 1024 * 1024
_SPARES = 16
"""So many files are kept for use again; more are removed."""
_CHECKED = struct.Struct("<IQ")
_HEADER = struct.Struct("<IIQ")
_DSYNC: int = getattr(os, "O_DSYNC", 0)


class JournalFull(Exception):
    """The journal has reached its limit: the store is behind, or its disk has no room."""


class Entry(NamedTuple):
    """The reports of one write."""

    last: int
    """The offset of the last of them."""
    body: bytes
    """A JSON array."""


@dataclass(slots=True)
class _File:
    """A file of the journal and how far it is filled."""

    path: Path
    after: int
    """The offset in front of its first record."""
    end: int = 0
    """The place behind its last record."""
    last: int = 0
    """The offset of its last report."""


class Journal:
    """An append-only log of reports in `folder`, with at most `limit_bytes` of them.

    `append` is called by one thread at a time, `prune` by any. Raises OSError where the folder cannot be used.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        for unfinished in folder.glob("*.new"):
            unfinished.unlink()
        self._spares = sorted(folder.glob("*.spare"))
        self._files = [_found(path) for path in sorted(folder.glob("*.journal"))]
        self._warn_of_gaps()
        self._descriptor: int | None = None
        self._capacity = 0
        self._pruned = 0
        self.limit_bytes = limit_bytes
        self.last = self._files[-1].last if self._files else 0
        """The offset of the newest report."""

    @property
    def size(self) -> int:
        """The bytes of the records that are not pruned."""
        return sum(file.end for file in self._files)

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
        if self.size + len(record) > self.limit_bytes and self._files and self._files[-1].last <= self._pruned:
            # Nothing in the file that is written to is needed any more; others are pruned as soon as they are.
            self.close()
            self.prune(self._pruned)
        if self.size + len(record) > self.limit_bytes:
            raise JournalFull(f"the journal holds {self.size} bytes; its limit is {self.limit_bytes}")
        if self._descriptor is None or self._files[-1].end + len(record) > self._capacity:
            self._begin_file(len(record))
        assert self._descriptor is not None
        file = self._files[-1]
        _write(self._descriptor, record, file.end)
        file.end += len(record)
        self.last = file.last = last
        return last

    def read(self, after: int) -> Iterator[Entry]:
        """The records behind offset `after`, oldest first."""
        for file in list(self._files):
            if file.last > after:
                yield from (entry for entry in _records(file) if entry.last > after)

    def prune(self, through: int) -> None:
        """Forget the reports up to offset `through`: their files are kept for use again, or removed."""
        with self._lock:
            self._pruned = max(self._pruned, through)
            done = [file for file in self._files[:-1] if file.last <= through]
            if self._files and self._descriptor is None and self._files[-1].last <= through:
                done = self._files
            self._files = [file for file in self._files if file not in done]
            for file in done:
                if len(self._spares) < _SPARES and file.path.stat().st_size == FILE_BYTES:
                    spare = file.path.with_suffix(".spare")
                    file.path.rename(spare)
                    self._spares.append(spare)
                else:
                    file.path.unlink()

    def prepare(self) -> None:
        """Have a file ready before the present one is full, so that no append waits for one to be made."""
        with self._lock:
            if self._spares or not self._files or self._files[-1].end < FILE_BYTES // 4:
                return
        spare = _fill(self._folder / f"{time.time_ns()}.new", FILE_BYTES)
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
            spare = self._spares.pop() if self._spares and least <= FILE_BYTES else None
            size = max(least, FILE_BYTES)
            if spare is None:
                spare = _fill(path.with_suffix(".new"), size)
            spare.replace(path)
            sync_folder(self._folder)
            self._descriptor = os.open(path, os.O_WRONLY | _DSYNC)
            self._capacity = size
            self._files = [file for file in self._files if file.path != path]
            self._files.append(_File(path, self.last, 0, self.last))

    def _warn_of_gaps(self) -> None:
        for before, behind in zip(self._files, self._files[1:], strict=False):
            if behind.after > before.last:
                _log.error(
                    "the journal lost reports %d to %d: %s is damaged", before.last + 1, behind.after, before.path
                )


def _found(path: Path) -> _File:
    """A file on disk, read to its end."""
    after = int(path.stem)
    file = _File(path, after, 0, after)
    for entry in _records(file):
        file.end += _HEADER.size + len(entry.body)
        file.last = entry.last
    return file


def _records(file: _File) -> Iterator[Entry]:
    """The whole records of a file, one after the other."""
    last = file.after
    with file.path.open("rb") as content:
        while len(header := content.read(_HEADER.size)) == _HEADER.size:
            crc, length, offset = _HEADER.unpack(header)
            if offset <= last:
                return
            body = content.read(length)
            if len(body) < length or zlib.crc32(body, zlib.crc32(header[4:])) != crc:
                return
            last = offset
            yield Entry(offset, body)


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
