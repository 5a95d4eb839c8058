"""Failed attempts to be let in, counted by address, so that guessing is slow."""

import ipaddress
from functools import lru_cache

from service.credentials.rates import Rate

_WINDOW_S = 60.0
_KEPT = 10_000
"""Addresses that are remembered."""


class FailedAttempts:
    """So many failures a minute from an address, or from an IPv6 network of 64 bits; then it has to wait.

    Only failures count, so any number of agents behind one address that show good tokens are let in.
    """

    def __init__(self, per_minute: int) -> None:
        self.rate = Rate(per_minute, _WINDOW_S, _KEPT)

    def wait_s(self, address: str, now_s: float) -> float:
        """How long an address has to wait before another failure is taken; 0 where it has not."""
        return self.rate.wait_s(_source(address), now_s)

    def note(self, address: str, now_s: float) -> None:
        """Count a failure of an address that has not to wait."""
        self.rate.take(_source(address), now_s)


@lru_cache(_KEPT)
def _source(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
