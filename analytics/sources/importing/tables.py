"""Tables, long or wide, whose columns are guessed by their names and contents; CSV and Parquet come as such.

Of a table there is a column of moments, one that names hosts (or the columns are hosts, or there is one), perhaps one
of cores, and values: a column for each metric (wide), or one of values beside one of names (long).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.sources.importing.fields import Field, field_of, plain
from analytics.sources.importing.moments import UNKNOWN_MS, milliseconds
from analytics.sources.importing.readings import (
    NO_CORE,
    UNKNOWN_CORE,
    Hints,
    Reading,
    concatenated,
    cores_of,
    frame_of_readings,
)
from analytics.sources.importing.samples import NO_MOMENT, WHOLE, ImportFault, Ints, SetAside

_TIMES: Final = [
    "time",
    "timestamp",
    "date",
    "datetime",
    "date_time",
    "ts",
    "epoch",
    "end_timestamp",
    "event_time",
    "time_stamp",
    "utc",
    "local_time",
    "end_time",
    "time_utc",
    "timestamp_utc",
    "timestamp_ms",
    "start_time",
]
_HOSTS: Final = [
    "user",
    "user_id",
    "host",
    "hostname",
    "host_name",
    "machine",
    "machine_id",
    "instance",
    "instance_id",
    "node",
    "nodename",
    "node_id",
    "server",
    "server_name",
    "vm",
    "vm_id",
    "vmid",
    "computer",
    "computer_name",
    "resource",
    "resource_id",
    "device_id",
    "target",
    "agent_host",
    "group",
    "series",
]
_CORES: Final = ["core", "cpu", "cpu_id", "core_id", "processor", "cpu_number", "logical_cpu"]
_NAMES: Final = [
    "field",
    "metric",
    "metric_name",
    "counter",
    "counter_name",
    "measurement",
    "name",
    "mode",
    "state",
    "type_instance",
]
_VALUES: Final = ["value", "val", "reading", "metric_value", "avg", "average", "mean", "counter_value", "v"]
_CPU: Final = "cpu.utilization"
_WITH_GROUPS: Final = {sign: rf"[-+]?\d{{1,3}}(?:[{sign}]\d{{3}})+(?:[{other}]\d*)?" for sign, other in (",.", ".,")}
"""A number whose digits a sign may group by thousands,"""
_GROUPED: Final = {
    sign: rf"^[-+]?\d{{1,3}}(?:(?:[{sign}]\d{{3}}){{2,}}(?:[{other}]\d*)?|[{sign}]\d{{3}}[{other}]\d*)$"
    for sign, other in (",.", ".,")
}
"""and one that can be read in no other way."""

_WITH_COMMA: Final = r"^\s*[-+]?\d+,\d+\s*%?\s*$"


@dataclass(frozen=True, slots=True)
class Roles:
    """Which column of a table holds the time, the machine, and the numbers."""

    time: str
    host: str | None
    core: str | None
    name: str | None
    """Of a long table: the column that names what its values are."""
    values: dict[str, Field | None]
    """Each column of values and what it says; None where a column of names says it."""
    hosts_are_columns: bool = False


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
    pieces: list[pd.DataFrame] = []
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
                frame_of_readings(
                    {
                        "user": column if roles.hosts_are_columns else users if isinstance(users, str) else users[some],
                        "end_ms": end_ms[some], "core": core if isinstance(core, int) else core[some],
                        "field": len(fields) - 1, "value": values[some], "line": lines[some], "file": file,
                        "device": one.target if one.kind in ("rate", "growth") else "",
                    }
                )
            )  # fmt: skip
    if not fields:
        known = sorted(map(str, names.categories))[:5] if names is not None else []
        raise ImportFault(
            f"expected names of metrics that are known in {roles.name!r}, got {', '.join(known)}: --metric says it"
        )
    unused = [name for name in table.column_names if name not in _used(roles)]
    if unused:
        said.append(f"not taken: {', '.join(unused)}")
    return Reading(concatenated(pieces), fields, said)


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
    commas = _with_commas(column.filter(pa.array(bad)).cast(pa.string()))
    told = (
        f"a comma in a number where others of the column {name!r} have a point: both are decimal, or one groups digits"
    )
    _aside(aside, file, lines[bad][commas], told)
    _aside(aside, file, lines[bad][~commas], f"no number in the column {name!r}")


def _with_commas(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which texts are a number with one comma."""
    found: npt.NDArray[np.bool_] = pc.match_substring_regex(column, _WITH_COMMA).fill_null(False).to_numpy()
    return found


