"""A data folder looked through while nobody uses it: everything that is not what was written is named."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from service.backup.snapshots import CONTROL, DATABASE
from service.control.data_lock import FORMAT, FORMAT_FILE
from service.control.database import is_sealed, seal_fault
from service.journal.journal import faults as journal_faults
from service.stores.embedded.verification import faults as store_faults


def faults(data_dir: Path) -> Iterator[str]:
    """What is wrong with the files of a data folder; nothing where all is whole."""
    format_file = data_dir / FORMAT_FILE
    if format_file.exists() and (text := format_file.read_bytes()) != f"{FORMAT}\n".encode():
        yield f"{FORMAT_FILE}: expected {FORMAT}, got {text[:20]!r}"
    for folder in [data_dir / "journal", *sorted(data_dir.glob("influxdb/*/journal"))]:
        if folder.exists():
            for fault in journal_faults(folder):
                yield f"{folder.relative_to(data_dir)}: {fault}"
    for database in [data_dir / CONTROL, *sorted(data_dir.glob("influxdb/*/known.sqlite"))]:
        if database.exists() and (wrong := _database_fault(database)):
            yield f"{database.relative_to(data_dir)}: {wrong}"
    if (data_dir / "raw").is_dir() or (data_dir / DATABASE).exists():
        yield from store_faults(data_dir / "raw", data_dir / DATABASE)


def doubts(data_dir: Path) -> Iterator[str]:
    """What of a data folder can be told in part only."""
    for database in [data_dir / CONTROL, *sorted(data_dir.glob("influxdb/*/known.sqlite"))]:
        if database.exists() and not is_sealed(database):
            yield (
                f"{database.relative_to(data_dir)} has no checksum, since the service did not end in order: its "
                "structure was looked at, but a changed text would not be found"
            )


def _database_fault(path: Path) -> str | None:
    if seal := seal_fault(path):
        return seal
    # Without a log beside it nothing needs to be made to read it.
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as connection:
            ((answer,), *_) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    except sqlite3.Error as error:
        return str(error)
    return None if answer == "ok" else str(answer)
