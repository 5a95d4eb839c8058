"""CPU: the share of time that the host and each logical core were not idle, from cumulative times of the system."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import psutil

from agent.probes.base import NotMeasured, WeightedSamples
from contract.histogram import LINEAR, flatten
from contract.metrics import Cpu
from contract.summary import Summary

Times = tuple[float, float, float]
"""Work, stolen and idle time since boot, in any unit (ticks on Linux, seconds elsewhere).

Waiting for input and output is idle time. The two are one number here because the kernel moves time from the one to the
other afterwards: an idle core counts as waiting as long as a task that it ran waits (`get_cpu_iowait_time_us`), so that
each by itself goes back now and then, and their sum hardly ever.
"""


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


class UnreadableCounters(OSError):
    """The system's counters are not in the form that is known."""


class ProcStat:
    """The `cpu` lines of /proc/stat (proc_stat(5)).

    The file stays open, and a reading is its bytes. The agent sleeps between two samples and finds the processor's
    caches full of others' work, so what counts is how little it does at each sample: understanding a reading at
    once would cost as much as all else together, understanding twenty in a row costs next to nothing.
    """

    _CORES = re.compile(rb"^cpu(\d+)", re.MULTILINE)

    def __init__(self, path: str = "/proc/stat") -> None:
        self._path = path
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
        """The counters of the host, then of each core.

        lxcfs may write a line of zeros for the host before the one that counts: the largest is taken, and the sum of
        the cores where none counts. Raises UnreadableCounters for anything but lines of at least four whole numbers.
        """
        hosts: list[Times] = []
        cores: list[Times] = []
        for line in counters.splitlines():
            if line.startswith(b"cpu"):
                (cores if line[3:4].isdigit() else hosts).append(self._line(line))
        host = max(hosts, key=sum, default=(0, 0, 0))
        if not sum(host) and cores:
            host = _sum(cores)
        elif not hosts:
            raise UnreadableCounters(f"expected lines such as `cpu 10 0 5 90` in {self._path}, got none")
        return [host, *cores]

    def _line(self, line: bytes) -> Times:
        """Guest time is left out: the kernel counts it as user time. Kernels before 2.6.11 have fewer columns."""
        columns = line.split()[1:9]
        try:
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, columns + [b"0"] * (8 - len(columns)))
        except ValueError:
            columns = []
        if len(columns) < 4:
            shown = line[:80].decode("ascii", "replace")
            raise UnreadableCounters(f"expected a line such as `cpu 10 0 5 90` in {self._path}, got `{shown}`")
        return user + nice + system + irq + softirq, steal, idle + iowait

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class PsutilTimes:
    """What psutil says on macOS and Windows, where there is neither iowait nor steal."""

    def read(self) -> CpuReading:
        """Read the counters by psutil."""
        counters = psutil.cpu_times(percpu=True)
        return CpuReading(range(len(counters)), counters)

    def times(self, counters: Any) -> list[Times]:
        """The times of each core, and their sum. On Windows system time holds the time of interrupts already."""
        cores: list[Times] = [
            (core.user + core.system + getattr(core, "nice", 0.0), 0.0, core.idle) for core in counters
        ]
        return [_sum(cores), *cores]


def _sum(cores: Sequence[Times]) -> Times:
    work, steal, idle = (sum(column) for column in zip(*cores, strict=True))
    return work, steal, idle


def cpu_source() -> CpuSource:
    """The cheapest source of this system."""
    return ProcStat() if sys.platform == "linux" else PsutilTimes()


def busy_and_total(before: Times, after: Times) -> tuple[float, float]:
    """Busy time and all time between two readings, 0 <= busy <= total.

    Stolen time is busy: the host wanted it and did not get it. A counter that goes back counts as unmoved.
    """
    work, steal, idle = after
    work_before, steal_before, idle_before = before
    busy = max(0.0, work - work_before) + max(0.0, steal - steal_before)
    return busy, busy + max(0.0, idle - idle_before)