def roles_of(table: pa.Table, hints: Hints) -> Roles:
    """Which column is what, by names and types; what the hints name is taken. Raises ImportFault."""
    given = {plain(name).removeprefix("_"): name for name in reversed(table.column_names)}
    for named in (hints.time, hints.host, hints.value, hints.core):
        if named is not None and named not in table.column_names:
            raise ImportFault(f"expected a column {named!r}, got {', '.join(table.column_names)}")
    time = hints.time or _first(given, _TIMES) or _timestamps(table)
    if time is None:
        raise ImportFault(
            f"expected a column of times such as timestamp, got {', '.join(table.column_names)}: --time-column names it"
        )
    rest = {told: name for told, name in given.items() if name != time}
    states = {told for told in rest if told.removeprefix("percent_").removeprefix("usage_") in ("idle", "system")}
    host = hints.host or _first({told: name for told, name in rest.items() if not (
        told == "user" and states and _is_numeric(table[name]))}, _HOSTS)  # fmt: skip
    rest = {told: name for told, name in rest.items() if name != host}
    if hints.value is not None:
        name = None if hints.metric else _first(_textual(table, rest), _NAMES)
        values: dict[str, Field | None] = {hints.value: _metric(hints) if name is None else None}
        return Roles(time, host, hints.core or _core(table, rest), name, values)
    value = _first(rest, _VALUES)
    named_by = _first(_textual(table, rest), _NAMES)
    if value is not None and named_by is not None and not hints.metric:
        return Roles(time, host, hints.core or _core(table, rest), named_by, {value: None})
    wide = {name: field for name in rest.values() if (field := field_of(name)) is not None and _is_numeric(table[name])}
    core = hints.core or _core(table, rest)
    if len(wide) > 1:
        wide.pop(core or "", None)
    if wide and not (hints.metric and value):
        return Roles(time, host, None if core in wide else core, None, dict(wide))
    if value is not None:
        return Roles(time, host, core, None, {value: _metric(hints)})
    numeric = [name for name in rest.values() if _is_numeric(table[name])]
    if host is None and numeric and len(numeric) == len(rest):
        return Roles(time, None, None, None, dict.fromkeys(reversed(numeric), _metric(hints)), hosts_are_columns=True)
    raise ImportFault(
        f"expected a column of values such as value, cpu or utilization_percent, got {', '.join(table.column_names)}: "
        "--value-column and --metric say which column is what"
    )


def _metric(hints: Hints) -> Field:
    return Field("gauge", hints.metric or _CPU, hints.unit)


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


def _first(given: dict[str, str], names: Sequence[str]) -> str | None:
    return next((given[name] for name in names if name in given), None)


def _core(table: pa.Table, rest: dict[str, str]) -> str | None:
    """The column of cores; `cpu` may as well be a metric, which has other numbers than a few whole ones."""
    for name in (rest[told] for told in _CORES if told in rest):
        known = cores_of(categories_of(table[name].slice(0, 10_000)))
        if len(known) and (known != UNKNOWN_CORE).all() and len(np.unique(known)) > 1:
            return name
        if not _is_numeric(table[name]) and len(known) and (known != UNKNOWN_CORE).all():
            return name
    return None


def _textual(table: pa.Table, rest: dict[str, str]) -> dict[str, str]:
    return {told: name for told, name in rest.items() if not _is_numeric(table[name])}


def _timestamps(table: pa.Table) -> str | None:
    return next((field.name for field in table.schema if pa.types.is_timestamp(field.type)), None)


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


def categories_of(column: pa.ChunkedArray) -> pd.Categorical:
    """A column as texts, each different one once."""
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    coded = pd.Categorical(column.unify_dictionaries().to_pandas())
    return coded.rename_categories(str)


def _is_numeric(column: pa.ChunkedArray) -> bool:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return True
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    some = column.slice(0, 200).drop_null()
    values, bad = numbers_of(some)
    bad = bad & ~_with_commas(some)
    return bool(len(some)) and bad.mean() < 0.5 and not np.isnan(values).all()


def numbers_of(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The numbers of a column, NaN where there is none, and which rows have something else instead.

    Texts may end in a percent sign, and have a decimal comma where no point is in any of them. Where one has a sign
    twice (`1,234,567`), or before the other (`1.234,5`), that groups the digits of all by thousands.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return numbers_of(column.cast(kind.value_type))
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values, np.zeros(len(values), np.bool_)
    try:
        values = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        return values, np.zeros(len(values), np.bool_)
    except pa.ArrowInvalid:
        pass
    texts = pd.Series(column.to_pandas(), dtype="str").str.strip().str.removesuffix("%").str.strip()
    for grouping, decimal in ((",", "."), (".", ",")):
        if texts.str.contains(_GROUPED[grouping], regex=True).any():
            grouped = texts.str.fullmatch(_WITH_GROUPS[grouping]).fillna(False).astype(bool)
            texts = texts.where(~grouped, texts.str.replace(grouping, "", regex=False))
            texts = texts.str.replace(decimal, ".", regex=False)
            break
    else:
        if not texts.str.contains(".", regex=False).any():
            texts = texts.str.replace(",", ".", regex=False)
    numbers = pd.to_numeric(texts, errors="coerce")
    empty = texts.isna() | texts.str.lower().isin(["", "nan", "null", "none", "na", "n/a", "-"])
    return numbers.to_numpy(np.float64), (numbers.isna() & ~empty).to_numpy()


def _aside(aside: SetAside, file: int, lines: Ints, reason: str) -> None:
    for line in lines[:10_000].tolist():
        aside.add(file, line, reason)
    if len(lines) > 10_000:
        aside.counts[reason] += len(lines) - 10_000
