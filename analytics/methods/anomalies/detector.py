"""The streaming detector.

It watches some quantities of the stream (`analytics.methods.anomalies.quantities`), each against its own extremes
(`.extremes`), and says of an event once that it begins (`News`). Everything is learned, anomalies too: what returns
often enough is usual, and so a new regime is learned while it lasts.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from analytics.frames.arguments import FrameError, instance, number, whole
from analytics.methods.anomalies.quantities import Kind, Quantities
from analytics.methods.anomalies.tuning import Tuning

STRONGER: Final = 2.0
"""A verdict is repeated within the quiet time if it is a hundred times less likely than the one before,"""
_SURE: Final = 1.0
"""and the one before had a chance of at least one in ten: who was sure has nothing to add."""


class News:
    """Which surprises are news: those above all in the quiet time before."""

    __slots__ = ("_quiet", "_records", "_stronger")

    def __init__(self, quiet: int, stronger: float = STRONGER) -> None:
        self._quiet = quiet
        self._stronger = stronger
        self._records: deque[tuple[int, float]] = deque()
        """Points of the quiet time (number, surprise) that no later one surpasses, strongest first."""

    def judge(self, number: int, surprise: float, alarm: float) -> tuple[float, bool]:
        """What of a point's surprise is news, and whether an event begins: never one without the other.

        `number` counts the points; those without a surprise may be left out. Below `alarm` a surprise is news if it is
        above all in the quiet time; from `alarm` on, if an event begins.
        """
        if surprise <= 0:
            return 0.0, False
        before = self._strongest_before(number, surprise)
        if surprise <= before:
            return 0.0, False
        if surprise < alarm:
            return surprise, False
        if before < alarm or (before <= _SURE and surprise >= before + self._stronger):
            return surprise, True
        return 0.0, False

    def state(self) -> list[list[float]]:
        """Everything it knows, as data for JSON."""
        return [list(record) for record in self._records]

    def restore(self, state: Sequence[tuple[int, float]]) -> None:
        """Take what `state` described."""
        self._records = deque((number, surprise) for number, surprise in state)

    def _strongest_before(self, number: int, surprise: float) -> float:
        """The strongest surprise of the quiet time before this point, which is kept."""
        records = self._records
        while records and records[0][0] < number - self._quiet:
            records.popleft()
        strongest = records[0][1] if records else 0.0
        while records and records[-1][1] <= surprise:
            records.pop()
        records.append((number, surprise))
        return strongest


def said_once(quiet: int) -> News:
    """News that are never repeated within the quiet time."""
    return News(quiet, math.inf)


_NAT: Final[Any] = type(pd.NaT)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION: Final = 2
_tuple: Final[Any] = tuple.__new__
"""What `Verdict(...)` comes to, without the function in between."""
_HUGE: Final = 1e300
"""Beyond it a difference of two values is not a number any more; such values count as missing."""


class Verdict(NamedTuple):
    """What a point is, judged by its past alone."""

    time_ms: int
    value: float
    expected: float
    """The median of the points just before; NaN where there are none."""
    lower: float
    """Between `lower` and `upper` a value is no anomaly by itself. Outside it is one, unless such values have come
    before. Both are NaN while the detector learns."""
    upper: float
    score: float
    """How unusual, in [0, 1]: 1 minus how many as unusual are expected in the memory's time, two weeks of 5-minute
    points. It reaches the threshold where an event begins, and only there; it is 0 where nothing is news."""
    anomaly: bool
    """Whether an event begins here, or becomes much stronger."""
    kind: Kind
    """What made the score."""


class Detector:
    """Judges a stream point by point. Bounded memory: about 14,000 numbers, whatever the length of the stream.

    Points come in order of time, at any interval; a gap six times as long as the last window ends what counts as
    recent. Values that are not finite, or beyond 1e300, count as missing: they get the score 0 and teach nothing.
    """

    def __init__(self, tuning: Tuning | None = None) -> None:
        self.tuning: Tuning = Tuning() if tuning is None else instance(tuning, "tuning", Tuning, "a Tuning or None")
        self._alarm = self.tuning.alarm
        self._quantities = Quantities(self.tuning)
        self._events = News(self.tuning.quiet)
        self._stillness = said_once(self.tuning.quiet)
        self._count = 0
        self._last_ms: int | None = None

    def update(self, time: int | datetime, value: float) -> Verdict:
        """The verdict on the next point, which is then learned.

        `time` is in epoch milliseconds, or has a time zone. Raises FrameError for a time without one, or before the
        last, and for a value that is no number.
        """
        time_ms = time if type(time) is int else _epoch_ms(time)
        if type(value) is not float:
            value = _number(value)
        last_ms = self._last_ms
        if last_ms is not None:
            if time_ms < last_ms:
                raise FrameError(f"points come in order of time; {time_ms} comes after {last_ms}")
            self._quantities.end_recent_after(time_ms - last_ms)
        self._last_ms = time_ms
        if not abs(value) < _HUGE:
            return Verdict(time_ms, value, *self._quantities.expect(), 0.0, False, "")
        expected, lower, upper, surprise, kind, stillness = self._quantities.meet(time_ms, value)
        number = self._count
        self._count = number + 1
        # Most points are no surprise, and nothing is made of these but the verdict.
        news, begins = self._events.judge(number, surprise, self._alarm) if surprise > 0 else (0.0, False)
        if news <= 0:
            kind = ""
        if stillness > 0:
            still, falls_still = self._stillness.judge(number, stillness, self._alarm)
            begins = begins or falls_still
            if still > news:
                news, kind = still, "spread"
        score = 1 - 10**-news if news else 0.0
        verdict: Verdict = _tuple(Verdict, (time_ms, value, expected, lower, upper, score, begins, kind))
        return verdict

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON; `from_state` continues exactly there."""
        return {
            "version": _VERSION,
            "tuning": asdict(self.tuning),
            "quantities": self._quantities.state(),
            "events": self._events.state(),
            "stillness": self._stillness.state(),
            "count": self._count,
            "last_ms": self._last_ms,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Detector":
        """The detector that `state` described. Raises ValueError for another version's state: begin anew then."""
        if state.get("version") != _VERSION:
            raise ValueError(f"expected a state of version {_VERSION}, got version {state.get('version')}")
        made = cls(Tuning(**state["tuning"]))
        made._quantities = Quantities.from_state(made.tuning, state["quantities"])
        made._events.restore(state["events"])
        made._stillness.restore(state["stillness"])
        made._count = state["count"]
        made._last_ms = state["last_ms"]
        return made


def _epoch_ms(time: int | datetime) -> int:
    if isinstance(time, datetime) and not isinstance(time, _NAT):
        if time.tzinfo is None:
            raise FrameError(f"time: expected a moment with a time zone, such as UTC, got {time}")
        return (time - _EPOCH) // timedelta(milliseconds=1)
    return whole(time, "time", "epoch milliseconds or a moment with a time zone", lambda _: True)


def _number(value: object) -> float:
    """A value as a float, also the one that is missing."""
    if isinstance(value, float | np.floating):
        return float(value)
    return number(value, "value", "a number, NaN where it is missing", lambda _: True)
