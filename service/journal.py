"""The journal: accepted reports on disk, in order, before they are acknowledged.

A SQLite table in WAL mode with `synchronous=FULL`: a commit returns when its pages are on disk, and a
crash in the middle of one leaves the commits before it whole. One row holds the reports of all requests
that waited for the same commit, as one JSON array.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Entry", "Journal", "JournalFull"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    last INTEGER PRIMARY KEY,  -- offset of the last report in it
    body BLOB NOT NULL         -- JSON array of reports
)
"""


class JournalFull(Exception):
    """The journal has reached its limit: the store is behind, or its disk has no room."""


class Entry(NamedTuple):
    """The reports of one commit."""

    last: int
    """The offset of the last of them; offsets count reports from 1."""
    body: bytes
    """A JSON array."""


class Journal:
    """An append-only log of reports at `path`, at most `limit_bytes` of them.

    `append` and `prune` may be called from any thread.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        # Space of pruned entries is used again, so the file stays near its largest content.
        self._connection.execute("PRAGMA wal_autocheckpoint=4000")
        self._connection.execute(_SCHEMA)
        last, self.bytes = self._connection.execute(
            "SELECT coalesce(max(last), 0), coalesce(sum(length(body)), 0) FROM entry"
        ).fetchone()
        self.last: int = last
        """The offset of the newest report."""
        self.limit_bytes = limit_bytes

    def advance_to(self, offset: int) -> None:
        """Count on from `offset` at least: offsets up to it are taken, though their entries are pruned."""
        self.last = max(self.last, offset)

    def append(self, reports: Sequence[bytes]) -> int:
        """Put `reports` (each one JSON text) on disk; returns the offset of the last.

        Raises JournalFull at the limit and sqlite3.Error where the disk fails; then none is kept.
        """
        body = b"[" + b",".join(reports) + b"]"
        with self._lock:
            if self.bytes + len(body) > self.limit_bytes:
                raise JournalFull(f"the journal holds {self.bytes} bytes; its limit is {self.limit_bytes}")
            last = self.last + len(reports)
            self._connection.execute("INSERT INTO entry (last, body) VALUES (?, ?)", (last, body))
            self.last = last
            self.bytes += len(body)
            return last

    def read(self, after: int) -> Iterator[Entry]:
        """The entries behind offset `after`, oldest first."""
        while rows := self._read_some(after):
            yield from rows
            after = rows[-1].last

    def _read_some(self, after: int) -> list[Entry]:
        with self._lock:
            rows = self._connection.execute(
                "SELECT last, body FROM entry WHERE last > ? ORDER BY last LIMIT 100", (after,)
            )
            return [Entry(*row) for row in rows]

    def prune(self, through: int) -> None:
        """Forget the entries up to offset `through`."""
        while True:
            # In small steps: an append waits for one of them at most.
            with self._lock:
                (freed, count) = self._connection.execute(
                    "SELECT coalesce(sum(length(body)), 0), count(*) FROM"
                    " (SELECT body FROM entry WHERE last <= ? ORDER BY last LIMIT 200)",
                    (through,),
                ).fetchone()
                if not count:
                    return
                self._connection.execute(
                    "DELETE FROM entry WHERE last IN (SELECT last FROM entry WHERE last <= ? ORDER BY last LIMIT 200)",
                    (through,),
                )
                self.bytes -= freed

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
