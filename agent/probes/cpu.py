"""CPU: the share of time that the host and each logical core were not idle, from cumulative times of the system."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import psutil

from contract.histogram import LINEAR, flatten
from contract.metrics import Cpu
from contract.summary import Summary

Times = tuple[float, float, float, float]
"""Work, steal, idle and iowait since boot, in any unit (ticks on Linux, seconds elsewhere)."""


class CpuReading(NamedTuple):
    """The counters at one moment, not yet understood: that is cheaper for many readings at a time."""

    cores: Sequence[Any]
    """The numbers of the cores that are online; `int` of each is the number."""
    counters: Any
    """For the source's `times`."""


class CpuSource(Protocol):
    """A way to read the counters."""

    def read(self) -> CpuReading:
        """Take a reading, in as little time as possible."""

    def times(self, counters: Any) -> Sequence[Times]:
        """What a reading says: the whole host first, then each of its cores."""


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

    def read(self) -> CpuReading:
        """Copy the `cpu` lines; the line of interrupt counts behind them may be far longer."""
        stat = os.pread(self._file, self._size, 0)
        while (end := stat.find(b"\nintr")) < 0 and len(stat) == self._size:
            self._size *= 2
            stat = os.pread(self._file, self._size, 0)
        if end >= 0:
            stat = stat[:end]
        return CpuReading(self._CORES.findall(stat), stat)

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

    def read(self) -> CpuReading:
        """Ask psutil."""
        counters = psutil.cpu_times(percpu=True)
        return CpuReading(range(len(counters)), counters)

    def times(self, counters: Any) -> list[Times]:
        """The times of each core, and their sum. On Windows system time holds the time of interrupts already."""
        cores: list[Times] = [
            (core.user + core.system + getattr(core, "nice", 0.0), 0.0, core.idle, 0.0) for core in counters
        ]
        return [(sum(core[0] for core in cores), 0.0, sum(core[2] for core in cores), 0.0), *cores]


def cpu_source() -> CpuSource:
    """The cheapest source of this system."""
    return ProcStat() if sys.platform == "linux" else PsutilTimes()


AT_ONCE = 20
"""How many readings wait until they are understood: a second's at 20 Hz, so that none takes much memory or time."""


def utilization(before: Times, after: Times) -> float | None:
    """Busy time over total time between two readings, in [0, 1]; None where no time was counted.

    Waiting for input and output is idle time, stolen time is busy: the host wanted it and did not get it.
    A counter that goes back (iowait by design, steal after a migration of a virtual machine) counts as unmoved.
    """
    work, steal, idle, iowait = after
    work_before, steal_before, idle_before, iowait_before = before
    busy = max(0.0, work - work_before) + max(0.0, steal - steal_before)
    total = busy + max(0.0, idle - idle_before) + max(0.0, iowait - iowait_before)
    return busy / total if total > 0.0 else None


class CpuProbe:
    """Samples utilization from the counters of `source`.

    The system counts in ticks of 10 ms or so, so over a short interval, or on a core whose tick is switched off
    (nohz_full), a counter may not move at all. Such a sample says nothing by itself: it gets the utilization of
    the stretch that it is part of, once the counters move. So each series has one value a sample, and its mean
    weighs time rightly.
    """

    due = 0.0

    def __init__(self, source: CpuSource) -> None:
        self._source = source
        self._cores: Sequence[Any] = ()
        self._times: Sequence[Times] = ()
        self._readings: list[Any] = []
        self._series: list[list[float]] = []
        self._unmoved: list[int] = []
        self._known: list[float] = []

    def restart(self, now: float) -> None:
        """Forget the samples, and begin with the cores that are online."""
        self._cores, counters = self._source.read()
        self._times = self._source.times(counters)
        self._readings = []
        self._series = [[] for _ in self._times]
        self._unmoved = [0] * len(self._times)
        self._known = [0.0] * len(self._times)

    def sample(self, now: float) -> bool:
        """Take a sample; False, and no sample, where a core has gone or come."""
        cores, counters = self._source.read()
        if cores != self._cores:
            return False
        self._readings.append(counters)
        if len(self._readings) == AT_ONCE:
            self._understand()
        return True

    def collect(self) -> "CpuSamples | None":
        """The samples so far; one that still has no value gets the last one known."""
        self._understand()
        series = self._series
        for place, samples in enumerate(series):
            if samples:
                self._known[place] = samples[-1]
            samples.extend([self._known[place]] * self._unmoved[place])
        self._series = [[] for _ in series]
        self._unmoved = [0] * len(series)
        return CpuSamples(tuple(map(int, self._cores)), series) if series and series[0] else None

    def _understand(self) -> None:
        for counters in self._readings:
            times = self._source.times(counters)
            for place, (before, after) in enumerate(zip(self._times, times, strict=True)):
                value = utilization(before, after)
                if value is None:
                    self._unmoved[place] += 1
                elif self._unmoved[place]:
                    self._series[place].extend([value] * (self._unmoved[place] + 1))
                    self._unmoved[place] = 0
                else:
                    self._series[place].append(value)
            self._times = times
        self._readings.clear()


@dataclass(frozen=True, slots=True)
class CpuSamples:
    """Utilization over a window."""

    cores: tuple[int, ...]
    series: Sequence[Sequence[float]]
    """The whole host first, then each of `cores`."""

    def metric(self) -> Cpu:
        """The report's CPU metric, names of the cores only where they are not 0, 1, 2, ..."""
        whole, *by_core = (Summary.of(samples, LINEAR) for samples in self.series)
        return Cpu(
            avg_utilization=whole.mean,
            var_utilization=whole.variance,
            min_utilization=whole.minimum,
            max_utilization=whole.maximum,
            histogram=flatten(whole.histogram),
            avg_utilization_by_core=[core.mean for core in by_core],
            var_utilization_by_core=[core.variance for core in by_core],
            min_utilization_by_core=[core.minimum for core in by_core],
            max_utilization_by_core=[core.maximum for core in by_core],
            histogram_by_core=[flatten(core.histogram) for core in by_core],
            cores=[] if self.cores == tuple(range(len(by_core))) else list(self.cores),
        )
