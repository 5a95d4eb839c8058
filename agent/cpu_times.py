"""Cumulative CPU times of the whole machine and of each logical core, as the system counts them."""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import psutil

__all__ = ["CpuSource", "ProcStat", "PsutilTimes", "Reading", "Times", "cpu_source"]

Times = tuple[float, float, float, float]
"""Work, steal, idle and iowait since boot, in any unit (ticks on Linux, seconds elsewhere)."""


class Reading(NamedTuple):
    """The counters at one moment, not yet understood: that is cheaper for many readings at a time."""

    cores: Sequence[Any]
    """The numbers of the cores that are online; `int` of each is the number."""
    counters: Any
    """For the source's `times`."""


class CpuSource(Protocol):
    """A way to read the counters."""

    def read(self) -> Reading:
        """Take a reading, in as little time as possible."""

    def times(self, counters: Any) -> Sequence[Times]:
        """What a reading says: the whole machine first, then each of its cores."""


class ProcStat:
    """The `cpu` lines of /proc/stat (proc_stat(5)).

    The file stays open, and a reading is its bytes. The agent sleeps between two samples and finds the processor's
    caches full of others' work, so what counts is how little it does at each sample: understanding a reading at
    once would cost as much as all else together, understanding twenty in a row costs next to nothing.
    """

    _CORES = re.compile(rb"^cpu(\d+)", re.MULTILINE)

    def __init__(self, path: str = "/proc/stat") -> None:
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._size = 4096

    def read(self) -> Reading:
        """Copy the `cpu` lines; the line of interrupt counts behind them may be far longer."""
        stat = os.pread(self._file, self._size, 0)
        while (end := stat.find(b"\nintr")) < 0 and len(stat) == self._size:
            self._size *= 2
            stat = os.pread(self._file, self._size, 0)
        if end >= 0:
            stat = stat[:end]
        return Reading(self._CORES.findall(stat), stat)

    def times(self, counters: bytes) -> list[Times]:
        """The counters of each line. Guest time is left out: the kernel counts it as user time already."""
        times: list[Times] = []
        for line in counters.splitlines():
            _, user, nice, system, idle, iowait, irq, softirq, steal, *_ = line.split()
            work = int(user) + int(nice) + int(system) + int(irq) + int(softirq)
            times.append((work, int(steal), int(idle), int(iowait)))
        return times

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


class PsutilTimes:
    """What psutil says on macOS and Windows, where there is neither iowait nor steal."""

    def read(self) -> Reading:
        """Ask psutil."""
        counters = psutil.cpu_times(percpu=True)
        return Reading(range(len(counters)), counters)

    def times(self, counters: Any) -> list[Times]:
        """The times of each core, and their sum. On Windows system time holds the time of interrupts already."""
        cores: list[Times] = [
            (core.user + core.system + getattr(core, "nice", 0.0), 0.0, core.idle, 0.0) for core in counters
        ]
        return [(sum(core[0] for core in cores), 0.0, sum(core[2] for core in cores), 0.0), *cores]


def cpu_source() -> CpuSource:
    """The cheapest source of this system."""
    return ProcStat() if sys.platform == "linux" else PsutilTimes()
