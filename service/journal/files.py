"""The files of the journal: records one behind the other, found again behind damage.

A record is CRC-32, length and offset, then its body. Behind the last record of a file stands an end mark, a record
without a body that repeats the last offset, written by the same write as the record in front of it. So a file tells
three things apart: its end; a write that a crash cut short, which nobody acknowledged, because its end mark is not
there; and damage, because something whole stands behind it.
"""

import bisect
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

_CHECKED = struct.Struct("<IQ")
_HEADER = struct.Struct("<IIQ")
HEADER_BYTES = _HEADER.size
_DSYNC: int = getattr(os, "O_DSYNC", 0)
_TEXTS = msgspec.json.Decoder(list[msgspec.Raw])
_MARRED_BITS = 4
"""The beginning of a record in the place of an end mark differs by many more."""


class Record(NamedTuple):
    """The reports of one write to the journal."""

    last: int
    """The offset of the last of them."""
    body: bytes
    """A JSON array of the reports."""


class Damage(NamedTuple):
    """Reports that cannot be read any more: those at offsets `first` to `last`."""

    path: Path
    first: int
    last: int
    is_bound: bool = False
    """Whether it is only known that there were no more: the file lacks its end."""

    @property
    def reports(self) -> int:
        """How many they are."""
        return self.last - self.first + 1

    @property
    def words(self) -> str:
        """What is lost, and why; without the folder, as it is told to anybody."""
        if self.is_bound:
            return f"Acknowledged reports from offset {self.first} on may be lost: {self.path.name} lacks its end"
        lost = f"{self.reports} acknowledged reports (offsets {self.first} to {self.last}) are lost"
        return f"{lost}: {self.path.name} is damaged"


def encoded(body: bytes, last: int) -> bytes:
    """A record as it is on disk; without a body, the end mark behind the report at offset `last`."""
    checked = _CHECKED.pack(len(body), last)
    return struct.pack("<I", zlib.crc32(body, zlib.crc32(checked))) + checked + body


@dataclass(slots=True)
class LogFile:
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
    damage: list[Damage] = field(default_factory=list)
    is_cut: bool = False
    """Whether a crash cut its last write short."""
    has_mark: bool = False
    """Whether an end mark stood behind its last record when it was opened."""
    size: int = 0
    """Its bytes on disk when it was opened."""

    def lacks_end(self, size: int) -> bool:
        """Whether somebody cut it: files are made with `size` bytes, and where a short one ends a mark says so."""
        return not self.has_mark and self.size < size

    @property
    def has_marred_mark(self) -> bool:
        """Whether what stands in the place of the end mark differs from it by a few bits."""
        if self.has_mark or self.size - self.end < HEADER_BYTES:
            return False
        with self.path.open("rb") as content:
            content.seek(self.end)
            differing = int.from_bytes(content.read(HEADER_BYTES)) ^ int.from_bytes(encoded(b"", self.last))
        return differing.bit_count() <= _MARRED_BITS

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

    def records(self, after: int) -> Iterator[Record]:
        """The whole records behind offset `after`; what is damaged is left out."""
        last, place = self.place(after)
        for found in _walk(self.path, place, last, self.end):
            if isinstance(found, _Whole) and found.record.last > after:
                yield found.record


def open_file(path: Path, mark_bytes: int) -> LogFile:
    """A file on disk, read to its end; its name says the offset in front of its first record."""
    after = int(path.stem)
    file = LogFile(path, after, mark_bytes, after, size=path.stat().st_size)
    for found in _walk(path, 0, after, None):
        if isinstance(found, _Whole):
            file.add(found.record.last, HEADER_BYTES + len(found.record.body))
        elif isinstance(found, _Hole):
            file.damage.append(Damage(path, file.last + 1, found.last))
            file.last, file.end = found.last, found.place
        elif isinstance(found, _Mark):
            file.has_mark = True
        else:
            file.is_cut = True
    return file


