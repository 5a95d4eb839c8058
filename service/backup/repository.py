"""A folder of backups: each file once, under the checksum of its content, and a list of files for each backup.

    objects/3f/3f0c...      the content whose SHA-256 that is
    backups/20261129T114500Z-5a1b....json
                            what a backup consists of; the second half of its name is the beginning of its own SHA-256

A list is put there last, once all that it names is on disk, in one step: what is cut short leaves nothing but objects
that the next backup finds. So an unchanged file is copied once, and each flipped bit is found.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from contract import __version__
from service.control.data_lock import FORMAT, UNFINISHED, DataFolderError, lock_data_folder
from service.journal.files import sync_folder

_FORMAT = 1
_CHUNK = 1 << 20
_NAME_DIGITS = 16
Advance = Callable[[int], object]
"""Is told of bytes that are done."""


class BackupError(Exception):
    """A backup cannot be made, read or restored; the message says why, and what to do."""


class BackupFile(msgspec.Struct, frozen=True):
    """A file of a backup."""

    path: str
    """Within the data folder, with slashes."""
    bytes: int
    sha256: str


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup consists of."""

    format: int
    """Of this list; one that is newer than this release is refused."""
    folder_format: int
    """Of the data folder."""
    version: str
    """The release that made it."""
    began: datetime
    """Everything that was acknowledged before is in it."""
    files: list[BackupFile]
    problems: list[str] = []
    """What was damaged already when it was made."""

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(file.bytes for file in self.files)


class _Versioned(msgspec.Struct):
    format: int
    folder_format: int
    version: str


class BackupResult(msgspec.Struct):
    """What making a backup came to."""

    name: str
    backup: Backup
    copied: int
    """Files whose content was not there yet."""
    copied_bytes: int


