"""The InfluxQL of the dashboards, on the rollups of docs/influxdb.md.

Grafana fills in `$timeFilter`, `$__to` and the variables: `$tier` is the width of the buckets and says which rollup is
read, `${user:regex}` stands for the hosts that are chosen, escaped for a regular expression.

A bucket of a rollup is one or more rows that add up: SUM, MIN and MAX merge rows and buckets exactly. What compares
the means of hosts or cores asks for these first, bucket by bucket, in a statement within the statement.
"""

from contract.influx import CORE, OS_TYPE, USER_ID, Fields, fields_of, measurement_of
from contract.metrics import Cpu

CPU: Fields = fields_of(Cpu.quantities[0])
SATURATED = 0.9
"""A host counts as saturated in a bucket whose mean reaches this."""


def quoted(name: str) -> str:
    """An identifier."""
    return f'"{name}"'


HOSTS = quoted(f"{measurement_of()}_$tier")
CORES = quoted(f"{measurement_of(cores=True)}_$tier")
CHOSEN = f"{quoted(USER_ID)} =~ /^${{user:regex}}$/ AND $timeFilter"
EACH_BUCKET = "time($tier)"
EACH_USER = quoted(USER_ID)
EACH_CORE = quoted(CORE)
BUCKET_MEAN = quoted("mean")
"""The mean of a bucket of a host or core, in `select_of_means`."""


def mean(fields: Fields = CPU) -> str:
    """The mean of all samples."""
    return f"SUM({quoted(fields.total)}) / SUM({quoted(fields.count)})"


def variance(fields: Fields = CPU) -> str:
    """The population variance of all samples: the mean of the squares less the square of the mean.

    Rounding may make a variance of 0 a little negative.
    """
    return f"ABS(SUM({quoted(fields.squares)}) / SUM({quoted(fields.count)}) - POW({mean(fields)}, 2))"


def deviation(fields: Fields = CPU) -> str:
    """The standard deviation of all samples."""
    return f"SQRT({variance(fields)})"


def select(
    columns: dict[str, str], source: str = HOSTS, *, where: str = "", by: tuple[str, ...] = (), fill: str = ""
) -> str:
    """A statement on the hosts that are chosen, in the range that is looked at; `columns` by the name of each."""
    named = ", ".join(f"{expression} AS {quoted(name)}" for name, expression in columns.items())
    condition = f"{CHOSEN} AND {where}" if where else CHOSEN
    groups = f" GROUP BY {', '.join(by)}" if by else ""
    return f"SELECT {named} FROM {source} WHERE {condition}{groups}" + (f" fill({fill})" if fill else "")


def select_of_means(
    columns: dict[str, str], *, cores: bool = False, where: str = "", by: tuple[str, ...] = (), fill: str = ""
) -> str:
    """A statement on the means of the buckets of each host, or each core, that is chosen."""
    series = (EACH_BUCKET, EACH_USER, *((EACH_CORE,) if cores else ()))
    means = select({"mean": mean()}, CORES if cores else HOSTS, by=series, fill="none")
    named = ", ".join(f"{expression} AS {quoted(name)}" for name, expression in columns.items())
    condition = f"$timeFilter AND {where}" if where else "$timeFilter"
    groups = f" GROUP BY {', '.join(by)}" if by else ""
    return f"SELECT {named} FROM ({means}) WHERE {condition}{groups}" + (f" fill({fill})" if fill else "")


def by_core(columns: dict[str, str]) -> str:
    """Of each core, bucket by bucket."""
    return select(columns, CORES, by=(EACH_BUCKET, EACH_CORE), fill="null")


def share_between(low: float, high: float | None) -> str:
    """How many hosts have a mean in [low, high), bucket by bucket; without `high` in [low, 1]."""
    where = f"{BUCKET_MEAN} >= {low:g}" + ("" if high is None else f" AND {BUCKET_MEAN} < {high:g}")
    return select_of_means({"hosts": f"COUNT({BUCKET_MEAN})"}, where=where, by=(EACH_BUCKET,), fill="0")


SYSTEMS = f"SHOW TAG VALUES FROM {quoted(measurement_of())} WITH KEY = {quoted(OS_TYPE)} WHERE $timeFilter"
"""The operating systems there are in the range. Where no time is named, InfluxDB 3 looks back a day."""

USERS_OF_SYSTEMS = (
    f"SHOW TAG VALUES FROM {quoted(measurement_of())} WITH KEY = {quoted(USER_ID)}"
    f" WHERE {quoted(OS_TYPE)} =~ /^${{os:regex}}$/ AND $timeFilter"
)
"""The hosts of those that are chosen."""

COUNT_OF_HOSTS = (
    'SELECT COUNT("samples") AS "hosts" FROM ('
    + select({"samples": f"SUM({quoted(CPU.count)})"}, by=(EACH_USER,))
    + ") WHERE $timeFilter"
)

LAST_REPORTS = select({"load": f"LAST({quoted(CPU.mean)})"}, quoted(measurement_of()), by=(EACH_USER,))
"""The newest window of each host, and when it ended."""
