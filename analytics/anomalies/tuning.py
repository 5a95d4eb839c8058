"""What can be set of a detector. One setting serves all series; the defaults are round and not sharp."""

import math
from dataclasses import dataclass

__all__ = ["Tuning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The constants of a `Detector`, counted in points. Raises ValueError for what cannot work.

    With points every 5 minutes the defaults look at two hours, remember a week, learn for a day before the first
    verdict, and say one thing once within six hours.
    """

    threshold: float = 0.8
    """A score from which a point is an anomaly, in (0, 1)."""
    window: int = 24
    """Points over which level and spread are taken; also the length of a block."""
    memory: int = 84
    """Blocks that are remembered."""
    learning: int = 12
    """Blocks before the first verdict."""
    neighbours: int = 10
    """Extremes beside a value that say how far apart extremes usually lie."""
    grain: float = 0.3
    """The distance, in robust standard deviations, that is never news between two extremes."""
    quiet: int = 72
    """Points for which a verdict is not repeated unless it becomes stronger."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"the threshold lies between 0 and 1, not at {self.threshold}")
        if self.window < 4:
            raise ValueError(f"a window has at least 4 points, not {self.window}")
        if not 1 <= self.neighbours < self.learning <= self.memory:
            raise ValueError(
                "1 <= neighbours < learning <= memory is right, "
                f"not {self.neighbours}, {self.learning} and {self.memory}"
            )
        if not (self.grain > 0 and math.isfinite(self.grain)):
            raise ValueError(f"the grain is above 0, not {self.grain}")
        if self.quiet < 1:
            raise ValueError(f"quiet lasts at least 1 point, not {self.quiet}")

    @property
    def alarm(self) -> float:
        """The surprise that belongs to `threshold`: `-log10(1 - threshold)`."""
        return -math.log10(1 - self.threshold)
