"""What OpenTelemetry's points of systems say, as windows of our metrics.

=========================================  =========================================================================
metric                                     becomes
=========================================  =========================================================================
`system.cpu.utilization`, gauge            CPU utilization: 1 - (idle + iowait) by `cpu.mode` (or `state`), else the
                                           sum of the busy modes, else the number itself; each `cpu.logical_number`
                                           (or `cpu`) is a core, and the host their mean
`system.cpu.time`, sum                     the same by its growth; of a cumulative sum the first says nothing
`system.memory.utilization`, gauge         memory in use: mode `used`
`system.cpu.load_average.1m`, `5m`, `15m`  load averages, all three of one moment
=========================================  =========================================================================

A sender may spread the points of one moment over requests. So they are gathered, and become a window once all is there
that the host had before (`service.ingest.scrapes`); what is always one number, or three load averages, needs not wait.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from contract.metrics import LAST_CORE, Cpu, Distribution, Load, Memory, Metric
from service.ingest.scrapes import START, Conventions, Key, Slot, Values

UTILIZATION: Final = "system.cpu.utilization"
TIME: Final = "system.cpu.time"
_MEMORY: Final = "system.memory.utilization"
_LOADS: Final = {f"system.cpu.load_average.{minutes}m": f"load{minutes}" for minutes in (1, 5, 15)}
GAUGES: Final = frozenset((UTILIZATION, _MEMORY, *_LOADS))
_IDLE: Final = ("idle", "iowait", "wait")
_BUSY: Final = ("user", "nice", "system", "interrupt", "irq", "softirq", "steal", "kernel")
_MODES: Final = ("cpu.mode", "system.cpu.state", "state", "mode")
_MEMORY_STATES: Final = (*_MODES, "system.memory.state", "memory.state")
_CORES: Final = ("cpu.logical_number", "system.cpu.logical_number", "cpu")
_ALL_CORES: Final = ("", "cpu", "all", "total", "cpu-total", "_total", "_Total")
_LONG: Final = 32
_WHOLE: Final = ""
"""In place of a core: the whole host."""
Attributes = Mapping[str, Any]


def gauge_place(name: str, attributes: Attributes) -> Slot | None:
    """Where a point of one of `GAUGES` belongs; None where it says nothing that is kept, as of free memory.

    Raises ValueError where an attribute is not what it has to be.
    """
    if name in _LOADS:
        return Slot("load", ("", _LOADS[name]))
    if name == _MEMORY:
        return Slot("memory", ("", "used")) if _first(attributes, _MEMORY_STATES) in (None, "used") else None
    key = _core(attributes), _first(attributes, _MODES) or ""
    if key[1] not in ("", *_IDLE, *_BUSY):
        return None
    return Slot("utilization", key) if key == (_WHOLE, "") else Slot("utilization by mode and core", key)


def time_place(cumulative: bool, attributes: Attributes) -> Slot | None:
    """Where a point of `TIME` belongs; None for a mode that is a part of others, as of guests, or of nobody's knowing.

    Raises ValueError where an attribute is not what it has to be.
    """
    mode = _first(attributes, _MODES)
    if mode is None:
        raise ValueError("expected cpu.mode or state, got neither")
    place = Slot("time" if cumulative else "time of a window", (_core(attributes), mode))
    return place if mode in (*_IDLE, *_BUSY) else None


def _first(attributes: Attributes, names: tuple[str, ...]) -> str | None:
    found = next((attributes[name] for name in names if name in attributes), None)
    return None if found is None else str(found)[:_LONG]


def _core(attributes: Attributes) -> str:
    """The number of the core that a point is of, or the whole host."""
    name = next((name for name in _CORES if name in attributes), None)
    if name is None or (told := str(attributes[name])) in _ALL_CORES:
        return _WHOLE
    digits = told.removeprefix("cpu")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > _LONG or int(digits) > LAST_CORE:
        raise ValueError(f"expected in {name} the number of a core, got {told[:_LONG]!r}")
    return str(int(digits))


def _metrics_of(group: str, values: Values, before: Values, seconds: float) -> list[Metric]:
    return _METRICS[group](values, before)


def _by_core(values: Mapping[Key, float]) -> dict[str, dict[str, float]]:
    """The numbers of each core by mode."""
    cores: dict[str, dict[str, float]] = defaultdict(dict)
    for key, value in values.items():
        if key != START:
            cores[key[0]][key[1]] = value
    return cores


def _utilization(values: Values, before: Values) -> list[Metric]:
    return [Cpu(avg_utilization=values["", ""])]


def _by_mode(values: Values, before: Values) -> list[Metric]:
    """Of shares of time; a mode that is not told took none, or what is left."""
    shares: dict[str, float] = {}
    for core, modes in _by_core(values).items():
        if "" in modes:
            shares[core] = modes[""]
        elif "idle" in modes:
            shares[core] = 1.0 - sum(modes.get(mode, 0.0) for mode in _IDLE)
        elif any(mode in modes for mode in _BUSY):
            shares[core] = sum(modes.get(mode, 0.0) for mode in _BUSY)
        else:
            raise ValueError("expected the modes idle or user, system and their like, got others alone")
    return _cpu(shares)


def _of_time(values: Values, before: Values) -> list[Metric]:
    """Of the times of a window."""
    shares: dict[str, float] = {}
    for core, modes in _by_core(values).items():
        busy = [modes[mode] for mode in _BUSY if mode in modes]
        if "idle" not in modes or not busy:
            raise ValueError("expected the modes idle and user, system and their like, got no such whole")
        idle = sum(modes.get(mode, 0.0) for mode in _IDLE)
        if idle + sum(busy) > 0.0:
            shares[core] = sum(busy) / (idle + sum(busy))
    return _cpu(shares)


def _of_growth(values: Values, before: Values) -> list[Metric]:
    """Of times since boot; a core of which one went back, or was not there before, is left out."""
    back = {core for (core, mode), now in values.items() if now < before.get((core, mode), float("inf"))}
    _of_time(values, before)
    return _of_time({key: now - before[key] for key, now in values.items() if key[0] not in back}, before)


def _cpu(shares: Mapping[str, float]) -> list[Metric]:
    """The CPU metric of utilizations by core; the host is their mean where it is not among them."""
    if not shares:
        return []
    cores = sorted(int(core) for core in shares if core != _WHOLE)
    by_core = [shares[str(core)] for core in cores]
    whole = shares[_WHOLE] if _WHOLE in shares else sum(by_core) / len(by_core)
    numbers = [] if cores == list(range(len(cores))) else cores
    return [Cpu(avg_utilization=whole, avg_utilization_by_core=by_core, cores=numbers)]


def _memory(values: Values, before: Values) -> list[Metric]:
    return [Memory(utilization=Distribution(mean=values["", "used"]))]


def _load(values: Values, before: Values) -> list[Metric]:
    return [Load(**{name: Distribution(mean=values["", name]) for name in _LOADS.values()})]


_METRICS: Final[Mapping[str, Callable[[Values, Values], list[Metric]]]] = {
    "time": _of_growth, "time of a window": _of_time, "utilization by mode and core": _by_mode,
    "utilization": _utilization, "memory": _memory, "load": _load,
}  # fmt: skip
_BETTER: Final = ("time", "time of a window", "utilization by mode and core", "utilization")
"""Groups that say the same, the best of them first."""
OPENTELEMETRY: Final = Conventions(
    "OpenTelemetry",
    fixed={"utilization": ("",), "memory": ("used",), "load": tuple(_LOADS.values())},
    in_place_of={name: _BETTER[:place] for place, name in enumerate(_BETTER)},
    metrics_of=_metrics_of,
    alone=frozenset(_METRICS) - {"time"},
)
