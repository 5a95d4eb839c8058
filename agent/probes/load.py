"""LOAD: the load averages over one, five and fifteen minutes."""

import psutil

from agent.probes.periodic import Gauges
from contract.metrics.load import Load

__all__ = ["load_probe"]


def load_probe() -> Gauges:
    """The probe of load averages; psutil computes them on Windows, where the first minute shows 0."""
    return Gauges(Load, psutil.getloadavg)
