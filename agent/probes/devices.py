"""Disks and network interfaces by name: what each did in a window, beside all of them together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from agent.probes.base import QuantitySamples
from agent.probes.system import InterfaceCounters, Periodic, is_physical_disk
from contract.devices import LISTED, MAX_NAME
from contract.metrics import Disks, Interfaces, Metric

_MS = 1e-3

Totals = Mapping[str, Sequence[float]]
"""For each device what it has counted for each of the kind's quantities: seconds of busy time, bytes."""


class Devices(Periodic):
    """Samples how much the counters of each device grow.

    A device that comes or goes adds nothing for that sample, and a counter that goes back counts as unmoved.
    """

    def __init__(self, kind: type[Metric], interval_s: float, read: Callable[[], Totals]) -> None:
        super().__init__(kind, interval_s)
        self._read = read
        self._totals: Totals = {}
        self._grown: dict[str, list[float]] = {}

    def restart(self, now: float) -> None:
        """Read the counters, and be due a period later."""
        self._begin(now)
        self._totals = {}
        self._totals = self._read()

    def sample(self, now: float) -> bool:
        """Take a sample; none where there were no devices before."""
        self._schedule_next(now)
        seconds = now - self._sampled_at
        if seconds <= 0.0:
            return True
        after = self._read()
        if before := self._totals:
            grown = {
                name: self._within(
                    seconds, [max(0.0, new - old) for new, old in zip(after[name], before[name], strict=True)]
                )
                for name in after.keys() & before.keys()
            }
            for name, amounts in grown.items():
                known = self._grown.get(name, [0.0] * len(amounts))
                self._grown[name] = [one + more for one, more in zip(known, amounts, strict=True)]
            self._append(self._together(grown, seconds), seconds)
        self._totals, self._sampled_at = after, now
        return True

    def _within(self, seconds: float, amounts: list[float]) -> list[float]:
        """What a device can have done in a time: busy for all of it at most, whatever its clock has counted."""
        return [
            min(amount, seconds) if quantity.bounded else amount
            for quantity, amount in zip(self._kind.quantities, amounts, strict=True)
        ]

    def _together(self, grown: Totals, seconds: float) -> list[float]:
        """Shares are those of the highest device, rates of all."""
        columns = [[amounts[place] for amounts in grown.values()] for place in range(len(self._kind.quantities))]
        return [
            min(1.0, max(column, default=0.0) / seconds) if quantity.bounded else sum(column) / seconds
            for quantity, column in zip(self._kind.quantities, columns, strict=True)
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
    grown: Totals
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


def _read_disks() -> Totals:
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


def _called(counters: Totals) -> Totals:
    """Counters by names that a report may have; devices whose names become the same count as one."""
    totals: dict[str, Sequence[float]] = {}
    for name, amounts in counters.items():
        called = "".join(one if one.isprintable() else "\ufffd" for one in name[:MAX_NAME]) or "?"
        known = totals.get(called, [0.0] * len(amounts))
        totals[called] = [one + more for one, more in zip(known, amounts, strict=True)]
    return totals
