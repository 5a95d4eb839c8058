"""Of an event one verdict, not one for each of its points."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

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
