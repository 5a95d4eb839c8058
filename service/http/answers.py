"""Answers as a table of dates and values, in the form that the client accepts."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import falcon
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from falcon.asgi import Request, Response

from contract.times import format_instant
from service.http.problems import ProblemError

JSON = "application/json"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True, slots=True)
class Series:
    """What is answered: a value for each bucket that has data."""

    time_ms: npt.NDArray[np.int64]
    """The start of each bucket, epoch ms."""
    value: npt.NDArray[np.float64]
    group: Sequence[str] | None = None
    """The group of each value, where the answer has groups."""
    approximation: str | None = None
    """How the values are approximated, where they are."""

    def table(self) -> pa.Table:
        """The columns `date` (UTC), `value` and, with groups, `group`; the approximation as metadata."""
        columns = {"date": pa.array(self.time_ms, pa.timestamp("ms", "UTC")), "value": pa.array(self.value)}
        if self.group is not None:
            columns["group"] = pa.array(self.group, pa.string())
        table = pa.table(columns)
        return table.replace_schema_metadata({"approximation": self.approximation}) if self.approximation else table


class _Entry(msgspec.Struct, gc=False):
    date: str
    value: float


class _GroupEntry(msgspec.Struct, gc=False):
    date: str
    value: float
    group: str


def instants(time_ms: npt.NDArray[np.int64]) -> list[str]:
    """Each time as `contract.times.format_instant` writes it; at once where none has a fraction."""
    if np.any(time_ms % 1000):
        return [*map(format_instant, time_ms.tolist())]
    texts: list[str] = np.datetime_as_string((time_ms // 1000).view("M8[s]"), timezone="UTC").tolist()
    return texts


def _json(series: Series) -> bytes:
    dates = instants(series.time_ms)
    values = series.value.tolist()
    entries: list[_Entry] | list[_GroupEntry]
    if series.group is None:
        entries = [*map(_Entry, dates, values)]
    else:
        entries = [*map(_GroupEntry, dates, values, series.group)]
    document: dict[str, object] = {"entries": entries}
    if series.approximation:
        document["approximation"] = series.approximation
    return msgspec.json.encode(document)


def _csv(series: Series) -> bytes:
    columns: dict[str, object] = {
        "date": instants(series.time_ms),
        "value": series.value,
    }
    if series.group is not None:
        columns["group"] = series.group
    return pd.DataFrame(columns).to_csv(index=False).encode()


def _arrow(series: Series) -> bytes:
    table = series.table()
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet(series: Series) -> bytes:
    sink = io.BytesIO()
    pq.write_table(series.table(), sink, compression="zstd")
    return sink.getvalue()


_FORMS: dict[str, Callable[[Series], bytes]] = {JSON: _json, CSV: _csv, ARROW: _arrow, PARQUET: _parquet}


def form_of(req: Request) -> str:
    """The media type to answer in; JSON where the client takes anything. Raises ProblemError 406."""
    accept = req.accept
    if accept == "*/*":
        return JSON
    chosen = req.client_prefers(_FORMS)
    if chosen is None:
        raise ProblemError(falcon.HTTP_406, f"Accept: {accept} asks for none of {', '.join(_FORMS)}.")
    return chosen


def send(resp: Response, form: str, series: Series) -> None:
    """Answer with `series` in a form that `form_of` gave."""
    resp.content_type = form
    resp.data = _FORMS[form](series)
    if series.approximation and form != JSON:
        resp.set_header("Approximation", series.approximation)
