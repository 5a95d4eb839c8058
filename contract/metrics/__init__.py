"""The catalogue: every metric type, and every name under which its numbers are asked for.

A new type is one file beside this one and one entry in `TYPES`; its names for queries are derived
from its quantities.
"""

from dataclasses import dataclass
from typing import Literal, Union

from contract.metrics.base import Distribution, Metric, Quantity
from contract.metrics.cpu import Cpu
from contract.metrics.disk import Disk
from contract.metrics.load import Load
from contract.metrics.memory import Memory
from contract.metrics.network import Network
from contract.metrics.swap import Swap

__all__ = [
    "NAMES",
    "QUANTITIES",
    "STATISTICS",
    "TYPES",
    "AnyMetric",
    "Distribution",
    "Metric",
    "NamedMetric",
    "Quantity",
    "Statistic",
    "type_name",
]

TYPES: tuple[type[Metric], ...] = (Cpu, Memory, Swap, Disk, Network, Load)

# A Union built at run time is what msgspec decodes; a type checker sees the base class.
AnyMetric = Union[TYPES]  # type: ignore[valid-type]  # noqa: UP007

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
    NamedMetric(quantity.camel, quantity, "mean", quantity.title, by_core=kind is Cpu)
    for kind in TYPES
    for quantity in kind.quantities
)

NAMES: dict[str, NamedMetric] = {metric.name: metric for metric in _ORIGINAL + _DERIVED}
"""Every metric name that a query may ask for."""
