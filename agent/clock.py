"""Time as the agent sees it: clocks that never stop, or sleep with the host, the service's time, times of windows."""

import secrets
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from agent.plan import CommandBox
from contract import times

REMEMBERED = 16_384
"""How many ends are kept in mind: 22 hours of windows of 5 s, 128 KiB."""


class Timeline:
    """Gives each window its place in time, so that no two windows end in the same millisecond.

    The service tells reports apart by their end: two with the same end would count once. So:

    - A window's length is measured by a clock that does not jump; its start is read from the wall clock.
    - A wall clock that goes slowly, or back by less than a window, shortens the next window's stated time, so
      that windows do not overlap.
    - A wall clock that goes back further is believed: the windows that follow overlap the earlier ones in time,
      and an end that was given out already moves on by a millisecond.

    Windows that wait already when they get the service's time are given their ends here too. Any thread may ask.
    """

    def __init__(self, given_out: Iterable[int] = ()) -> None:
        """`given_out`: the ends of earlier runs, oldest first."""
        self._ends = array("q", given_out)
        self._newest = max(self._ends, default=0)
        self._previous = self._ends[-1] if self._ends else None
        """Where the window ended that was placed last."""
        self._lock = threading.Lock()

    def place(self, start_ms: int, duration_s: float) -> tuple[int, int]:
        """The start and end, in epoch milliseconds, of a window that began at `start_ms` by the wall clock."""
        end_ms = start_ms + max(1, round(duration_s * 1000))
        if self._previous is not None and start_ms < self._previous < end_ms:
            start_ms = self._previous
        self._previous = end_ms = self.give_out(end_ms)
        return start_ms, end_ms

    def give_out(self, end_ms: int) -> int:
        """The first end from this one on, in epoch milliseconds, that no window has; it is this one's from now on."""
        with self._lock:
            # A search through all of them, for as long as a clock that went back has not caught up.
            while end_ms <= self._newest and end_ms in self._ends:
                end_ms += 1
            self._newest = max(self._newest, end_ms)
            self._ends.append(end_ms)
            if len(self._ends) > 2 * REMEMBERED:
                del self._ends[:-REMEMBERED]
            return end_ms


class Clock(Protocol):
    """What the sampler asks of time."""

    def now(self) -> float:
        """Seconds since some fixed moment, sleep of the host included; never goes back."""

    def asleep(self) -> float:
        """Seconds that the host has slept since some fixed moment; 0 where the system does not tell."""

    def wall_ms(self) -> int:
        """The wall clock, in epoch milliseconds; may jump."""

    def wait(self, until: float) -> bool:
        """Wait until `now()` is `until`, or there is an order; True as soon as the agent is to stop."""


NAP_S = 0.25
"""The longest wait that is not cut short by an order or when the agent is to stop."""

# Linux: CLOCK_MONOTONIC stands still during sleep, CLOCK_BOOTTIME goes on. macOS: CLOCK_MONOTONIC goes on,
# CLOCK_UPTIME_RAW stands still. Windows: time.monotonic() goes on, and the other has no name in Python; there a
# sample that is far too late tells that the host slept.
_GOES_ON: int | None = None
_STANDS_STILL: int | None = None
if sys.platform == "linux":
    _GOES_ON, _STANDS_STILL = time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC
elif sys.platform == "darwin":
    _GOES_ON, _STANDS_STILL = time.CLOCK_MONOTONIC, time.CLOCK_UPTIME_RAW


def steady_s() -> float:
    """Seconds since some fixed moment, sleep of the host included; never goes back, and knows of no wall clock."""
    return time.clock_gettime(_GOES_ON) if _GOES_ON is not None else time.monotonic()


def boot_id() -> str:
    """Names what `steady_s` counts from: the same for as long as its seconds can be compared."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # Elsewhere it is not known whether the host was started anew between two runs.
        return secrets.token_hex(16)


CLOCK_LIMIT_S = 60.0
"""A clock that differs by more from the service's is not believed."""
DATE_S = 2.0
"""A Date header has whole seconds, and servers renew it once a second."""


class ServiceTime:
    """The service's clock, as its answers tell it, by the host's steady clock.

    Windows are stamped by the host's wall clock, unless it differs from the service's by more than `limit_s`: then by
    the service's. One thread tells it what was heard; any may ask.
    """

    def __init__(self, limit_s: float = CLOCK_LIMIT_S, wall_ms: Callable[[], int] = times.now_ms) -> None:
        self._limit_ms = limit_s * 1000
        self._wall_ms = wall_ms
        self._offset_s: tuple[float, float] | None = None
        """Bounds of what is to be added to the steady clock for the service's, in epoch seconds."""

    @property
    def is_known(self) -> bool:
        """Whether the service has told its time."""
        return self._offset_s is not None

    def heard(self, date_s: float, asked_at: float, answered_at: float) -> None:
        """Note the service's clock, epoch seconds, as it was at some moment between two of the steady clock.

        What is known stays unless this is much sharper, or contradicts it: so the windows of one host do not jitter.
        """
        low, high = date_s - answered_at, date_s + DATE_S - asked_at
        known = self._offset_s
        if known is None or high < known[0] or low > known[1] or high - low < (known[1] - known[0]) / 2:
            self._offset_s = (low, high)

    def at_ms(self, moment: float) -> int | None:
        """The service's clock at a moment of the steady clock, epoch milliseconds; None where it is not known."""
        offset = self._offset_s
        return None if offset is None else round((moment + sum(offset) / 2) * 1000)

    def correction_ms(self, end_ms: int, ended_at: float) -> int:
        """What to add to the times of a window that ended at `end_ms` by the wall, `ended_at` by the steady clock."""
        service_ms = self.at_ms(ended_at)
        if service_ms is None or abs(service_ms - end_ms) <= self._limit_ms:
            return 0
        return service_ms - end_ms

    def ahead_s(self) -> float | None:
        """How far the wall clock is ahead of the service's, seconds, to about two; None where that is not known."""
        service_ms = self.at_ms(steady_s())
        return None if service_ms is None else (self._wall_ms() - service_ms) / 1000


class SystemClock:
    """The host's clocks. `commands` end a wait."""

    def __init__(self, commands: CommandBox) -> None:
        self._commands = commands

    def now(self) -> float:
        """As `Clock.now`."""
        return steady_s()

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
            self._commands.sleep(left)
        # An Event makes a lock for each wait: at 20 Hz that is a fifth of all that the agent costs.
        elif left > 0.0:
            time.sleep(left)
        return self._commands.stopping
