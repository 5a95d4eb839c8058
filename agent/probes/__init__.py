"""What can be sampled: a probe a file. A new one is a file beside these and an entry in `PROBES`."""

from collections.abc import Callable

from agent.probes.base import Probe, QuantitySamples, Samples
from agent.probes.cpu import CpuProbe, cpu_source
from agent.probes.system import disk_probe, load_probe, memory_probe, network_probe, swap_probe
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
