"""Answers from InfluxDB and from memory, each window once."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.columns import Windows, take
from analytics.frames.tiers import RAW, Piece, Rolled, pieces
from analytics.sources.influx_points import Points
from contract.metrics import BUSIEST_CORE, Metric
from contract.times import DAY_MS, HOUR_MS
from service.stores.base import Key, Question
from service.stores.engine import WindowSelection, in_memory
from service.stores.influx.publication import View
from service.stores.influx.reading import Reader
from service.stores.influx.rollups import FINEST
from service.stores.series import SeriesIndex
from service.stores.sorted_windows import LoadedRows, WindowsInMemory

_GAP_MS = 600_000
_SPAN_MS = HOUR_MS
"""Ends are looked up together while they are so close."""


class StoredAnswers:
    """Reads a state of the store."""

    def __init__(self, reader: Reader, index: SeriesIndex, live: Callable[[], frozenset[str]]) -> None:
        self._reader = reader
        self._index = index
        self._live = live
        """Who has points in InfluxDB that came there beside this service, some minutes ago."""

    def windows(self, view: View, chosen: WindowSelection, cuts: Sequence[int]) -> Iterator[LoadedRows]:
        """The windows of a question, some of them merged already, in no bucket that spans one of `cuts`."""
        if not len(chosen.series):
            return
        question = chosen.question
        users = [question.user_id] if question.user_id is not None else self._users(chosen.series)
        narrowed = self._narrowed(question, users)
        original = any(BUSIEST_CORE in self._index.cores(user_id, question.quantity.name) for user_id in users)
        if view.open is not None and not self._live().isdisjoint(users):
            view = view._replace(open=None)
        for piece in _pieces(view, narrowed, cuts):
            start_ms, end_ms = piece.start_ms, piece.end_ms
            if piece.tier == FINEST and view.open is not None and end_ms > view.rolled.through_ms[FINEST]:
                end_ms = max(view.rolled.through_ms[FINEST], start_ms)
                yield from _within(view.open, end_ms, piece.end_ms, chosen)
            if start_ms < end_ms:
                points = Points(
                    question.quantity, piece.tier, start_ms, end_ms, users, question.cores, original=original
                )
                yield from self._stored(view, points, chosen)
        yield from in_memory(view.memories, chosen)

    def _stored(self, view: View, points: Points, chosen: WindowSelection) -> Iterator[LoadedRows]:
        """What InfluxDB has of some points, and what it is about to have of rollups."""
        late = view.late.get(points.tier)
        for rows in self._reader.rows(points, histograms=chosen.question.histograms, unless=late):
            held = np.zeros(len(rows.series), np.bool_)
            if points.tier == RAW and view.written is not None:
                held = view.written.keys.hold(rows.series.astype(np.int64), pd.DatetimeIndex(rows.frame.index).asi8)
            yield rows.take(np.isin(rows.series, chosen.series) & ~held)
        if late is not None:
            yield from _within(late.rows, points.start_ms, points.end_ms, chosen)

    def _narrowed(self, question: Question, users: Sequence[str]) -> Question:
        """The question without the days before and behind all that these users have reported."""
        known = [self._index.users[user_id] for user_id in users]
        first_ms = min(user.first_seen for user in known) // DAY_MS * DAY_MS
        end_ms = max(user.last_seen for user in known) // DAY_MS * DAY_MS + DAY_MS
        return replace(question, start_ms=max(question.start_ms, first_ms), end_ms=min(question.end_ms, end_ms))

    def _users(self, series: npt.NDArray[np.int64]) -> list[str]:
        return sorted({self._index.all[number - 1].user_id for number in series.tolist()})

    def known(self, view: View, keys: Collection[Key]) -> set[Key]:
        """Those of `keys` that are in memory or in InfluxDB; their streams are known."""
        found = self._in_memory(view.memories, keys)
        by_type: dict[type[Metric], list[Key]] = defaultdict(list)
        for key in keys:
            if key not in found:
                by_type[key.type].append(key)
        for kind, some in by_type.items():
            for close in _close(some):
                asked = set(close)
                users = sorted({key.user_id for key in close})
                quantity = kind.quantities[0]
                ends = self._reader.ends(quantity, close[0].end_ms, close[-1].end_ms + 1, users)
                found |= asked.intersection(Key(user, kind, end) for user, end in zip(*ends, strict=True))
        return found

    def _in_memory(self, memories: Sequence[WindowsInMemory], keys: Collection[Key]) -> set[Key]:
        places = [(self._index.stream(key.user_id, key.type), key) for key in keys]
        asked = [(number, key) for number, key in places if number is not None]
        series = np.array([number for number, _ in asked], np.int64)
        time = np.array([key.end_ms for _, key in asked], np.int64)
        held = np.zeros(len(asked), np.bool_)
        for memory in memories:
            held |= memory.holds(series, time)
        return {asked[place][1] for place in np.flatnonzero(held).tolist()}


def _pieces(view: View, question: Question, cuts: Sequence[int]) -> Iterator[Piece]:
    """The plan of a question. What is still open is a tier without an end, where it is in memory."""
    rolled = view.rolled
    if view.open is not None:
        rolled = Rolled(rolled.since_ms, {**rolled.through_ms, FINEST: question.end_ms})
    return pieces(question.start_ms, question.end_ms, question.step_ms, rolled, cuts)


def _within(buckets: Windows, start_ms: int, end_ms: int, chosen: WindowSelection) -> Iterator[LoadedRows]:
    """The buckets of a question that start in a range."""
    question = chosen.question
    start_ms, end_ms = max(question.start_ms, start_ms), min(question.end_ms, end_ms)
    within = replace(chosen, question=replace(question, start_ms=start_ms, end_ms=end_ms))
    rows = within.places_in(buckets.series, buckets.time)
    if len(rows):
        yield LoadedRows.of(_with(take(buckets, rows), question.histograms))


def _with(windows: Windows, histograms: bool) -> Windows:
    return windows if histograms or windows.histograms is None else replace(windows, histograms=None)


def _close(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """The keys in order of time, cut where the ends are far apart."""
    ordered = sorted(keys, key=lambda key: key.end_ms)
    part = ordered[:1]
    for key in ordered[1:]:
        if key.end_ms - part[-1].end_ms > _GAP_MS or key.end_ms - part[0].end_ms > _SPAN_MS:
            yield part
            part = []
        part.append(key)
    yield part
