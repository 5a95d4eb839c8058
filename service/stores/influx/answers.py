"""Answers from InfluxDB and from memory, each window once."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from analytics.frames.columns import Windows, take
from contract.influx import TIERS
from contract.metrics import Metric
from contract.times import DAY_MS, HOUR_MS
from service.stores.base import Key, Question
from service.stores.engine import RAW, Piece, Selection, in_memory, plan
from service.stores.influx.publication import Publication, View
from service.stores.influx.reading import Keys, Reader, Wanted, without
from service.stores.memtable import Memory, Rows
from service.stores.series import SeriesIndex

_GAP_MS = 600_000
_SPAN_MS = HOUR_MS
"""Ends are looked up together while they are so close."""


class Stored:
    """Reads a state of the store."""

    def __init__(self, reader: Reader, index: SeriesIndex) -> None:
        self._reader = reader
        self._index = index

    def windows(self, view: View, chosen: Selection, since_ms: int) -> Iterator[Rows]:
        """The windows of a question, some of them merged already; before `since_ms` there are no rollups."""
        if not len(chosen.series):
            return
        question = chosen.question
        users = [question.user_id] if question.user_id is not None else self._users(chosen.series)
        for piece in _pieces(self._narrowed(question, users), since_ms):
            wanted = Wanted(
                question.quantity, piece.tier, piece.start_ms, piece.end_ms, users, question.cores
            )  # fmt: skip
            for part in self._reader.windows(wanted, histograms=question.histograms):
                mine = _only(without(part, _keys(view.publication, piece)), chosen)
                yield Rows.of(_with(mine, question.histograms))
            if view.publication:
                yield from _published(view.publication, piece, chosen)
        yield from in_memory(view.memories, chosen)

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
        memories = [*view.memories, *([view.publication] if view.publication else [])]
        found = self._in_memory(memories, keys)
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

    def _in_memory(self, memories: Sequence[Memory], keys: Collection[Key]) -> set[Key]:
        places = {(self._index.stream(key.user_id, key.type), key.end_ms): key for key in keys}
        wanted = np.zeros(len(self._index) + 1, np.bool_)
        wanted[[number for number, _ in places if number is not None]] = True
        found = set()
        for memory in memories:
            for batch in memory.batches():
                series, time = batch["series"].to_numpy(), batch["time"].to_numpy()
                rows = np.flatnonzero(wanted.take(series, mode="clip") & (series < len(wanted)))
                pairs = zip(series[rows].tolist(), time[rows].tolist(), strict=True)
                found |= {places[pair] for pair in pairs if pair in places}
        return found


def _pieces(question: Question, since_ms: int) -> Iterator[Piece]:
    start_ms, end_ms = question.start_ms, question.end_ms
    if start_ms < min(since_ms, end_ms):
        yield Piece(RAW, start_ms, min(since_ms, end_ms))
    yield from plan(max(start_ms, since_ms), end_ms, question.step_ms, tuple(TIERS))


def _keys(publication: Publication | None, piece: Piece) -> Keys | None:
    if publication is None:
        return None
    return publication.window_keys if piece.tier == RAW else publication.bucket_keys[piece.tier]


def _published(publication: Publication, piece: Piece, chosen: Selection) -> Iterator[Rows]:
    question = chosen.question
    start_ms, end_ms = max(question.start_ms, piece.start_ms), min(question.end_ms, piece.end_ms)
    within = replace(chosen, question=replace(question, start_ms=start_ms, end_ms=end_ms))
    if piece.tier == RAW:
        yield from in_memory([publication], within)
        return
    buckets = publication.buckets[piece.tier]
    rows = within.places_in(buckets.series, buckets.time)
    if len(rows):
        yield Rows.of(_with(take(buckets, rows), question.histograms))


def _only(windows: Windows, chosen: Selection) -> Windows:
    """The windows of the chosen series."""
    mine = np.isin(windows.series, chosen.series)
    return windows if mine.all() else take(windows, mine)


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
