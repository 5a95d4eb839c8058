"""Versions of the store: what readers see as one state while flushes and compactions go on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from service.stores.embedded import catalog
from service.stores.embedded.segment import Segment
from service.stores.memtable import Memtable

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")

_TRIES = 3


class _Version(NamedTuple):
    number: int
    segments: Sequence[Segment]
    has_fleet: bool


class StoreVersion(NamedTuple):
    """One state of the store: its segments, and the memtables that neither they nor the rollups hold."""

    segments: Sequence[Segment]
    memtables: Sequence[Memtable]
    has_fleet: bool
    """Whether all rollups have the buckets of all hosts together."""


class Versions:
    """Counts the committed changes of the catalog, and keeps segments while somebody reads them."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, folder: Path, memtables: Callable[[], list[Memtable]]
    ) -> None:
        self._folder = folder
        self._memtables = memtables
        self._latest = _Version(0, catalog.segments(connection), not catalog.runs_without_fleet(connection))
        self._changing = False
        # Held while a change becomes visible.
        self._publishing = threading.Lock()
        # Guards what follows; held for moments only. Who waits for it is told when a reader ends.
        self._lock = threading.Condition()
        self._readers: dict[object, int] = {}
        self._retired: list[tuple[int, Path]] = []

    @property
    def segments(self) -> Sequence[Segment]:
        """The segments of the newest version."""
        return self._latest.segments

    def consistent(self, read: Callable[[StoreVersion], T]) -> T:
        """What `read` makes of one state of the store.

        It reads without a transaction, which would cost as much as a small query, and again where a change
        was committed meanwhile; the last try holds changes off.
        """
        for _ in range(_TRIES - 1):
            with self._publishing:
                version, reader = self._latest, self._begin()
                view = StoreVersion(version.segments, self._memtables(), version.has_fleet)
            try:
                result = read(view)
            finally:
                self._end(reader)
            # In this order: a change is announced before it can be seen, and ends with a new version.
            if not self._changing and self._latest is version:
                return result
        with self._publishing:
            return read(StoreVersion(self._latest.segments, self._memtables(), self._latest.has_fleet))

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While the block runs, the files that the newest version lists stay, and those that later ones list."""
        with self._publishing:
            reader = self._begin()
        try:
            yield
        finally:
            self._end(reader)

    @contextlib.contextmanager
    def change(self, cursor: duckdb.DuckDBPyConnection, then: Callable[[], None] | None = None) -> Iterator[None]:
        """A transaction of the catalog; readers see it, and what `then` does, as one step.

        Undone where the block raises.
        """
        cursor.execute("BEGIN")
        try:
            yield
            segments = catalog.segments(cursor)
            has_fleet = not catalog.runs_without_fleet(cursor)
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        with self._publishing:
            self._changing = True
            try:
                cursor.execute("COMMIT")
                if then:
                    then()
                with self._lock:
                    self._latest = _Version(self._latest.number + 1, segments, has_fleet)
            finally:
                self._changing = False

    def retire(self, segments: Sequence[Segment]) -> None:
        """Remove files that the newest version does not list any more, once nobody reads them."""
        with self._lock:
            self._retired.extend((self._latest.number, self._folder / segment.file) for segment in segments)
        self._sweep()

    def wait_unread(self, timeout_s: float) -> None:
        """Wait until nobody reads, but no longer than so many seconds."""
        with self._lock:
            self._lock.wait_for(lambda: not self._readers, timeout_s)

    def _begin(self) -> object:
        reader = object()
        with self._lock:
            self._readers[reader] = self._latest.number
        return reader

    def _end(self, reader: object) -> None:
        with self._lock:
            del self._readers[reader]
            self._lock.notify_all()
        if self._retired:
            self._sweep()

    def _sweep(self) -> None:
        with self._lock:
            oldest = min(self._readers.values(), default=self._latest.number)
            free = [path for number, path in self._retired if number <= oldest]
            self._retired = [(number, path) for number, path in self._retired if number > oldest]
        for path in free:
            path.unlink(missing_ok=True)
