"""NETWORK: bytes per second over all interfaces but the loopback."""

from contract.metrics.base import Distribution, Metric, Quantity

__all__ = ["Network"]


class Network(Metric, tag="NETWORK", gc=False, frozen=True, omit_defaults=True):
    """Rates between two samples, each at least 0."""

    received_bytes: Distribution
    sent_bytes: Distribution

    quantities = (
        Quantity("network.received_bytes", "received_bytes", "Network bytes received", "By/s", bounded=False),
        Quantity("network.sent_bytes", "sent_bytes", "Network bytes sent", "By/s", bounded=False),
    )
