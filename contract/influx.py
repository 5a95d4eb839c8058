"""How windows and rollups lie in InfluxDB (docs/influxdb.md): measurements, tags, fields, and how names are quoted.

Everything that goes into InfluxQL or line protocol is escaped here, and nowhere else.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from contract.metrics import BUSIEST_CORE, IDLEST_CORE, TYPES, Cpu, Metric, Quantity, type_name

_LAST_MS = (2**63 - 1) // 1_000_000
_BEHIND_BACKSLASH = "\u200b"
_QUERY = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_TAG = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_FIELD = str.maketrans({"\\": "\\\\", '"': '\\"'})


def identifier(name: str) -> str:
    """The name of a measurement, tag, field or database in InfluxQL."""
    return '"' + name.translate(_QUERY).replace('"', '\\"') + '"'


def literal(text: str) -> str:
    """A text in InfluxQL."""
    return "'" + text.translate(_QUERY).replace("'", "\\'") + "'"


def tag_literal(text: str) -> str:
    """The value of a tag in InfluxQL, as `tag` stored it."""
    return literal(_stored(text))


def tag(name: str, value: str) -> str:
    """A tag of a point in line protocol, with its comma in front; nothing for an empty value, which cannot be stored.

    Raises ValueError for a line break, which would end the point.
    """
    if "\n" in value:
        raise ValueError("a tag has no line breaks")
    return f",{name}={_stored(value).translate(_TAG)}" if value else ""


def tag_value(stored: str) -> str:
    """The value of a tag that InfluxDB answers."""
    return stored.removesuffix(_BEHIND_BACKSLASH)


def string_field(text: str) -> str:
    """A text as the value of a field in line protocol."""
    return '"' + text.translate(_FIELD) + '"'


def _stored(value: str) -> str:
    return value + _BEHIND_BACKSLASH if value.endswith("\\") else value


def between(start_ms: int, end_ms: int) -> str:
    """The condition of times in [start, end), cut to the years 1677 to 2262, which are all that InfluxDB has."""
    start_ms, end_ms = (min(max(time, -_LAST_MS), _LAST_MS) for time in (start_ms, end_ms))
    return f"time >= {start_ms}ms AND time < {end_ms}ms"


DATABASE: Final = "METRICS"
"""The original's database; in 2.x the bucket."""

MEASUREMENTS: Final = "measurements"
"""Windows of whole hosts, one point a report: tags `userId`, `osVersion`, `osType`. A keyword: quote it."""
CORES: Final = "cores"
"""Windows of single cores: tags `userId` and `core`."""
USERS: Final = "users"
"""What is known of each host, a point a day and when it changes: tag `userId`."""
STATE: Final = "state"
"""What is known of the database itself, a point when it changes: no tags."""
CLAIM: Final = "claim"
"""Which service has the database, a point every few seconds, at the server's time: tag `owner`, as the field of
`state`; fields `phase`, `since` (epoch ms), `place` and `process`."""

USER_ID: Final = "userId"
OS_VERSION: Final = "osVersion"
OS_TYPE: Final = "osType"
CORE: Final = "core"
PART: Final = "part"
"""Tag of rollups: which of the rows of a bucket this is, that add up to all of it. `0` is what was there when the
bucket was over, 1 and higher came later; a row without the tag is a whole bucket."""

DURATION: Final = "duration"
"""Field of `measurements`: how long the window is, ms."""

TIERS: Final = {300_000: "5m", 900_000: "15m", 3_600_000: "1h", 86_400_000: "1d"}
"""The rollups by the width of their buckets in ms, finest first; each width divides the next."""

SINCE: Final = "since"
"""Field of `state`: before this time, epoch ms, the windows have to be read, because rollups lack some."""
SCHEMA: Final = "schema"
"""Field of `state`: 2, or 1 where a bucket was one row that was written again with every flush."""
OWNER: Final = "owner"
"""Field of `state`: the folder of the service that said it."""
PARTS: Final = "parts"
"""Field of `state`: the highest number of a part that may be in use."""


