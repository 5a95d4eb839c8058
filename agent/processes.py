"""Who uses the CPU: one look at all processes when a window ends, by Linux's /proc.

A look reads `/proc/PID/stat` of each process, and of new ones once whose they are. It is taken beside the sampling, by
the thread that makes the reports. Looks are as far apart as keeps their cost below `MOST_SHARE` of a core, and
`LEAST_S` seconds at least, however many processes there are and however short windows are.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from agent.plan import SamplingPlan
from agent.probes.base import NotMeasured
from agent.probes.cpu import ProcStat, busy_and_total
from contract.processes import (
    LISTED,
    MAX_COMMAND,
    MAX_NAME,
    MAX_UNIT,
    Consumer,
    ProcessDetail,
    ProcessUse,
    disagreements,
)

LEAST_S = 4.5
"""Looks closer together than this are left out: the next report covers the time of both."""
MOST_SHARE = 0.002
"""The most of a core that looks may take: the dearer the last was, the later is the next."""
_STAT_BYTES = 1024
_log = logging.getLogger(__name__)
_LONG_ID = re.compile(r"[0-9a-f]{32,}")


class _Identity(NamedTuple):
    name: str
    user: str
    unit: str
    command: str


@dataclass(slots=True)
class _SeenProcess:
    """A process as it was at the last look."""

    started: bytes
    """When it began, in ticks since boot: with its number, what identifies it."""
    comm: bytes
    ticks: int
    """CPU time that it had used, its threads' that have ended too."""
    identity: _Identity
    seen: int
    """The number of the look."""


@dataclass(slots=True)
class _UsedTime:
    ticks: int = 0
    pages: int = 0


class ProcessTable:
    """The processes of this machine, and what each used since the last look."""

    def __init__(self, detail: ProcessDetail, proc: str = "/proc", least_s: float = LEAST_S) -> None:
        """With `least_s` 0 looks are as close together as they are asked for.

        Raises NotMeasured where there is no /proc to look at.
        """
        if sys.platform != "linux" and proc == "/proc":
            raise NotMeasured("processes are told of Linux only")
        self._proc = proc
        self._full = detail == "full"
        self._least_s = self._apart_s = least_s
        try:
            self._stat = ProcStat(f"{proc}/stat")
        except OSError as error:
            raise NotMeasured(f"processes cannot be looked at: {error}") from None
        self._known: dict[str, _SeenProcess] = {}
        self._look = 0
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._looked_at = time.monotonic()
        self._times = self._stat.times(self._stat.read().counters)[0]
        self._look_at_all()

    def use(self, now: float | None = None) -> ProcessUse | None:
        """What was used since the last look, at the moment `now` of the steady clock; None where that is too short, or
        where what was counted cannot be of this time.

        Raises OSError where /proc cannot be listed.
        """
        now = time.monotonic() if now is None else now
        seconds = now - self._looked_at
        if seconds < self._apart_s or seconds <= 0.0:
            return None
        began = time.thread_time()
        cores, counters = self._stat.read()
        times = self._stat.times(counters)[0]
        used = self._look_at_all()
        if self._least_s:
            self._apart_s = max(self._least_s, (time.thread_time() - began) / MOST_SHARE)
        busy_s = busy_and_total(self._times, times)[0] * self._tick_s
        self._looked_at, self._times = now, times
        use = self._summary(used, seconds, max(1, len(cores)), busy_s)
        # A core that went offline, or a process that could not be looked at before, is counted for another time.
        return None if any(disagreements(use)) else use

    def close(self) -> None:
        """Let go of the file of counters."""
        self._stat.close()

    def _look_at_all(self) -> dict[_Identity, _UsedTime]:
        self._look += 1
        look, known, first = self._look, self._known, self._look == 1
        used: dict[_Identity, _UsedTime] = {}
        for pid in os.listdir(self._proc):
            if not pid.isdigit():
                continue
            try:
                file = os.open(f"{self._proc}/{pid}/stat", os.O_RDONLY)
                try:
                    stat = os.read(file, _STAT_BYTES)
                finally:
                    os.close(file)
                # The name is in parentheses, and may hold any character, these too.
                end = stat.rindex(b")")
                fields = stat[end + 2 :].split(None, 22)
                ticks = int(fields[11]) + int(fields[12])
                pages = int(fields[21])
                started, comm = fields[19], stat[stat.index(b"(") + 1 : end]
                process = known.get(pid)
                if process is None or process.started != started:
                    # What it used before it was seen, it used since the last look.
                    before = ticks if first else 0
                    process = known[pid] = _SeenProcess(started, comm, before, self._identity(pid, comm), look)
                elif process.comm != comm:
                    process.comm, process.identity = comm, self._identity(pid, comm)
            except (OSError, ValueError, IndexError):
                continue  # It has ended meanwhile.
            total = used.get(process.identity)
            if total is None:
                total = used[process.identity] = _UsedTime()
            total.ticks += max(0, ticks - process.ticks)
            total.pages += pages
            process.ticks, process.seen = ticks, look
        if len(known) > sum(1 for process in known.values() if process.seen == look):
            self._known = {pid: process for pid, process in known.items() if process.seen == look}
        return used

    def _identity(self, pid: str, comm: bytes) -> _Identity:
        """Whose a process is. What it is called is hostile text: it becomes printable, and short."""
        folder = f"{self._proc}/{pid}"
        command = ""
        if self._full:
            with open(f"{folder}/cmdline", "rb") as file:
                command = _printable(file.read(4 * MAX_COMMAND).replace(b"\0", b" ").rstrip(), MAX_COMMAND)
        with open(f"{folder}/cgroup", encoding="utf-8", errors="replace") as file:
            unit = unit_of(file.read(8192).splitlines())
        with open(f"{folder}/status", "rb") as file:
            user = _user_of(file.read(4096))
        return _Identity(_printable(comm, MAX_NAME) or "?", user, unit, command)

    def _summary(self, used: dict[_Identity, _UsedTime], seconds: float, cores: int, busy_s: float) -> ProcessUse:
        by_unit: dict[_Identity, _UsedTime] = {}
        for identity, one in used.items():
            total = by_unit.setdefault(_Identity(identity.unit or "(no unit)", "", "", ""), _UsedTime())
            total.ticks += one.ticks
            total.pages += one.pages
        seen_s = sum(one.ticks for one in used.values()) * self._tick_s
        # The kernel counts the host's time by ticks, that of processes by the nanosecond: the larger is the whole.
        whole_s = max(busy_s, seen_s)
        processes, processes_beyond_s = self._top(used)
        units, units_beyond_s = self._top(by_unit)
        return ProcessUse(
            seconds=max(0.001, round(seconds, 3)), cores=cores,
            busy_s=round(whole_s, 3), unseen_s=round(whole_s - seen_s, 3),
            processes=processes, processes_beyond_s=processes_beyond_s, units=units, units_beyond_s=units_beyond_s,
        )  # fmt: skip

    def _top(self, used: dict[_Identity, _UsedTime]) -> tuple[list[Consumer], float]:
        """Those that used most, and the most that any other used."""
        ranked = sorted(used.items(), key=lambda item: (-item[1].ticks, item[0]))
        listed = [
            Consumer(
                name=identity.name, cpu_s=round(one.ticks * self._tick_s, 3), resident_bytes=one.pages * self._page,
                user=identity.user, unit=identity.unit, command=identity.command,
            )
            for identity, one in ranked[:LISTED]
            if one.ticks
        ]  # fmt: skip
        beyond = ranked[LISTED][1].ticks * self._tick_s if len(ranked) > LISTED else 0.0
        return listed, round(beyond, 3)


