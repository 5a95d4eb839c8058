"""What every log of reports can do, whoever keeps it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from service.journal.files import Record


class Log(Protocol):
    """Accepted reports in order, each with an offset one higher than that of the one before. Any thread may call."""

    last: int
    """The offset of the newest report."""
    limit_bytes: int
    """At so many bytes that the store has not, it takes no more."""
    problem: str | None
    """Why the last write failed, until one has gone well; None before."""
    failures: int
    """Writes that failed."""

    @property
    def size(self) -> int:
        """The bytes of the reports that the store has not."""

    @property
    def kept(self) -> int:
        """The bytes of those that it has, but that can still be read."""

    @property
    def first(self) -> int:
        """The offset of the oldest report that can be read."""

    def read(self, after: int) -> Iterator[Record]:
        """The reports behind offset `after`, oldest first."""

    def waiting(self, through: int) -> int:
        """How many reports lie behind offset `through`, up to which a store has them, or rules have seen them."""

    def prune(self, through: int) -> None:
        """Take that the store has the reports up to offset `through`."""

    def prepare(self) -> None:
        """Get ready for what comes next."""

    def held(self) -> AbstractContextManager[None]:
        """While the block runs nothing that can be read is removed."""

    def copy_to(self, folder: Path) -> None:
        """Put a copy of what this machine has of it into an empty `folder`, in a `held` block."""

    def close(self) -> None:
        """Close the journal's files."""
