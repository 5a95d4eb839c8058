"""SWAP: how much of the swap space is in use."""

from contract.metrics.base import Distribution, Metric, Quantity

__all__ = ["Swap"]


class Swap(Metric, tag="SWAP", gc=False, frozen=True, omit_defaults=True):
    """Share of the swap space in use, in [0, 1]; 0 on a machine without any."""

    utilization: Distribution

    quantities = (Quantity("swap.utilization", "utilization", "Swap in use", "1", bounded=True),)
