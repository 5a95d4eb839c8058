"""The memtable: the newest windows, in memory, until a flush puts them on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from contract.later import is_imported, later
from contract.metrics import IDLEST_CORE, Cpu
from contract.report import Report
from service.stores.series import SeriesIndex

_COLUMNS = "service.stores.sorted_windows"
if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from service.stores import process_use
    from service.stores import sorted_windows as windows
else:
    np = later("numpy")
    process_use = later("service.stores.process_use")
    windows = later(_COLUMNS)

_CHUNK = 2048
"""Reports of a piece: of four cores some 30 ms of work. Those that come before a service has imported what that takes
wait, so that none of them waits for it."""
_STEP = 128
"""So many that come one by one are turned into columns together, in 2 ms: nobody waits for a whole piece, and few
objects lie there that the garbage collector looks at. Such small pieces become one of `_CHUNK`."""
_AT_ONCE = 2
"""Chunks that are made at once, at most, so that nobody waits long where many reports have come."""
_USES_CHUNK = 256
"""The same of those that name processes, which have some ten rows each."""


_Content = tuple["list[windows.SortedWindows]", "list[windows.SortedWindows]", "list[windows.Entry]"]
"""Pieces, small pieces behind them, and the tail."""
_Ahead = tuple["list[windows.Entry]", "list[windows.SortedWindows]", int]
"""A tail, pieces of its beginning, and how much of it that is."""
_PIECES = 16
"""So many pieces of a tail that grows while it is asked for become one."""


class Memtable:
    """Windows as they came: sorted pieces that do not change, and a tail that grows.

    `add` runs on one thread; everything else may be called from any, and sees every window whose `add` returned.
    """

    def __init__(self, series: SeriesIndex, after: int, *, as_came: bool = False) -> None:
        """With `as_came` reports stay as they came until somebody asks, which may be never, and it can be cut."""
        self._series = series
        self._as_came = as_came
        self.last = after
        """The journal offset of its last report."""
        self.rows = 0
        # Replaced as one, so that a reader never sees a piece twice or not at all.
        self._content: _Content = ([], [], [])
        self._ahead: _Ahead = ([], [], 0)
        self._uses: tuple[list[process_use.UseTables], list[process_use.UseEntry]] = ([], [])

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Take reports, the last of them at journal offset `last`."""
        pieces, small, tail = self._content
        index = self._series
        rows = 0
        for report in reports:
            user, system = index.hear(report)
            if report.processes is not UNSET:
                self._add_use((report.user_id, report.end_timestamp, report.processes))
            for metric in report.metrics:
                if type(metric) is Cpu:
                    ids = user.cpu if user.has(metric) else index.of_cpu(user, metric)
                    if report.end_timestamp == user.last_seen:
                        user.cores = len(ids) - 1
                        if metric.cores:
                            user.cores -= sum(core >= IDLEST_CORE for core in metric.cores)
                else:
                    if metric.of_devices:
                        metric = index.named(user, metric)  # noqa: PLW2901
                    ids = index.of_metric(user.user_id, metric)
                tail.append((ids, report, metric, system))
                rows += len(ids)
        self.last = last
        self.rows += rows
        if self._as_came:
            return
        # What comes in bulk is sorted once, a whole chunk at a time; what comes one by one is not to wait for that.
        if len(tail) >= (_CHUNK if len(reports) >= _STEP else min(_STEP, _CHUNK)) and is_imported(_COLUMNS):
            self._content = self._shortened(pieces, small, tail, len(reports))

    def _shortened(
        self,
        pieces: list[windows.SortedWindows],
        small: list[windows.SortedWindows],
        tail: list[windows.Entry],
        came: int,
    ) -> _Content:
        """The content with a shorter tail."""
        if len(tail) >= _CHUNK:
            # As many as came, so that reports of a bulk load do not lie there as objects, of which a memtable would
            # leave the interpreter's heap in pieces.
            made, behind = self._made(tail, _AT_ONCE + came // _CHUNK)
            return [*pieces, *small, *made], [], tail[behind:]
        small = [*small, windows.SortedWindows.of(windows.columns(tail))]
        if len(small) * _STEP < _CHUNK:
            return pieces, small, []
        return [*pieces, windows.SortedWindows.joined(small)], [], []

    def _made(self, tail: list[windows.Entry], most: int | None = None) -> tuple[list[windows.SortedWindows], int]:
        """The whole chunks of a tail as pieces, of those that nobody has made only the first `most`; how much that is.

        What was made is kept until the tail is another list: a tail grows long where many reports come at once, and
        whoever asks would make pieces of it again each time. Two threads that make the same have the same. Of reports
        that stay as they came pieces are made of what is no whole chunk, too: nothing else makes them shorter.
        """
        of_tail, made, done = self._ahead
        if of_tail is not tail:
            made, done = [], 0
        behind = len(tail) if self._as_came else len(tail) // _CHUNK * _CHUNK
        if most is not None:
            behind = min(behind, done + most * _CHUNK)
        if behind > done:
            parts = (tail[at : min(at + _CHUNK, behind)] for at in range(done, behind, _CHUNK))
            made = made + [windows.SortedWindows.of(windows.columns(part)) for part in parts]
            if self._as_came and len(made) > _PIECES:
                made = [windows.SortedWindows.joined(made)]
            done = behind
            self._ahead = (tail, made, done)
        return made, done

    def _in_parts(self, most: int | None = None) -> tuple[list[windows.SortedWindows], list[windows.Entry]]:
        """Sorted pieces, of the tail only `most` more than there are, and what is left of the tail."""
        pieces, small, tail = self._content
        made, behind = self._made(tail, most)
        return [*pieces, *small, *made], tail[behind:]

    def cut(self, reports: int, offset: int) -> tuple[Memtable, Memtable]:
        """The first `reports`, the last of them at a journal offset, and the rest; of one with them as they came."""
        _, _, tail = self._content
        place, count, last = 0, 0, None
        for _, report, _, _ in tail:
            if report is not last:
                if count == reports:
                    break
                count, last = count + 1, report
            place += 1
        before, behind = (Memtable(self._series, offset, as_came=True) for _ in range(2))
        before._take(offset, tail[:place])
        behind._take(self.last, tail[place:])
        return before, behind

    def _take(self, last: int, entries: list[windows.Entry]) -> None:
        """Take what another memtable has, which the index of series knows."""
        self.last, self.rows = last, sum(len(ids) for ids, _, _, _ in entries)
        self._content = ([], [], entries)
        for place, (_, report, _, _) in enumerate(entries):
            if report.processes is not UNSET and (not place or entries[place - 1][1] is not report):
                self._add_use((report.user_id, report.end_timestamp, report.processes))

    def _add_use(self, entry: process_use.UseEntry) -> None:
        done, tail = self._uses
        tail.append(entry)
        if len(tail) >= _USES_CHUNK and is_imported(_COLUMNS):
            self._uses = ([*done, process_use.tables_of(tail)], [])

    def newest(self) -> dict[int, int]:
        """The end of the newest window of each stream, by the number of its series."""
        pieces, small, tail = self._content
        ends: dict[int, int] = {}
        for ids, report, _, _ in tail[:]:
            ends[ids[0]] = max(report.end_timestamp, ends.get(ids[0], -1))
        for piece in (*pieces, *small):
            for stream, end in piece.newest(self._series.streams()).items():
                ends[stream] = max(end, ends.get(stream, -1))
        return ends

    def process_uses(self) -> list[process_use.UseTables]:
        """Who used the CPU, of the windows that said so."""
        done, tail = self._uses
        return [*done, process_use.tables_of(tail[:])] if tail else done

    def batches(self) -> list[pa.RecordBatch]:
        """All windows in memory, as batches with the columns of `SCHEMA`."""
        return [piece.batch for piece in self.pieces()]

    def pieces(self) -> list[windows.SortedWindows]:
        """All windows, sorted by series piece by piece."""
        pieces, tail = self._in_parts()
        return [*pieces, windows.SortedWindows.of(windows.columns(tail))] if tail else pieces

    def of_series(self, series: npt.NDArray[np.integer]) -> list[pa.RecordBatch]:
        """The windows of some series: numbers, ascending."""
        pieces, tail = self._in_parts(_AT_ONCE)
        found = [batch for piece in pieces for batch in piece.of_series(series)]
        wanted = frozenset(series.tolist())
        entries = [entry for entry in tail if not wanted.isdisjoint(entry[0])]
        return found + windows.SortedWindows.of(windows.columns(entries)).of_series(series) if entries else found

    def holds(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Of each pair of a stream's series and an end, whether that window is here."""
        pieces, tail = self._in_parts(_AT_ONCE)
        newest = {(ids[0], report.end_timestamp) for ids, report, _, _ in tail}
        held = np.fromiter((pair in newest for pair in zip(series.tolist(), time.tolist(), strict=True)), np.bool_)
        for piece in pieces:
            held |= piece.holds(series, time)
        return held
