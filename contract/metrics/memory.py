"""MEMORY: how much of the main memory is in use."""

from contract.metrics.base import Distribution, Metric, Quantity

__all__ = ["Memory"]


class Memory(Metric, tag="MEMORY", gc=False, frozen=True, omit_defaults=True):
    """Share of the memory that is not available to programs, in [0, 1]."""

    utilization: Distribution

    quantities = (Quantity("memory.utilization", "utilization", "Memory in use", "1", bounded=True),)
