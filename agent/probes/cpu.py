"""CPU: the share of time that the machine and each logical core were not idle, at every sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.cpu_times import CpuSource, Times
from contract.histogram import LINEAR, flatten
from contract.metrics.cpu import Cpu
from contract.summary import Summary

__all__ = ["CpuProbe", "CpuSamples", "utilization"]

AT_ONCE = 20
"""How many readings wait until they are understood: a second's at 20 Hz, so that none takes much memory or time."""


def utilization(before: Times, after: Times) -> float | None:
    """Busy time over total time between two readings, in [0, 1]; None where no time was counted.

    Waiting for input and output is idle time, stolen time is busy: the machine wanted it and did not get it.
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
    """The whole machine first, then each of `cores`."""

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