class _Counters:
    """The counters of the host or of one core, and the samples that they give.

    A sample weighs as much as the time that was counted, so that the mean of a window is the share of time by the
    counters at its two ends, to the tick: the system counts in ticks of 10 ms or so, and a sample of 50 ms has four to
    six of them. Where a counter did not move at all, in a short interval or on a core whose tick is switched off
    (nohz_full), the time is counted by the next sample that moves it, and weighs there.
    """

    def __init__(self, times: Times) -> None:
        self._times = times
        self._behind: Times | None = None
        self._series = WeightedSamples.empty()
        self._last_value: float | None = None
        self._moved_at = 0.0

    def add(self, times: Times) -> None:
        """Take the next reading.

        One in which a counter goes back is joined to the next: by some ticks it does so on kernels in the field, for a
        single reading. Where it is behind still, it was set back for good, as stolen time is when a virtual machine
        moves to another host.
        """
        if self._behind is None:
            if _goes_back(self._times, times):
                self._behind = times
                return
        else:
            if _goes_back(self._times, times):
                self._append(self._behind)
            self._behind = None
        self._append(times)

    def _append(self, times: Times) -> None:
        busy, total = busy_and_total(self._times, times)
        if total > 0.0:
            self._series.values.append(busy / total)
            self._series.weights.append(total)
        self._times = times

    @property
    def moved(self) -> bool:
        """Whether time was counted since `collect` was called last."""
        return bool(self._series.values)

    def collect(self, now: float) -> WeightedSamples | None:
        """The samples until `now`; without any the last one known, None where nothing was counted for long, or ever."""
        series, self._series = self._series, WeightedSamples.empty()
        if series.values:
            self._last_value, self._moved_at = series.values[-1], now
        elif self._last_value is not None and now - self._moved_at < CORE_STANDS_STILL_S:
            return WeightedSamples([self._last_value], [1.0])
        else:
            return None
        return series


def _goes_back(before: Times, after: Times) -> bool:
    return after[2] < before[2] or after[0] < before[0] or after[1] < before[1]


AT_ONCE = 20
"""How many readings wait until they are understood: a second's at 20 Hz, so that none takes much memory or time."""
STAND_STILL_S = 1.0
"""Counters of a whole host that do not move for so long are none: gVisor's never do."""
CORE_STANDS_STILL_S = 10.0
"""The same of one core: without its tick (nohz_full) one that works may be counted once a second or more rarely."""


class CpuProbe:
    """Samples utilization from the counters of `source`."""

    due = 0.0

    def __init__(self, source: CpuSource) -> None:
        self._source = source
        self.collected: CpuSamples | None = None
        """What `collect` gave last, for who looks at the same samples."""
        self._cores: Sequence[Any] | None = None
        self._readings: list[Any] = []
        self._counters: list[_Counters] = []
        self._unreadable: UnreadableCounters | None = None
        """Why the last reading said nothing."""
        self._taken = False
        self._sampled_at = self._moved_at = 0.0

    def restart(self, now: float) -> None:
        """Forget the samples, and begin with the cores that are online."""
        # Should the counters not be readable now, the next sample asks for another beginning.
        self._cores = None
        self._readings = []
        self._unreadable = None
        self._taken = False
        cores, counters = self._source.read()
        self._counters = [_Counters(times) for times in self._source.times(counters)]
        self._cores = cores
        self._sampled_at = self._moved_at = now

    def sample(self, now: float) -> bool:
        """Take a sample; False, and no sample, where a core has gone or come."""
        cores, counters = self._source.read()
        if cores != self._cores:
            return False
        self._readings.append(counters)
        self._taken = True
        self._sampled_at = now
        if len(self._readings) == AT_ONCE:
            self._understand()
        return True

    def collect(self) -> "CpuSamples | None":
        """The samples so far. Raises NotMeasured where the counters of the host stand still.

        Raises UnreadableCounters where no reading could be understood.
        """
        self.collected = None
        self._understand()
        if not self._taken:
            return None
        self._taken = False
        if self._counters[0].moved:
            self._moved_at = self._sampled_at
        elif self._unreadable:
            raise self._unreadable
        elif self._sampled_at - self._moved_at >= STAND_STILL_S:
            raise NotMeasured("the system's counters of CPU time do not move")
        host, *cores = [counters.collect(self._sampled_at) for counters in self._counters]
        if host is None:
            return None
        counted = [(int(number), series) for number, series in zip(self._cores or (), cores, strict=True) if series]
        numbers = tuple(number for number, _ in counted)
        self.collected = CpuSamples(numbers, host, [series for _, series in counted])
        return self.collected

    def _understand(self) -> None:
        """Take all readings; the time up to one that says nothing is counted by the next that does."""
        readings, self._readings = self._readings, []
        for reading in readings:
            try:
                told = self._source.times(reading)
            except UnreadableCounters as error:
                self._unreadable = error
                continue
            self._unreadable = None
            for counters, times in zip(self._counters, told, strict=True):
                counters.add(times)


@dataclass(frozen=True, slots=True)
class CpuSamples:
    """Utilization over a window, each sample weighed by the time that was counted."""

    cores: tuple[int, ...]
    """The numbers of the cores in `by_core`: those that are online and count time."""
    host: WeightedSamples
    by_core: Sequence[WeightedSamples]

    def metric(self, observations: int) -> Cpu:
        """The report's CPU metric, names of the cores only where they are not 0, 1, 2, ..."""
        whole, *by_core = (
            Summary.weighted(series.values, series.weights, observations, LINEAR)
            for series in (self.host, *self.by_core)
        )
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