def copy_file(file: LogFile, folder: Path, mark_bytes: int) -> None:
    """Put a copy of a file as it is now into `folder`; it may be written to meanwhile, but not be used again.

    It has no more than is filled, and an end mark behind that.
    """
    end = file.end
    copy = folder / file.path.name
    with file.path.open("rb") as source, copy.open("wb") as target:
        left = end
        while left and (content := source.read(min(left, 1 << 20))):
            target.write(content)
            left -= len(content)
        target.flush()
        # The offset of the last report may be that of a newer record by now; a damaged file is not written to any more.
        last = file.last if file.damage else open_file(copy, mark_bytes).last
        target.write(encoded(b"", last))


class _Whole(NamedTuple):
    record: Record


class _Hole(NamedTuple):
    """Damage, and where something whole follows: its place, and the offset in front of it."""

    place: int
    last: int


class _Mark(NamedTuple):
    """An end mark: the end of the file."""


class _Cut(NamedTuple):
    """The beginning of a write, with nothing whole behind it."""


def _walk(path: Path, place: int, last: int, end: int | None) -> "Iterator[_Whole | _Hole | _Mark | _Cut]":
    """What a file holds from a place on, behind offset `last`, up to its `end` where that is known."""
    with path.open("rb") as content:
        size = os.fstat(content.fileno()).st_size
        end = size if end is None else min(end, size)
        content.seek(place)
        while place + HEADER_BYTES <= end:
            header = content.read(HEADER_BYTES)
            crc, length, offset = _HEADER.unpack(header)
            begun = 0 < length <= end - place - HEADER_BYTES and last < offset <= last + length
            if begun:
                body = content.read(length)
                if zlib.crc32(body, zlib.crc32(header[4:])) == crc:
                    yield _Whole(Record(offset, body))
                    place, last = place + HEADER_BYTES + length, offset
                    continue
            elif header == encoded(b"", last):
                yield _Mark()
                return
            content.seek(place)
            hole = _behind_damage(content.read(end - place), last)
            if hole is None:
                if begun:
                    yield _Cut()
                return
            place, last = place + hole.place, hole.last
            yield _Hole(place, last)
            content.seek(place)


def _behind_damage(content: bytes, last: int) -> _Hole | None:
    """Where the first whole record or end mark stands in what begins with damage; its offsets are above `last`.

    An offset is eight bytes whose upper ones are zeros, which JSON never has: there are few places to look at. What
    is left of an earlier use of the file has offsets that are too small.
    """
    # No journal that is whole needs it.
    import numpy as np
    import numpy.typing as npt

    most = last + len(content)
    places: list[int] = []
    for shift in range(8):
        count = (len(content) - shift) // 8
        if count > 0:
            numbers: npt.NDArray[np.uint64] = np.frombuffer(content, "<u8", count, shift)
            places += [hit * 8 + shift - 8 for hit in np.flatnonzero((numbers > last) & (numbers <= most)).tolist()]
    for place in sorted(places):
        if place <= 0:
            continue
        crc, length, offset = _HEADER.unpack_from(content, place)
        body = content[place + HEADER_BYTES : place + HEADER_BYTES + length]
        if len(body) < length or zlib.crc32(body, zlib.crc32(content[place + 4 : place + HEADER_BYTES])) != crc:
            continue
        before = offset - len(_TEXTS.decode(body)) if body else offset
        if before >= last:
            return _Hole(place, before)
    return None


def fill(path: Path, size: int) -> Path:
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


def open_for_writing(path: Path) -> int:
    """A descriptor whose writes are on disk when they return."""
    return os.open(path, os.O_WRONLY | _DSYNC)


def write(descriptor: int, content: bytes, place: int) -> None:
    """Write in place; it is on disk when this returns."""
    if hasattr(os, "pwrite"):
        written = os.pwrite(descriptor, content, place)
        while written < len(content):
            written += os.pwrite(descriptor, content[written:], place + written)
    else:
        os.lseek(descriptor, place, os.SEEK_SET)
        os.write(descriptor, content)
    if not _DSYNC:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system has a notion of it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_aside(path: Path, folder: Path) -> Path:
    """Move a file into a folder where nothing reads, overwrites or removes it; returns where it is, durably."""
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    number = 0
    while target.exists():
        number += 1
        target = folder / f"{path.name}.{number}"
    path.rename(target)
    sync_folder(folder)
    return target
