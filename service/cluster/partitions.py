"""The partitions of the log: which a host's reports are in, what tells reports apart, and what waits in each."""

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from contract.metrics import type_name
from contract.report import Report

PARTITIONS = 64
_KNOWN = 100_000
"""Of so many hosts it is remembered: it is asked three times for each report."""


@lru_cache(_KNOWN)
def partition_of(user_id: str) -> int:
    """The partition of a host: its reports are in order within it."""
    return zlib.crc32(user_id.encode()) % PARTITIONS


def message_id(report: Report) -> str:
    """What tells a report from all others: host, types of metrics and end of the window; without spaces."""
    metrics = report.metrics
    if len(metrics) == 1:
        types = type_name(type(metrics[0]))
    else:
        types = "+".join(sorted(type_name(type(metric)) for metric in metrics))
    return f"{report.user_id.encode().hex()}:{types}:{report.end_timestamp}"


class Waiting(NamedTuple):
    """What of a partition the store has not."""

    partition: int
    reports: int
    seconds: float
    """How long at least the oldest of them has waited, as far as this process has seen; 0 where none waits."""


class _Commit(NamedTuple):
    last: int
    partitions: bytes
    """The partition of each report."""
    seen_s: float


class PartitionLag:
    """Knows of every report that waits for the store which partition it is in: a byte each. Any thread may call."""

    def __init__(self, flushed: Callable[[], int], now_s: Callable[[], float] = time.monotonic) -> None:
        """`flushed` says up to which offset the store has everything."""
        self._flushed = flushed
        self._now_s = now_s
        self._commits: deque[_Commit] = deque()
        self._lock = threading.Lock()

    def note(self, last: int, reports: Sequence[Report]) -> None:
        """Note reports of the log that follow each other, the last of them at offset `last`."""
        partitions = bytes([partition_of(report.user_id) for report in reports])
        with self._lock:
            self._commits.append(_Commit(last, partitions, self._now_s()))
            self._drop()

    def _drop(self) -> int:
        """Forget what the store has; the offset up to which it has everything."""
        flushed = self._flushed()
        while self._commits and self._commits[0].last <= flushed:
            self._commits.popleft()
        return flushed

    def waiting(self) -> list[Waiting]:
        """What waits in each partition."""
        with self._lock:
            flushed = self._drop()
            commits = [*self._commits]
        now_s = self._now_s()
        counts = np.zeros(PARTITIONS, dtype=np.int64)
        since_s = np.full(PARTITIONS, now_s)
        # The newest first, so that of each partition the oldest is noted last.
        for commit in reversed(commits):
            first = commit.last - len(commit.partitions) + 1
            partitions = np.frombuffer(commit.partitions, dtype=np.uint8)[max(flushed + 1 - first, 0) :]
            counts += np.bincount(partitions, minlength=PARTITIONS)
            since_s[partitions] = commit.seen_s
        seconds = now_s - since_s
        return [Waiting(number, int(counts[number]), float(seconds[number])) for number in range(PARTITIONS)]
