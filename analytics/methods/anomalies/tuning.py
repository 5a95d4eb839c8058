"""What can be set of a detector. One setting serves all series; the defaults are round and not sharp."""

import math
from dataclasses import dataclass
from typing import Final

_WINDOW_MS: Final = 7_200_000
_FEWEST_POINTS, _MAX_POINTS = 6, 120


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

    @classmethod
    def for_step(cls, step_ms: int) -> "Tuning":
        """The constants for points that are `step_ms` apart, from a minute to an hour: a window of two hours.

        It has 6 to 120 points, and the rest follows: with an hour between points it is six hours, the first three days
        are learned, and three weeks are remembered. Every 5 minutes are the defaults. Raises ValueError for a step
        below 1 ms.
        """
        if step_ms < 1:
            raise ValueError(f"points are at least 1 ms apart, not {step_ms}")
        window = min(max(round(_WINDOW_MS / step_ms), _FEWEST_POINTS), _MAX_POINTS)
        return cls(window=window, quiet=3 * window)

    @property
    def alarm(self) -> float:
        """The surprise that belongs to `threshold`: `-log10(1 - threshold)`."""
        return -math.log10(1 - self.threshold)
