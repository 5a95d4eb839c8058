"""What can be set of a detector. One setting serves all series; the defaults are round and not sharp."""

import math
from dataclasses import dataclass
from typing import Final

_WINDOW_MS: Final = 7_200_000
_MIN_POINTS, _MAX_POINTS = 12, 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The constants of a `Detector`, counted in points. Raises ValueError for what cannot work.

    With points every 5 minutes the defaults look at two hours, remember two weeks, learn for a day and a half before
    the first verdict, and say one thing once within twelve hours. `bench/anomaly_constants.py` has chosen `threshold`,
    `memory`, `neighbours`, `ignored` and `grain`.
    """

    threshold: float = 0.3
    """A score from which a point is an anomaly, in (0, 1)."""
    window: int = 24
    """Points over which level and spread are taken; also the length of a block."""
    memory: int = 168
    """Blocks that are remembered."""
    learning: int = 17
    """Blocks before the first verdict."""
    neighbours: int = 14
    """Extremes beside a value that say how far apart extremes usually lie."""
    ignored: int = 2
    """The most extreme blocks, which are taken for anomalies of the past: what is as high again is one too."""
    grain: float = 0.7
    """The distance, in robust standard deviations, that is never news between two extremes."""
    quiet: int = 144
    """Points for which a verdict is not repeated unless it becomes much stronger."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"the threshold lies between 0 and 1, not at {self.threshold}")
        if self.window < 4:
            raise ValueError(f"a window has at least 4 points, not {self.window}")
        if not (self.neighbours >= 1 and self.ignored >= 0 and self.neighbours + self.ignored < self.learning):
            raise ValueError(
                "expected neighbours >= 1, ignored >= 0 and neighbours + ignored < learning, "
                f"got {self.neighbours}, {self.ignored} and {self.learning}"
            )
        if self.learning > self.memory:
            raise ValueError(f"expected learning <= memory, got {self.learning} and {self.memory}")
        if not (self.grain > 0 and math.isfinite(self.grain)):
            raise ValueError(f"the grain is above 0, not {self.grain}")
        if self.quiet < 1:
            raise ValueError(f"quiet lasts at least 1 point, not {self.quiet}")

    @classmethod
    def for_step(cls, step_ms: int) -> "Tuning":
        """The constants for points that are `step_ms` apart, from a minute to an hour: a window of two hours.

        It has 12 to 120 points, and the rest follows: with an hour between points it is twelve hours, the first nine
        days are learned, and twelve weeks are remembered. Every 5 minutes are the defaults. Raises ValueError for a
        step below 1 ms.
        """
        if step_ms < 1:
            raise ValueError(f"points are at least 1 ms apart, not {step_ms}")
        window = min(max(round(_WINDOW_MS / step_ms), _MIN_POINTS), _MAX_POINTS)
        return cls(window=window, quiet=6 * window)

    @property
    def alarm(self) -> float:
        """The surprise that belongs to `threshold`: `-log10(1 - threshold)`."""
        return -math.log10(1 - self.threshold)
