"""Windows of the last while, merged: a sliding aggregate on two stacks.

Each window costs two merges on average, whatever the length of time, and nothing is ever subtracted, so that sums stay
exact and extremes are possible (Tangwongsan, Hirzel and Schneider, "Low-Latency Sliding-Window Aggregation in
Worst-Case Constant Time", DEBS 2017, section 3).
"""

import bisect
from collections import deque
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from contract.summary import Summary

MAX_ENTRIES = 256
"""Windows that end within the same 1/256 of the time are one entry, so that memory is bounded."""

Parts = tuple[Summary, ...]


def merge(one: Parts, other: Parts) -> Parts:
    """Each part merged with its like."""
    if len(one) == len(other) == 1:
        return (one[0].merge(other[0]),)
    return tuple(
        right if left is None else left if right is None else left.merge(right)
        for left, right in zip_longest(one, other)
    )


class SlidingWindows:
    """Windows that end in (newest - `over_ms`, newest]."""

    __slots__ = ("_back", "_entries", "_front", "_over_ms", "_slot_ms")

    def __init__(self, over_ms: int, entries: Iterable[tuple[int, Parts]] = ()) -> None:
        self._over_ms = over_ms
        self._slot_ms = max(1, over_ms // MAX_ENTRIES)
        self._entries = deque(entries)
        self._front: list[Parts] = []
        self._back = self._merged()

    def _merged(self) -> Parts | None:
        total: Parts | None = None
        for _, parts in self._entries:
            total = parts if total is None else merge(total, parts)
        return total

    def add(self, end_ms: int, parts: Parts) -> None:
        """Take a window; one that is not the newest counts if it is not too old."""
        entries = self._entries
        if not entries or end_ms >= entries[-1][0]:
            self._append(end_ms, parts)
            self._forget(end_ms - self._over_ms)
        elif end_ms > entries[-1][0] - self._over_ms:
            bisect.insort(entries, (end_ms, parts), key=lambda entry: entry[0])
            self._front = []
            self._back = self._merged()

    def _append(self, end_ms: int, parts: Parts) -> None:
        entries = self._entries
        if len(entries) > len(self._front) and end_ms // self._slot_ms == entries[-1][0] // self._slot_ms:
            entries[-1] = (end_ms, merge(entries[-1][1], parts))
        else:
            entries.append((end_ms, parts))
        self._back = parts if self._back is None else merge(self._back, parts)

    def _forget(self, through_ms: int) -> None:
        entries = self._entries
        while entries[0][0] <= through_ms:
            if not self._front:
                total: Parts | None = None
                for _, parts in reversed(entries):
                    total = parts if total is None else merge(parts, total)
                    self._front.append(total)
                self._back = None
            entries.popleft()
            self._front.pop()

    @property
    def total(self) -> Parts:
        """All windows of the time, merged."""
        if not self._front:
            assert self._back is not None
            return self._back
        return self._front[-1] if self._back is None else merge(self._front[-1], self._back)

    def dump(self) -> list[Any]:
        """What it holds, as plain data."""
        return [(end_ms, dump_parts(parts)) for end_ms, parts in self._entries]

    @classmethod
    def load(cls, over_ms: int, data: Iterable[Any]) -> "SlidingWindows":
        """The windows that `dump` gave."""
        return cls(over_ms, ((end_ms, load_parts(parts)) for end_ms, parts in data))


def dump_parts(parts: Parts) -> list[Any]:
    """Parts as plain data."""
    return [(part.count, part.mean, part.variance, part.minimum, part.maximum, part.histogram) for part in parts]


def load_parts(data: Iterable[Any]) -> Parts:
    """The parts that `dump_parts` gave."""
    return tuple(Summary(*part) for part in data)
