"""Simulated hosts: what an agent samples from /proc/stat every 50 ms, under the load of real ones.

The load is the fleet of PlanetLab hosts (percent, every 5 minutes; see --fleet), or, where that file is missing,
a seeded random one. What lies between two of its values is drawn: each sample of each core is busy for a share of
its 50 ms that scatters around the load in bursts. The counters are then kept as Linux keeps them: busy time is
charged in ticks of 4 ms (250 Hz), to user or system, idle time as it passes; each is read in whole units of 10 ms, at
times that are off by some tenths of a millisecond. So the units between two readings are mostly 5, sometimes 4 or 6,
and a sample of a core has few values (0, 1/6, 1/5, 1/4, ...), as on a real host.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

SAMPLES = 100
"""In one window."""
WINDOW_MS = 5_000
_STEP_S = 300
_INTERVAL_MS = WINDOW_MS / SAMPLES
_TICK_MS, _UNIT_MS = 4.0, 10.0
_USER_SHARE = 0.7
_JITTER_MS = 0.3
_BURSTS = 1.5
"""Concentration of the beta distribution of a sample's busy share: below 2 it is mostly near idle or busy."""
_LEVELS, _QUANTILES = 101, 4096

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReplayedFleet:
    """The load of hosts, in [0, 1], every 5 minutes."""

    source: str
    load: list[Floats]
    """Of each host."""

    @classmethod
    def read(cls, path: Path | None, hosts: int, seed: int) -> "ReplayedFleet":
        """Hosts drawn from the file, or made up where there is none."""
        rng = np.random.default_rng(seed)
        if path is None or not path.exists():
            steps = rng.normal(0.0, 0.05, (hosts, 1728)).cumsum(axis=1)
            return cls("made-up load (no fleet file)", list(np.abs((steps + 0.1) % 2.0 - 1.0)))
        table = pd.read_parquet(path, columns=["user_id", "utilization_percent"])
        names = rng.choice(table["user_id"].cat.categories.to_numpy(), hosts, replace=False)
        wanted = table[table["user_id"].isin(names)]
        groups = wanted.groupby("user_id", observed=True)["utilization_percent"]
        return cls(f"load of {path.name}", [groups.get_group(name).to_numpy() / 100.0 for name in names])

    def at(self, host: int, second: int, windows: int) -> Floats:
        """The load in each of `windows` windows, from `second` on; a trace that ends begins anew."""
        load = self.load[host]
        place = (second + np.arange(windows) * (WINDOW_MS / 1000)) / _STEP_S
        return np.interp(place % len(load), np.arange(len(load) + 1), [*load, load[0]])


class Sampled(NamedTuple):
    """Samples by window, series (the whole host, then each core) and sample."""

    utilization: Floats
    """In [0, 1]."""
    units: Floats
    """The time that was counted of each, in units of 10 ms: what our agent weighs it by."""

    def part(self, windows: slice = slice(None), of_each: slice = slice(None)) -> "Sampled":
        """Some of the windows, and of each window some of the samples."""
        return Sampled(self.utilization[windows, :, of_each], self.units[windows, :, of_each])


def samples(load: Floats, cores: int, rng: np.random.Generator) -> Sampled:
    """What is sampled of a host with that load, a window for each of its values."""
    windows = len(load)
    share = rng.dirichlet(np.full(cores, 8.0)) * cores
    wandering = np.exp(rng.normal(0.0, 0.2, (cores, windows)))
    level = np.clip(load * share[:, None] * wandering, 0.0, 1.0)
    table = _quantiles()
    draw = rng.integers(0, _QUANTILES, (cores, windows, SAMPLES), np.uint16)
    busy = table[(level * (_LEVELS - 1) + 0.5).astype(np.int16)[:, :, None], draw].reshape(cores, -1)
    read = _read(busy * _INTERVAL_MS, rng)
    return Sampled(*(values.reshape(cores + 1, windows, SAMPLES).transpose(1, 0, 2) for values in read))


def _read(busy_ms: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Utilization and units by series and sample, as counters of busy milliseconds of each core and sample show it."""
    cores, count = busy_ms.shape
    jitter = np.diff(rng.normal(0.0, _JITTER_MS, count), prepend=0.0)
    busy = busy_ms.cumsum(axis=1)
    idle = np.cumsum((_INTERVAL_MS + jitter) - busy_ms, axis=1).clip(min=0.0)
    start = rng.random((3, cores, 1)) * _UNIT_MS * 1e3
    user, system = (
        np.floor(busy * share / _TICK_MS) * _TICK_MS + begun
        for share, begun in zip((_USER_SHARE, 1.0 - _USER_SHARE), start[:2], strict=True)
    )
    counters = [np.vstack([counter.sum(axis=0), counter]) for counter in (user, system, idle + start[2])]
    user, system, idle = (np.diff(np.floor(counter / _UNIT_MS), axis=1) for counter in counters)
    worked = (user + system).clip(min=0.0)
    total = worked + idle.clip(min=0.0)
    value = np.divide(worked, total, out=np.zeros_like(total), where=total > 0.0)
    # The first sample has none before it; it is taken to be like the second.
    first = np.maximum(np.arange(count) - 1, 0)
    return value[:, first], total[:, first]


@functools.cache
def _quantiles() -> Floats:
    """By level and place: quantiles of the beta distribution whose mean is the level."""
    rng = np.random.default_rng(1)
    levels = np.linspace(0.0, 1.0, _LEVELS).clip(1e-3, 1 - 1e-3)
    draws = np.sort(rng.beta(levels * _BURSTS, (1 - levels) * _BURSTS, (_QUANTILES * 8, _LEVELS)), axis=0)
    return np.ascontiguousarray(draws[4::8].T)
