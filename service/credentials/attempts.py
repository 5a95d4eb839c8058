"""Failed attempts to be let in, counted by address, so that guessing is slow."""

import ipaddress
from collections import OrderedDict
from functools import lru_cache

WINDOW_S = 60.0
_KEPT = 10_000
"""Addresses that are remembered; those that failed longest ago are forgotten first."""


class FailedAttempts:
    """So many failures a minute from an address, or from an IPv6 network of 64 bits; then it has to wait.

    The generic cell rate algorithm (ITU-T I.371): an address is remembered by one number. Only failures count, so any
    number of agents behind one address that show good tokens are let in.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._each_s = WINDOW_S / per_minute
        self._paid_until: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> float:
        """How long an address has to wait before another failure is taken; 0 where it has not."""
        return max(0.0, self._paid_until.get(_source(address), 0.0) + self._each_s - now_s - WINDOW_S)

    def note(self, address: str, now_s: float) -> None:
        """Count a failure of an address that has not to wait."""
        source = _source(address)
        self._paid_until[source] = max(now_s, self._paid_until.get(source, 0.0)) + self._each_s
        self._paid_until.move_to_end(source)
        if len(self._paid_until) > _KEPT:
            self._paid_until.popitem(last=False)


@lru_cache(_KEPT)
def _source(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
