"""The control group that the agent is in, such as its container: what it uses of what it may (cgroup v2).

https://docs.kernel.org/admin-guide/cgroup-v2.html has the files. A group's limit is the lowest of its own and of those
above it, as far as they can be seen from here.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from agent.probes.base import NotMeasured
from agent.probes.cpu import CpuReading, Times
from agent.probes.system import Periodic
from contract.metrics import Limits

ROOT = Path("/sys/fs/cgroup")
_LIMIT_FOR_US = 5_000_000
"""A limit of the CPU is read again after so long: it may be changed while the group runs."""


class Group:
    """A control group, and what limits it."""

    def __init__(self, root: Path = ROOT, of_process: Path = Path("/proc/self/cgroup")) -> None:
        """The group of this process. Raises NotMeasured where there is no unified hierarchy to see."""
        if not (root / "cgroup.controllers").exists():
            raise NotMeasured(f"there is no control group of version 2 at {root}")
        lines = of_process.read_text().splitlines()
        path = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
        self.folder = root / path
        if ".." in path.split("/") or not self.folder.is_dir():
            # Seen from inside a container, whose own group is the root.
            self.folder = root
        self._folders = [self.folder, *(one for one in self.folder.parents if one == root or root in one.parents)]

    @property
    def limited_cores(self) -> float | None:
        """How many cores the group may use at a time; None where nothing limits it."""
        limits = []
        for folder in self._folders:
            quota, _, period = _text(folder / "cpu.max", "max 100000").partition(" ")
            if quota != "max":
                limits.append(int(quota) / int(period))
        return min(limits, default=None)

    @property
    def cores(self) -> float:
        """How many cores it can use at a time."""
        host = float(os.cpu_count() or 1)
        return min(host, self.limited_cores or host)

    @property
    def memory_bytes(self) -> int:
        """How much memory it may have; that of the host where nothing limits it."""
        limits = [_text(folder / "memory.max", "max") for folder in self._folders]
        return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit != "max")])

    @property
    def memory_used(self) -> int:
        """How much memory it has; 0 where nothing counts it."""
        return int(_text(self.folder / "memory.current", "0"))

    def cpu(self) -> dict[str, int]:
        """The numbers of its `cpu.stat`. Raises NotMeasured where it has none."""
        found = dict(line.split() for line in _text(self.folder / "cpu.stat", "").splitlines())
        if "usage_usec" not in found:
            raise NotMeasured(f"the control group {self.folder} does not count its CPU time")
        return {name: int(value) for name, value in found.items()}


def _text(file: Path, missing: str) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return missing


class GroupTimes:
    """The CPU time of a group as a source of the CPU's probe: all there is are the cores that it can use."""

    def __init__(self, group: Group, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._group = group
        self._clock_ns = clock_ns
        self._cores = group.cores
        self._limit_read_us = self._clock_ns() // 1000
        self._last = (group.cpu()["usage_usec"], self._limit_read_us)
        self._idle_us = 0.0

    def read(self) -> CpuReading:
        """Take a reading: the group does not tell its cores apart."""
        return CpuReading((), (self._group.cpu()["usage_usec"], self._clock_ns() // 1000))

    def times(self, counters: tuple[int, int]) -> Sequence[Times]:
        """What was used by then, and what was not; readings in their order."""
        used_us, now_us = counters
        if now_us - self._limit_read_us >= _LIMIT_FOR_US:
            self._cores, self._limit_read_us = self._group.cores, now_us
        could_us = (now_us - self._last[1]) * self._cores
        # A group may use more than its limit for a moment, of what it left before.
        self._idle_us += max(0.0, could_us - (used_us - self._last[0]))
        self._last = counters
        return [(float(used_us), 0.0, self._idle_us)]


class LimitsProbe(Periodic):
    """Samples what the group uses against what it may."""

    def __init__(self, interval_s: float, find: Callable[[], Group] = Group) -> None:
        super().__init__(Limits, interval_s)
        self._find = find
        self._group: Group | None = None
        self._counters: dict[str, int] = {}

    def restart(self, now: float) -> None:
        """Read the counters, and be due a period later. Raises NotMeasured where there is no group."""
        self._begin(now)
        self._counters = {}
        self._group = self._find()
        self._counters = self._group.cpu()

    def sample(self, now: float) -> bool:
        """Take a sample; none where the counters were not known before."""
        if self._group is None or not self._counters:
            self.restart(now)
            return True
        self._schedule_next(now)
        seconds = now - self._sampled_at
        if seconds <= 0.0:
            return True
        after = self._group.cpu()
        grown = {name: max(0, value - self._counters.get(name, 0)) for name, value in after.items()}
        periods = grown.get("nr_periods", 0)
        throttled = min(1.0, grown.get("nr_throttled", 0) / periods) if periods else 0.0
        cpu = min(1.0, grown["usage_usec"] / 1e6 / (seconds * self._group.cores))
        memory = min(1.0, self._group.memory_used / self._group.memory_bytes)
        self._append((cpu, throttled, grown.get("throttled_usec", 0) / 1e6 / seconds, memory), seconds)
        self._counters, self._sampled_at = after, now
        return True