def _printable(text: bytes, length: int) -> str:
    """Text of anybody as printable characters, none of which change the direction of writing, so many at most."""
    decoded = text.decode("utf-8", "replace")
    return "".join(one if one.isprintable() else "\ufffd" for one in decoded[:length])


def unit_of(lines: Iterable[str]) -> str:
    """The systemd unit or container of a process, of the lines of its /proc/PID/cgroup (cgroups(7)).

    It is the last part of its path, in the unified hierarchy or else in systemd's; of a session it is the user's slice.
    Numbers of containers are cut to twelve characters. Empty at the root, where a process belongs to no unit.
    """
    paths = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
    unified = next((path for controllers, path in paths if not controllers), "/")
    systemd = next((path for controllers, path in paths if controllers == "name=systemd"), "/")
    parts = [part for part in (unified if unified != "/" else systemd).split("/") if part]
    if not parts:
        return ""
    unit = parts[-1]
    if unit.startswith("session-") and len(parts) > 1:
        unit = parts[-2]
    unit = _LONG_ID.sub(lambda found: found[0][:12], unit.removesuffix(".scope") if _LONG_ID.search(unit) else unit)
    return _printable(unit.encode("utf-8", "replace"), MAX_UNIT)


def _user_of(status: bytes) -> str:
    """The effective user of a process, of its /proc/PID/status."""
    line = next((line for line in status.splitlines() if line.startswith(b"Uid:")), b"")
    return _user_name(int(line.split()[2]))


@lru_cache(256)
def _user_name(uid: int) -> str:
    import pwd  # Windows has none

    try:
        return _printable(pwd.getpwuid(uid).pw_name.encode(), MAX_NAME)
    except KeyError:
        return str(uid)


class ProcessWatch:
    """Looks at the processes as the plan of each window says. For one thread."""

    def __init__(self, least_s: float = LEAST_S) -> None:
        self._least_s = least_s
        self._plan: SamplingPlan | None = None
        self._table: ProcessTable | None = None

    def follow(self, plan: SamplingPlan) -> None:
        """Look from now on as a plan says; what was used before does not count."""
        if plan is self._plan:
            return
        if self._table is not None:
            self._table.close()
        self._plan, self._table = plan, None
        if plan.processes == "off" or plan.paused:
            return
        try:
            self._table = ProcessTable(plan.processes, least_s=self._least_s)
        except (NotMeasured, OSError) as error:
            _log.warning("reports come without processes: %s", error)

    def use(self, plan: SamplingPlan) -> ProcessUse | None:
        """What was used since the last look, for a window of a plan that has ended; None where there is nothing new."""
        self.follow(plan)
        if self._table is None:
            return None
        try:
            return self._table.use()
        except OSError as error:
            _log.warning("a report comes without processes: %s", error)
            return None
