"""The wall-clock times of windows, whatever the wall clock does."""

from array import array
from collections.abc import Iterable

__all__ = ["REMEMBERED", "Timeline"]

REMEMBERED = 16_384
"""How many ends are kept in mind: 22 hours of windows of 5 s, 128 KiB."""


class Timeline:
    """Gives each window its place in time, so that no two windows end in the same millisecond.

    The service tells reports apart by their end: two with the same end would count once. So:

    - A window's length is measured by a clock that does not jump; its start is read from the wall clock.
    - A wall clock that goes slowly, or back by less than a window, shortens the next window's stated time, so
      that windows do not overlap.
    - A wall clock that goes back further is believed: the windows that follow overlap the earlier ones in time,
      and an end that was given out already moves on by a millisecond.
    """

    def __init__(self, given_out: Iterable[int] = ()) -> None:
        """`given_out`: the ends of earlier runs, oldest first."""
        self._ends = array("q", given_out)
        self._newest = max(self._ends, default=0)

    def place(self, start_ms: int, duration_s: float) -> tuple[int, int]:
        """The start and end, in epoch milliseconds, of a window that began at `start_ms` by the wall clock."""
        end_ms = start_ms + max(1, round(duration_s * 1000))
        if self._ends and start_ms < self._ends[-1] < end_ms:
            start_ms = self._ends[-1]
        # A search through all of them, for as long as a clock that went back has not caught up.
        while end_ms <= self._newest and end_ms in self._ends:
            end_ms += 1
        self._newest = max(self._newest, end_ms)
        self._ends.append(end_ms)
        if len(self._ends) > 2 * REMEMBERED:
            del self._ends[:-REMEMBERED]
        return start_ms, end_ms
