"""Memory, swap, disks, network and load averages: what is asked of the system about once a second.

A quantity is sampled as it is (`Gauges`) or as the growth of a counter (`Rates`).
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import psutil

from agent.probes.base import QuantitySamples
from contract.metrics import Disk, Load, Memory, Metric, Network, Swap

PERIOD_S = 1.0


class _Periodic:
    def __init__(self, kind: type[Metric]) -> None:
        self.due = 0.0
        self._kind = kind
        self._series: list[list[float]] = [[] for _ in kind.quantities]

    def _append(self, values: Sequence[float]) -> None:
        for samples, value in zip(self._series, values, strict=True):
            samples.append(value)

    def _schedule_next(self, now: float) -> None:
        # Along the schedule, so that samples a little late do not stretch the period; anew where one was missed.
        self.due = self.due + PERIOD_S if now < self.due + PERIOD_S else now + PERIOD_S

    def collect(self) -> QuantitySamples | None:
        """The samples since the last call."""
        series, self._series = self._series, [[] for _ in self._series]
        return QuantitySamples(self._kind, series) if series[0] else None


class Gauges(_Periodic):
    """Samples numbers as they are. `read` gives one for each of the kind's quantities."""

    def __init__(self, kind: type[Metric], read: Callable[[], Sequence[float]]) -> None:
        super().__init__(kind)
        self._read = read

    def restart(self, now: float) -> None:
        """Be due a period later."""
        self.due = now + PERIOD_S

    def sample(self, now: float) -> bool:
        """Take a sample."""
        self._schedule_next(now)
        self._append(self._read())
        return True


Counters = Mapping[str, Sequence[int]]
"""For each device, a count for each of the kind's quantities."""


class Rates(_Periodic):
    """Samples the growth per second of counters, added up over the devices that `read` gives.

    A device that comes or goes adds nothing for that sample, and a counter that goes back counts as unmoved.
    """

    def __init__(self, kind: type[Metric], read: Callable[[], Counters]) -> None:
        super().__init__(kind)
        self._read = read
        self._counters: Counters = {}
        self._read_at = 0.0

    def restart(self, now: float) -> None:
        """Read the counters, and be due a period later."""
        self.due = now + PERIOD_S
        self._counters, self._read_at = {}, now
        self._counters = self._read()

    def sample(self, now: float) -> bool:
        """Take a sample; none where there were no devices before."""
        self._schedule_next(now)
        after = self._read()
        if before := self._counters:
            elapsed = now - self._read_at
            self._append([_growth(before, after, place) / elapsed for place in range(len(self._series))])
        self._counters, self._read_at = after, now
        return True


def _growth(before: Counters, after: Counters, place: int) -> int:
    return sum(max(0, after[device][place] - before[device][place]) for device in after.keys() & before.keys())


def memory_probe() -> Gauges:
    """The probe of memory in use."""
    return Gauges(Memory, _read_memory)


def _read_memory() -> tuple[float]:
    memory = psutil.virtual_memory()
    return (min(1.0, max(0.0, 1.0 - memory.available / memory.total)),)


def swap_probe() -> Gauges:
    """The probe of swap in use."""
    return Gauges(Swap, _read_swap)


def _read_swap() -> tuple[float]:
    swap = psutil.swap_memory()
    return (min(1.0, max(0.0, swap.used / swap.total)) if swap.total else 0.0,)


def disk_probe() -> Rates:
    """The probe of disk traffic."""
    return Rates(Disk, _read_disks)


def _read_disks() -> Counters:
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    return {
        name: (disk.read_bytes, disk.write_bytes, disk.read_count, disk.write_count)
        for name, disk in counters.items()
        if _is_physical_disk(name)
    }


@cache
def _is_physical_disk(name: str) -> bool:
    """False for partitions and for what is laid over disks (dm, md, loop, zram): their bytes would count twice."""
    return sys.platform != "linux" or os.path.exists(f"/sys/block/{name.replace('/', '!')}/device")


def network_probe() -> Rates:
    """The probe of network traffic."""
    return Rates(Network, _read_interfaces)


def _read_interfaces() -> Counters:
    # psutil's own guard against wrapped counters is off: Rates has one, which keeps no copies.
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    return {
        name: (interface.bytes_recv, interface.bytes_sent)
        for name, interface in counters.items()
        if not _is_loopback(name)
    }


def _is_loopback(name: str) -> bool:
    """By its name on Linux, macOS and Windows."""
    return name in ("lo", "lo0") or name.startswith("Loopback")


def load_probe() -> Gauges:
    """The probe of load averages; psutil computes them on Windows, where the first minute shows 0."""
    return Gauges(Load, psutil.getloadavg)
