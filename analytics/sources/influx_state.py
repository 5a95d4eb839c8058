"""What a database of InfluxDB says of itself: which rollups it has, and who writes to it (docs/influxdb.md)."""

from typing import Final, NamedTuple

import pyarrow as pa

from analytics.frames.tiers import NEVER_MS, Rolled
from analytics.sources.influx_client import InfluxClient
from contract.influx import (
    OWNER,
    PARTS,
    PROCESSES_THROUGH,
    SCHEMA,
    SINCE,
    STATE,
    TIERS,
    identifier,
    through_field,
)
from contract.times import DAY_MS


class State(NamedTuple):
    """A point of the measurement `state`."""

    time_ms: int
    """When it was said."""
    schema: int
    rolled: Rolled
    parts: int
    """The highest number of a part that may be in use."""
    owner: str
    """The folder of the service that said it."""
    processes_through_ms: int = 0
    """From here on the hours of who used the CPU have to be made of windows; 0 where that is not said."""


_SPANS: Final = (2 * DAY_MS, 60 * DAY_MS, None)
"""So far back, from now, it is looked for: InfluxDB 3 opens all files of the time that is asked for."""


def state_of(client: InfluxClient, now_ms: int) -> State | None:
    """What the database says; None where no Loadlens has written to it yet. Raises what `client` raises."""
    fields = {tier: through_field(tier) for tier in TIERS}
    # Whoever else wrote to it may have written fractions.
    numbers = (SCHEMA, SINCE, PARTS, PROCESSES_THROUGH, *fields.values())
    types = {"time": pa.int64(), OWNER: pa.string()} | {name: pa.float64() for name in numbers}
    columns = ", ".join(identifier(name) for name in types if name != "time")
    for span in _SPANS:
        where = f" WHERE time >= {now_ms - span}ms" if span else ""
        text = f"SELECT {columns} FROM {identifier(STATE)}{where} ORDER BY time DESC LIMIT 1"
        for row in client.select(text, types).to_pylist():
            told = {name: None if row[name] is None else int(row[name]) for name in numbers}
            schema = told[SCHEMA] or 1
            # At first every bucket was kept whole, also those that were not over.
            through = {tier: NEVER_MS if schema < 2 else told[name] or 0 for tier, name in fields.items()}
            rolled = Rolled(told[SINCE] or 0, through)
            return State(row["time"], schema, rolled, told[PARTS] or 0, row[OWNER] or "", told[PROCESSES_THROUGH] or 0)
    return None