class Repository:
    """The backups in `folder`. One process at a time may write to it, or remove from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._objects = folder / "objects"
        self._lists = folder / "backups"

    def names(self) -> list[str]:
        """The backups that are whole, oldest first."""
        return sorted(path.stem for path in self._lists.glob("*.json"))

    def read(self, name: str) -> Backup:
        """The list of a backup. Raises BackupError where it is missing, damaged, or of a newer release."""
        path = self._lists / f"{name}.json"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            there = ", ".join(self.names()[-3:]) or "none"
            raise BackupError(
                f"expected the name of a backup in {self.folder}, got {name}; there are: {there}"
            ) from None
        if not name.endswith(f"-{hashlib.sha256(content).hexdigest()[:_NAME_DIGITS]}"):
            raise BackupError(f"{path} is damaged: it does not match the checksum in its name; take another --backup")
        made = msgspec.json.decode(content, type=_Versioned)
        if made.format > _FORMAT or made.folder_format > FORMAT:
            raise BackupError(f"{path} is of a newer release, {made.version}; use that one")
        return msgspec.json.decode(content, type=Backup)

    # Writing

    def add(
        self, source: Path, began: datetime, checksums: dict[str, str], problems: Sequence[str], advance: Advance
    ) -> BackupResult:
        """Make a backup of all files in `source`, which nobody writes to.

        `checksums` are those of files that are known without reading them: what is there already is not read again.
        Raises BackupError where a file is not what was read a moment before, and OSError.
        """
        self._lists.mkdir(parents=True, exist_ok=True)
        self._objects.mkdir(exist_ok=True)
        for left in [*self._objects.rglob("*.new"), *self._lists.glob("*.new")]:
            left.unlink()
        problems, files, copied, copied_bytes = [*problems], [], 0, 0
        for path in sorted(one for one in source.rglob("*") if one.is_file()):
            name, size = path.relative_to(source).as_posix(), path.stat().st_size
            expected = checksums.get(name)
            checksum = expected if expected and self._has(expected, size) else _checksum(path)
            if expected and checksum != expected:
                problems.append(f"{name}: it is not what was written; its checksum is another")
            if not self._has(checksum, size):
                self._put(path, checksum)
                copied, copied_bytes = copied + 1, copied_bytes + size
            files.append(BackupFile(name, size, checksum))
            advance(size)
        made = Backup(
            format=_FORMAT, folder_format=FORMAT, version=__version__, began=began, files=files, problems=problems
        )
        return BackupResult(self._list(made), made, copied, copied_bytes)

    def _has(self, checksum: str, size: int) -> bool:
        path = self._object(checksum)
        return path.exists() and path.stat().st_size == size

    def _put(self, source: Path, checksum: str) -> None:
        """Copy a file's content, and read it again."""
        target = self._object(checksum)
        target.parent.mkdir(exist_ok=True)
        unfinished = target.with_name(f"{target.name}.new")
        with source.open("rb") as content, unfinished.open("wb") as file:
            shutil.copyfileobj(content, file, _CHUNK)
            file.flush()
            os.fsync(file.fileno())
        if _checksum(unfinished) != checksum:
            raise BackupError(f"{target} is not what was written to it, or {source} is not what was read before")
        unfinished.replace(target)
        sync_folder(target.parent)

    def _list(self, made: Backup) -> str:
        content = msgspec.json.format(msgspec.json.encode(made), indent=1)
        moment = made.began.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        name = f"{moment}-{hashlib.sha256(content).hexdigest()[:_NAME_DIGITS]}"
        unfinished = self._lists / f"{name}.new"
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._objects)
        unfinished.replace(self._lists / f"{name}.json")
        sync_folder(self._lists)
        return name

    def keep(self, newest: int) -> list[str]:
        """Remove all but the `newest` backups, and what only they had; returns the names of those removed.

        Raises BackupError, and removes no object, where a list that stays cannot be read.
        """
        names = self.names()
        old, kept = names[:-newest], names[-newest:]
        needed = {file.sha256 for name in kept for file in self.read(name).files}
        for name in old:
            (self._lists / f"{name}.json").unlink()
        if old:
            sync_folder(self._lists)
            for path in self._objects.glob("*/*"):
                if path.name not in needed:
                    path.unlink()
        return old

    # Reading

    def faults(self, backup: Backup, seen: dict[str, str | None], advance: Advance) -> Iterator[str]:
        """What is wrong with the files of a backup; `seen` has the objects that were read, and their faults."""
        for file in backup.files:
            if file.sha256 not in seen:
                seen[file.sha256] = self._fault(file)
                advance(file.bytes)
            if fault := seen[file.sha256]:
                yield f"{file.path}: {fault}"

    def _fault(self, file: BackupFile) -> str | None:
        path = self._object(file.sha256)
        try:
            return None if _checksum(path) == file.sha256 else f"{path.relative_to(self.folder)} is damaged"
        except FileNotFoundError:
            return f"{path.relative_to(self.folder)} is gone"

    def restore(self, backup: Backup, folder: Path, advance: Advance) -> None:
        """Put the files of a backup into an empty `folder`, made where it is missing.

        No service starts on a folder before all is there. Raises BackupError where the folder has anything, another
        process has it, or a file is damaged, and OSError; it is left empty then.
        """
        if folder.exists() and any(folder.iterdir()):
            raise BackupError(f"expected an empty folder to restore into, got {folder}, which has something in it")
        try:
            lock = lock_data_folder(folder)
        except DataFolderError as error:
            raise BackupError(str(error)) from None
        with lock:
            marker = folder / UNFINISHED
            marker.touch()
            sync_folder(folder)
            try:
                for file in backup.files:
                    self._restore(file, folder)
                    advance(file.bytes)
                for made in {path.parent for path in folder.rglob("*")}:
                    sync_folder(made)
            except BaseException:
                for path in folder.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                raise
            marker.unlink()
            sync_folder(folder)

    def _restore(self, file: BackupFile, folder: Path) -> None:
        target = folder / file.path
        if not target.resolve().is_relative_to(folder.resolve()):
            raise BackupError(f"expected a path within the data folder, got {file.path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source = self._object(file.sha256).open("rb")
        except FileNotFoundError:
            raise BackupError(f"{file.path} is gone from {self.folder}; take another --backup") from None
        with source, target.open("wb") as copy:
            if _copied(source, copy) != file.sha256:
                raise BackupError(f"{file.path} is damaged in {self.folder}; take another --backup")
            copy.flush()
            os.fsync(copy.fileno())

    def _object(self, checksum: str) -> Path:
        return self._objects / checksum[:2] / checksum


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copied(source: BinaryIO, target: BinaryIO) -> str:
    """Copy content; returns its SHA-256."""
    checksum = hashlib.sha256()
    while content := source.read(_CHUNK):
        checksum.update(content)
        target.write(content)
    return checksum.hexdigest()
