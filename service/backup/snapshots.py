"""Snapshots: the data folder as of one moment, in a folder within it, made by the process that has the data folder.

The command that wants one puts a request beside it. A running service looks for requests and answers them; where none
runs, the command does it itself, under the lock of the data folder. Files of windows are links, so a snapshot is quick
and takes little room, and nothing outside the data folder is ever written by the service.
"""

import contextlib
import logging
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from contract.later import later
from service.control.data_lock import LOCK_FILE, DataFolderError, DataFolderInUse, DataLock, check_format
from service.control.database import copy_database, seal
from service.journal.base import Log
from service.journal.journal import DAMAGED, faults
from service.stores.base import Store
from service.stores.embedded.damage import SET_ASIDE

if TYPE_CHECKING:
    import duckdb

    from service.stores.embedded import segments, verification
else:
    duckdb = later("duckdb")
    segments = later("service.stores.embedded.segments")
    verification = later("service.stores.embedded.verification")

_log = logging.getLogger("loadlens.service")

FOLDER = "snapshot"
"""Where snapshots are, within the data folder."""
_REQUEST = "request"
CONTROL = "control.db"
DATABASE = "loadlens.duckdb"
_SQLITE = (CONTROL, "known.sqlite")
_LEFT_OUT = {FOLDER, "tmp", DAMAGED, SET_ASIDE, LOCK_FILE}
"""What no service reads, or makes anew."""
_UNFINISHED = {".spare", ".new"}
_LOOK_EVERY_S = 0.25
_STOP_S = 2.0
_HEARD_S = 60.0
"""A service looks for requests four times a second."""


class Snapshot(msgspec.Struct, kw_only=True):
    """What came of a request."""

    checksums: dict[str, str] = {}
    """The SHA-256 of files that are known without reading them, by path."""
    problems: list[str] = []
    """What is damaged already."""
    error: str = ""
    """Why there is none."""


class Live(NamedTuple):
    """What a running service has open; `home` is the folder of the store and its journal."""

    home: Path
    journal: Log
    store: Store


class SnapshotMaker:
    """A thread of a service that answers requests for snapshots of its data folder."""

    def __init__(self, data_dir: Path, live: Live) -> None:
        self._data_dir = data_dir
        self._live = live
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Start the thread that makes snapshots."""
        self._thread.start()

    def stop(self) -> None:
        """End; a snapshot that takes longer is given up with the process, and made by who asked for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        folder = self._data_dir / FOLDER
        while not self._stopping.wait(_LOOK_EVERY_S):
            try:
                token = _taken_request(folder)
                if token:
                    _answer(folder, token, self._data_dir, self._live)
            except OSError as error:
                _log.warning("a snapshot could not be made: %s", error)


@contextlib.contextmanager
def snapshot(data_dir: Path) -> Iterator[tuple[Path, Snapshot]]:
    """A snapshot of a data folder, whether a service runs or not: where it is, and what is known of it.

    It is removed with the context. Everything that was acknowledged before is in it. One at a time for a folder.
    Raises DataFolderError where there can be none, and OSError.
    """
    check_format(data_dir)
    folder = data_dir / FOLDER
    with DataLock(folder):
        for left in folder.iterdir():
            if left.name != LOCK_FILE:
                _remove(left)
        token = secrets.token_hex(8)
        try:
            made = _asked_for(data_dir, folder, token)
            if made.error:
                raise DataFolderError(f"the service could make no snapshot of {data_dir}: {made.error}")
            yield folder / token, made
        finally:
            for left in (folder / _REQUEST, folder / f"{token}.json", folder / token):
                _remove(left)


def _asked_for(data_dir: Path, folder: Path, token: str) -> Snapshot:
    answer, request = folder / f"{token}.json", folder / _REQUEST
    _put(request, token.encode())
    end = time.monotonic() + _HEARD_S
    while not answer.exists():
        try:
            lock = DataLock(data_dir, wait_s=0)
        except DataFolderInUse as error:
            if request.exists() and time.monotonic() > end:
                raise DataFolderInUse(f"{error} It does not answer: it is no service of this release.") from None
            time.sleep(_LOOK_EVERY_S / 2)
        else:
            with lock:
                _remove(request)
                if not answer.exists():
                    _remove(folder / token)
                    _answer(folder, token, data_dir)
    return msgspec.json.decode(answer.read_bytes(), type=Snapshot)


def _taken_request(folder: Path) -> str | None:
    """Whose turn it is; whoever takes a request answers it."""
    request = folder / _REQUEST
    try:
        token = request.read_text(encoding="ascii")
        request.unlink()
    except FileNotFoundError:
        return None
    return token if token.isalnum() else None


def _answer(folder: Path, token: str, data_dir: Path, live: Live | None = None) -> None:
    try:
        made = make(data_dir, folder / token, live)
    except (OSError, sqlite3.Error, duckdb.Error) as error:
        _log.warning("a snapshot could not be made: %s", error)
        made = Snapshot(error=str(error).partition("\n")[0])
    _put(folder / f"{token}.json", msgspec.json.encode(made))


def make(data_dir: Path, target: Path, live: Live | None = None) -> Snapshot:
    """Make a snapshot in an empty folder; without `live` nobody may use the data folder meanwhile.

    What was acknowledged before is in the journal, or in what the store has on disk: the journal lets nothing go
    until all is copied, and is copied last. Offsets that others note, rules among them, are so never ahead of it.
    """
    target.mkdir()
    made = Snapshot()
    for path in _files(data_dir, live):
        place = target / path.relative_to(data_dir)
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(path, place, made)
    if live is None:
        known = verification.checksums(data_dir / DATABASE)
        made.checksums = {f"raw/{file}": checksum for file, checksum in known.items()}
    else:
        home = target / live.home.relative_to(data_dir)
        with live.journal.held():
            if (data_dir / CONTROL).exists():
                _copy(data_dir / CONTROL, target / CONTROL, made)
            known = live.store.snapshot(home)
            live.journal.copy_to(home / "journal")
        made.checksums = {str((home / file).relative_to(target)): checksum for file, checksum in known.items()}
    _say_damage(target, made)
    return made


def _files(data_dir: Path, live: Live | None) -> Iterator[Path]:
    """The files that nobody writes to."""
    for path in sorted(data_dir.rglob("*")):
        parts = path.relative_to(data_dir).parts
        if not path.is_file() or _LEFT_OUT.intersection(parts) or path.suffix in _UNFINISHED:
            continue
        if any(path.name.startswith(f"{name}-") for name in _SQLITE) or ".before-repair-" in path.name:
            continue
        if path.name.endswith(".sha256"):
            continue
        if live is not None and (path.name == CONTROL or _is_open(path.relative_to(data_dir), data_dir, live)):
            continue
        yield path


def _is_open(path: Path, data_dir: Path, live: Live) -> bool:
    """Whether a file is one of the store's, or of its journal."""
    home = live.home.relative_to(data_dir)
    if home.parts:
        return path.is_relative_to(home)
    return path.parts[0] in ("journal", "raw", DATABASE, f"{DATABASE}.wal")


def _copy(path: Path, place: Path, made: Snapshot) -> None:
    if path.name in _SQLITE:
        try:
            copy_database(path, place)
            seal(place)
        except sqlite3.Error as error:
            made.problems.append(f"{path.name}: {error}")
            shutil.copyfile(path, place)
    elif path.suffix == ".parquet":
        segments.link_or_copy(path, place)
    else:
        shutil.copyfile(path, place)


def _say_damage(target: Path, made: Snapshot) -> None:
    for folder in target.rglob("journal"):
        made.problems += faults(folder)


def _put(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole, or not at all."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
