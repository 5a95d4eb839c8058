"""How much of something each may have in a time, and how often an address may fail to be let in."""

import ipaddress
from collections import OrderedDict
from functools import lru_cache

_WINDOW_S = 60.0
_KEPT = 10_000
"""Addresses that are remembered."""


class Rate:
    """So much in a window for each key, all at once or evenly; what was taken comes back evenly.

    The generic cell rate algorithm (ITU-T I.371): a key is remembered by one number, the moment at which all that it
    took is back.
    """

    def __init__(self, amount: int, window_s: float, kept: int) -> None:
        """`kept` keys are remembered; those that took something longest ago are forgotten first."""
        self.amount = amount
        self.window_s = window_s
        self._each_s = window_s / amount
        self._kept = kept
        self._back_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._back_at)

    def wait_s(self, key: str, now_s: float) -> float:
        """How long until there is anything to take; 0 where there is."""
        return max(0.0, self._back_at.get(key, 0.0) + self._each_s - now_s - self.window_s)

    def admits(self, key: str, now_s: float) -> bool:
        """Take one where there is one; whether there was."""
        back_at = self._back_at.get(key, 0.0)
        if back_at < now_s:
            back_at = now_s
        back_at += self._each_s
        if back_at > now_s + self.window_s:
            return False
        self._keep(key, back_at)
        return True

    def take(self, key: str, now_s: float, amount: int = 1) -> None:
        """Take so much. It may be more than there is: that is waited for afterwards."""
        self._keep(key, max(now_s, self._back_at.get(key, 0.0)) + amount * self._each_s)

    def _keep(self, key: str, back_at: float) -> None:
        self._back_at[key] = back_at
        self._back_at.move_to_end(key)
        if len(self._back_at) > self._kept:
            self._back_at.popitem(last=False)


class FailedAttempts:
    """So many failures a minute from an address, or from an IPv6 network of 64 bits; then it has to wait.

    Only failures count, so any number of agents behind one address that show good tokens are let in.
    """

    def __init__(self, per_minute: int) -> None:
        self.rate = Rate(per_minute, _WINDOW_S, _KEPT)
        self._known: OrderedDict[str, None] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> float:
        """How long an address has to wait before another failure is taken; 0 where it has not."""
        return self.rate.wait_s(network_of(address), now_s)

    def note(self, address: str, now_s: float) -> None:
        """Count a failure of an address that has not to wait."""
        self.rate.take(network_of(address), now_s)

    def note_success(self, address: str) -> None:
        """Remember that somebody at an address that has not to wait has shown what is right."""
        self._known[network_of(address)] = None
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def knows(self, address: str) -> bool:
        """Whether somebody at this address has shown what is right before."""
        return network_of(address) in self._known


@lru_cache(_KEPT)
def network_of(address: str) -> str:
    """What counts as one address: itself, or of IPv6 its network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
