"""Disks and network interfaces by name: what each did in a window, beside all of them together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from agent.probes.base import QuantitySamples
from agent.probes.system import Counters, InterfaceCounters, Rates, is_physical_disk
from contract.devices import LISTED, MAX_NAME
from contract.metrics import Disks, Interfaces, Metric

_MS = 1e-3


class Devices(Rates):
    """Samples how much the counters (bytes, seconds of busy time) of each device grow, as `Rates` does of all."""

    def __init__(self, kind: type[Metric], interval_s: float, read: Callable[[], Counters]) -> None:
        super().__init__(kind, interval_s, read)
        self._grown: dict[str, list[float]] = {}

    def _rates(self, grown: Counters, seconds: float) -> Sequence[float]:
        """Shares are those of the highest device, rates of all; what each did is kept for the window."""
        within = {name: self._within(seconds, amounts) for name, amounts in grown.items()}
        for name, amounts in within.items():
            known = self._grown.get(name, [0.0] * len(amounts))
            self._grown[name] = [one + more for one, more in zip(known, amounts, strict=True)]
        columns = [[amounts[place] for amounts in within.values()] for place in range(len(self._kind.quantities))]
        return [
            min(1.0, max(column, default=0.0) / seconds) if quantity.bounded else sum(column) / seconds
            for quantity, column in zip(self._kind.quantities, columns, strict=True)
        ]

    def _within(self, seconds: float, amounts: Sequence[float]) -> list[float]:
        """What a device can have done in a time: busy for all of it at most, whatever its clock has counted."""
        return [
            min(amount, seconds) if quantity.bounded else amount
            for quantity, amount in zip(self._kind.quantities, amounts, strict=True)
        ]

    def collect(self) -> "DeviceSamples | None":
        """The samples since the last call, and what each device did in their time."""
        whole = self._collected()
        grown, self._grown = self._grown, {}
        return None if whole is None else DeviceSamples(whole, grown)


@dataclass(frozen=True, slots=True)
class DeviceSamples:
    """The samples of a window."""

    whole: QuantitySamples
    grown: Counters
    """How much each device's counters grew."""

    def metric(self, observations: int) -> Metric:
        """The summaries of all together, and of those devices that did most a number each for the window."""
        kind, seconds = self.whole.kind, sum(self.whole.series[0].weights)
        rates = [place for place, quantity in enumerate(kind.quantities) if not quantity.bounded]
        most = sorted(self.grown, key=lambda name: (-sum(self.grown[name][place] for place in rates), name))[:LISTED]
        named = sorted(most)
        members: dict[str, Any] = {"devices": named}
        for place, quantity in enumerate(kind.quantities):
            values = [self.grown[name][place] / seconds for name in named]
            members[f"{quantity.attribute}_by_device"] = (
                [min(1.0, value) for value in values] if quantity.bounded else values
            )
        return kind(**self.whole.members(), **members)


def disks_probe(interval_s: float) -> Devices:
    """The probe of disks by name."""
    return Devices(Disks, interval_s, _read_disks)


def _read_disks() -> Counters:
    counters = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}
    return _called(
        {
            name: (_busy_ms(disk) * _MS, disk.read_bytes, disk.write_bytes)
            for name, disk in counters.items()
            if is_physical_disk(name)
        }
    )


def _busy_ms(disk: Any) -> float:
    """How long a disk had something to do; where the system does not count it, how long reads and writes took."""
    busy_ms = getattr(disk, "busy_time", None)
    return float(disk.read_time + disk.write_time if busy_ms is None else busy_ms)


def interfaces_probe(interval_s: float) -> Devices:
    """The probe of network interfaces by name."""
    counters = InterfaceCounters()
    return Devices(Interfaces, interval_s, lambda: _called(counters.read()))


def _called(counters: Counters) -> Counters:
    """Counters by names that a report may have; devices whose names become the same count as one."""
    totals: dict[str, Sequence[float]] = {}
    for name, amounts in counters.items():
        called = "".join(one if one.isprintable() else "\ufffd" for one in name[:MAX_NAME]) or "?"
        known = totals.get(called, [0.0] * len(amounts))
        totals[called] = [one + more for one, more in zip(known, amounts, strict=True)]
    return totals
