"""Time as the sampler sees it: one clock that never stops, one that stands still while the machine sleeps, the wall."""

import sys
import time
from typing import Protocol

from agent.orders import Orders
from contract import times

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the sampler asks of time."""

    def now(self) -> float:
        """Seconds since some fixed moment, sleep of the machine included; never goes back."""

    def asleep(self) -> float:
        """Seconds that the machine has slept since some fixed moment; 0 where the system does not tell."""

    def wall_ms(self) -> int:
        """The wall clock, in epoch milliseconds; may jump."""

    def wait(self, until: float) -> bool:
        """Wait until `now()` is `until`, or there is an order; True as soon as the agent is to stop."""


NAP_S = 0.25
"""The longest wait that is not cut short by an order or when the agent is to stop."""

# Linux: CLOCK_MONOTONIC stands still during sleep, CLOCK_BOOTTIME goes on. macOS: CLOCK_MONOTONIC goes on,
# CLOCK_UPTIME_RAW stands still. Windows: time.monotonic() goes on, and the other has no name in Python; there a
# sample that is far too late tells that the machine slept.
_GOES_ON: int | None = None
_STANDS_STILL: int | None = None
if sys.platform == "linux":
    _GOES_ON, _STANDS_STILL = time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC
elif sys.platform == "darwin":
    _GOES_ON, _STANDS_STILL = time.CLOCK_MONOTONIC, time.CLOCK_UPTIME_RAW


class SystemClock:
    """The machine's clocks. `orders` end a wait."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def now(self) -> float:
        """As `Clock.now`."""
        return time.clock_gettime(_GOES_ON) if _GOES_ON is not None else time.monotonic()

    def asleep(self) -> float:
        """As `Clock.asleep`."""
        return self.now() - time.clock_gettime(_STANDS_STILL) if _STANDS_STILL is not None else 0.0

    def wall_ms(self) -> int:
        """As `Clock.wall_ms`."""
        return times.now_ms()

    def wait(self, until: float) -> bool:
        """As `Clock.wait`."""
        left = until - self.now()
        if left > NAP_S:
            self._orders.sleep(left)
        # An Event makes a lock for each wait: at 20 Hz that is a fifth of all that the agent costs.
        elif left > 0.0:
            time.sleep(left)
        return self._orders.stopping
