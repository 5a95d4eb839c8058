"""What is in memory, and what readers see as one state while it goes into InfluxDB.

InfluxDB has no transactions: while a flush writes, some of its points are there and some are not. So before it writes,
readers are told: from then on they take what it writes from memory, whether InfluxDB has it yet or not. A reader that
began before asks again.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.frames.columns import Windows, concatenate, merge
from analytics.frames.tiers import Rolled
from contract.report import Report
from service.stores.influx.reading import NumberedRows
from service.stores.influx.rollups import FINEST
from service.stores.keys import Keys
from service.stores.memtable import Memtable
from service.stores.process_use import UseTables, tables_of
from service.stores.series import SeriesIndex
from service.stores.sorted_windows import MEMTABLE_SCHEMA, SortedWindows, WindowsInMemory

T = TypeVar("T")
_TRIES = 3
MEMTABLE_ROWS = 200_000
"""Windows that are flushed together: some 60 MB as text."""


class ImmutableMemtable:
    """Windows that are to be flushed, and do not change but for those that InfluxDB refuses."""

    def __init__(self, memtable: Memtable) -> None:
        self._memtable = memtable
        self._sorted: pa.Table | None = None
        self._left: SortedWindows | None = None
        """What is left where InfluxDB refused some."""
        self.last = memtable.last
        """The journal offset of the last report."""

    def process_uses(self) -> list[UseTables]:
        """Who used the CPU, of the windows that said so."""
        return self._memtable.process_uses()

    def batches(self) -> list[pa.RecordBatch]:
        """All windows, with the columns of `MEMTABLE_SCHEMA`."""
        return self._memtable.batches() if self._sorted is None else self._sorted.to_batches()

    def pieces(self) -> list[SortedWindows]:
        """All windows, sorted by series piece by piece."""
        return [self._left] if self._left else self._memtable.pieces()

    def of_series(self, series: npt.NDArray[np.integer]) -> list[pa.RecordBatch]:
        """The windows of some series: numbers, ascending."""
        return (self._left or self._memtable).of_series(series)

    def holds(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of each pair of a stream's series and an end, whether that window is here."""
        return (self._left or self._memtable).holds(series, time)

    @property
    def windows(self) -> pa.Table:
        """All windows, sorted by series and time."""
        if self._sorted is None:
            table = pa.Table.from_batches(self._memtable.batches(), MEMTABLE_SCHEMA).combine_chunks()
            order = np.lexsort((table["time"].to_numpy(), table["series"].to_numpy()))
            self._sorted = table.take(pa.array(order)).combine_chunks()
        return self._sorted

    @property
    def rows(self) -> int:
        """How many windows it holds."""
        return self._memtable.rows

    def leave_out(self, rows: npt.NDArray[np.int64]) -> None:
        """Forget the windows at some places of `windows`."""
        kept = np.setdiff1d(np.arange(len(self.windows)), rows)
        self._sorted = self.windows.take(pa.array(kept)).combine_chunks()
        self._left = _sorted_windows(self._sorted)


def _sorted_windows(windows: pa.Table) -> SortedWindows:
    batches = windows.combine_chunks().to_batches()
    return SortedWindows(batches[0] if batches else pa.RecordBatch.from_pylist([], windows.schema))


