"""The tiers that an embedded store keeps, and how long each of them is kept."""

from collections.abc import Sequence

from analytics.frames.tiers import RAW
from contract.times import MINUTE_MS

TIERS = (5 * MINUTE_MS, 60 * MINUTE_MS, 24 * 60 * MINUTE_MS)
"""The widths of the rollups in ms, finest first; each divides the next."""


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
