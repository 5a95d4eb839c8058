"""Memory, swap, disks, file systems, network, load averages, frequency and temperature: asked about once a second.

A quantity is sampled as it is (`Gauges`) or as the growth of a counter (`Rates`).
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache

import psutil

from agent.interfaces import counted_interfaces
from agent.probes.base import NotMeasured, QuantitySamples, Samples, WeightedSamples
from contract.metrics import Disk, FileSystems, Frequency, Load, Memory, MemoryBytes, Metric, Network, Swap, Temperature

PERIOD_S = 1.0


class Periodic:
    """What is sampled about once a second; the base of probes that say how."""

    def __init__(self, kind: type[Metric], interval_s: float) -> None:
        self.due = 0.0
        self._kind = kind
        # With long intervals a sample stands for the interval.
        self._period_s = max(PERIOD_S, interval_s)
        self._sampled_at = 0.0
        self._series = [WeightedSamples.empty() for _ in kind.quantities]

    def _begin(self, now: float) -> None:
        self.due = now + PERIOD_S
        self._sampled_at = now

    def _append(self, values: Sequence[float], seconds: float) -> None:
        for series, value in zip(self._series, values, strict=True):
            series.values.append(value)
            series.weights.append(seconds)

    def _schedule_next(self, now: float) -> None:
        # Along the schedule, so that samples a little late do not stretch the period; anew where one was missed.
        self.due = self.due + PERIOD_S if now < self.due + PERIOD_S else now + PERIOD_S

    def collect(self) -> Samples | None:
        """The samples since the last call, each weighed by the time since the one before."""
        return self._collected()

    def _collected(self) -> QuantitySamples | None:
        series, self._series = self._series, [WeightedSamples.empty() for _ in self._series]
        return QuantitySamples(self._kind, self._period_s, series) if series[0].values else None


class Gauges(Periodic):
    """Samples numbers as they are. `read` gives one for each of the kind's quantities.

    A sample stands for the time since the one before.
    """

    def __init__(self, kind: type[Metric], interval_s: float, read: Callable[[], Sequence[float]]) -> None:
        super().__init__(kind, interval_s)
        self._read = read

    def restart(self, now: float) -> None:
        """Be due a period later."""
        self._begin(now)

    def sample(self, now: float) -> bool:
        """Take a sample."""
        self._schedule_next(now)
        if now > self._sampled_at:
            self._append(self._read(), now - self._sampled_at)
            self._sampled_at = now
        return True


Counters = Mapping[str, Sequence[float]]
"""For each device, a count for each of the kind's quantities."""


class Rates(Periodic):
    """Samples the growth per second of counters, added up over the devices that `read` gives.

    A device that comes or goes adds nothing for that sample. Where a counter goes back, that reading of it is joined to
    the next: drivers answer 0 for a moment, after which all since boot would count as of a second. One that is behind
    still was set back for good.
    """

    def __init__(self, kind: type[Metric], interval_s: float, read: Callable[[], Counters]) -> None:
        super().__init__(kind, interval_s)
        self._read = read
        self._counters: Counters = {}
        self._behind: dict[str, list[float | None]] = {}
        """What the counters of devices were that went back; None for the others."""

    def restart(self, now: float) -> None:
        """Read the counters, and be due a period later."""
        self._begin(now)
        self._counters, self._behind = {}, {}
        self._counters = self._read()

    def sample(self, now: float) -> bool:
        """Take a sample; none where there were no devices before."""
        self._schedule_next(now)
        seconds = now - self._sampled_at
        if seconds <= 0.0:
            return True
        after = dict(self._read())
        if before := self._counters:
            grown = {device: self._growth(device, after) for device in after.keys() & before.keys()}
            self._append(self._rates(grown, seconds), seconds)
            self._behind = {device: behind for device, behind in self._behind.items() if device in grown}
        self._counters, self._sampled_at = after, now
        return True

    def _growth(self, device: str, counters: dict[str, Sequence[float]]) -> list[float]:
        """How much the counters of a device grew; in `counters` those that went back are set to what they were."""
        after, before = counters[device], self._counters[device]
        behind = self._behind.pop(device, None) or [None] * len(after)
        growth, kept, went_back = [], [*after], [*behind]
        for place, (new, old, was) in enumerate(zip(after, before, behind, strict=True)):
            went_back[place] = None
            if new >= old:
                growth.append(new - old)
            elif was is None:
                growth.append(0.0)
                kept[place], went_back[place] = old, new
            else:
                growth.append(max(0.0, new - was))
        if any(one is not None for one in went_back):
            counters[device], self._behind[device] = kept, went_back
        return growth

    def _rates(self, grown: Counters, seconds: float) -> Sequence[float]:
        """A sample, of how much the counters of each device grew in a time."""
        return [sum(amounts[place] for amounts in grown.values()) / seconds for place in range(len(self._series))]


