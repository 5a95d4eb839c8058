"""Which rollups answer a range: whole buckets from the coarsest that is exact, the edges from finer ones."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

RAW: Final = 0
"""In place of a tier's width: the windows themselves."""


class Piece(NamedTuple):
    """A part of a range and the tier to read it from."""

    tier: int
    """The width of its buckets in ms; `RAW` for windows."""
    start_ms: int
    end_ms: int


def plan(start_ms: int, end_ms: int, step_ms: int, tiers: Sequence[int]) -> Iterator[Piece]:
    """Cut [start_ms, end_ms) into pieces, each read from the coarsest of `tiers` that answers it exactly.

    `tiers` are widths in ms, finest first; each divides the next. `step_ms` divides every edge between two buckets of
    the answer: a rate, or 0 where there are no edges. A tier that divides it can serve, for its own whole buckets;
    what is left at both ends comes from finer tiers, at last from the windows.
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
        yield from plan(start_ms, end_ms, step_ms, finer)
        return
    yield from plan(start_ms, inner_start, step_ms, finer)
    yield Piece(tier, inner_start, inner_end)
    yield from plan(inner_end, end_ms, step_ms, finer)
