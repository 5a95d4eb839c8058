"""What can be sampled: the CPU at each tick, everything else about once a second."""

from collections.abc import Callable

from agent.probes.base import NotMeasured, Probe, QuantitySamples, Samples
from agent.probes.bursts import BurstProbe
from agent.probes.cpu import CpuProbe, cpu_source
from agent.probes.devices import disks_probe, interfaces_probe
from agent.probes.groups import Group, GroupTimes, LimitsProbe
from agent.probes.kernel import pressure_probe, scheduler_probe, times_probe
from agent.probes.system import (
    disk_probe,
    file_systems_probe,
    frequency_probe,
    load_probe,
    memory_bytes_probe,
    memory_probe,
    network_probe,
    swap_probe,
    temperature_probe,
)
from contract.agent_protocol import MetricName

__all__ = ["OF_GROUP", "PROBES", "MetricName", "NotMeasured", "Probe", "QuantitySamples", "Samples", "sharing"]

PROBES: dict[MetricName, Callable[[float], Probe]] = {
    "cpu": lambda _interval_s: CpuProbe(cpu_source()),
    "memory": memory_probe,
    "swap": swap_probe,
    "disk": disk_probe,
    "network": network_probe,
    "load": load_probe,
    "times": times_probe,
    "scheduler": scheduler_probe,
    "pressure": pressure_probe,
    "limits": LimitsProbe,
    "bursts": lambda interval_s: BurstProbe(interval_s, CpuProbe(cpu_source()), is_shared=False),
    "memory_bytes": memory_bytes_probe,
    "filesystems": file_systems_probe,
    "frequency": frequency_probe,
    "temperature": temperature_probe,
    "disks": disks_probe,
    "interfaces": interfaces_probe,
}
"""For each metric, what makes its probe for samples so many seconds apart."""


def _group_cpu(_interval_s: float) -> CpuProbe:
    return CpuProbe(GroupTimes(Group()))


OF_GROUP: dict[MetricName, Callable[[float], Probe]] = PROBES | {
    "cpu": _group_cpu,
    "bursts": lambda interval_s: BurstProbe(interval_s, _group_cpu(interval_s), is_shared=False),
}
"""The same, with the CPU of the control group that the agent is in; its other metrics are the host's."""


def sharing(probes: dict[MetricName, Probe], interval_s: float) -> dict[MetricName, Probe]:
    """The probes, of which those that look at the CPU's samples share its probe, and come behind it."""
    cpu = probes.get("cpu")
    if "bursts" in probes and isinstance(cpu, CpuProbe):
        del probes["bursts"]
        probes["bursts"] = BurstProbe(interval_s, cpu, is_shared=True)
    return probes
