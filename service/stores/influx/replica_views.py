"""What a process that does not write to InfluxDB knows: the newest windows from the log, the rest from the ledger.

The writer puts into the ledger how far it is, before and after it writes. Whoever reads takes what the writer has not
reported as written from memory, whether InfluxDB has it yet or not, as readers in the writer's own process do. What is
noted there and not done, rows of rollups, may be in InfluxDB in part: a reader waits for that, and asks again where the
ledger has a new note by the time it has read.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.frames.columns import Windows, concatenate, merge, take
from analytics.frames.tiers import Rolled
from analytics.sources.influx_client import Unreachable
from contract.influx import PROCESSES_THROUGH, SINCE, TIERS, through_field
from contract.report import FUTURE_MS, Report
from service.stores.influx.publication import LateHours, View, Views
from service.stores.influx.rollups import FINEST
from service.stores.memtable import Memtable
from service.stores.process_use import UseTables
from service.stores.series import SeriesIndex
from service.stores.sorted_windows import SortedWindows, rows_of

T = TypeVar("T")
_TRIES = 5
_WAIT_S = 10.0
_IDLE_S = 600.0
"""A process that nobody has asked for so long does not add up the open buckets: whoever asks first reads windows."""
_PART_REPORTS = 2048
"""A part of the memory has so many reports."""


class Progress(Protocol):
    """What the writer has told of itself."""

    @property
    def values(self) -> Mapping[str, int]:
        """Numbers: `flushed`, and which buckets the rollups have."""

    @property
    def noted(self) -> Mapping[int, bytes]:
        """Rows that are being written."""

    @property
    def notes(self) -> int:
        """How often rows were noted."""


class _Part:
    """Reports that follow each other in the log.

    They stay as they came until somebody asks: a process that only takes reports makes no columns of them, and where
    the writer stops in the middle of a part nothing is made again.
    """

    def __init__(self, after: int, memtable: Memtable) -> None:
        self.after = after
        self.memtable = memtable
        self.reports = 0
        self.began_s = time.monotonic()
        """When its first report came."""
        self._commits: list[tuple[int, int]] = []
        """The offset of the last report of each commit, and how many it has."""

    @classmethod
    def empty(cls, index: SeriesIndex, after: int) -> Self:
        """A part that begins behind an offset."""
        return cls(after, Memtable(index, after, as_came=True))

    @property
    def last(self) -> int:
        return self.memtable.last

    def add(self, last: int, reports: Sequence[Report]) -> None:
        if not self.reports:
            self.began_s = time.monotonic()
        self.memtable.add(last, reports)
        self._note(last, len(reports))

    def _note(self, last: int, reports: int) -> None:
        self._commits.append((last, reports))
        self.reports += reports

    def split(self, offset: int) -> tuple[Memtable, "_Part"]:
        """What is up to an offset, and what is behind it."""
        before = sum(_place(last, reports, offset) for last, reports in self._commits)
        memtable, rest = self.memtable.cut(before, offset)
        behind = _Part(offset, rest)
        for last, reports in self._commits:
            left = reports - _place(last, reports, offset)
            if left:
                behind._note(last, left)
        return memtable, behind


def _place(last: int, reports: int, offset: int) -> int:
    """How many of `reports`, the last of them at offset `last`, are at `offset` or before."""
    return min(max(reports - (last - offset), 0), reports)


class _Frozen:
    """The windows of some memtables at one moment: what is read from memory and left out of what InfluxDB has."""

    def __init__(self, memtables: Sequence[Memtable]) -> None:
        self._pieces = [piece for memtable in memtables for piece in memtable.pieces()]
        self._uses = [tables for memtable in memtables for tables in memtable.process_uses()]

    @property
    def keys(self) -> "_Frozen":
        return self

    def process_uses(self) -> list[UseTables]:
        """Who used the CPU, of the windows that said so."""
        return self._uses

    def batches(self) -> list[pa.RecordBatch]:
        """All windows in memory, as batches with the columns of `SCHEMA`."""
        return [piece.batch for piece in self._pieces]

    def pieces(self) -> list[SortedWindows]:
        """All windows, sorted by series piece by piece."""
        return self._pieces

    def of_series(self, series: npt.NDArray[np.integer]) -> list[pa.RecordBatch]:
        """The windows of some series: numbers, ascending."""
        return [batch for piece in self._pieces for batch in piece.of_series(series)]

    def holds(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of each pair of a series and an end, whether that window is here."""
        held = np.zeros(len(series), np.bool_)
        for piece in self._pieces:
            held |= piece.holds(series, time)
        return held

    def hold(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """As `holds`, under the name that `Holding` has."""
        return self.holds(series, time)


class ReplicaViews(Views):
    """The windows that are not in InfluxDB for sure, and which rollups it has. Any thread may call."""

    def __init__(self, index: SeriesIndex, now_ms: Callable[[], int], refresh: Callable[[], None]) -> None:
        """`refresh` returns when `apply` was told everything that the ledger had before."""
        super().__init__(index, 0, 0, Rolled(0, dict.fromkeys(TIERS, 0)))
        self._now_ms = now_ms
        self._refresh = refresh
        self.written_through = 0
        self._parts = [_Part.empty(index, 0)]
        self._flushed_parts: list[Memtable] = []
        self._gathered = Windows.empty()
        self._open_from_ms = now_ms() + FUTURE_MS
        """From this bucket on `_gathered` is whole: everything of it came after this process began."""
        self._asked_s = -_IDLE_S
        """When somebody asked last."""
        self._notes = 0
        self._is_writing = False
        # Guards all of these; held for moments.
        self._changed = threading.Condition()
        # Held while what was flushed is added up.
        self._gathering = threading.Lock()

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports, the last of them at offset `last`; InfluxDB may have them by now."""
        with self._changed:
            place = _place(last, len(reports), self.written_through)
            if place or last - len(reports) > self.last:
                # The writer was quicker than this process: what the open buckets have of it is not known here.
                self._open_from_ms = self._now_ms() + FUTURE_MS
            if place:
                Memtable(self._index, 0, as_came=True).add(last, reports[:place])
            if place < len(reports):
                if self._parts[-1].reports >= _PART_REPORTS:
                    self._parts.append(_Part.empty(self._index, self._parts[-1].last))
                self._parts[-1].add(last, reports[place:])

    def apply(self, progress: Progress) -> None:
        """Take what the writer has told."""
        values = progress.values
        with self._changed:
            self._flush_through(values.get("flushed", 0))
            self._notes, self._is_writing = progress.notes, bool(progress.noted)
            self._processes_through_ms = values.get(PROCESSES_THROUGH, 0)
            if SINCE in values:
                self._rolled = Rolled(values[SINCE], {tier: values[through_field(tier)] for tier in TIERS})
            self._changed.notify_all()

    def _flush_through(self, offset: int) -> None:
        """InfluxDB has every window up to an offset."""
        if offset <= self.written_through:
            return
        self.written_through = offset
        kept: list[_Part] = []
        for part in self._parts:
            if part.last <= offset:
                self._flushed_parts.append(part.memtable)
            elif part.after >= offset:
                kept.append(part)
            else:
                before, behind = part.split(offset)
                self._flushed_parts.append(before)
                kept.append(behind)
        self._parts = kept or [_Part.empty(self._index, offset)]

    def tidy(self) -> None:
        """Add up what was flushed while somebody asks now and then; where nobody does, it need not be kept."""
        if time.monotonic() - self._asked_s < _IDLE_S:
            self.gather()
            return
        with self._gathering, self._changed:
            self._flushed_parts = []
            self._gathered = Windows.empty()
            self._open_from_ms = self._now_ms() + FUTURE_MS

    def gather(self) -> None:
        """Add what was flushed to the buckets of 5 min that are open."""
        with self._gathering:
            with self._changed:
                flushed = self._flushed_parts[:]
                since_ms = max(self._rolled.through_ms[FINEST], self._rolled.since_ms)
            found = [take(self._gathered, self._gathered.time >= since_ms)] if len(self._gathered) else []
            bounded = self._index.bounded()
            for memtable in flushed:
                for batch in memtable.batches():
                    buckets = merge(rows_of(batch, bounded, histograms=True).windows(), rate_ms=FINEST)
                    found.append(take(buckets, buckets.time >= since_ms))
            opened = merge(concatenate(found), rate_ms=FINEST) if found else Windows.empty()
            with self._changed:
                self._gathered = opened
                self._flushed_parts = self._flushed_parts[len(flushed) :]

    def seal(self) -> None:
        """Nothing is flushed by a process that does not write."""
        return

    @property
    def full(self) -> bool:
        """Never: others flush."""
        return False

    @property
    def last(self) -> int:
        """The offset of the newest report."""
        return max(self._parts[-1].last, self.written_through)

    @property
    def waiting_s(self) -> float:
        """How long at least the oldest report has waited for the writer, seconds."""
        part = self._parts[0]
        return time.monotonic() - part.began_s if part.reports else 0.0

    @property
    def rows(self) -> int:
        """How many windows are in memory."""
        with self._changed:
            return sum(part.memtable.rows for part in self._parts)

    def now(self) -> View:
        """The state of the store now."""
        return self._settled(0.0)[0]

    def _settled(self, wait_s: float) -> tuple[View, int]:
        """The state, and its note, once nothing is being written but windows; as it is after `wait_s`."""
        while True:
            self.gather()
            with self._changed:
                if self._is_writing and wait_s:
                    if not self._changed.wait_for(lambda: not self._is_writing, wait_s):
                        raise Unreachable("the writer has noted rows that it has not written yet")
                    continue
                if self._flushed_parts:
                    continue
                memtables = [part.memtable for part in self._parts]
                rolled = self._rolled
                since_ms = max(rolled.through_ms[FINEST], rolled.since_ms)
                opened = None
                if since_ms >= self._open_from_ms:
                    opened = (
                        take(self._gathered, self._gathered.time >= since_ms) if len(self._gathered) else self._gathered
                    )
                notes, hours_ms = self._notes, self._processes_through_ms
            memory = _Frozen(memtables)
            return View([memory], memory, rolled, opened, {}, hours_ms, LateHours.none()), notes

    def consistent(self, read: Callable[[View], T]) -> T:
        """What `read` makes of one state. Raises Unreachable where there is none for too long."""
        self._asked_s = time.monotonic()
        for _ in range(_TRIES):
            view, notes = self._settled(_WAIT_S)
            result = read(view)
            self._refresh()
            with self._changed:
                if notes == self._notes and not self._is_writing:
                    return result
        raise Unreachable("the writer changes what was asked for")
