"""What can be sampled: a probe a file. A new one is a file beside these and an entry in `PROBES`."""

from collections.abc import Callable

from agent.cpu_times import cpu_source
from agent.probes.base import Probe, QuantitySamples, Samples
from agent.probes.cpu import CpuProbe
from agent.probes.disk import disk_probe
from agent.probes.load import load_probe
from agent.probes.memory import memory_probe
from agent.probes.network import network_probe
from agent.probes.swap import swap_probe
from contract.agent_settings import MetricName

__all__ = ["PROBES", "MetricName", "Probe", "QuantitySamples", "Samples"]

PROBES: dict[MetricName, Callable[[], Probe]] = {
    "cpu": lambda: CpuProbe(cpu_source()),
    "memory": memory_probe,
    "swap": swap_probe,
    "disk": disk_probe,
    "network": network_probe,
    "load": load_probe,
}