def memory_probe(interval_s: float) -> Gauges:
    """The probe of memory in use."""
    return Gauges(Memory, interval_s, _read_memory)


def _read_memory() -> tuple[float]:
    memory = psutil.virtual_memory()
    return (min(1.0, max(0.0, 1.0 - memory.available / memory.total)),)


def swap_probe(interval_s: float) -> Gauges:
    """The probe of swap in use."""
    return Gauges(Swap, interval_s, _read_swap)


def _read_swap() -> tuple[float]:
    swap = psutil.swap_memory()
    return (min(1.0, max(0.0, swap.used / swap.total)) if swap.total else 0.0,)


def memory_bytes_probe(interval_s: float) -> Gauges:
    """The probe of memory and swap in bytes."""
    return Gauges(MemoryBytes, interval_s, _read_bytes)


def _read_bytes() -> tuple[float, float, float]:
    memory = psutil.virtual_memory()
    return max(0, memory.total - memory.available), memory.available, psutil.swap_memory().used


def file_systems_probe(interval_s: float) -> Gauges:
    """The probe of space on file systems; its samples raise NotMeasured where none can be looked at."""
    return Gauges(FileSystems, interval_s, _read_space)


def _read_space() -> tuple[float, float, float]:
    places = {part.device: part.mountpoint for part in psutil.disk_partitions() if "ro" not in part.opts.split(",")}
    spaces = []
    for place in places.values() or ("/",):
        # A drive without a disk in it has no space.
        with suppress(OSError):
            spaces.append(psutil.disk_usage(place))
    shares = [space.used / (space.used + space.free) for space in spaces if space.used + space.free > 0]
    if not shares:
        raise NotMeasured("no local file system that can be written to was found")
    return max(shares), sum(space.used for space in spaces), sum(space.free for space in spaces)


def disk_probe(interval_s: float) -> Rates:
    """The probe of disk traffic."""
    return Rates(Disk, interval_s, _read_disks)


def _read_disks() -> Counters:
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    return {
        name: (disk.read_bytes, disk.write_bytes, disk.read_count, disk.write_count)
        for name, disk in counters.items()
        if is_physical_disk(name)
    }


@cache
def is_physical_disk(name: str) -> bool:
    """False for partitions and for what is laid over disks (dm, md, loop, zram): their bytes would count twice."""
    return sys.platform != "linux" or os.path.exists(f"/sys/block/{name.replace('/', '!')}/device")


def network_probe(interval_s: float) -> Rates:
    """The probe of network traffic."""
    return Rates(Network, interval_s, InterfaceCounters().read)


class InterfaceCounters:
    """The counters of the interfaces that count, which are chosen anew as interfaces come and go."""

    def __init__(self) -> None:
        self._seen: frozenset[str] = frozenset()
        self._counted: frozenset[str] = frozenset()

    def read(self) -> Counters:
        """Bytes received and sent by each."""
        # psutil's own guard against wrapped counters is off: Rates has one, which keeps no copies.
        counters = psutil.net_io_counters(pernic=True, nowrap=False)
        if counters.keys() != self._seen:
            self._seen = frozenset(counters)
            self._counted = counted_interfaces(self._seen)
        return {name: (counters[name].bytes_recv, counters[name].bytes_sent) for name in self._counted}


def load_probe(interval_s: float) -> Gauges:
    """The probe of load averages; psutil computes them on Windows, where the first minute shows 0."""
    return Gauges(Load, interval_s, psutil.getloadavg)


_HZ = 1e6
_OF_THE_CPU = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "x86_pkg_temp", "acpitz")
"""Sensors that are the CPU's, the best first: of Intel and AMD, of boards with ARM, of firmware."""


def frequency_probe(interval_s: float) -> Gauges:
    """The probe of the CPU's frequency; its samples raise NotMeasured where the system does not tell."""
    return Gauges(Frequency, interval_s, _read_frequency)


def _read_frequency() -> tuple[float]:
    # Some systems have it as a function that fails, some do not have the function.
    read = getattr(psutil, "cpu_freq", None)
    try:
        frequency = read() if read is not None else None
    except (OSError, NotImplementedError) as error:
        raise NotMeasured(f"the frequency of the CPU cannot be read: {error}") from None
    if frequency is None or frequency.current <= 0:
        raise NotMeasured("the system does not tell the frequency of the CPU")
    return (frequency.current * _HZ,)


def temperature_probe(interval_s: float) -> Gauges:
    """The probe of the CPU's temperature; its samples raise NotMeasured where the system does not tell."""
    return Gauges(Temperature, interval_s, _read_temperature)


def _read_temperature() -> tuple[float]:
    read = getattr(psutil, "sensors_temperatures", None)
    sensors = read() if read is not None else {}
    name = next((name for name in _OF_THE_CPU if sensors.get(name)), None)
    if name is None:
        raise NotMeasured("the system tells no temperature of the CPU, as is usual in a virtual machine")
    return (max(0.0, *(sensor.current for sensor in sensors[name])),)
