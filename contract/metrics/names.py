"""Every name under which the numbers of metrics are asked for; those of a new type follow from its quantities."""

from dataclasses import dataclass
from typing import Literal

from contract.metrics.base import Metric, Quantity
from contract.metrics.types import TYPES, Cpu

QUANTITIES: dict[str, Quantity] = {quantity.name: quantity for kind in TYPES for quantity in kind.quantities}

Statistic = Literal["mean", "var", "std", "min", "max", "p50", "p95", "p99", "count"]
STATISTICS: tuple[Statistic, ...] = ("mean", "var", "std", "min", "max", "p50", "p95", "p99", "count")


def type_name(kind: type[Metric]) -> str:
    """The `type` member of a metric type's JSON, such as `CPU`."""
    return str(kind.__struct_config__.tag)


@dataclass(frozen=True, slots=True)
class NamedMetric:
    """A name that can be asked for: a statistic of a quantity, of the whole or over the cores."""

    name: str
    quantity: Quantity
    statistic: Statistic
    """What is answered unless the question names another."""
    title: str
    over_cores: Literal["max", "min"] | None = None
    """Set where the answer is the highest or lowest of all cores' values."""
    by_core: bool = False
    """True where one core can be asked for."""
    by_device: bool = False
    """True where one device can be asked for, by its name."""


_CPU = Cpu.quantities[0]

_ORIGINAL = (
    NamedMetric("cpuLoadAvg", _CPU, "mean", "CPU utilization, mean", by_core=True),
    NamedMetric("cpuLoadVar", _CPU, "var", "CPU utilization, variance", by_core=True),
    NamedMetric("cpuCoreLoadAvgMax", _CPU, "mean", "Mean utilization of the busiest core", "max"),
    NamedMetric("cpuCoreLoadAvgMin", _CPU, "mean", "Mean utilization of the idlest core", "min"),
    NamedMetric("cpuCoreLoadVarMax", _CPU, "var", "Highest variance of a core", "max"),
    NamedMetric("cpuCoreLoadVarMin", _CPU, "var", "Lowest variance of a core", "min"),
    # The original's misspelling of cpuCoreLoadVarMin, which its callers use.
    NamedMetric("cpuCoreLoadMinMin", _CPU, "var", "Lowest variance of a core", "min"),
)

_DERIVED = tuple(
    NamedMetric(
        quantity.camel, quantity, "mean", quantity.title,
        by_core=quantity in kind.of_cores, by_device=quantity in kind.of_devices,
    )
    for kind in TYPES
    for quantity in kind.quantities
)  # fmt: skip

NAMES: dict[str, NamedMetric] = {metric.name: metric for metric in _ORIGINAL + _DERIVED}
"""Every metric name that a query may ask for."""

BY_CORE: tuple[str, ...] = tuple(metric.name for metric in NAMES.values() if metric.by_core)
"""The names that go with a core."""
BY_DEVICE: tuple[str, ...] = tuple(metric.name for metric in NAMES.values() if metric.by_device)
"""The names that go with a device."""

TYPE_OF: dict[str, type[Metric]] = {quantity.name: kind for kind in TYPES for quantity in kind.quantities}
"""The type of each stored name."""