class BeingWritten:
    """The windows of a flush while they are written: InfluxDB has all, some or none of them."""

    def __init__(self, windows: pa.Table, uses: list[UseTables]) -> None:
        self._windows = windows
        self._uses = uses
        self._sorted = _sorted_windows(windows)
        self.keys = Keys(windows["series"].to_numpy(), windows["time"].to_numpy())

    def process_uses(self) -> list[UseTables]:
        """Who used the CPU, of those that said so."""
        return self._uses

    def batches(self) -> list[pa.RecordBatch]:
        """Its windows."""
        batches: list[pa.RecordBatch] = self._windows.to_batches()
        return batches

    def pieces(self) -> list[SortedWindows]:
        """Its windows, sorted by series."""
        return [self._sorted]

    def of_series(self, series: npt.NDArray[np.integer]) -> list[pa.RecordBatch]:
        """The windows of some series: numbers, ascending."""
        return self._sorted.of_series(series)

    def holds(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of each pair of a stream's series and an end, whether that window is here."""
        return self.keys.hold(series, time)


class Holding(Protocol):
    """Keys of windows."""

    def hold(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which pairs of a series and an end are among them."""


class MaybeInStore(Protocol):
    """Windows in memory of which InfluxDB has all, some or none."""

    @property
    def keys(self) -> Holding:
        """The keys of these windows."""


class LateHours(NamedTuple):
    """Rows of hours of who used the CPU that are parts of hours which are written already."""

    rows: UseTables
    parts: Mapping[int, int]
    """The number of the part, by the start of the hour."""

    @classmethod
    def none(cls) -> "LateHours":
        """No rows and no parts."""
        return cls(tables_of([]), {})


class View(NamedTuple):
    """One state of the store: what is in memory, and what of it is in InfluxDB too."""

    memories: Sequence[WindowsInMemory]
    """Windows that are in no rollup, and in no bucket of `open`, yet."""
    written: MaybeInStore | None
    """Of `memories`, what InfluxDB may have."""
    rolled: Rolled
    """Which buckets InfluxDB has."""
    open: Windows | None
    """The buckets of the finest rollup that it has not, added up of the windows that it has; None where these have to
    be read."""
    late: Mapping[int, NumberedRows]
    """Rows for buckets that it has, by tier: InfluxDB has all, some or none of them."""
    processes_through_ms: int
    """Before this, who used the CPU is there by the hour."""
    late_hours: LateHours
    """Rows of such hours: InfluxDB has all, some or none of them."""


class Views:
    """The memtables, the one of them that is being flushed, and what is published. Any thread may call."""

    def __init__(self, index: SeriesIndex, after: int, cut: int, rolled: Rolled) -> None:
        self._index = index
        # A flush that a crash cut short ended at this journal offset: what it had is flushed by itself.
        self._cut = cut
        # Oldest first; the last one grows.
        self._memtables = [Memtable(index, after)]
        self._immutable: ImmutableMemtable | None = None
        self._written: BeingWritten | None = None
        self._rolled = rolled
        self._open: Windows | None = None
        self._late: Mapping[int, NumberedRows] = {}
        self._late_hours = LateHours.none()
        self._processes_through_ms = 0
        self._version = 0
        # Guards all of these; held for moments.
        self._lock = threading.Lock()
        # Held while a state begins, and by the last try of a reader.
        self._publishing = threading.Lock()

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports, the last of them at journal offset `last`."""
        with self._lock:
            if self.full or (self._memtables[-1].rows and self._memtables[-1].last == self._cut):
                # However long InfluxDB is away, what is written at once stays small.
                self._memtables.append(Memtable(self._index, self._memtables[-1].last))
            self._memtables[-1].add(last, reports)

    @property
    def full(self) -> bool:
        """Whether a flush is worth while."""
        return self._memtables[-1].rows >= MEMTABLE_ROWS

    @property
    def last(self) -> int:
        """The journal offset of the newest report."""
        return self._memtables[-1].last

    @property
    def rows(self) -> int:
        """How many windows it holds."""
        with self._lock:
            return sum(memtable.rows for memtable in self._memtables) + (self._immutable.rows if self._immutable else 0)

    @property
    def oldest_last(self) -> int:
        """The journal offset of the newest report of the oldest memtable."""
        return self._memtables[0].last

    @property
    def is_flushing(self) -> bool:
        """Whether a flush is under way, or was begun and failed."""
        return self._immutable is not None

    def seal(self) -> ImmutableMemtable | None:
        """The memtable to flush: the one whose flush was begun, else the oldest; None where there is nothing."""
        with self._lock:
            if self._immutable is None and self._memtables[0].rows:
                self._immutable = ImmutableMemtable(self._memtables.pop(0))
                if not self._memtables:
                    self._memtables = [Memtable(self._index, self._immutable.last)]
            return self._immutable

    def begin(self) -> None:
        """From now on InfluxDB may have any of the windows that are being flushed."""
        with self._publishing, self._lock:
            assert self._immutable is not None
            self._written = BeingWritten(self._immutable.windows, self._immutable.process_uses())
            self._version += 1

    def flushed(self, opened: Windows, late: Mapping[int, NumberedRows], late_hours: LateHours) -> None:
        """InfluxDB has all windows that were being flushed; from now on it may have any of the rows that were late.

        `opened` is what they add to the buckets that are still open.
        """
        with self._publishing, self._lock:
            self._immutable = self._written = None
            self._late, self._late_hours = late, late_hours
            if self._open is not None:
                self._open = merge(concatenate([self._open, opened]), rate_ms=FINEST)
            self._version += 1

    def appends(self, late: Mapping[int, NumberedRows]) -> None:
        """From now on InfluxDB may have any of the rows `late`; nothing else changes."""
        with self._publishing, self._lock:
            self._late = late
            self._version += 1

    def settled(self) -> None:
        """InfluxDB has all rows that were late."""
        with self._lock:
            self._late, self._late_hours = {}, LateHours.none()

    def tells_processes(self, through_ms: int) -> None:
        """InfluxDB has the hours of who used the CPU up to there."""
        with self._lock:
            self._processes_through_ms = through_ms

    def rolls(self, rolled: Rolled, opened: Windows | None) -> None:
        """InfluxDB has more buckets now, or is known to have others; `opened` are those that it has not."""
        with self._lock:
            self._rolled, self._open = rolled, opened

    @property
    def rolled(self) -> Rolled:
        """Which buckets InfluxDB has."""
        return self._rolled

    @property
    def open(self) -> Windows | None:
        """The buckets of the finest rollup that it has not; None where they have to be read."""
        return self._open

    def now(self) -> View:
        """The state of the store now."""
        with self._lock:
            memories: list[WindowsInMemory] = [*self._memtables]
            if self._written is not None:
                memories.insert(0, self._written)
            elif self._immutable is not None:
                memories.insert(0, self._immutable)
            return View(
                memories, self._written, self._rolled, self._open, self._late, self._processes_through_ms,
                self._late_hours,
            )  # fmt: skip

    def consistent(self, read: Callable[[View], T]) -> T:
        """What `read` makes of one state; again where a flush began to write meanwhile, the last try holds it off."""
        for _ in range(_TRIES - 1):
            with self._publishing:
                version, view = self._version, self.now()
            result = read(view)
            if version == self._version:
                return result
        with self._publishing:
            return read(self.now())