def through_field(tier_ms: int) -> str:
    """The field of `state` with the time, epoch ms, before which a rollup has all its buckets, such as `through5m`."""
    return "through" + TIERS[tier_ms]


PROCESSES: Final = "processes"
"""Who used the CPU of a host, one point a window that says so: tag `userId`."""
PROCESSES_1H: Final = "processes_1h"
"""The same by the hour, rows that add up: tags `userId` and `part`; the time is the start of the hour."""
WINDOW_SECONDS: Final = "seconds"
CORE_SECONDS: Final = "coreSeconds"
BUSY_SECONDS: Final = "busySeconds"
PROCESS_BEYOND: Final = "processBeyondSeconds"
UNIT_BEYOND: Final = "unitBeyondSeconds"
"""Fields of both: the time that is covered, what the cores could have done in it and did, and the most that a process,
or a unit, can have used that is not named."""
USES: Final = "uses"
"""Field of both, JSON: for each process and unit that is named `[kind, name, user, unit, command, cpu_s, more_s,
bytes]` as `service.stores.process_use.USES_SCHEMA` has them. One text, because each name as a tag would be a series."""
PROCESSES_THROUGH: Final = "throughProcesses"
"""Field of `state`: from here on, epoch ms, there are no rows of hours yet."""

ORIGINAL_POINTS: Final = "originalPoints"
"""Field of `measurements_5m`, an integer: how many points of the original a row is made of; left out where of none."""
ORIGINAL_TIMES: Final = "originalTimes"
"""Field of `measurements_5m` beside it: how far the ends of these points are behind the row's time, ms, with spaces."""

ORIGINAL_OBSERVATIONS: Final = 100
"""How many samples a point stands for that does not say so: the original's client made each report of 100."""

OVER_CORES: Final = (
    "cpuCoreLoadAvgMax", "cpuCoreLoadAvgMin", "cpuCoreLoadVarMax", "cpuCoreLoadVarMin", "cpuCoreLoadMinMin",
)  # fmt: skip
"""Fields of `measurements`, as the original has them; the last is its misspelling of the one before."""


STAND_IN_CORES: Final = {
    BUSIEST_CORE: ("cpuCoreLoadAvgMax", "cpuCoreLoadVarMax"),
    IDLEST_CORE: ("cpuCoreLoadAvgMin", "cpuCoreLoadMinMin"),
}
"""Mean and variance of the cores that stand for all cores of a point of the original."""


ORIGINAL_FIELDS: Final = ("cpuLoadAvg", "cpuLoadVar", *OVER_CORES[:3], OVER_CORES[4])
"""Fields of `measurements` that the original writes."""


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
    """Hexadecimal of what `analytics.frames.packing` makes of a histogram."""
    approximated: str
    """In rollups: how many of the samples came without extremes; left out where none did."""


@cache
def fields_of(quantity: Quantity) -> Fields:
    """The names of a quantity's fields; those of the CPU begin as the original's, `cpuLoad`."""
    prefix = "cpuLoad" if quantity == Cpu.quantities[0] else quantity.camel
    suffixes = ("Avg", "Var", "Count", "Sum", "Squares", "Min", "Max", "Histogram", "Approximated")
    return Fields(*(prefix + suffix for suffix in suffixes))


def measurement_of(tier_ms: int = 0, *, cores: bool = False) -> str:
    """The measurement of windows (0) or of a rollup, such as `measurements_15m`, of hosts or of cores.

    Rollups have the tags `userId`, `part` and, of cores, `core`: a host has one bucket whatever system it ran
    meanwhile.
    """
    name = CORES if cores else MEASUREMENTS
    return f"{name}_{TIERS[tier_ms]}" if tier_ms else name


def newest_field(kind: type[Metric]) -> str:
    """The field of `users` with the end of the newest window of a metric type, such as `newestCpu`, epoch ms."""
    assert kind in TYPES
    return "newest" + type_name(kind).capitalize()
