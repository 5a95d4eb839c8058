"""The table of /api/v1/query as bytes: series over common dates in JSON, a row for each group and bucket otherwise."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from falcon.asgi import Response

from service.http.answers import ARROW, CSV, JSON, PARQUET, arrow_stream, instants, without_formulas
from service.http.parameters import PARTS
from service.http.table_query import Column, GroupRows, TableQuery


class ColumnOfGroup(msgspec.Struct, gc=False, omit_defaults=True):
    """The values of one column and one group, one for each date; null where there are no samples."""

    metric: str
    stat: str
    unit: str
    by: str
    values: list[float | None]
    group: str | None = None
    """Whose they are; not there for all together."""
    core: int | None = None
    """Which core, with `by` core,"""
    device: str | None = None
    """and which disk or interface, with `by` device."""
    approximation: str | None = None
    """How they are approximate, where they are."""


class Table(msgspec.Struct, gc=False):
    """What /api/v1/query answers."""

    dates: list[str]
    """The starts of all buckets in which any series has samples, in order."""
    series: list[ColumnOfGroup]


def send_table(resp: Response, form: str, query: TableQuery, parts: Sequence[GroupRows]) -> None:
    """Answer with a table, in a form that `form_of` gave. Called in a thread where it may be large."""
    resp.content_type = form
    resp.data = _json(query, parts) if form == JSON else _FORMS[form](_rows(query, parts))
    approximations = {text for part in parts for text in part.approximations.values()}
    if approximations and form != JSON:
        resp.set_header("Approximation", " ".join(sorted(approximations)))


def _json(query: TableQuery, parts: Sequence[GroupRows]) -> bytes:
    times = np.unique(np.concatenate([_times(part.frame) for part in parts]))
    series = [one for part in parts for one in _series(query.columns, part, times)]
    return msgspec.json.encode(Table(instants(times), series))


def _times(frame: pd.DataFrame) -> Any:
    return pd.DatetimeIndex(frame["time"]).as_unit("ms").asi8


def _series(columns: Sequence[Column], part: GroupRows, times: Any) -> list[ColumnOfGroup]:
    frame = part.frame
    labels = [name for name in ("group", *PARTS) if name in frame]
    number = frame.groupby(labels, sort=False).ngroup().to_numpy() if labels else np.zeros(len(frame), np.int64)
    groups = frame[labels].drop_duplicates().to_dict("records") if labels else [{}]
    place = np.searchsorted(times, _times(frame))
    values = {}
    for column in columns:
        matrix = np.full((len(groups), len(times)), np.nan)
        matrix[number, place] = frame[column.name].to_numpy(np.float64)
        values[column.name] = matrix.tolist()
    return [
        ColumnOfGroup(
            column.metric.name,
            column.statistic,
            _unit(column),
            part.level,
            values[column.name][row],
            approximation=part.approximations.get(column.name),
            **{str(name): value for name, value in group.items()},
        )
        for row, group in enumerate(groups)
        for column in columns
    ]


def _unit(column: Column) -> str:
    """The unit of a column's values; a variance is in its square, a count has none."""
    unit = column.metric.quantity.unit
    if column.statistic == "count":
        return "{sample}"
    return unit if column.statistic != "var" or unit == "1" else f"({unit})2"


def _rows(query: TableQuery, parts: Sequence[GroupRows]) -> pa.Table:
    """The columns `date` (UTC), `by`, `group` (null for all), `core` and `device` if they are asked for, and values."""
    tables = []
    for part in parts:
        frame = part.frame
        rows = len(frame)
        columns: dict[str, pa.Array] = {
            "date": pa.array(_times(frame), pa.int64()).view(pa.timestamp("ms", "UTC")),
            "by": pa.array([part.level] * rows, pa.string()),
            "group": pa.array(frame["group"], pa.string()) if "group" in frame else pa.nulls(rows, pa.string()),
        }
        for name, kind in zip(PARTS, (pa.int32(), pa.string()), strict=True):
            if name in query.by:
                columns[name] = pa.array(frame[name], kind) if name in frame else pa.nulls(rows, kind)
        columns |= {column.name: pa.array(frame[column.name], from_pandas=True) for column in query.columns}
        tables.append(pa.table(columns))
    return _described(query, parts, pa.concat_tables(tables))


def _described(query: TableQuery, parts: Sequence[GroupRows], table: pa.Table) -> pa.Table:
    """The table, with each column's unit, and how it is approximate, in the metadata of its field."""
    by_name = {column.name: column for column in query.columns}
    schema = table.schema
    for place, name in enumerate(schema.names):
        if name in by_name:
            about = {"unit": _unit(by_name[name])}
            approximation = next((text for part in parts if (text := part.approximations.get(name))), None)
            about |= {"approximation": approximation} if approximation else {}
            schema = schema.set(place, pa.field(name, pa.float64(), metadata=about))
    return table.cast(schema)


def _csv(table: pa.Table) -> bytes:
    dates = pa.array(instants(table["date"].cast(pa.int64()).to_numpy()), pa.string())
    sink = io.BytesIO()
    pa_csv.write_csv(
        without_formulas(table.set_column(0, "date", dates)), sink, pa_csv.WriteOptions(quoting_style="needed")
    )
    return sink.getvalue()


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


_FORMS: dict[str, Callable[[pa.Table], bytes]] = {CSV: _csv, ARROW: arrow_stream, PARQUET: _parquet}
