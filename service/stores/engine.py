"""The query engine: windows of the series that a question is about, named and resampled; those that are in memory.

`service.stores.selection` says which series these are. A store loads the pieces of a plan (`analytics.frames.tiers`) as
DataFrames, `WindowSelection.resampled` makes the answer of them with `analytics.resample`. Retention is part of the
plan: what is kept no longer is neither asked for nor taken.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from analytics.frames.aggregation import slice_rows
from analytics.frames.columns import NUMBERS, concatenate, take
from analytics.frames.frame import frame_of_columns, moments_of
from analytics.frames.kernel import Ints, order_of
from analytics.frames.labels import factorize_labels, taken
from analytics.frames.resampling import RAW_MS, resample, resample_at, resample_rows
from analytics.frames.statistics import columns_of
from service.stores.base import Question
from service.stores.cells import CellRows, cells_of, sums_of, totals_of
from service.stores.retention import TIERS, Retention
from service.stores.sorted_windows import LoadedRows, SortedWindows, WindowsInMemory, marked, rows_of
from service.stores.systems import SystemsOverTime

BATCH_ROWS = 1 << 20
"""So many rows are resampled together: with histograms some 500 MB."""


@dataclass(frozen=True, slots=True)
class WindowSelection:
    """Which windows to read, and what they are called in the answer."""

    question: Question
    series: Ints
    """Numbers of series, ascending."""
    labels: pd.DataFrame
    """A row for each: the label columns of the answer."""
    rank: Ints
    """The place of each when they are sorted by user and core: rows that merge are added up in this order."""
    bounded: npt.NDArray[np.bool_]
    """By series number: whether its quantity is a share."""
    systems: SystemsOverTime | None = None
    """What the hosts ran when, where that groups them."""
    batch_rows: int = BATCH_ROWS
    """So many are resampled together."""

    @property
    def is_whole_fleet(self) -> bool:
        """Whether all hosts are asked for, together and nothing of their cores."""
        return self.question.is_whole_fleet

    def cuts(self, kept: Retention, now_ms: int) -> list[int]:
        """Moments that no bucket of a rollup may span, because what groups its windows changed.

        Where windows are kept no longer, a bucket of the finest rollup that is counts under what was before.
        """
        if self.systems is None:
            return []
        found = self.systems.changes(self.question.start_ms, self.question.end_ms)
        widths = [kept.finest_ms(cut, now_ms) for cut in found]
        return sorted({cut // width * width for cut, width in zip(found, widths, strict=True)})

    def places_in(self, series: npt.NDArray[np.integer], time: Ints) -> Ints:
        """The places of the rows that are asked for."""
        wanted = np.zeros(len(self.bounded), bool)
        wanted[self.series] = True
        question = self.question
        return np.flatnonzero(marked(series, wanted) & (time >= question.start_ms) & (time < question.end_ms))

    def answered(self, parts: Iterable[LoadedRows | CellRows]) -> pd.DataFrame:
        """What the question asks for, of the rows of `parts`; of cells they may have rows of other series too."""
        return self.resampled(parts) if self.question.cells is None else self._table(parts)

    def _table(self, parts: Iterable[LoadedRows | CellRows]) -> pd.DataFrame:
        question = self.question
        row_of = np.full(len(self.bounded), -1, np.int64)
        row_of[self.series] = np.arange(len(self.series))
        users = pd.Index(self.labels["user"], name="user")
        if question.cells == "totals":
            return totals_of(parts, row_of, len(self.series)).set_axis(users)
        assert question.cells is not None
        first = question.start_ms // question.rate_ms
        columns = pd.RangeIndex(first, -(-question.end_ms // question.rate_ms))
        shape = len(self.series), len(columns)
        if question.cells == "sums":
            found = sums_of(parts, row_of, shape, first=first, rate_ms=question.rate_ms)
            return found.set_index(users[found.pop("row").to_numpy()])
        values = cells_of(parts, row_of, shape, question.cells, first=first, rate_ms=question.rate_ms)
        return pd.DataFrame(values, index=users, columns=columns, copy=False)

    def resampled(self, parts: Iterable[Any]) -> pd.DataFrame:
        """All windows of `parts`, named and resampled.

        They are resampled together, so that they are added up in the same order wherever they come from; very many of
        them a part at a time, so that memory follows what is answered, not what is read: at least as many at once as
        came of those before, so that what merging does not make fewer is not merged again and again.
        """
        done: list[pd.DataFrame] = []
        waiting: list[LoadedRows] = []
        rows = merged = 0
        for part in parts:
            waiting.append(part)
            rows += len(part.series)
            if rows > max(self.batch_rows, 2 * merged):
                done, waiting = [self._in_buckets(self._labelled(done, waiting))], []
                rows = merged = len(done[0])
        if not done and self.systems is None and rows <= slice_rows(histograms=self.question.histograms):
            frame = self._of_series(waiting)
        else:
            frame = self._in_buckets(self._labelled(done, waiting))
        quantity = self.question.quantity
        frame.attrs = {"metric": quantity.camel, "unit": quantity.unit}
        return frame

    def _in_buckets(self, frame: pd.DataFrame) -> pd.DataFrame:
        is_named = len(self.labels.columns) > 0 or self.systems is not None
        if not is_named and self._is_as_it_came(frame, np.zeros(len(frame), np.int64)):
            return frame
        rate_ms, edges = self.question.rate_ms, self.question.edges
        missing = [name for name in NUMBERS if name not in frame]
        if missing:
            # A frame of windows has them all. Such as go with what is there are made up, and left out again.
            value = next((frame[name] for name in ("mean", "min", "max") if name in frame), 0.0)
            made_up = {name: 0 if name == "approximated" else 0.0 if name == "var" else value for name in missing}
            frame = frame.assign(**made_up)
        buckets: pd.DataFrame = resample(frame, rate_ms) if edges is None else resample_at(frame, edges)
        return buckets.drop(columns=missing)

    def _is_as_it_came(self, frame: pd.DataFrame, number: Ints) -> bool:
        """Whether windows are asked for as they came, and no two of them merge: most of a long answer.

        `number` says whose each is. Their histograms are not so much as unpacked then.
        """
        if self.question.rate_ms != RAW_MS or self.question.edges is not None:
            return False
        time = moments_of(frame).asi8
        ascends = (number[1:] > number[:-1]) | ((number[1:] == number[:-1]) & (time[1:] > time[:-1]))
        return bool(np.all(ascends) and np.all(frame["count"].to_numpy() > 0))

    def _labelled(self, done: list[pd.DataFrame], parts: list[LoadedRows]) -> pd.DataFrame:
        """Rows that were resampled before, and behind them those of `parts`, in order and with their labels."""
        place, frame = self._in_order(parts)
        labels = taken(self.labels, place) if len(self.labels.columns) else {}
        if self.systems is not None:
            labels |= self.systems.column(place, moments_of(frame).as_unit("ms").asi8)
        if labels:
            frame = frame.assign(**labels)
        return pd.concat([*done, frame]) if done else frame

    def _in_order(self, parts: list[LoadedRows]) -> tuple[Ints, pd.DataFrame]:
        """The rows of `parts` in order of series and time, and the place in `series` of each."""
        parts = parts or [LoadedRows.empty(histograms=self.question.histograms)]
        wanted = [*columns_of(self.question.statistic), *(["histogram"] if self.question.histograms else [])]
        frames = [part.frame if len(part.frame.columns) == len(wanted) else part.frame[wanted] for part in parts]
        frame = frames[0] if len(parts) == 1 else pd.concat(frames)
        if len(self.series) == 1:
            place = np.zeros(len(frame), np.int64)
            order = order_of([moments_of(frame).asi8])
        else:
            place_of = np.zeros(len(self.bounded), np.int64)
            place_of[self.series] = np.arange(len(self.series))
            place = place_of[np.concatenate([part.series for part in parts])]
            order = order_of([self.rank[place], moments_of(frame).asi8])
        return (place, frame) if order is None else (place[order], frame.take(order))

    def _numbered(self, places: Ints) -> tuple[Ints, pd.DataFrame]:
        """Which label each series has, and these in order, where rows are of the series at `places`."""
        if self.question.user_id is not None:
            # One for each core, which are in their order already.
            return self.rank, self.labels.iloc[np.argsort(self.rank)]
        present = np.flatnonzero(np.bincount(places, minlength=len(self.labels)))
        number_of = np.zeros(len(self.labels), np.int64)
        number_of[present], labels = factorize_labels(self.labels.iloc[present])
        return number_of, labels

    def _of_series(self, parts: list[LoadedRows]) -> pd.DataFrame:
        """The rows of `parts` resampled: numbered by the labels of their series, and named when they are merged."""
        place, frame = self._in_order(parts)
        labels = self.labels
        number = np.zeros(len(place), np.int64)
        if len(labels.columns):
            number_of, labels = self._numbered(place[frame["count"].to_numpy() > 0])
            number = number_of[place]
        if self._is_as_it_came(frame, number):
            columns = {name: frame[name].array for name in frame.columns}
            return frame_of_columns(taken(labels, number) | columns, moments_of(frame).asi8)
        return resample_rows(frame, number, labels, self.question.rate_ms, self.question.edges)


_FEW = 256
"""Up to so many series are found one by one; for more all windows are looked through."""


def in_memory(memtables: Sequence[WindowsInMemory], chosen: WindowSelection) -> Iterator[LoadedRows]:
    """The chosen windows of some memtables, a part at a time."""
    question = chosen.question
    for memtable in memtables:
        if chosen.is_whole_fleet and question.step_ms % TIERS[0] == 0 and len(chosen.series):
            yield from _together(memtable, chosen)
        else:
            yield from _of_batches(_batches(memtable, chosen), chosen)


_BLOCK = 16
"""Pieces that are merged at once, some 30,000 reports: so what is asked again adds up few parts, however much came."""


def _together(memtable: WindowsInMemory, chosen: WindowSelection) -> Iterator[LoadedRows]:
    """The windows of all hosts: the buckets within the range, which are kept, and one by one those at its edges.

    Late windows lie anywhere in time, so that nearly every piece may reach beyond a range.
    """
    question, width = chosen.question, TIERS[0]
    first, behind = -(-question.start_ms // width) * width, question.end_ms // width * width
    if first >= behind:
        yield from _of_batches(_batches(memtable, chosen), chosen)
        return
    pieces = memtable.pieces()
    merged = []
    for block in _blocks(pieces):
        buckets = block[0].together(
            width, chosen.series, chosen.bounded, histograms=question.histograms, behind=block[1:]
        )
        within = (buckets.time >= first) & (buckets.time < behind)
        merged.append(buckets if within.all() else take(buckets, within))
    windows = concatenate(merged)
    if len(windows):
        yield LoadedRows.of(windows)
    edges = [(question.start_ms, first), (behind, question.end_ms)]
    rows = [rows for edge in edges for piece in pieces if (rows := piece.between_times(*edge)) is not None]
    if rows:
        yield from _of_batches([pa.concat_batches(rows)], chosen)


def _blocks(pieces: Sequence[SortedWindows]) -> Iterator[Sequence[SortedWindows]]:
    """Pieces that are merged together: always the same, so that equal questions have equal bits."""
    whole = len(pieces) // _BLOCK * _BLOCK
    for place in range(0, whole, _BLOCK):
        yield pieces[place : place + _BLOCK]
    for piece in pieces[whole:]:
        yield [piece]


def _of_batches(batches: Iterable[pa.RecordBatch], chosen: WindowSelection) -> Iterator[LoadedRows]:
    for batch in batches:
        places = chosen.places_in(batch["series"].to_numpy(), batch["time"].to_numpy())
        if len(places):
            yield rows_of(batch.take(pa.array(places)), chosen.bounded, histograms=chosen.question.histograms)


def _batches(memtable: WindowsInMemory, chosen: WindowSelection) -> list[pa.RecordBatch]:
    if len(chosen.series) > _FEW:
        return memtable.batches()
    found = memtable.of_series(chosen.series)
    # A frame costs more than its rows: many pieces of a few windows become one.
    return [pa.concat_batches(found)] if found else []
