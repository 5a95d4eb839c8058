"""SWAP: the share of the swap space in use; 0 on a machine without any."""

import psutil

from agent.probes.periodic import Gauges
from contract.metrics.swap import Swap

__all__ = ["swap_probe"]


def swap_probe() -> Gauges:
    """The probe of swap in use."""
    return Gauges(Swap, _read)


def _read() -> tuple[float]:
    swap = psutil.swap_memory()
    return (min(1.0, max(0.0, swap.used / swap.total)) if swap.total else 0.0,)
