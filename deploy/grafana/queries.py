"""The InfluxQL of the dashboards, on the rollups of docs/influxdb.md.

Grafana fills in `$timeFilter`, `$__to` and the variables: `$tier` is the width of the buckets and says which rollup is
read, `${user:regex}` stands for the machines that are chosen, escaped for a regular expression.

Every bucket of a rollup is one point, so a point's mean is that of all its samples, and SUM merges buckets exactly.
"""

from contract.influx import CORE, OS_TYPE, USER_ID, USERS, Fields, fields_of, measurement_of
from contract.metrics import Cpu

CPU: Fields = fields_of(Cpu.quantities[0])
SATURATED = 0.9
"""A machine counts as saturated in a bucket whose mean reaches this."""
SILENT_MS = 15 * 60 * 1000
"""A machine counts as silent when its newest window is older, at the end of the range that is looked at."""


def quoted(name: str) -> str:
    """An identifier."""
    return f'"{name}"'


MACHINES = quoted(f"{measurement_of()}_$tier")
CORES = quoted(f"{measurement_of(cores=True)}_$tier")
CHOSEN = f"{quoted(USER_ID)} =~ /^${{user:regex}}$/ AND $timeFilter"
EACH_BUCKET = "time($tier)"
EACH_USER = quoted(USER_ID)
EACH_CORE = quoted(CORE)
POINT_MEAN = quoted(CPU.mean)


def mean(fields: Fields = CPU) -> str:
    """The mean of all samples."""
    return f"SUM({quoted(fields.total)}) / SUM({quoted(fields.count)})"


def variance(fields: Fields = CPU) -> str:
    """The population variance of all samples: the mean of the squares less the square of the mean."""
    return f"SUM({quoted(fields.squares)}) / SUM({quoted(fields.count)}) - POW({mean(fields)}, 2)"


def select(
    columns: dict[str, str], source: str = MACHINES, *, where: str = "", by: tuple[str, ...] = (), fill: str = ""
) -> str:
    """A statement on the machines that are chosen, in the range that is looked at; `columns` by the name of each."""
    named = ", ".join(f"{expression} AS {quoted(name)}" for name, expression in columns.items())
    condition = f"{CHOSEN} AND {where}" if where else CHOSEN
    groups = f" GROUP BY {', '.join(by)}" if by else ""
    return f"SELECT {named} FROM {source} WHERE {condition}{groups}" + (f" fill({fill})" if fill else "")


def by_core(columns: dict[str, str]) -> str:
    """Of each core, bucket by bucket."""
    return select(columns, CORES, by=(EACH_BUCKET, EACH_CORE), fill="null")


def share_between(low: float, high: float | None) -> str:
    """How many machines have a mean in [low, high), bucket by bucket; without `high` in [low, 1]."""
    where = f"{POINT_MEAN} >= {low:g}" + ("" if high is None else f" AND {POINT_MEAN} < {high:g}")
    return select({"machines": f"COUNT({POINT_MEAN})"}, where=where, by=(EACH_BUCKET,), fill="0")


SYSTEMS = f"SHOW TAG VALUES FROM {quoted(measurement_of())} WITH KEY = {quoted(OS_TYPE)}"
"""The operating systems there are."""

USERS_OF_SYSTEMS = (
    f"SHOW TAG VALUES FROM {quoted(measurement_of())} WITH KEY = {quoted(USER_ID)}"
    f" WHERE {quoted(OS_TYPE)} =~ /^${{os:regex}}$/"
)
"""The machines of those that are chosen."""

COUNT_OF_MACHINES = (
    'SELECT COUNT("samples") AS "machines" FROM ('
    + select({"samples": f"SUM({quoted(CPU.count)})"}, by=(EACH_USER,))
    + ") WHERE $timeFilter"
)

SILENT_MACHINES = (
    'SELECT "lastSeen", "osType", "osVersion", "cores" FROM ('
    f'SELECT LAST("lastSeen") AS "lastSeen", "osType", "osVersion", "cores" FROM {quoted(USERS)}'
    f" WHERE {quoted(USER_ID)} =~ /^${{user:regex}}$/ GROUP BY {EACH_USER}"
    f') WHERE "lastSeen" < $__to - {SILENT_MS} GROUP BY {EACH_USER}'
)
"""What is known of machines that have said nothing for a while; not bound to the range, as they are not in it."""
