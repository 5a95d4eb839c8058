"""Which column of a table is what: the time, the host, the core, and the numbers, by names and types."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.sources.importing.fields import Field, field_of, plain
from analytics.sources.importing.readings import (
    UNKNOWN_CORE,
    Hints,
    cores_of,
)
from analytics.sources.importing.samples import ImportFault

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
    """Which column of a table holds the time, the host, and the numbers."""

    time: str
    host: str | None
    core: str | None
    name: str | None
    """Of a long table: the column that names what its values are."""
    values: dict[str, Field | None]
    """Each column of values and what it says; None where a column of names says it."""
    hosts_are_columns: bool = False


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
        told == "user" and states and is_numeric(table[name]))}, _HOSTS)  # fmt: skip
    rest = {told: name for told, name in rest.items() if name != host}
    if hints.value is not None:
        name = None if hints.metric else _first(_textual(table, rest), _NAMES)
        values: dict[str, Field | None] = {hints.value: _metric(hints) if name is None else None}
        return Roles(time, host, hints.core or _core(table, rest), name, values)
    value = _first(rest, _VALUES)
    named_by = _first(_textual(table, rest), _NAMES)
    if value is not None and named_by is not None and not hints.metric:
        return Roles(time, host, hints.core or _core(table, rest), named_by, {value: None})
    wide = {name: field for name in rest.values() if (field := field_of(name)) is not None and is_numeric(table[name])}
    core = hints.core or _core(table, rest)
    if len(wide) > 1:
        wide.pop(core or "", None)
    if wide and not (hints.metric and value):
        return Roles(time, host, None if core in wide else core, None, dict(wide))
    if value is not None:
        return Roles(time, host, core, None, {value: _metric(hints)})
    numeric = [name for name in rest.values() if is_numeric(table[name])]
    if host is None and numeric and len(numeric) == len(rest):
        return Roles(time, None, None, None, dict.fromkeys(reversed(numeric), _metric(hints)), hosts_are_columns=True)
    raise ImportFault(
        f"expected a column of values such as value, cpu or utilization_percent, got {', '.join(table.column_names)}: "
        "--value-column and --metric say which column is what"
    )


def _metric(hints: Hints) -> Field:
    return Field("gauge", hints.metric or _CPU, hints.unit)


def _first(given: dict[str, str], names: Sequence[str]) -> str | None:
    return next((given[name] for name in names if name in given), None)


def _core(table: pa.Table, rest: dict[str, str]) -> str | None:
    """The column of cores; `cpu` may as well be a metric, which has other numbers than a few whole ones."""
    for name in (rest[told] for told in _CORES if told in rest):
        known = cores_of(categories_of(table[name].slice(0, 10_000)))
        if len(known) and (known != UNKNOWN_CORE).all() and len(np.unique(known)) > 1:
            return name
        if not is_numeric(table[name]) and len(known) and (known != UNKNOWN_CORE).all():
            return name
    return None


def _textual(table: pa.Table, rest: dict[str, str]) -> dict[str, str]:
    return {told: name for told, name in rest.items() if not is_numeric(table[name])}


def _timestamps(table: pa.Table) -> str | None:
    return next((field.name for field in table.schema if pa.types.is_timestamp(field.type)), None)


def categories_of(column: pa.ChunkedArray) -> pd.Categorical:
    """A column as texts, each different one once."""
    if not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    coded = pd.Categorical(column.unify_dictionaries().to_pandas())
    return coded.rename_categories(str)


def is_numeric(column: pa.ChunkedArray) -> bool:
    """Whether a column holds numbers, as such or as texts."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return True
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    some = column.slice(0, 200).drop_null()
    values, bad = numbers_of(some)
    bad = bad & ~with_commas(some)
    return bool(len(some)) and bad.mean() < 0.5 and not np.isnan(values).all()


def with_commas(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which texts are a number with one comma."""
    found: npt.NDArray[np.bool_] = pc.match_substring_regex(column, _WITH_COMMA).fill_null(False).to_numpy()
    return found


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
