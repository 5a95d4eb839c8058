"""MEMORY: the share of the main memory that programs cannot get without swapping."""

import psutil

from agent.probes.periodic import Gauges
from contract.metrics.memory import Memory

__all__ = ["memory_probe"]


def memory_probe() -> Gauges:
    """The probe of memory in use."""
    return Gauges(Memory, _read)


def _read() -> tuple[float]:
    memory = psutil.virtual_memory()
    return (min(1.0, max(0.0, 1.0 - memory.available / memory.total)),)
