"""Who used the CPU: the processes and units (systemd units, containers) of a window that used most of it.

A window names a few of them, and says what the others can have used at most. That is a summary of heavy hitters as
Space-Saving keeps it (Metwally, Agrawal and El Abbadi 2005), and it merges as such summaries do (Agarwal, Cormode,
Huang, Phillips, Wei and Yi 2013): what is known of each adds up, and so does what may be missing. So over any range and
any number of hosts a process used at least `cpu_s`, and at most that and what may be missing.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct

ProcessDetail = Literal["off", "names", "full"]
"""What an agent tells of processes: nothing, their names, or their command lines too."""
LISTED = 5
"""How many processes and units an agent names for each window."""
MAX_LISTED = 20
MAX_NAME = 64
MAX_UNIT = 128
MAX_COMMAND = 256

_TICKS_S = 0.5
"""How much more than the whole its parts may come to, by the rounding of each."""
_STALL = 1.1
_STALL_S = 1.0
"""How much longer than told a window may be: its clock is read at another moment than the counters of CPU time."""

_Seconds = Annotated[float, Meta(ge=0.0, le=1e12)]


class Consumer(Struct, gc=False, frozen=True, omit_defaults=True):
    """Processes of one name, user and unit; or all those of a unit, which is `name` then."""

    name: Annotated[str, Meta(min_length=1, max_length=MAX_UNIT)]
    cpu_s: _Seconds
    """CPU time that they used in the window."""
    resident_bytes: Annotated[int, Meta(ge=0, le=2**60)] = 0
    """Memory that they had at its end; what several share counts for each."""
    user: Annotated[str, Meta(max_length=MAX_NAME)] = ""
    unit: Annotated[str, Meta(max_length=MAX_UNIT)] = ""
    """The systemd unit or the container that they belong to; empty where there is none."""
    command: Annotated[str, Meta(max_length=MAX_COMMAND)] = ""
    """Their command line, with the detail `full` only."""


class ProcessUse(Struct, frozen=True, omit_defaults=True):
    """Who used the CPU of a host, from one look at its processes to the next.

    What is listed and what is not adds up to `busy_s`. The time of processes that began and ended between two looks is
    known of the host as a whole only: it is a part of `unseen_s`, with what the kernel did for nobody.
    """

    seconds: Annotated[float, Meta(gt=0.0, le=1e9)]
    """From one look to the next, by a clock that does not jump."""
    cores: Annotated[int, Meta(ge=1, le=65536)]
    busy_s: _Seconds
    """CPU time of the whole host that was not idle, over all cores."""
    unseen_s: _Seconds = 0.0
    """The part of it that no process which was seen used."""
    processes: Annotated[list[Consumer], Meta(max_length=MAX_LISTED)] = []
    """Those that used most, the most first."""
    processes_beyond_s: _Seconds = 0.0
    """The most that any other which was seen used."""
    units: Annotated[list[Consumer], Meta(max_length=MAX_LISTED)] = []
    """As `processes`."""
    units_beyond_s: _Seconds = 0.0


def disagreements(use: ProcessUse) -> Iterator[tuple[str, str]]:
    """The members that cannot be true together with the others, each with why."""
    most_s = (use.seconds * _STALL + _STALL_S) * use.cores
    if use.busy_s > most_s:
        yield (
            "busy_s",
            f"expected at most {most_s:.6g} s of {use.cores} cores in {use.seconds:.6g} s, got {use.busy_s:.6g}",
        )
    if use.unseen_s > use.busy_s + _TICKS_S:
        yield "unseen_s", f"expected at most busy_s {use.busy_s:.6g} s, got {use.unseen_s:.6g}"
    for member, consumers, beyond_s in (
        ("processes", use.processes, use.processes_beyond_s),
        ("units", use.units, use.units_beyond_s),
    ):
        listed_s = sum(one.cpu_s for one in consumers)
        if listed_s > use.busy_s + _TICKS_S:
            yield member, f"expected at most busy_s {use.busy_s:.6g} s in all, got {listed_s:.6g}"
        if beyond_s > use.busy_s + _TICKS_S:
            yield f"{member}_beyond_s", f"expected at most busy_s {use.busy_s:.6g} s, got {beyond_s:.6g}"


class Named(Struct, frozen=True):
    """One of those that used most of the CPU of a host at some time."""

    name: str
    unit: str
    """The systemd unit or the container that it belongs to; empty where there is none."""
    share: float
    """Of the CPU time that was used, 0 to 1."""


def top(use: ProcessUse, number: int = 3) -> list[Named]:
    """Those processes that used most of the busy time, the most first."""
    if use.busy_s <= 0.0:
        return []
    used = [one for one in use.processes[:number] if one.cpu_s > 0.0]
    return [Named(one.name, one.unit, min(1.0, one.cpu_s / use.busy_s)) for one in used]


def in_words(one: Named) -> str:
    """As people are told of it: `python3 (backup.service) 82 %`."""
    return f"{one.name} ({one.unit}) {100 * one.share:.0f} %" if one.unit else f"{one.name} {100 * one.share:.0f} %"
