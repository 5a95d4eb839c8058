"""An InfluxDB of any generation and any schema, asked by InfluxQL: a mapping file says what its columns are.

Without a query in the mapping all points of the measurement `where = { _measurement = "..." }` are read, a day at a
time; with one, its answer is the table as it comes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from analytics.sources.importing.mapping import Mapping, read_mapped
from analytics.sources.importing.readings import Hints, Reading
from analytics.sources.importing.samples import ImportFault, SetAside
from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import InfluxClient, InfluxError
from contract.problems import plural
from contract.times import DAY_MS

_MEASUREMENT: Final = "_measurement"
_FIRST_MS, _END_MS = 0, 9_200_000_000_000
"""To the year 2261: InfluxDB keeps nanoseconds in 64 bits."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database, who asks it, and which of its points are wanted: from `start_ms` to before `end_ms`."""

    address: Address
    credentials: Credentials
    start_ms: int = _FIRST_MS
    end_ms: int = _END_MS


def read_database(database: Database, file: int, hints: Hints, mapping: Mapping | None, aside: SetAside) -> Reading:
    """What the points of a database say by a mapping. Raises ImportFault."""
    if mapping is None:
        raise ImportFault("expected --mapping, which says what the columns of a database are")
    client = InfluxClient(database.address, database.credentials)
    try:
        table = _joined([*_tables(client, database, mapping)])
    except InfluxError as error:
        raise ImportFault(str(error)) from None
    if not len(table):
        raise ImportFault("expected points, got none: see to `_measurement` or the query of the mapping")
    if _MEASUREMENT in mapping.where and _MEASUREMENT not in table.column_names:
        table = table.append_column(_MEASUREMENT, pa.array([mapping.where[_MEASUREMENT]] * len(table), pa.string()))
    lines = np.arange(1, len(table) + 1)
    reading = read_mapped(mapping, table, lines, file, database.address.database, hints, aside)
    said = [f"InfluxDB {client.server().version}, {plural(len(table), 'point')}", *reading.said]
    return Reading(reading.readings, reading.fields, said)


def _tables(client: InfluxClient, database: Database, mapping: Mapping) -> Iterator[pa.Table]:
    if mapping.query is not None:
        yield from map(_table, client.execute(mapping.query))
        return
    measurement = mapping.where.get(_MEASUREMENT)
    if measurement is None:
        raise ImportFault("expected where = { _measurement = ... } or a query in the mapping, got neither")
    columns = dict.fromkeys(
        name
        for name in (*(take.column for take in mapping.take), mapping.host, mapping.core, *mapping.where,
                     *(name for take in mapping.take for name in take.where))
        if name is not None and name not in (_MEASUREMENT, "time")
    )  # fmt: skip
    select = f"SELECT {', '.join(map(_identifier, columns))} FROM {_identifier(measurement)}"
    before_ms = min(database.end_ms, _END_MS)
    within = f"time >= {database.start_ms}ms AND time < {before_ms}ms"
    ends = [
        _moment(client.execute(f"{select} WHERE {within} ORDER BY time {order} LIMIT 1")) for order in ("ASC", "DESC")
    ]
    first_ms, last_ms = ends
    if first_ms is None or last_ms is None:
        return
    for day_ms in range(first_ms // DAY_MS * DAY_MS, last_ms + 1, DAY_MS):
        start_ms, end_ms = max(day_ms, database.start_ms), min(day_ms + DAY_MS, before_ms)
        yield from map(_table, client.execute(f"{select} WHERE time >= {start_ms}ms AND time < {end_ms}ms"))


def _identifier(name: str) -> str:
    """A name as InfluxQL quotes it."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _moment(found: Sequence[dict[str, Any]]) -> int | None:
    """The moment of the only point of an answer; None where there is none."""
    return int(found[0]["values"][0][found[0]["columns"].index("time")]) if found else None


def _table(series: dict[str, Any]) -> pa.Table:
    """A series of an answer, with the tags that it was grouped by as columns."""
    if series.get("partial"):
        raise ImportFault("expected all points of a day, got some of them: raise max-row-limit of the database")
    values = series["values"]
    columns = {name: [row[place] for row in values] for place, name in enumerate(series["columns"])}
    columns |= {name: [text] * len(values) for name, text in series.get("tags", {}).items()}
    return pa.table({name: _column(name, column) for name, column in columns.items()})


def _column(name: str, values: Sequence[Any]) -> pa.Array:
    """Moments as whole numbers, all else as text, however its type changed meanwhile; empty tags are none."""
    if name == "time":
        return pa.array(values, pa.int64())
    return pa.array([None if value is None or value == "" else str(value) for value in values], pa.string())


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
