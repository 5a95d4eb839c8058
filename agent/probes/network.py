"""NETWORK: bytes per second over all interfaces but the loopback."""

import psutil

from agent.probes.periodic import Counters, Rates
from contract.metrics.network import Network

__all__ = ["network_probe"]


def network_probe() -> Rates:
    """The probe of network traffic."""
    return Rates(Network, _read)


def _read() -> Counters:
    # psutil's own guard against wrapped counters is off: Rates has one, which keeps no copies.
    counters = psutil.net_io_counters(pernic=True, nowrap=False)
    return {
        name: (interface.bytes_recv, interface.bytes_sent)
        for name, interface in counters.items()
        if not _is_loopback(name)
    }


def _is_loopback(name: str) -> bool:
    """By its name on Linux, macOS and Windows."""
    return name in ("lo", "lo0") or name.startswith("Loopback")
