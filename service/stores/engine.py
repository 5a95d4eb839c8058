"""The query engine: which tier answers which part of a range, which series a question is about, and their merge.

Retention is part of it: what is kept no longer is neither asked for nor taken.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.frames.columns import Windows, concatenate, merge
from contract.times import MINUTE_MS
from service.stores.base import Question
from service.stores.memtable import Memory, marked, windows_of
from service.stores.series import WHOLE, SeriesIndex

RAW = 0
"""In place of a tier's width: the windows themselves."""
TIERS = (5 * MINUTE_MS, 60 * MINUTE_MS, 24 * 60 * MINUTE_MS)
"""The widths of the rollups in ms, finest first; each divides the next."""


class Piece(NamedTuple):
    """A part of a range and the tier to read it from."""

    tier: int
    start_ms: int
    end_ms: int


def plan(start_ms: int, end_ms: int, rate_ms: int, tiers: Sequence[int] = TIERS) -> Iterator[Piece]:
    """Cut [start_ms, end_ms) into pieces, each read from the coarsest tier that answers it exactly.

    A tier can serve a rate that it divides, for its own whole buckets; what is left at both edges comes
    from finer tiers, at last from the windows.
    """
    if start_ms >= end_ms:
        return
    if not tiers:
        yield Piece(RAW, start_ms, end_ms)
        return
    *finer, tier = tiers
    inner_start = -(-start_ms // tier) * tier
    inner_end = end_ms // tier * tier
    if rate_ms % tier or inner_start >= inner_end:
        yield from plan(start_ms, end_ms, rate_ms, finer)
        return
    yield from plan(start_ms, inner_start, rate_ms, finer)
    yield Piece(tier, inner_start, inner_end)
    yield from plan(inner_end, end_ms, rate_ms, finer)


class Retention:
    """How long each tier is kept in ms, `RAW` (windows) among them, None for ever; finer ones not longer."""

    def __init__(self, tiers: Sequence[int], kept_ms: Sequence[int | None]) -> None:
        self._kept = dict(zip((RAW, *tiers), kept_ms, strict=True))

    @property
    def longest_ms(self) -> int | None:
        """How long the coarsest tier is kept."""
        return next(reversed(self._kept.values()))

    def since(self, tier: int, now_ms: int) -> int:
        """The time from which a tier is kept."""
        kept = self._kept[tier]
        return 0 if kept is None else now_ms - kept

    def finest_ms(self, start_ms: int, now_ms: int) -> int:
        """A rate for a range from `start_ms` must be a multiple of this."""
        tiers = list(self._kept)
        return max(next((tier for tier in tiers if self.since(tier, now_ms) <= start_ms), tiers[-1]), 1)


Numbers = npt.NDArray[np.int64]


def group_series(index: SeriesIndex, question: Question) -> tuple[Numbers, Numbers, list[str]]:
    """The series of a question in ascending order, the group of each, and the groups' names in order."""
    user_id = question.user_id
    named = _of_fleet(index, question) if user_id is None else _of_user(index, user_id, question)
    names = sorted({name for _, name in named}, key=_by_number)
    places = {name: place for place, name in enumerate(names)}
    named.sort()
    series = np.array([number for number, _ in named], np.int64)
    return series, np.array([places[name] for _, name in named], np.int64), names


def _of_user(index: SeriesIndex, user_id: str, question: Question) -> list[tuple[int, str]]:
    cores = index.cores(user_id, question.quantity.name)
    if question.cores == "each":
        # A copy, because cores may join meanwhile.
        return [(series, str(core)) for core, series in list(cores.items()) if core != WHOLE]
    core = WHOLE if question.cores == "whole" else question.cores
    return [(cores[core], "")] if core in cores else []


def _of_fleet(index: SeriesIndex, question: Question) -> list[tuple[int, str]]:
    found = []
    # A copy, because users may join meanwhile.
    for user in list(index.users.values()):
        series = index.cores(user.user_id, question.quantity.name).get(WHOLE)
        if series is not None:
            found.append((series, "" if question.by is None else str(getattr(user, _ATTRIBUTE[question.by]))))
    return found


_ATTRIBUTE = {"user": "user_id", "os_type": "os_type", "os_version": "os_version"}


def _by_number(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() else (0, name)


BATCH_ROWS = 1 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Which windows to read, and how to merge them."""

    series: npt.NDArray[np.int64]
    """Numbers of series, ascending."""
    group: npt.NDArray[np.int64]
    """The group of each."""
    start_ms: int
    end_ms: int
    rate_ms: int
    histograms: bool
    bounded: npt.NDArray[np.bool_]
    """By series number: whether its quantity is a share."""

    def merged(self, parts: Iterable[Windows]) -> Windows:
        """All windows of `parts`, merged by group and bucket."""
        kept: list[Windows] = []
        rows = 0
        for part in parts:
            # Merged part by part: memory follows what is answered, not what is read.
            kept.append(merge(part, self.group[np.searchsorted(self.series, part.series)], self.rate_ms))
            rows += len(kept[-1].time)
            if rows > BATCH_ROWS:
                kept = [merge(concatenate(kept), rate_ms=self.rate_ms)]
                rows = 0
        if len(kept) == 1:
            return kept[0]
        return merge(concatenate(kept), rate_ms=self.rate_ms)


def in_memory(heads: Sequence[Memory], chosen: Selection) -> Iterator[Windows]:
    """The chosen windows of some heads, a part at a time."""
    wanted = np.zeros(len(chosen.bounded), bool)
    wanted[chosen.series] = True
    for head in heads:
        for batch in head.batches():
            series, time = batch["series"].to_numpy(), batch["time"].to_numpy()
            rows = np.flatnonzero(marked(series, wanted) & (time >= chosen.start_ms) & (time < chosen.end_ms))
            if len(rows):
                yield windows_of(batch.take(pa.array(rows)), chosen.bounded, histograms=chosen.histograms)
