"""Mapping files: TOML that says what the columns of any table are, where names alone do not tell.

time = "_time"               # the column of moments; line protocol has `time`
host = "server"              # the column of hosts, or host_name = "web-1"
core = "cpu"                 # optional
where = { _measurement = "load_of_cpu" }   # optional: only rows with these texts

[[take]]
column = "busy"              # the column of values
metric = "cpu.utilization"   # as `loadlens-analytics metrics` names it (stored), or state = "idle"
unit = "percent"             # percent or share; scale = 1024 for other numbers
counter = false              # true where it is a counter whose growth counts
where = { _field = "busy" }  # optional: only rows with these texts
"""

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from msgspec import Meta, Struct

from analytics.sources.importing.fields import BUSY_STATES, IDLE_STATES, Field, Kind, Unit
from analytics.sources.importing.moments import milliseconds
from analytics.sources.importing.readings import (
    NO_CORE,
    UNKNOWN_CORE,
    Hints,
    Reading,
    cores_of,
    frame_of_pieces,
)
from analytics.sources.importing.roles import categories_of, numbers_of
from analytics.sources.importing.samples import WHOLE, ImportFault, Ints, SetAside
from analytics.sources.importing.tables import set_numberless_aside, set_unclear_aside, with_sign
from contract.metrics import NAMES, QUANTITIES
from contract.problems import plural

Where = dict[str, str]


class Take(Struct, frozen=True, forbid_unknown_fields=True):
    """One column of values and what it says."""

    column: Annotated[str, Meta(min_length=1)]
    metric: str | None = None
    state: str | None = None
    unit: Unit = "guess"
    scale: float = 1.0
    counter: bool = False
    free: bool = False
    """True where the value is what is not in use."""
    where: Where = {}


class Mapping(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a mapping file: how the fields of a foreign schema are to be read."""

    time: str
    take: Annotated[list[Take], Meta(min_length=1)]
    host: str | None = None
    host_name: str | None = None
    core: str | None = None
    zone: str | None = None
    where: Where = {}
    query: str | None = None
    """InfluxQL whose answer is the table, where an InfluxDB is imported from."""


def load_mapping(path: Path) -> Mapping:
    """The mapping of a file; raises ImportFault for what is none, OSError for what cannot be read."""
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Mapping)
        for take in mapping.take:
            _field(take)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeError, ValueError) as error:
        raise ImportFault(f"{path}: {error}") from None
    return mapping


def _field(take: Take) -> Field:
    if (take.metric is None) == (take.state is None):
        raise ValueError(
            f"take of {take.column!r}: expected metric or state, got {'both' if take.metric else 'neither'}"
        )
    if take.state is not None:
        if take.state not in BUSY_STATES | IDLE_STATES:
            raise ValueError(f"state: expected one of {', '.join(sorted(BUSY_STATES | IDLE_STATES))}, got {take.state}")
        return Field("state_time" if take.counter else "state", take.state, take.unit, take.scale)
    name = NAMES[str(take.metric)].quantity.name if take.metric in NAMES else str(take.metric)
    if name not in QUANTITIES:
        raise ValueError(f"metric: expected one of {', '.join(QUANTITIES)}, got {take.metric}")
    kind: Kind = "growth" if take.counter else "free" if take.free else "gauge"
    return Field(kind, name, take.unit, take.scale)


def read_mapped(
    mapping: Mapping, table: pa.Table, lines: Ints, file: int, stem: str, hints: Hints, aside: SetAside
) -> Reading:
    """What a table says by a mapping. Raises ImportFault for a column that is not there."""
    _there(table, [mapping.time, *filter(None, [mapping.host, mapping.core]), *mapping.where])
    end_ms, moments = milliseconds(table[mapping.time], mapping.zone or hints.zone, hints.time_format)
    users = categories_of(table[mapping.host]) if mapping.host else None
    core = cores_of(categories_of(table[mapping.core])) if mapping.core else np.full(len(table), WHOLE)
    kept = _where(table, mapping.where)
    kept &= set_unclear_aside(np.where(kept, end_ms, 0), lines, file, aside)
    for line in lines[kept & (core == UNKNOWN_CORE)].tolist():
        aside.add(file, line, NO_CORE)
    kept &= core != UNKNOWN_CORE
    pieces, fields = [], []
    said = [f"by the mapping {hints.mapping}", f"time: column {mapping.time!r}, {moments}"]
    for take in mapping.take:
        _there(table, [take.column, *take.where])
        values, bad = numbers_of(table[take.column])
        some = np.flatnonzero(kept & _where(table, take.where) & ~np.isnan(values))
        set_numberless_aside(table[take.column], take.column, bad & kept, lines, file, aside)
        fields.append(with_sign(_field(take), take.unit, table[take.column], kept & _where(table, take.where)))
        pieces.append(
            {
                "user": users[some] if users is not None else mapping.host_name or hints.host_name or stem,
                "end_ms": end_ms[some], "core": core[some], "device": take.column, "field": len(fields) - 1,
                "value": values[some], "line": lines[some], "file": file,
            }
        )  # fmt: skip
        said.append(f"{fields[-1].target} ({fields[-1].kind}): column {take.column!r}, {plural(len(some), 'row')}")
    return Reading(frame_of_pieces(pieces), fields, said)


def _there(table: pa.Table, names: list[str]) -> None:
    for name in names:
        if name not in table.column_names:
            raise ImportFault(f"expected a column {name!r} as the mapping says, got {', '.join(table.column_names)}")


def _where(table: pa.Table, wanted: Where) -> npt.NDArray[np.bool_]:
    kept = np.ones(len(table), np.bool_)
    for name, text in wanted.items():
        kept &= np.asarray(pd.Series(categories_of(table[name])).astype(str) == text)
    return kept
