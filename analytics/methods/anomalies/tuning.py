"""What can be set of a detector. One setting serves all series; the defaults are round and not sharp."""

import math
import operator
from dataclasses import dataclass
from functools import partial
from typing import Final

from analytics.frames.arguments import FrameError, number, whole

_WINDOW_MS: Final = 7_200_000
_LEAST: Final = {"window": 4, "memory": 1, "learning": 1, "neighbours": 1, "ignored": 0, "quiet": 1}
"""The least of each constant that is a whole number."""
_MIN_POINTS, _MAX_POINTS = 12, 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The constants of a `Detector`, counted in points. Raises FrameError for what cannot work.

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
        number(self.threshold, "threshold", "a score between 0 and 1", lambda score: 0 < score < 1)
        number(self.grain, "grain", "a number above 0", lambda grain: 0 < grain < math.inf)
        for name, least in _LEAST.items():
            whole(getattr(self, name), name, f"a whole number of at least {least}", partial(operator.le, least))
        if not self.neighbours + self.ignored < self.learning:
            raise FrameError(
                "expected neighbours >= 1, ignored >= 0 and neighbours + ignored < learning, "
                f"got {self.neighbours}, {self.ignored} and {self.learning}"
            )
        if self.learning > self.memory:
            raise FrameError(f"expected learning <= memory, got {self.learning} and {self.memory}")

    @classmethod
    def for_step(cls, step_ms: int) -> "Tuning":
        """The constants for points that are `step_ms` apart, from a minute to an hour: a window of two hours.

        It has 12 to 120 points, and the rest follows: with an hour between points it is twelve hours, the first nine
        days are learned, and twelve weeks are remembered. Every 5 minutes are the defaults. Raises FrameError for a
        step below 1 ms.
        """
        number(step_ms, "step_ms", "at least 1 ms", lambda step: 1 <= step < math.inf)
        window = min(max(round(_WINDOW_MS / step_ms), _MIN_POINTS), _MAX_POINTS)
        return cls(window=window, quiet=6 * window)

    @property
    def alarm(self) -> float:
        """The surprise that belongs to `threshold`: `-log10(1 - threshold)`."""
        return -math.log10(1 - self.threshold)
