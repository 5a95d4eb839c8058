"""Who used the CPU: what is asked of a store, what it answers, and the rows that reports become."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import pyarrow as pa

from contract.processes import ProcessUse

By = Literal["process", "unit"]
KINDS: tuple[By, ...] = ("process", "unit")
"""A row's `kind` is the place in it."""

WINDOWS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("core_s", pa.float64(), nullable=False),
        pa.field("busy_s", pa.float64(), nullable=False),
        pa.field("process_beyond_s", pa.float64(), nullable=False),
        pa.field("unit_beyond_s", pa.float64(), nullable=False),
    ]
)
"""A row for each window: its end in epoch ms, the time it covers, what its cores could have done and did, and the most
that a process or a unit can have used that has no row."""
USES_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("owner", pa.string(), nullable=False),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("command", pa.string(), nullable=False),
        pa.field("cpu_s", pa.float64(), nullable=False),
        pa.field("more_s", pa.float64(), nullable=False),
        pa.field("resident_bytes", pa.int64(), nullable=False),
    ]
)
"""A row for each process and unit that a window names. It used at least `cpu_s`; `more_s` is how much more it can have
used at most, less the most of what has no row: so over many windows the sum of both, and of what each window has
beyond, is the most that it can have used, whether each of them names it or not."""


SCHEMAS = (WINDOWS_SCHEMA, USES_SCHEMA)


class UseTables(NamedTuple):
    """Windows and uses, of `WINDOWS_SCHEMA` and `USES_SCHEMA`."""

    windows: pa.Table
    uses: pa.Table

    def of(self, wanted: Callable[[str, int], bool]) -> "UseTables":
        """The rows of those windows, by host and end, that are wanted."""
        return UseTables(*(table.filter(pa.array(_wanted(table, wanted), pa.bool_())) for table in self))

    def ends(self) -> set[tuple[str, int]]:
        """Host and end of each window."""
        return {*zip(self.windows["user_id"].to_pylist(), self.windows["time"].to_pylist(), strict=True)}


class UseDump(NamedTuple):
    """What a store has of some time."""

    windows: UseTables
    hours: UseTables
    """Hours whose windows it has no more, merged; of each the time is in the hour."""


UseEntry = tuple[str, int, ProcessUse]
"""A host, the end of a window, and who used its CPU."""


def tables_of(entries: Sequence[UseEntry]) -> UseTables:
    """The rows of some windows."""
    windows, uses = [], []
    for user_id, end_ms, use in entries:
        beyond = []
        listed = (use.processes, use.processes_beyond_s), (use.units, use.units_beyond_s)
        for kind, (consumers, beyond_s) in enumerate(listed):
            rest_s = max(0.0, use.busy_s - sum(one.cpu_s for one in consumers))
            # What has no row can be one that began and ended unseen, beside what was seen of it.
            most_s, missed_s = min(beyond_s + use.unseen_s, rest_s), min(use.unseen_s, rest_s)
            beyond.append(most_s)
            uses += [
                (user_id, end_ms, kind, one.name, one.user, one.unit, one.command, one.cpu_s, missed_s - most_s,
                 one.resident_bytes)
                for one in consumers
            ]  # fmt: skip
        windows.append((user_id, end_ms, use.seconds, use.seconds * use.cores, use.busy_s, *beyond))
    return tables_of_rows(windows, uses)


def tables_of_rows(windows: Sequence[tuple[object, ...]], uses: Sequence[tuple[object, ...]]) -> UseTables:
    """Tables of rows that are in the order of the schemas' columns."""
    return UseTables(_table(windows, WINDOWS_SCHEMA), _table(uses, USES_SCHEMA))


def joined(parts: Sequence[UseTables]) -> UseTables:
    """The rows of several parts."""
    empty = tables_of([])
    return UseTables(
        pa.concat_tables([empty.windows, *(part.windows for part in parts)]),
        pa.concat_tables([empty.uses, *(part.uses for part in parts)]),
    )


def _wanted(table: pa.Table, wanted: Callable[[str, int], bool]) -> list[bool]:
    return [*map(wanted, table["user_id"].to_pylist(), table["time"].to_pylist())]


def _table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


class UseQuestion(NamedTuple):
    """Who used the CPU in a range."""

    start_ms: int
    """Windows that end at or after this"""
    end_ms: int
    """and before this."""
    by: By = "process"
    top: int = 5
    user_id: str | None = None
    """One host, or None for all."""
    covers: Callable[[str], bool] | None = None
    """Of all hosts only those that it covers; None for all."""
    rate_ms: int | None = None
    """The width of buckets, aligned to the epoch; None for the range alone."""


class TopUse(NamedTuple):
    """A process or unit over a range."""

    name: str
    user: str
    unit: str
    command: str
    cpu_s: float
    """What it used at least,"""
    at_most_s: float
    """and at most."""
    resident_bytes: int
    """The most memory that it had on any host at the end of a window."""
    hosts: int
    """How many hosts named it."""


class UseBucket(NamedTuple):
    """A bucket, of windows that end in it."""

    start_ms: int
    core_s: float
    busy_s: float
    top_s: tuple[float, ...]
    """What each of the top used."""


class UseAnswer(NamedTuple):
    """Who used most, the most first; they and all others used `busy_s` together."""

    top: list[TopUse]
    hosts: int
    """How many hosts told of their processes."""
    seconds: float
    """The time that their windows cover, added up."""
    core_s: float
    """CPU time that their cores had in it."""
    busy_s: float
    beyond_s: float
    """The most that anyone can have used whom no window names."""
    buckets: list[UseBucket]


NOBODY = UseAnswer([], 0, 0.0, 0.0, 0.0, 0.0, [])
