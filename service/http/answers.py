"""Answers as a table of dates and values, in the form that the client accepts, and what is said beside them.

Texts in CSV that a spreadsheet would take for formulas, names of hosts and devices, which anybody may choose, get an
apostrophe before them, as OWASP has it ("CSV injection"). Numbers stay as they are; JSON, Arrow and Parquet have every
name as it is. What is going to go is said in the answers that use it: Deprecation (RFC 9745), Sunset (RFC 8594);
docs/api.md has the policy.
"""

import io
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple

import falcon
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from falcon import mediatypes
from falcon.asgi import Request, Response

from contract.times import DAY_MS, format_instant
from service.http.problems import HTTPProblem

JSON = "application/json"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


def _table(values: pd.DataFrame) -> pa.Table:
    """The columns `date` (UTC), `value` and, with groups, `group`; the approximation as metadata."""
    columns = {"date": pa.array(_moments(values), pa.timestamp("ms", "UTC")), "value": pa.array(values["value"])}
    if "group" in values:
        columns["group"] = pa.array(values["group"], pa.string())
    table = pa.table(columns)
    approximation = values.attrs.get("approximation")
    return table.replace_schema_metadata({"approximation": approximation}) if approximation else table


def _moments(values: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The start of each bucket, epoch ms."""
    return pd.DatetimeIndex(values.index).asi8


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
    # Days and times of day repeat themselves: each is written once.
    days, day = np.unique(time_ms // DAY_MS, return_inverse=True)
    times, time = np.unique(time_ms % DAY_MS // 1000, return_inverse=True)
    dates = np.datetime_as_string(days.view("M8[D]")).tolist()
    texts = [f"T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z" for second in times.tolist()]
    return [dates[place] + texts[of_day] for place, of_day in zip(day.tolist(), time.tolist(), strict=True)]


def _json(values: pd.DataFrame) -> bytes:
    dates = instants(_moments(values))
    numbers = values["value"].tolist()
    entries: list[_Entry] | list[_GroupEntry]
    if "group" in values:
        entries = [*map(_GroupEntry, dates, numbers, values["group"].tolist())]
    else:
        entries = [*map(_Entry, dates, numbers)]
    document: dict[str, object] = {"entries": entries}
    document |= {name: values.attrs[name] for name in ("approximation", "caveat") if name in values.attrs}
    return msgspec.json.encode(document)


def _csv(values: pd.DataFrame) -> bytes:
    dates = pd.Index(instants(_moments(values)), name="date")
    if "group" in values:
        values = values.assign(group=values["group"].map(harmless))
    return values.set_axis(dates).to_csv().encode()


def _arrow(values: pd.DataFrame) -> bytes:
    return arrow_stream(_table(values))


def arrow_stream(table: pa.Table) -> bytes:
    """A table in Arrow's streaming format."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet(values: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_table(values), sink, compression="zstd")
    return sink.getvalue()


_FORMS: dict[str, Callable[[pd.DataFrame], bytes]] = {JSON: _json, CSV: _csv, ARROW: _arrow, PARQUET: _parquet}


def form_of(req: Request) -> str:
    """The media type to answer in; JSON where the client takes anything. Raises ProblemError 406."""
    accept = req.accept
    if accept == "*/*":
        return JSON
    chosen = preferred(req, _FORMS)
    if chosen is None:
        raise HTTPProblem(falcon.HTTP_406, f"Accept: {accept} asks for none of {', '.join(_FORMS)}.")
    return chosen


def preferred(req: Request, forms: Iterable[str]) -> str | None:
    """The form that a request would rather have; None where it takes none of them, or does not say what it takes.

    Empty elements of the list count for nothing (RFC 9110, 5.6.1).
    """
    accept = ",".join(part for part in req.accept.split(",") if part.strip())
    try:
        return mediatypes.best_match([*forms], accept) or None
    except ValueError:
        return None


def send(resp: Response, form: str, values: pd.DataFrame) -> None:
    """Answer with a frame of values (`analytics.frames.statistics.values_of`), in a form that `form_of` gave."""
    resp.content_type = form
    resp.data = _FORMS[form](values)
    if "approximation" in values.attrs and form != JSON:
        resp.set_header("Approximation", values.attrs["approximation"])
    if "caveat" in values.attrs:
        resp.set_header("Caveat", values.attrs["caveat"])


FORMULA = ("=", "+", "-", "@", "\t", "\r")
_PATTERN = r"\A[=+\-@\t\r]"
_NAMES = ("group", "user", "user_id", "device")


def harmless(text: str | None) -> str | None:
    """The text as a cell may have it."""
    return f"'{text}" if text is not None and text.startswith(FORMULA) else text


def without_formulas(table: pa.Table) -> pa.Table:
    """The table with the names in it as cells may have them."""
    for name in _NAMES:
        if name in table.column_names and pa.types.is_string(table.schema.field(name).type):
            place, column = table.schema.get_field_index(name), table[name]
            marked = pc.binary_join_element_wise(pa.scalar("'"), column, "")
            is_formula = pc.fill_null(pc.match_substring_regex(column, _PATTERN), False)
            table = table.set_column(place, name, pc.if_else(is_formula, marked, column))
    return table


class Deprecated(NamedTuple):
    """Something that has a better successor."""

    what: str
    instead: str
    since: datetime
    until: datetime
    """It may be gone from then on."""


AUDIT_BEFORE = Deprecated(
    "the parameter before of /api/v1/audit",
    "after",
    datetime(2026, 12, 1, tzinfo=UTC),
    datetime(2027, 12, 1, tzinfo=UTC),
)
DEPRECATED = (AUDIT_BEFORE,)
"""Everything that is deprecated."""


def warn_of(resp: Response, deprecated: Deprecated) -> None:
    """Say in an answer that what was used is deprecated."""
    resp.set_header("Deprecation", f"@{deprecated.since.timestamp():.0f}")
    resp.set_header("Sunset", format_datetime(deprecated.until, usegmt=True))
