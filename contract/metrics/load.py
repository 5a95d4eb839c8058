"""LOAD: the run-queue lengths that Unix calls load averages."""

from contract.metrics.base import Distribution, Metric, Quantity

__all__ = ["Load"]


class Load(Metric, tag="LOAD", gc=False, frozen=True, omit_defaults=True):
    """Load averages over one, five and fifteen minutes, each at least 0."""

    load1: Distribution
    load5: Distribution
    load15: Distribution

    quantities = (
        Quantity("load.1m", "load1", "Load average, 1 min", "{process}", bounded=False),
        Quantity("load.5m", "load5", "Load average, 5 min", "{process}", bounded=False),
        Quantity("load.15m", "load15", "Load average, 15 min", "{process}", bounded=False),
    )
