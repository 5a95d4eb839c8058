"""What node_exporter's series say, as windows of our metrics: put together again, and counters by their growth.

=================================================  ==================================================================
series                                             becomes
=================================================  ==================================================================
`node_cpu_seconds_total`                           CPU utilization of each core: 1 - (idle + iowait) of the growth of
                                                   all modes; the host is the mean of its cores
the same and `node_cpu_guest_seconds_total`        the kinds of CPU time
`node_memory_MemTotal_bytes`, `_MemAvailable_`     memory in use: 1 - available / total
`node_memory_SwapTotal_bytes`, `_SwapFree_bytes`   swap in use; 0 where there is none; all four: both in bytes
`node_filesystem_size_bytes`, `_avail_`, `_free_`  space of file systems on devices; each device counts once
`node_load1`, `node_load5`, `node_load15`          load averages
`node_network_receive_bytes_total`, `_transmit_`   network rates; devices that stand on others are left out
`node_disk_read_bytes_total`, `_written_bytes_`,   disk rates; as above
`_reads_completed_`, `_writes_completed_total`
`node_context_switches_total`,                     the scheduler
`node_procs_running`, `node_procs_blocked`
`node_pressure_cpu_waiting_seconds_total`,         pressure: shares of time
`_memory_waiting_`, `_memory_stalled_`,
`_io_waiting_`, `_io_stalled_seconds_total`
`instance:node_cpu_utilisation:rate5m`, `:rate1m`  CPU utilization of a host that sends no counters
`instance:node_memory_utilisation:ratio`           memory in use of a host that sends no amounts
=================================================  ==================================================================

A sender spreads the series of one scrape over requests, in any order. So what belongs together is gathered by host,
group and moment, and becomes a window once all that the group has had before is there (`service.ingest.scrapes`).
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

from contract.metrics import (
    LAST_CORE,
    Cpu,
    Disk,
    Distribution,
    FileSystems,
    Load,
    Memory,
    MemoryBytes,
    Metric,
    Network,
    Pressure,
    Scheduler,
    Swap,
    Times,
)  # fmt: skip
from service.ingest.scrapes import Conventions, Slot, Values

MODES: Final = ("user", "nice", "system", "irq", "softirq", "steal", "idle", "iowait")
_IDLE: Final = ("idle", "iowait")
_NEEDED: Final = frozenset(("idle", "user", "system"))
"""Without these nobody knows what the whole is that idle time is a part of."""
_GUESTS: Final = {"user": "guest", "nice": "guest_nice"}
_LEFT_OUT: Final = re.compile(
    r"lo\d*$|docker|br-|veth|virbr|vnet|tun|tap|wg|ifb|dummy|cni|flannel|cali|zt|tailscale|ram|loop|sr\d|dm-|md\d"
)
_MEMBERS: Final[Mapping[str, tuple[str, str]]] = {
    "node_memory_MemTotal_bytes": ("memory", "total"), "node_memory_MemAvailable_bytes": ("memory", "available"),
    "node_memory_SwapTotal_bytes": ("swap", "total"), "node_memory_SwapFree_bytes": ("swap", "free"),
    "node_load1": ("load", "load1"), "node_load5": ("load", "load5"), "node_load15": ("load", "load15"),
    "node_network_receive_bytes_total": ("network", "received_bytes"),
    "node_network_transmit_bytes_total": ("network", "sent_bytes"),
    "node_disk_read_bytes_total": ("disk", "read_bytes"), "node_disk_written_bytes_total": ("disk", "written_bytes"),
    "node_disk_reads_completed_total": ("disk", "reads"), "node_disk_writes_completed_total": ("disk", "writes"),
    "node_context_switches_total": ("scheduler", "context_switches"),
    "node_procs_running": ("scheduler", "runnable"), "node_procs_blocked": ("scheduler", "blocked"),
    "node_pressure_cpu_waiting_seconds_total": ("pressure", "cpu_some"),
    "node_pressure_memory_waiting_seconds_total": ("pressure", "memory_some"),
    "node_pressure_memory_stalled_seconds_total": ("pressure", "memory_full"),
    "node_pressure_io_waiting_seconds_total": ("pressure", "io_some"),
    "node_pressure_io_stalled_seconds_total": ("pressure", "io_full"),
    "node_filesystem_size_bytes": ("filesystems", "size"), "node_filesystem_free_bytes": ("filesystems", "free"),
    "node_filesystem_avail_bytes": ("filesystems", "available"),
    "instance:node_cpu_utilisation:rate5m": ("cpu_gauge", "share"),
    "instance:node_cpu_utilisation:rate1m": ("cpu_gauge", "share"),
    "instance:node_memory_utilisation:ratio": ("memory_gauge", "share"),
}  # fmt: skip
_BY_DEVICE: Final = ("network", "disk", "filesystems")
_READ_ONLY: Final = ("squashfs", "iso9660", "udf", "erofs", "cramfs")
_IN_BYTES: Final = ("memory", "swap")
"""Groups whose series are of the group `memory_bytes` too."""
_CORES: Final = ("node_cpu_seconds_total", "node_cpu_guest_seconds_total")
NAMES: Final = frozenset((*_MEMBERS, *_CORES))
"""The names of series that are kept."""


def places_of(labels: Mapping[str, str]) -> tuple[Slot, ...]:
    """Where a series of one of `NAMES` belongs; nowhere where it says nothing that is kept, as of a loopback device.

    Raises ValueError where a label is not what it has to be.
    """
    name = labels["__name__"]
    if name in _CORES:
        core, mode = labels.get("cpu", ""), labels.get("mode", "")
        if not (core.isascii() and core.isdecimal()) or len(core) > len(str(LAST_CORE)) or int(core) > LAST_CORE:
            raise ValueError(f"expected in cpu the number of a core, got {core[:32]!r}")
        told = _GUESTS.get(mode, "") if name == _CORES[1] else mode
        return (Slot("cpu", (str(int(core)), told)),) if told in (*MODES, *_GUESTS.values()) else ()
    group, member = _MEMBERS[name]
    if group in _IN_BYTES:
        return Slot(group, ("", member)), Slot("memory_bytes", ("", f"{group}_{member}"))
    if group not in _BY_DEVICE:
        return (Slot(group, ("", member)),)
    device = labels.get("device", "")
    if not 0 < len(device) <= 128:
        raise ValueError(f"expected in device 1 to 128 characters, got {len(device)}")
    return (Slot(group, (device, member)),) if _counts(group, device, labels.get("fstype", "")) else ()


def _counts(group: str, device: str, kind: str) -> bool:
    """Whether a device counts: none that stands on others, and no file system without a device or that is read-only."""
    if group == "filesystems":
        return (device.startswith("/dev/") or kind == "zfs") and kind not in _READ_ONLY
    return not _LEFT_OUT.match(device)


def metrics_of(group: str, values: Values, before: Values, seconds: float) -> list[Metric]:
    """What a group says of a window, by its values at the end and, for counters, at the beginning.

    Nothing where a part is missing, or a counter began or went back since.
    """
    if any((("", member) not in values) for member in FIXED.get(group, ())):
        return []
    return _METRICS[group](values, before, seconds)


def _grown(values: Values, before: Values) -> Values:
    """How much counters have grown; those that began or went back are not among it."""
    return {key: now - before[key] for key, now in values.items() if key in before and now >= before[key]}


def _of(values: Values, *members: str) -> list[float]:
    return [values[("", member)] for member in members]


def _cpu(values: Values, before: Values, seconds: float) -> list[Metric]:
    grown = _grown(values, before)
    cores = sorted({int(core) for core, _ in values})
    shares: dict[int, float] = {}
    sums = dict.fromkeys((*MODES, *_GUESTS.values()), 0.0)
    for core in cores:
        name = str(core)
        there = {mode for mode in MODES if (name, mode) in values}
        by_mode = {mode: grown[name, mode] for mode in there if (name, mode) in grown}
        total = sum(by_mode.values())
        if by_mode.keys() != there or not there >= _NEEDED or total <= 0.0:
            continue
        shares[core] = min(1.0, max(0.0, 1.0 - sum(by_mode.get(mode, 0.0) for mode in _IDLE) / total))
        for mode, time in by_mode.items():
            sums[mode] += time / total
        for guest in _GUESTS.values():
            sums[guest] += grown.get((name, guest), 0.0) / total
    if not shares:
        return []
    by_core = list(shares.values())
    numbers = [] if list(shares) == list(range(len(shares))) else list(shares)
    found: list[Metric] = [
        Cpu(avg_utilization=sum(by_core) / len(by_core), avg_utilization_by_core=by_core, cores=numbers)
    ]
    if all((str(core), "guest") in values for core in cores):
        found.append(_times({mode: time / len(shares) for mode, time in sums.items()}))
    return found


def _times(share: Mapping[str, float]) -> Times:
    """The kinds of CPU time; the kernel counts guests among programs too."""
    guest = min(share["guest"] + share["guest_nice"], share["user"] + share["nice"])
    user = share["user"] + share["nice"] - guest
    irq = share["irq"] + share["softirq"]
    work = user + share["system"] + irq + guest
    kinds = {
        "user": user, "system": share["system"], "iowait": share["iowait"], "steal": share["steal"], "irq": irq,
        "guest": guest, "work": work,
    }  # fmt: skip
    return Times(**{kind: Distribution(mean=min(1.0, max(0.0, value))) for kind, value in kinds.items()})


def _amounts(kind: type[Metric], total: float, free: float) -> list[Metric]:
    used = 1.0 - free / total if total > 0.0 else 0.0
    return [kind(utilization=Distribution(mean=min(1.0, max(0.0, used))))]


def _memory(values: Values, before: Values, seconds: float) -> list[Metric]:
    return _amounts(Memory, *_of(values, "total", "available"))


def _swap(values: Values, before: Values, seconds: float) -> list[Metric]:
    return _amounts(Swap, *_of(values, "total", "free"))


def _memory_bytes(values: Values, before: Values, seconds: float) -> list[Metric]:
    total, available, swap, free = _of(values, *FIXED["memory_bytes"])
    return [MemoryBytes(*(Distribution(mean=max(0.0, one)) for one in (total - available, available, swap - free)))]


def _filesystems(values: Values, before: Values, seconds: float) -> list[Metric]:
    """Space that users other than root can use, as df counts it."""
    fullest, used, available = 0.0, 0.0, 0.0
    for device in sorted({device for device, _ in values}):
        if all((device, member) in values for member in ("size", "free", "available")):
            taken = max(0.0, values[device, "size"] - values[device, "free"])
            left = values[device, "available"]
            used, available = used + taken, available + left
            fullest = max(fullest, taken / (taken + left) if taken + left > 0.0 else 0.0)
    if used + available <= 0.0:
        return []
    return [FileSystems(*(Distribution(mean=one) for one in (fullest, used, available)))]


def _load(values: Values, before: Values, seconds: float) -> list[Metric]:
    return [Load(*(Distribution(mean=one) for one in _of(values, *FIXED["load"])))]


def _scheduler(values: Values, before: Values, seconds: float) -> list[Metric]:
    grown = _grown(values, before).get(("", "context_switches"))
    if grown is None:
        return []
    return [Scheduler(*(Distribution(mean=one) for one in (grown / seconds, *_of(values, "runnable", "blocked"))))]


def _pressure(values: Values, before: Values, seconds: float) -> list[Metric]:
    grown = _grown(values, before)
    if len(grown) < len(values):
        return []
    return [Pressure(*(Distribution(mean=min(1.0, one / seconds)) for one in _of(grown, *FIXED["pressure"])))]


def _rates(kind: type[Metric], members: tuple[str, ...]) -> "Callable[[Values, Values, float], list[Metric]]":
    def rates(values: Values, before: Values, seconds: float) -> list[Metric]:
        grown = _grown(values, before)
        of_member = {one: [growth for (_, member), growth in grown.items() if member == one] for one in members}
        if not all(of_member.values()):
            return []
        return [kind(**{member: Distribution(mean=sum(all_) / seconds) for member, all_ in of_member.items()})]

    return rates


def _cpu_gauge(values: Values, before: Values, seconds: float) -> list[Metric]:
    return [Cpu(avg_utilization=values["", "share"])]


def _memory_gauge(values: Values, before: Values, seconds: float) -> list[Metric]:
    return [Memory(utilization=Distribution(mean=values["", "share"]))]


FIXED: Final[Mapping[str, tuple[str, ...]]] = {
    "memory": ("total", "available"),
    "swap": ("total", "free"),
    "memory_bytes": ("memory_total", "memory_available", "swap_total", "swap_free"),
    "load": ("load1", "load5", "load15"),
    "scheduler": ("context_switches", "runnable", "blocked"),
    "pressure": ("cpu_some", "memory_some", "memory_full", "io_some", "io_full"),
    "cpu_gauge": ("share",),
    "memory_gauge": ("share",),
}
"""The groups whose members are always the same."""
_IN_PLACE_OF: Final = {"cpu_gauge": ("cpu",), "memory_gauge": ("memory",)}
"""Groups that say what another says better: nothing is taken of them where the host has that one."""
SHARES: Final = frozenset(_IN_PLACE_OF)
"""Groups whose values are in [0, 1]; those of all others are at least 0."""
_METRICS: Final[Mapping[str, Callable[[Values, Values, float], list[Metric]]]] = {
    "cpu": _cpu, "memory": _memory, "swap": _swap, "memory_bytes": _memory_bytes, "filesystems": _filesystems,
    "load": _load, "scheduler": _scheduler, "pressure": _pressure,
    "network": _rates(Network, ("received_bytes", "sent_bytes")),
    "disk": _rates(Disk, ("read_bytes", "written_bytes", "reads", "writes")),
    "cpu_gauge": _cpu_gauge, "memory_gauge": _memory_gauge,
}  # fmt: skip
NODE_EXPORTER: Final = Conventions("Prometheus", FIXED, _IN_PLACE_OF, metrics_of)
