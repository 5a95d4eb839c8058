"""What fields of other tools are called, and which of our quantities they say: one catalogue for every form.

A name is compared in small letters, its signs as single underscores and `%` as `percent` (`plain`), so that
`CPU Utilization (%)`, `cpu_utilization_percent` and `cpuUtilizationPercent` are one.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["gauge", "free", "state", "state_time", "rate", "growth", "part"]
"""`gauge`: the quantity itself; `free`: 1 less it; `state`: the share of time in a state of the CPU; `state_time`: the
time spent in it since boot; `rate`: per second, of one device; `growth`: a counter of one device; `part`: an amount
that together with another makes a share."""
Unit = Literal["percent", "share", "guess"]


@dataclass(frozen=True, slots=True)
class Field:
    """What a field of somebody else's stands for, and in which unit."""

    kind: Kind
    target: str
    """The stored name of a quantity; of a state its name, of a part such as `memory.total`."""
    unit: Unit = "guess"
    """Of shares: in which unit; `guess` tells it by the values."""
    scale: float = 1.0
    """What a number is multiplied with, apart from percent."""


IDLE_STATES: Final = frozenset({"idle", "iowait"})
BUSY_STATES: Final = frozenset({"user", "nice", "system", "irq", "softirq", "steal"})
"""Guest time is user time already."""
_STATES: Final = {
    "user": "user", "usr": "user", "nice": "nice", "system": "system", "sys": "system", "idle": "idle",
    "iowait": "iowait", "io_wait": "iowait", "wait": "iowait", "irq": "irq", "interrupt": "irq", "hardirq": "irq",
    "softirq": "softirq", "soft": "softirq", "steal": "steal", "stolen": "steal", "guest": "guest",
    "guest_nice": "guest", "gnice": "guest", "kernel": "system", "hi": "irq", "si": "softirq", "wa": "iowait",
}  # fmt: skip
_CPU, _MEMORY, _SWAP = "cpu.utilization", "memory.utilization", "swap.utilization"
_CPU_NAMES: Final = [
    "cpu",
    "cpu_util",
    "cpu_utilization",
    "cpu_utilisation",
    "cpu_usage",
    "cpu_used",
    "cpu_load",
    "cpu_busy",
    "cpu_avg",
    "avg_cpu",
    "cpu_mean",
    "mean_cpu",
    "average_cpu",
    "cpu_average",
    "cpu_utilization_average",
    "cpuutilization",
    "cpuutil",
    "cpuload",
    "cpuusage",
    "cpu_load_avg",
    "util",
    "utilization",
    "utilisation",
    "usage",
    "busy",
    "processor_time",
    "usage_active",
    "active",
    "load_percent",
    "cpu_total_usage",
    "total_cpu_usage",
    "host_cpu",
]
_MEMORY_NAMES: Final = [
    "mem",
    "memory",
    "mem_util",
    "memory_util",
    "mem_utilization",
    "memory_utilization",
    "memoryutilization",
    "mem_used",
    "memory_used",
    "mem_usage",
    "memory_usage",
    "memused",
    "mem_used_percent",
    "ram",
    "ram_usage",
    "ram_used",
]
_SWAP_NAMES: Final = ["swap", "swap_used", "swap_usage", "swap_utilization", "swpused", "swaputilization"]
_LOADS: Final = {"1": "load.1m", "5": "load.5m", "15": "load.15m"}
_GIVEN: Final = {
    "mem_available_percent": Field("free", _MEMORY, "percent"),
    "available_percent": Field("free", _MEMORY, "percent"),
    "mem_available_bytes": Field("part", "memory.available"),
    "memory_mem_available_bytes": Field("part", "memory.available"),
    "mem_total_bytes": Field("part", "memory.total"), "memory_mem_total_bytes": Field("part", "memory.total"),
    "memory_swap_free_bytes": Field("part", "swap.available"), "memory_swap_total_bytes": Field("part", "swap.total"),
    "network_receive_bytes_total": Field("growth", "network.received_bytes"),
    "network_transmit_bytes_total": Field("growth", "network.sent_bytes"),
    "disk_read_bytes_total": Field("growth", "disk.read_bytes"),
    "disk_written_bytes_total": Field("growth", "disk.written_bytes"),
    "disk_reads_completed_total": Field("growth", "disk.reads"),
    "disk_writes_completed_total": Field("growth", "disk.writes"),
    "compute_googleapis_com_instance_cpu_utilization": Field("gauge", _CPU, "share"),
    "system_cpu_utilization": Field("gauge", _CPU, "share"),
    "system_memory_utilization": Field("gauge", _MEMORY, "share"),
}  # fmt: skip
"""Names that mean one thing."""
STORED: Final = [
    "cpu.utilization",
    "memory.utilization",
    "swap.utilization",
    "disk.read_bytes",
    "disk.written_bytes",
    "disk.reads",
    "disk.writes",
    "network.received_bytes",
    "network.sent_bytes",
    "load.1m",
    "load.5m",
    "load.15m",
]
_PERCENTS: Final = re.compile(r"^(?:percent|pct)_|_(?:percent|pct|percentage)$")


def plain(name: str) -> str:
    """A name in the form in which names are compared."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).replace("%", " percent ").lower()
    return re.sub(r"[^a-z0-9]+", "_", words).strip("_")


def field_of(name: str) -> Field | None:
    """What a field of this name says; None where that is not known."""
    if name in STORED:
        return Field("gauge", name, "share")
    told = plain(name)
    if told in _GIVEN:
        return _GIVEN[told]
    for prefix in ("node_", "system_", "avg_", "mean_", "max_over_time_", "host_"):
        if told.removeprefix(prefix) in _GIVEN:
            return _GIVEN[told.removeprefix(prefix)]
    bare = _PERCENTS.sub("", _PERCENTS.sub("", told))
    unit: Unit = "percent" if bare != told else "share" if told.endswith(("_share", "_ratio", "_fraction")) else "guess"
    bare = re.sub(r"_(?:share|ratio|fraction)$", "", bare)
    for names, quantity in ((_CPU_NAMES, _CPU), (_MEMORY_NAMES, _MEMORY), (_SWAP_NAMES, _SWAP)):
        if bare in names:
            return Field("gauge", quantity, unit)
    loads = re.fullmatch(
        r"(?:node_|system_)?(?:load|ldavg|loadavg|load_avg|load_average|shortterm)_?(1|5|15)(?:_?m|_?min)?", bare
    )
    if loads:
        return Field("gauge", _LOADS[loads[1]], "share")
    return _state_of(bare, unit)


def _state_of(bare: str, unit: Unit) -> Field | None:
    timed = re.fullmatch(r"(?:cpu_)?time_(.+)", bare)
    if timed and timed[1] in _STATES:
        return Field("state_time", _STATES[timed[1]])
    state = re.sub(r"^(?:cpu_usage|usage|cpu)_", "", bare)
    if state in _STATES and (len(state) > 2 or unit == "percent"):
        return Field("state", _STATES[state], unit)
    return None
