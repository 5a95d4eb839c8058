"""What only Linux tells: kinds of CPU time, the scheduler's counters and pressure, asked for about once a second."""

import os
from collections.abc import Callable, Mapping, Sequence

from agent.probes.base import NotMeasured
from agent.probes.system import Gauges, Periodic, Rates
from contract.metrics import Pressure, Scheduler, Times

_STAT = "/proc/stat"
_PRESSURE = "/proc/pressure"
_MICROSECONDS = 1e6
_STAND_STILL_S = 10.0
"""Counters that do not move for so long are none."""


class TimesProbe(Periodic):
    """Samples how the CPU time of the whole host is divided, of counters as `times_of` gives them.

    A reading in which a counter goes back is joined to the next, as the CPU's probe does; where it is behind still, it
    was set back for good. One in which nothing moved is left to the next.
    """

    def __init__(self, interval_s: float, read: Callable[[], Sequence[int]]) -> None:
        super().__init__(Times, interval_s)
        self._read = read
        self._counters: Sequence[int] = ()
        self._behind: Sequence[int] = ()

    def restart(self, now: float) -> None:
        """Read the counters, and be due a period later."""
        self._begin(now)
        self._counters = self._behind = ()
        self._counters = self._read()

    def sample(self, now: float) -> bool:
        """Take a sample. Raises NotMeasured where the counters have not moved for long."""
        self._schedule_next(now)
        seconds = now - self._sampled_at
        after = self._read()
        if not self._counters:
            self._counters, self._sampled_at = after, now
            return True
        growth = time_between(self._counters, after)
        if growth is None:
            if not self._behind:
                self._behind = after
                return True
            growth = time_between(self._behind, after) or [0] * len(after)
            self._counters = self._behind
        total = sum(growth)
        if seconds > 0.0 and total:
            self._append(kinds_of_time([one / total for one in growth]), seconds)
            self._counters, self._behind, self._sampled_at = after, (), now
        elif seconds >= _STAND_STILL_S:
            raise NotMeasured("the system's counters of CPU time do not move")
        return True


def times_probe(interval_s: float) -> TimesProbe:
    """The probe of the kinds of CPU time of the whole host."""
    return TimesProbe(interval_s, lambda: times_of(_lines(_STAT)))


def times_of(lines: Sequence[str]) -> list[int]:
    """User, system, idle, iowait, interrupts, stolen and guests' time, of the lines of /proc/stat (proc_stat(5)).

    The kernel counts guests' time as user time too; here it is apart, so that each tick is counted once. Of several
    lines for the whole host (lxcfs) the one with most counts. Raises NotMeasured where there is none with all kinds.
    """
    found = [[*map(int, line.split()[1:11])] for line in lines if line.startswith("cpu ")]
    times = max(found, key=sum, default=[])
    if len(times) < 8:
        raise NotMeasured("the system does not tell its kinds of CPU time apart")
    user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice = times + [0] * (10 - len(times))
    guests = guest + guest_nice
    return [max(0, user + nice - guests), system, idle, iowait, irq + softirq, steal, guests]


def time_between(before: Sequence[int], after: Sequence[int]) -> list[int] | None:
    """The time of each kind between two readings of `times_of`; None where one goes back.

    The kernel moves time between idle and waiting afterwards, so one of the two may go back while their sum does not:
    that is all of it, of which waiting is what its counter says, at most.
    """
    user, system, idle, iowait, interrupts, steal, guests = (
        now - then for now, then in zip(after, before, strict=True)
    )
    waiting = min(max(iowait, 0), idle + iowait)
    growth = [user, system, idle + iowait - waiting, waiting, interrupts, steal, guests]
    return None if min(growth) < 0 else growth


def kinds_of_time(shares: Sequence[float]) -> tuple[float, ...]:
    """The quantities of `Times`, of the shares of what `times_of` gives."""
    user, system, _, iowait, interrupts, steal, guest = shares
    work = min(1.0, user + system + interrupts + guest)
    return user, system, iowait, steal, interrupts, guest, work


def scheduler_probe(interval_s: float) -> "_Scheduler":
    """The probe of context switches and of threads that run or wait."""
    return _Scheduler(interval_s)


class _Scheduler(Gauges):
    """Numbers as they are, and the rate of one counter."""

    def __init__(self, interval_s: float, path: str = _STAT) -> None:
        super().__init__(Scheduler, interval_s, self._values)
        self._path = path
        self._switches: int | None = None
        self._now = 0.0

    def restart(self, now: float) -> None:
        """Read the counter, and be due a period later."""
        super().restart(now)
        self._switches = None
        self._switches = scheduler_of(_lines(self._path))[0]

    def sample(self, now: float) -> bool:
        """Take a sample; none where the counter was not known before."""
        if self._switches is None:
            self.restart(now)
            return True
        self._now = now
        return super().sample(now)

    def _values(self) -> tuple[float, float, float]:
        switches, runnable, blocked = scheduler_of(_lines(self._path))
        before, self._switches = self._switches or switches, switches
        return max(0, switches - before) / (self._now - self._sampled_at), runnable, blocked


def scheduler_of(lines: Sequence[str]) -> tuple[int, int, int]:
    """Context switches since boot, and threads that run or wait for a core, and for input or output.

    The thread that asks runs too, and is left out. Raises NotMeasured where one is missing.
    """
    found = dict(line.split()[:2] for line in lines if line.startswith(("ctxt ", "procs_")))
    try:
        return int(found["ctxt"]), max(0, int(found["procs_running"]) - 1), int(found["procs_blocked"])
    except KeyError as missing:
        raise NotMeasured(f"the system does not tell {missing}") from None


def pressure_probe(interval_s: float) -> Rates:
    """The probe of pressure: for how much of the time work waited for what it needed."""
    return _Pressure(Pressure, interval_s, lambda: {"host": pressure_of(_PRESSURE)})


class _Pressure(Rates):
    def _append(self, values: Sequence[float], seconds: float) -> None:
        # Microseconds a second are a share; by its clock a little more may have passed than by ours.
        super()._append([min(1.0, value / _MICROSECONDS) for value in values], seconds)


def pressure_of(folder: str) -> tuple[int, ...]:
    """Microseconds since boot in which work waited, for each quantity of `Pressure` (the kernel's accounting/psi.rst).

    Raises NotMeasured where the kernel does not tell.
    """
    if not os.path.isdir(folder):
        raise NotMeasured("the kernel tells no pressure: it needs Linux 4.20, and may want psi=1 when it starts")
    totals: dict[str, int] = {}
    for resource in ("cpu", "memory", "io"):
        for line in _lines(f"{folder}/{resource}"):
            share, *fields = line.split()
            told: Mapping[str, str] = dict(field.split("=", 1) for field in fields)
            totals[f"{resource}_{share}"] = int(told["total"])
    return tuple(totals[quantity.attribute] for quantity in Pressure.quantities)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        raise NotMeasured(f"there is no {path}: this is told of Linux only") from None
