"""Bursts: for how long at a time the CPU is at 100 %, of the host and of its cores, from the CPU's own samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent.probes.base import WeightedSamples
from agent.probes.cpu import CpuProbe, CpuSamples
from contract.metrics import BURST, Bursts, whole_window

_MINUTE_S = 60.0


@dataclass(slots=True)
class Runs:
    """The runs of the host or of one core, over windows: a run that goes on in the next window is the same run."""

    at_full: float = 0.0
    """How long the run at 100 % is that goes on, 0 for none; seconds."""
    is_burst: bool = False
    """Whether a burst goes on."""

    def take(self, series: WeightedSamples, seconds: float) -> "WindowRuns":
        """The runs of a window of so many seconds; what goes on at its end is kept for the next."""
        total = sum(series.weights)
        longest = at_full = 0.0
        begun = 0
        for value, weight in zip(series.values, series.weights, strict=True):
            length = weight / total * seconds
            if value >= 1.0:
                at_full += length
                self.at_full += length
                longest = max(longest, self.at_full)
            else:
                self.at_full = 0.0
            begun += value >= BURST and not self.is_burst
            self.is_burst = value >= BURST
        # A sum of lengths is off in its last bits, by which a run would be above what it is.
        return WindowRuns(min(1.0, at_full / seconds), round(longest, 6), begun)


class WindowRuns(NamedTuple):
    """What a window has of the host or of one core."""

    saturated: float
    """The share of its time at 100 %."""
    longest_s: float
    """The longest run at 100 % that ends or goes on in it, with what of it was before."""
    begun: int
    """Bursts that began in it."""


class BurstProbe:
    """Looks at the samples that the CPU's probe has collected; takes its own where the CPU is not sampled."""

    due = 0.0

    def __init__(self, interval_s: float, cpu: CpuProbe, *, is_shared: bool) -> None:
        """`cpu` is the plan's, asked before this one, or with `is_shared` False one that only this one asks."""
        self._interval_s = interval_s
        self._cpu = cpu
        self._is_shared = is_shared
        self._host = Runs()
        self._cores: dict[int, Runs] = {}

    def restart(self, now: float) -> None:
        """Begin with no run going on."""
        self._host = Runs()
        self._cores = {}
        if not self._is_shared:
            self._cpu.restart(now)

    def sample(self, now: float) -> bool:
        """Take a sample, unless the CPU's probe does."""
        return self._is_shared or self._cpu.sample(now)

    def collect(self) -> "BurstSamples | None":
        """The samples of the window, with the runs so far."""
        samples = self._cpu.collected if self._is_shared else self._cpu.collect()
        if samples is None:
            return None
        self._cores = {core: self._cores.get(core) or Runs() for core in samples.cores}
        return BurstSamples(self._interval_s, samples, self._host, [*self._cores.values()])


@dataclass(frozen=True, slots=True)
class BurstSamples:
    """The CPU's samples of a window, and the runs that went on before it: asked for the metric once, in order."""

    interval_s: float
    samples: CpuSamples
    host: Runs
    by_core: Sequence[Runs]

    def metric(self, observations: int) -> Bursts:
        """What the window has, each number for all of its `observations`."""
        seconds = observations * self.interval_s
        host = self.host.take(self.samples.host, seconds)
        cores = [runs.take(series, seconds) for runs, series in zip(self.by_core, self.samples.by_core, strict=True)]
        minutes = seconds / _MINUTE_S
        values = (
            host.saturated,
            host.longest_s,
            host.begun / minutes,
            sum(core.saturated for core in cores) / max(1, len(cores)),
            max((core.longest_s for core in cores), default=0.0),
            sum(core.begun for core in cores) / minutes,
        )
        told = {
            quantity.attribute: whole_window(quantity, value, observations)
            for quantity, value in zip(Bursts.quantities, values, strict=True)
        }
        return Bursts(
            **told,
            cores=[] if self.samples.cores == tuple(range(len(cores))) else list(self.samples.cores),
            saturated_by_core=[core.saturated for core in cores],
            longest_by_core=[core.longest_s for core in cores],
            begun_by_core=[core.begun / minutes for core in cores],
        )
