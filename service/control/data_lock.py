"""The lock of a data folder: one process at a time, whatever store it uses; and the format of what is in it.

Two services on one folder would write over each other's journal. The kernel lets go of the lock with the process that
has it, however it ends, so that a lock never outlives its holder.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Self

from contract.problems import display, shortened

try:
    import fcntl
except ImportError:  # a system without flock: nothing but the embedded store's own lock guards the folder there
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "loadlens.lock"
FORMAT_FILE = "loadlens.format"
FORMAT = 1
"""Of a data folder as a whole; goes up with what an older release would misread. What is within has versions too."""
UNFINISHED = "restore.unfinished"
"""Is there for as long as a folder is being restored."""
_WAIT_S = 10.0
"""How long to wait for another process that is ending; a service ends within 8 seconds."""
_RETRY_S = 0.05


class DataFolderError(Exception):
    """The data folder cannot be used; the message says why, and what to do."""


class DataFolderInUse(DataFolderError):
    """Another process has it; the message says which."""


def lock_data_folder(folder: Path, wait_s: float = _WAIT_S) -> "DataLock":
    """Take the lock of a data folder, made where it is missing, and see that this release may use it.

    Raises DataFolderError where another process has it for longer than `wait_s`, a newer release has written to it, or
    a restore into it was cut short; and OSError where it cannot be used. Nothing is changed then.
    """
    lock = DataLock(folder, wait_s)
    try:
        check_format(folder)
        (folder / FORMAT_FILE).write_text(f"{FORMAT}\n", encoding="ascii")
    except BaseException:
        lock.release()
        raise
    return lock


def check_format(folder: Path) -> None:
    """Raise DataFolderError where a folder is of a newer release, or half restored."""
    if (folder / UNFINISHED).exists():
        raise DataFolderError(f"a restore into {folder} was cut short; empty the folder and restore again")
    try:
        text = (folder / FORMAT_FILE).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return
    # An empty one was being written when a crash came.
    if text and text not in map(str, range(1, FORMAT + 1)):
        raise DataFolderError(
            f"{folder} has format {shortened(display(text))}; this Loadlens knows formats up to {FORMAT}. Use the "
            f"newer Loadlens that wrote it. Where {FORMAT_FILE} is damaged, remove it. Nothing was changed."
        )


class DataLock:
    """Holds a folder from its making until `release`. Made once a process for a folder."""

    def __init__(self, folder: Path, wait_s: float = _WAIT_S) -> None:
        """Take the lock of `folder`, which is made where it is missing.

        Raises DataFolderInUse where another has it for longer than `wait_s`, and OSError where the folder cannot be
        used.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(folder, time.monotonic() + wait_s)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _take(self, folder: Path, end: float) -> None:
        if fcntl is None:
            return
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
                    who = f"another process ({holder})" if holder else "another process"
                    raise DataFolderInUse(
                        f"{folder} is in use by {who}; one process at a time can have a data folder. "
                        "Stop the other, or give this one another --data-dir."
                    ) from None
                time.sleep(_RETRY_S)
            else:
                return

    def release(self) -> None:
        """Let another process have the folder."""
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
