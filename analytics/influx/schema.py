"""How windows and rollups lie in InfluxDB: the names of measurements, tags and fields (docs/influxdb.md).

The original system's names stay; the rest is added to them. One point is one window, or one bucket of a rollup, of
one machine or core; each quantity has fields of its own in it, which begin alike:

    cpuLoadAvg, cpuLoadVar, cpuLoadCount, ... memoryUtilizationAvg, ... diskReadBytesAvg, ...
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from contract.metrics import TYPES, Metric, Quantity, type_name
from contract.metrics.cpu import Cpu

__all__ = [
    "CORE",
    "CORES",
    "DURATION",
    "MEASUREMENTS",
    "ORIGINAL_OBSERVATIONS",
    "OS_TYPE",
    "OS_VERSION",
    "STATE",
    "TIERS",
    "USERS",
    "USER_ID",
    "Fields",
    "fields_of",
    "measurement_of",
    "newest_field",
]

DATABASE: Final = "METRICS"
"""The original's database; in 2.x the bucket."""

MEASUREMENTS: Final = "measurements"
"""Windows of whole machines, one point a report: tags `userId`, `osVersion`, `osType`. A keyword: quote it."""
CORES: Final = "cores"
"""Windows of single cores: tags `userId` and `core`."""
USERS: Final = "users"
"""What is known of each machine, a point a user and day: tag `userId`."""
STATE: Final = "state"
"""What is known of the database itself: no tags."""

USER_ID: Final = "userId"
OS_VERSION: Final = "osVersion"
OS_TYPE: Final = "osType"
CORE: Final = "core"

DURATION: Final = "duration"
"""Field of `measurements`: how long the window is, ms."""

TIERS: Final = {300_000: "5m", 900_000: "15m", 3_600_000: "1h", 86_400_000: "1d"}
"""The rollups by the width of their buckets in ms, finest first; each width divides the next."""

ORIGINAL_OBSERVATIONS: Final = 100
"""How many samples a point stands for that does not say so: the original's client made each report of 100."""

OVER_CORES: Final = (
    "cpuCoreLoadAvgMax", "cpuCoreLoadAvgMin", "cpuCoreLoadVarMax", "cpuCoreLoadVarMin", "cpuCoreLoadMinMin",
)  # fmt: skip
"""Fields of `measurements`, as the original has them; the last is its misspelling of the one before."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one quantity in a point."""

    mean: str
    variance: str
    """Population variance of the point's own samples."""
    count: str
    """Samples, an integer."""
    total: str
    """Sum of all samples."""
    squares: str
    """Sum of the squares of all samples."""
    minimum: str
    """Left out, like `maximum` and `histogram`, in windows that came without."""
    maximum: str
    histogram: str
    """Hexadecimal of what `analytics.windows.packing` makes of a histogram."""
    approximated: str
    """In rollups: how many of the samples came without extremes; left out where none did."""


@cache
def fields_of(quantity: Quantity) -> Fields:
    """The names of a quantity's fields; those of the CPU begin as the original's, `cpuLoad`."""
    prefix = "cpuLoad" if quantity == Cpu.quantities[0] else quantity.camel
    suffixes = ("Avg", "Var", "Count", "Sum", "Squares", "Min", "Max", "Histogram", "Approximated")
    return Fields(*(prefix + suffix for suffix in suffixes))


def measurement_of(tier_ms: int = 0, *, cores: bool = False) -> str:
    """The measurement of windows (0) or of a rollup, such as `measurements_15m`, of machines or of cores.

    Rollups have the tags `userId` and, of cores, `core`: a machine has one bucket whatever system it ran meanwhile.
    """
    name = CORES if cores else MEASUREMENTS
    return f"{name}_{TIERS[tier_ms]}" if tier_ms else name


def newest_field(kind: type[Metric]) -> str:
    """The field of `users` with the end of the newest window of a metric type, such as `newestCpu`, epoch ms."""
    assert kind in TYPES
    return "newest" + type_name(kind).capitalize()
