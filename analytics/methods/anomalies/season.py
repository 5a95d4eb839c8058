"""What a quantity usually is at this time of the day, or of the week."""

import math
from array import array
from typing import Any, Final

from analytics.methods.anomalies.packing import pack, unpack
from contract.times import DAY_MS

_SLOT_MS: Final = 900_000
_SLOTS: Final = DAY_MS // _SLOT_MS
_WEEKS: Final = 3
_WEEK: Final = 7
_ROWS: Final = _WEEKS * _WEEK + 1
"""Days that are kept: three weeks, and the one that is being learned."""
_FEWEST: Final = 2
_NEVER: Final = -(1 << 62)


class Season:
    """The last value in each quarter of an hour of the last three weeks; bounded, 2,112 numbers.

    Days are those of UTC.
    """

    __slots__ = ("_answer", "_asked", "_days", "_last", "_values")

    def __init__(self) -> None:
        self._days = [_NEVER] * _ROWS
        """Of which day since the epoch the values of a row are."""
        self._values = array("d", [math.nan]) * (_ROWS * _SLOTS)
        """Day by day; NaN where nothing was seen."""
        self._last: tuple[int, float] | None = None
        self._asked: int | None = None
        self._answer: float | None = None
        """What was answered last; it holds until something is learned of the same time of day."""

    def expected(self, time_ms: int) -> float | None:
        """The median of the same time on the same weekday, or, before two such are known, on the last seven days.

        None where fewer than two of those are known either.
        """
        number = time_ms // _SLOT_MS
        if self._asked != number:
            day, slot = divmod(number, _SLOTS)
            known = self._known(slot, range(day - _WEEKS * _WEEK, day, _WEEK))
            if len(known) < _FEWEST:
                known = self._known(slot, range(day - _WEEK, day))
            self._asked, self._answer = number, _median(known) if len(known) >= _FEWEST else None
        return self._answer

    def learn(self, time_ms: int, value: float) -> None:
        """Take a value into the memory."""
        number = time_ms // _SLOT_MS
        if self._last is not None and self._last[0] != number:
            day, slot = divmod(self._last[0], _SLOTS)
            row = day % _ROWS
            if self._days[row] != day:
                self._days[row] = day
                self._values[row * _SLOTS : (row + 1) * _SLOTS] = array("d", [math.nan]) * _SLOTS
            self._values[row * _SLOTS + slot] = self._last[1]
            if slot == number % _SLOTS:
                self._asked = None  # after a gap of whole days
        self._last = (number, value)

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON."""
        rows = [row for row, day in enumerate(self._days) if day != _NEVER]
        return {
            "days": [[self._days[row], pack(self._values[row * _SLOTS : (row + 1) * _SLOTS])] for row in rows],
            "last": None if self._last is None else list(self._last),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Season":
        """The season that `state` described."""
        made = cls()
        for day, values in state["days"]:
            row = day % _ROWS
            made._days[row] = day
            made._values[row * _SLOTS : (row + 1) * _SLOTS] = unpack(values)
        if state["last"] is not None:
            made._last = (state["last"][0], state["last"][1])
        return made

    def _known(self, slot: int, days: range) -> list[float]:
        found = [self._values[row * _SLOTS + slot] for day in days if self._days[row := day % _ROWS] == day]
        return [value for value in found if value == value]


def _median(values: list[float]) -> float:
    """As `statistics.median`, which looks at more kinds of values."""
    values.sort()
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
