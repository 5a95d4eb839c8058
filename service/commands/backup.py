"""`loadlens-service backup`, `restore` and `verify`: copies of the data folder."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from contract.problems import plural
from contract.settings import Settings, load
from service.commands import failed

if TYPE_CHECKING:
    from rich.console import Console

    from service.backup.repository import Repository

_DataDir = Annotated[
    Path, Meta(description="Folder of the journal and the embedded store.", extra={"metavar": "DIR"})
]  # fmt: skip
_Target = Annotated[Path, Meta(description="Folder of the backups.", extra={"metavar": "TARGET", "positional": True})]
_EPILOG = """examples:
  loadlens-service backup /mnt/backups --data-dir /srv/loadlens --keep 14
  loadlens-service verify /mnt/backups
  loadlens-service restore /mnt/backups --data-dir /srv/loadlens
"""


class BackupSettings(Settings, frozen=True, kw_only=True):
    """What `loadlens-service backup` can be told."""

    target: _Target
    data_dir: _DataDir = Path("var/loadlens")
    keep: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Remove all but the newest backups, once this one is made.",
            extra={"metavar": "N", "default": "all"},
        ),
    ] = None


class RestoreSettings(Settings, frozen=True, kw_only=True):
    """What `loadlens-service restore` can be told."""

    target: _Target
    data_dir: _DataDir = Path("var/loadlens")
    backup: Annotated[
        str | None, Meta(description="Name of the backup.", extra={"metavar": "NAME", "default": "the newest"})
    ] = None


class VerifySettings(Settings, frozen=True, kw_only=True):
    """What `loadlens-service verify` can be told."""

    folder: Annotated[
        Path,
        Meta(
            description="Folder of backups, or data folder of a service that is stopped.",
            extra={"metavar": "FOLDER", "positional": True},
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Make a backup; returns the exit code: 0, 1 for a failure or for damage, 2 for a wrong setting."""
    program = "loadlens-service backup"
    settings = load(
        BackupSettings, argv, program=program, epilog=_EPILOG,
        description="Copies the data folder while its service runs, or is stopped. Every report that was acknowledged "
        "before is in it. What earlier backups in TARGET have is not copied again.",
    )  # fmt: skip
    with _said(program) as code:
        if not settings.data_dir.is_dir():
            return failed(program, f"expected the --data-dir of a service, got {settings.data_dir}")
        code.append(_make(settings))
    return code[-1]


def _make(settings: BackupSettings) -> int:
    from service.backup.repository import Repository
    from service.backup.snapshots import snapshot
    from service.control.data_lock import DataLock

    console = _console()
    os.umask(0o077)  # what is copied may hold secrets: addresses of receivers, tokens
    with DataLock(settings.target):
        began = datetime.now(UTC)
        repository = Repository(settings.target)
        with snapshot(settings.data_dir) as (folder, made):
            total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            with _progress(console, "Copying", total) as advance:
                written = repository.add(folder, began, made.checksums, made.problems, advance)
        console.print(
            f"Backup {written.name}: {plural(len(written.backup.files), 'file')} with "
            f"{_size(written.backup.bytes)}, of which {written.copied:,} with {_size(written.copied_bytes)} were new."
        )
        if settings.keep:
            for name in repository.keep(settings.keep):
                console.print(f"Removed {name}.")
    for problem in written.backup.problems:
        console.print(f"DAMAGED in the data folder, and copied as it is: {problem}")
    return 1 if written.backup.problems else 0


def restore(argv: Sequence[str] | None = None) -> int:
    """Put a backup back; returns the exit code: 0, 1 for a failure, 2 for a wrong setting."""
    program = "loadlens-service restore"
    settings = load(
        RestoreSettings, argv, program=program, epilog=_EPILOG,
        description="Puts a backup, the newest where none is named, into an empty data folder. Nothing is started.",
    )  # fmt: skip
    with _said(program) as code:
        from service.backup.repository import BackupError, Repository

        repository = Repository(settings.target)
        names = repository.names()
        if not names:
            raise BackupError(f"expected a folder of backups, got {settings.target}, which has none")
        name = settings.backup or names[-1]
        backup = repository.read(name)
        console = _console()
        os.umask(0o077)
        with _progress(console, "Restoring", backup.bytes) as advance:
            repository.restore(backup, settings.data_dir, advance)
        console.print(f"{settings.data_dir} is what it was at {backup.began:%Y-%m-%d %H:%M:%S} UTC (backup {name}).")
        code.append(0)
    return code[-1]


def verify(argv: Sequence[str] | None = None) -> int:
    """Look for damage; returns the exit code: 0, 1 for damage or a failure, 2 for a wrong setting."""
    program = "loadlens-service verify"
    settings = load(
        VerifySettings, argv, program=program, epilog=_EPILOG,
        description="Reads all files of backups, or of the data folder of a stopped service, and names those that are "
        "not what was written.",
    )  # fmt: skip
    with _said(program) as code:
        from service.backup.repository import Repository

        repository = Repository(settings.folder)
        if (settings.folder / "backups").is_dir():
            code.append(_verify_backups(repository))
        elif any((settings.folder / name).exists() for name in ("journal", "influxdb", "raw", "loadlens.duckdb")):
            code.append(_verify_folder(settings.folder))
        else:
            return failed(program, f"expected a folder of backups or a data folder, got {settings.folder}")
    return code[-1]


def _verify_backups(repository: "Repository") -> int:
    from service.backup.repository import BackupError

    console = _console()
    backups, damaged = {}, []
    for name in repository.names():
        try:
            backups[name] = repository.read(name)
        except BackupError as error:
            damaged.append(f"{name}: {error}")
    sizes = {file.sha256: file.bytes for backup in backups.values() for file in backup.files}
    seen: dict[str, str | None] = {}
    with _progress(console, "Reading", sum(sizes.values())) as advance:
        for name, backup in backups.items():
            faults = [f"{name}: {fault}" for fault in repository.faults(backup, seen, advance)]
            damaged += faults
            if not faults:
                console.print(f"{name}: {plural(len(backup.files), 'file')} with {_size(backup.bytes)}, whole.")
    for fault in damaged:
        console.print(f"DAMAGED: {fault}")
    if not backups:
        console.print("There is no backup that can be restored.")
    return 1 if damaged or not backups else 0


def _verify_folder(folder: Path) -> int:
    from service.backup.verification import doubts, faults
    from service.control.data_lock import DataLock, check_format

    console = _console()
    check_format(folder)
    with DataLock(folder):
        found = [*faults(folder)]
        unsure = [*doubts(folder)]
    for fault in found:
        console.print(f"DAMAGED: {fault}")
    for doubt in unsure:
        console.print(doubt)
    if not found:
        console.print(f"{folder}: nothing is damaged.")
    return 1 if found else 0


@contextlib.contextmanager
def _said(program: str) -> Iterator[list[int]]:
    """Failures as one line and exit code 1."""
    from service.backup.repository import BackupError
    from service.control.data_lock import DataFolderError

    code = [1]
    try:
        yield code
    except (BackupError, DataFolderError, OSError) as error:
        failed(program, error)
    except KeyboardInterrupt:
        failed(program, "stopped; earlier backups are as they were")
        code.append(130)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _progress(console: "Console", what: str, total: int) -> Iterator[Callable[[int], object]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), left, console=console) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


def _size(count: float) -> str:
    """A number of bytes for people, such as 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
