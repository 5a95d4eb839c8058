"""What a quantity usually is at this time of day."""

from array import array
from statistics import median
from typing import Any, Final

from contract.times import DAY_MS

_SLOT_MS: Final = 900_000
_SLOTS: Final = DAY_MS // _SLOT_MS
_DAYS: Final = 7
_FEWEST: Final = 2
_NEVER: Final = -(1 << 62)


class Season:
    """The last value in each quarter of an hour of the last seven days; bounded, 672 numbers and their days."""

    __slots__ = ("_answer", "_asked", "_days", "_last", "_values")

    def __init__(self) -> None:
        self._days = array("q", [_NEVER]) * (_SLOTS * _DAYS)
        self._values = array("d", [0.0]) * (_SLOTS * _DAYS)
        """Slot by slot, in each the weekdays; `_days` says of which day since the epoch a value is."""
        self._last: tuple[int, float] | None = None
        self._asked: int | None = None
        self._answer: float | None = None
        """What was answered last; it holds until something is learned."""

    def expected(self, time_ms: int) -> float | None:
        """The median of the same time on the last seven days, None where fewer than two of them are known."""
        number = time_ms // _SLOT_MS
        if self._asked != number:
            day, slot = divmod(number, _SLOTS)
            first = slot * _DAYS
            days, values = self._days[first : first + _DAYS], self._values[first : first + _DAYS]
            known = [value for past, value in zip(days, values, strict=True) if day - _DAYS <= past < day]
            self._asked, self._answer = number, median(known) if len(known) >= _FEWEST else None
        return self._answer

    def learn(self, time_ms: int, value: float) -> None:
        """Take a value into the memory."""
        number = time_ms // _SLOT_MS
        if self._last is not None and self._last[0] != number:
            day, slot = divmod(self._last[0], _SLOTS)
            place = slot * _DAYS + day % _DAYS
            self._days[place], self._values[place] = day, self._last[1]
            self._asked = None
        self._last = (number, value)

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON."""
        known = [place for place, day in enumerate(self._days) if day != _NEVER]
        return {
            "known": [[place, self._days[place], self._values[place]] for place in known],
            "last": None if self._last is None else list(self._last),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Season":
        """What `state` described."""
        made = cls()
        for place, day, value in state["known"]:
            made._days[place], made._values[place] = day, value
        if state["last"] is not None:
            made._last = (state["last"][0], state["last"][1])
        return made
