"""Which rollups answer a range: whole buckets from the coarsest that is exact and there, the edges from finer ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Self

from contract.influx import (
    TIERS,
)

RAW: Final = 0
"""In place of a tier's width: the windows themselves."""
NEVER_MS: Final = 1 << 60
"""A time for ever in the future, epoch ms."""


class Piece(NamedTuple):
    """A part of a range and the tier to read it from."""

    tier: int
    """The width of its buckets in ms; `RAW` for windows."""
    start_ms: int
    end_ms: int


def plan(start_ms: int, end_ms: int, step_ms: int, tiers: Sequence[int], cuts: Sequence[int] = ()) -> Iterator[Piece]:
    """Cut [start_ms, end_ms) into pieces, each read from the coarsest of `tiers` that answers it exactly.

    `tiers` are widths in ms, finest first; each divides the next. `step_ms` divides every edge between two buckets of
    the answer: a rate, or 0 where there are no edges. A tier that divides it can serve, for its own whole buckets in
    which none of `cuts` lies; what is left comes from finer tiers, at last from the windows.
    """
    if start_ms >= end_ms:
        return
    if not tiers:
        yield Piece(RAW, start_ms, end_ms)
        return
    *finer, tier = tiers
    inner_start = -(-start_ms // tier) * tier
    inner_end = end_ms // tier * tier
    if step_ms % tier or inner_start >= inner_end:
        yield from plan(start_ms, end_ms, step_ms, finer, cuts)
        return
    yield from plan(start_ms, inner_start, step_ms, finer, cuts)
    whole_from = inner_start
    for cut in sorted({cut // tier * tier for cut in cuts if cut % tier and inner_start < cut < inner_end}):
        if whole_from < cut:
            yield Piece(tier, whole_from, cut)
        yield from plan(cut, cut + tier, step_ms, finer, cuts)
        whole_from = cut + tier
    if whole_from < inner_end:
        yield Piece(tier, whole_from, inner_end)
    yield from plan(inner_end, end_ms, step_ms, finer, cuts)


class Rolled(NamedTuple):
    """What the rollups of a database have."""

    since_ms: int
    """Before this they lack some windows."""
    through_ms: Mapping[int, int]
    """By tier: from here on there are no buckets yet. A coarser tier ends no later than a finer one."""

    @classmethod
    def nothing(cls) -> Self:
        """Of a database without rollups."""
        return cls(NEVER_MS, dict.fromkeys(TIERS, NEVER_MS))


def pieces(start_ms: int, end_ms: int, step_ms: int, rolled: Rolled, cuts: Sequence[int] = ()) -> Iterator[Piece]:
    """The plan of a range (`analytics.frames.tiers`): only of buckets that are there, none of which spans a cut."""
    found: list[Piece] = []
    for tiers, last_ms in _stretches(rolled):
        until_ms = min(last_ms, end_ms)
        if start_ms < until_ms:
            found += plan(start_ms, until_ms, step_ms, tiers, cuts)
            start_ms = until_ms
    return _joined(found)


def _stretches(rolled: Rolled) -> Iterator[tuple[tuple[int, ...], int]]:
    """The tiers there are, and until when: none at first, then all, then ever fewer."""
    yield (), rolled.since_ms
    tiers = tuple(TIERS)
    for number in range(len(tiers), 0, -1):
        yield tiers[:number], rolled.through_ms[tiers[number - 1]]
    yield (), NEVER_MS


def _joined(found: Sequence[Piece]) -> Iterator[Piece]:
    """Pieces of one tier that follow each other as one."""
    waiting: Piece | None = None
    for piece in found:
        if waiting and (piece.tier, piece.start_ms) == (waiting.tier, waiting.end_ms):
            waiting = Piece(piece.tier, waiting.start_ms, piece.end_ms)
            continue
        if waiting:
            yield waiting
        waiting = piece
    if waiting:
        yield waiting
