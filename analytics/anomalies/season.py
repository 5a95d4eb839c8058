"""What a quantity usually is at this time of day."""

from statistics import median
from typing import Any, Final

__all__ = ["DAY_MS", "Season"]

DAY_MS: Final = 86_400_000
_SLOT_MS: Final = 900_000
_SLOTS: Final = DAY_MS // _SLOT_MS
_DAYS: Final = 7
_FEWEST: Final = 2


class Season:
    """The last value in each quarter of an hour of the last seven days; bounded, at most 672 numbers."""

    __slots__ = ("_answer", "_asked", "_last", "_slots")

    def __init__(self) -> None:
        self._slots: list[list[tuple[int, float]]] = [[] for _ in range(_SLOTS)]
        self._last: tuple[int, float] | None = None
        self._asked: int | None = None
        self._answer: float | None = None
        """What was answered last; it holds until something is learned."""

    def expected(self, time_ms: int) -> float | None:
        """The median of the same time on the last seven days, None where fewer than two of them are known."""
        number = time_ms // _SLOT_MS
        if self._asked != number:
            day, slot = divmod(number, _SLOTS)
            known = [value for past, value in self._slots[slot] if day - _DAYS <= past < day]
            self._asked, self._answer = number, median(known) if len(known) >= _FEWEST else None
        return self._answer

    def learn(self, time_ms: int, value: float) -> None:
        """Take a value into the memory."""
        number = time_ms // _SLOT_MS
        if self._last is not None and self._last[0] != number:
            day, slot = divmod(self._last[0], _SLOTS)
            self._slots[slot] = [*self._slots[slot][1 - _DAYS :], (day, self._last[1])]
            self._asked = None
        self._last = (number, value)

    def state(self) -> dict[str, Any]:
        """Everything it knows, as data for JSON."""
        return {
            "slots": [[list(known) for known in slot] for slot in self._slots],
            "last": None if self._last is None else list(self._last),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Season":
        """What `state` described."""
        made = cls()
        made._slots = [[(day, value) for day, value in slot] for slot in state["slots"]]
        if state["last"] is not None:
            made._last = (state["last"][0], state["last"][1])
        return made
