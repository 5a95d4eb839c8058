"""Tables, long or wide, whose columns are guessed by their names and contents; CSV and Parquet come as such.

Of a table there is a column of moments, one that names hosts (or the columns are hosts, or there is one), perhaps one
of cores, and values: a column for each metric (wide), or one of values beside one of names (long).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.sources.importing.fields import Field, field_of
from analytics.sources.importing.moments import UNKNOWN_MS, milliseconds
from analytics.sources.importing.readings import (
    NO_CORE,
    UNKNOWN_CORE,
    Hints,
    Reading,
    cores_of,
    frame_of_pieces,
)
from analytics.sources.importing.roles import Roles, categories_of, numbers_of, roles_of, with_commas
from analytics.sources.importing.samples import NO_MOMENT, WHOLE, ImportFault, Ints, SetAside


def read_table(table: pa.Table, lines: Ints, file: int, stem: str, hints: Hints, aside: SetAside) -> Reading:
    """What a table says; row i stands on `lines[i]` of its file, whose name without its suffix is `stem`.

    Raises ImportFault where no column of moments or of values is found.
    """
    roles = roles_of(table, hints)
    end_ms, moments = milliseconds(table[roles.time], hints.zone, hints.time_format)
    kept = set_unclear_aside(end_ms, lines, file, aside)
    said = [f"time: column {roles.time!r}, {moments}"]
    users, words = _users(table, roles, hints, stem)
    said.append(words)
    core: Ints | int = WHOLE
    if roles.core is not None:
        core = cores_of(categories_of(table[roles.core]))
        said.append(f"core: column {roles.core!r}")
        _aside(aside, file, lines[kept & (core == UNKNOWN_CORE)], NO_CORE)
        kept &= core != UNKNOWN_CORE
    pieces: list[dict[str, Any]] = []
    fields: list[Field] = []
    names = categories_of(table[roles.name]) if roles.name is not None else None
    for column, field in roles.values.items():
        values, bad = numbers_of(table[column])
        set_numberless_aside(table[column], column, bad & kept, lines, file, aside)
        for one, rows in _chosen(field, names, said, column):
            mine = kept & ~np.isnan(values) & (True if rows is None else rows)
            fields.append(with_sign(_with_unit(one, hints), hints.unit, table[column], mine))
            some = np.flatnonzero(mine)
            pieces.append(
                {
                    "user": column if roles.hosts_are_columns else users if isinstance(users, str) else users[some],
                    "end_ms": end_ms[some], "core": core if isinstance(core, int) else core[some],
                    "field": len(fields) - 1, "value": values[some], "line": lines[some], "file": file,
                    "device": one.target if one.kind in ("rate", "growth") else "",
                }
            )  # fmt: skip
    if not fields:
        known = sorted(map(str, names.categories))[:5] if names is not None else []
        raise ImportFault(
            f"expected names of metrics that are known in {roles.name!r}, got {', '.join(known)}: --metric says it"
        )
    used = _used(roles)
    unused = [name for name in table.column_names if name not in used]
    if unused:
        said.append(f"not taken: {', '.join(unused)}")
    return Reading(frame_of_pieces(pieces), fields, said)


def set_unclear_aside(end_ms: Ints, lines: Ints, file: int, aside: SetAside) -> npt.NDArray[np.bool_]:
    """Set rows aside whose time a change of clocks skips or makes unclear; returns which are left."""
    for mark, reason in NO_MOMENT.items():
        if mark != UNKNOWN_MS:
            _aside(aside, file, lines[end_ms == mark], reason)
    kept: npt.NDArray[np.bool_] = end_ms >= UNKNOWN_MS
    return kept


def set_numberless_aside(
    column: pa.ChunkedArray, name: str, bad: npt.NDArray[np.bool_], lines: Ints, file: int, aside: SetAside
) -> None:
    """Set rows aside that have something else than a number in a column; commas among points are told by themselves."""
    if not bad.any():
        return
    commas = with_commas(column.filter(pa.array(bad)).cast(pa.string()))
    told = (
        f"a comma in a number where others of the column {name!r} have a point: both are decimal, or one groups digits"
    )
    _aside(aside, file, lines[bad][commas], told)
    _aside(aside, file, lines[bad][~commas], f"no number in the column {name!r}")


def _with_unit(field: Field, hints: Hints) -> Field:
    if hints.unit == "guess" or field.kind not in ("gauge", "free", "state"):
        return field
    return Field(field.kind, field.target, hints.unit, field.scale)


def with_sign(field: Field, unit: str, column: pa.ChunkedArray, rows: npt.NDArray[np.bool_]) -> Field:
    """The field, in percent where a percent sign stands behind a value and `unit` is not given."""
    kind = column.type
    if unit != "guess" or field.kind not in ("gauge", "free", "state"):
        return field
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return field
    signs = pc.match_substring_regex(column, r"%\s*$").fill_null(False).to_numpy()
    return Field(field.kind, field.target, "percent", field.scale) if (signs & rows).any() else field


def _used(roles: Roles) -> set[str | None]:
    return {roles.time, roles.host, roles.core, roles.name, *roles.values}


def _chosen(
    field: Field | None, names: pd.Categorical | None, said: list[str], column: str
) -> list[tuple[Field, npt.NDArray[np.bool_] | None]]:
    """What a column of values says: a field of all its rows, or by the names beside it of some each."""
    if field is not None or names is None:
        assert field is not None
        said.append(f"{field.target} ({field.kind}): column {column!r}")
        return [(field, None)]
    found = []
    for place, name in enumerate(names.categories):
        known = field_of(str(name))
        if known is not None:
            said.append(f"{known.target} ({known.kind}): column {column!r} where the name is {name}")
            found.append((known, np.asarray(names.codes) == place))
        else:
            said.append(f"not taken: {name}")
    return found


def _users(table: pa.Table, roles: Roles, hints: Hints, stem: str) -> tuple["pd.Categorical | str", str]:
    if roles.hosts_are_columns:
        return stem, f"hosts: each other column is one ({len(roles.values)})"
    if roles.host is not None:
        users = categories_of(table[roles.host])
        return users, f"host: column {roles.host!r}, {len(users.categories)} of them"
    name = hints.host_name or stem
    return name, f"host: {name}" + ("" if hints.host_name else ", by the name of the file (--host-name says another)")


def _aside(aside: SetAside, file: int, lines: Ints, reason: str) -> None:
    for line in lines[:10_000].tolist():
        aside.add(file, line, reason)
    if len(lines) > 10_000:
        aside.counts[reason] += len(lines) - 10_000
