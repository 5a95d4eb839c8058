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

from contract.times import format_instant
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


_MINUTES = np.array([f"T{minute // 60:02}:{minute % 60:02}" for minute in range(24 * 60)], "S6")
_SECONDS = np.array([f":{second:02}Z" for second in range(60)], "S4")
_INSTANT = [("date", "S10"), ("minute", "S6"), ("second", "S4")]


def instants(time_ms: npt.NDArray[np.int64]) -> list[str]:
    """Each time as `contract.times.format_instant` writes it; at once where none has a fraction."""
    if not _are_whole_seconds(time_ms):
        return [*map(format_instant, time_ms.tolist())]
    texts = np.empty(len(time_ms), _INSTANT)
    _write_instants(texts, time_ms)
    return texts.view("S20").astype("U").tolist()


def _are_whole_seconds(time_ms: npt.NDArray[np.int64]) -> bool:
    return len(time_ms) > 0 and not np.any(time_ms % 1000)


def _write_instants(texts: npt.NDArray[np.void], time_ms: npt.NDArray[np.int64]) -> None:
    """Put times without fractions into the members of `_INSTANT`."""
    minute, second = np.divmod(time_ms // 1000, 60)
    day, minute = np.divmod(minute, len(_MINUTES))
    first, last = int(day.min()), int(day.max())
    # Days repeat themselves: each is written once.
    days = np.arange(first, last + 1) if last - first < len(day) else np.unique(day)
    dates = np.datetime_as_string(days.view("M8[D]")).astype("S10")
    texts["date"] = dates.take(np.searchsorted(days, day))
    texts["minute"] = _MINUTES.take(minute)
    texts["second"] = _SECONDS.take(second)


def _json(values: pd.DataFrame) -> bytes:
    time_ms, numbers = _moments(values), values["value"].tolist()
    entries: object
    if "group" in values:
        entries = [*map(_GroupEntry, instants(time_ms), numbers, values["group"].tolist())]
    elif _are_whole_seconds(time_ms):
        entries = _entries(time_ms, numbers)
    else:
        entries = [*map(_Entry, instants(time_ms), numbers)]
    document = {"entries": entries}
    document |= {name: values.attrs[name] for name in ("approximation", "caveat") if name in values.attrs}
    return msgspec.json.encode(document)


_BEFORE, _BETWEEN = b'},{"date":"', b'","value":'
_ENTRY = [("before", f"S{len(_BEFORE)}"), *_INSTANT, ("between", f"S{len(_BETWEEN)}")]


def _entries(time_ms: npt.NDArray[np.int64], numbers: list[float]) -> msgspec.Raw:
    """The entries as `_Entry` has them, put together of texts: a third of what objects between would take."""
    leads = np.empty(len(time_ms), _ENTRY)
    leads["before"], leads["between"] = _BEFORE, _BETWEEN
    _write_instants(leads, time_ms)
    parts = [b""] * (2 * len(time_ms))
    parts[::2] = leads.view(f"S{leads.itemsize}").tolist()
    parts[1::2] = msgspec.json.encode(numbers)[1:-1].split(b",")
    return msgspec.Raw(b"[" + b"".join(parts)[len(b"},") :] + b"}]")


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
