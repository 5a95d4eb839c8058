"""Answers of a service as DataFrames: values, windows, records, and who used the CPU."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pandas as pd
import pyarrow as pa

from analytics.frames.exchange import frame_of
from analytics.frames.frame import FrameError, of_metric
from analytics.frames.progress import progress
from analytics.sources.service_api import ServiceError
from contract.metrics import NAMES
from contract.problems import decode_json
from contract.selectors import labels_text

if TYPE_CHECKING:
    from typing_extensions import Buffer as WriteableBuffer

_BUFFER = 1 << 20
_RECORDS = list[dict[str, object]]
USE_KEYS = ("name", "user", "unit", "command")
"""What tells processes and units apart in frames of who used the CPU."""
OTHERS = "others"
"""What stands there for all that are not named, with no user, unit or command."""
_HOSTS = ("user_id", "states", "mean", "p95", "max", "change", "cores", "os_type", "last_seen", "labels")
_USE = (*USE_KEYS, "cpu_s", "at_most_s", "share", "resident_bytes", "machines")
_USE_OVER_TIME = (*USE_KEYS, "cpu_s", "busy_s", "core_s")


def read_values(body: bytes, metric: str, stat: str | None) -> pd.DataFrame:
    """The frame of an Arrow stream with `date`, `value` and perhaps `group`; its `attrs` say what the values are."""
    try:
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        columns = {name: table.column(name).to_pandas() for name in table.column_names}
        time = pd.DatetimeIndex(columns.pop("date"), name="time").tz_convert("UTC").as_unit("ms")
    except (pa.ArrowException, KeyError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}. Is it Loadlens?") from error
    frame = pd.DataFrame({name: column.array for name, column in columns.items()}, index=time)
    named = NAMES.get(metric)
    frame.attrs["metric"] = metric
    if named is not None:
        frame.attrs["unit"] = named.quantity.unit
        frame.attrs["stat"] = stat or named.statistic
    approximation = (table.schema.metadata or {}).get(b"approximation")
    if approximation:
        frame.attrs["approximation"] = approximation.decode()
    return frame


def read_table(body: bytes) -> pd.DataFrame:
    """The frame of an Arrow stream with `date` and any other columns."""
    try:
        with pa.ipc.open_stream(body) as stream:
            frame: pd.DataFrame = stream.read_all().to_pandas()
        return frame.set_index(pd.DatetimeIndex(frame.pop("date"), name="time").as_unit("ms"))
    except (pa.ArrowException, KeyError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}. Is it Loadlens?") from error


def read_windows(parts: Iterator[bytes], what: str) -> pd.DataFrame:
    """The frame of windows of an Arrow stream that comes in parts; `what` names it beside a progress bar."""
    try:
        with pa.ipc.open_stream(io.BufferedReader(_Stream(parts), _BUFFER)) as stream:
            metadata = {name.decode(): value.decode() for name, value in (stream.schema.metadata or {}).items()}
            with progress(what, int(metadata.get("pieces", 1))) as step:
                frame = frame_of(pa.Table.from_batches(_each(stream, step), stream.schema))
    except (pa.ArrowException, FrameError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}. Is it Loadlens?") from error
    if metadata.get("metric") in NAMES:
        return of_metric(frame, metadata["metric"])
    frame.attrs = {name: metadata[name] for name in ("metric", "unit") if name in metadata}
    return frame


def _each(stream: pa.RecordBatchReader, step: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    for batch in stream:
        yield batch
        step()


class _Stream(io.RawIOBase):
    """Parts of bytes as a file."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._rest:
            self._rest = memoryview(next(self._parts, b""))
        target = memoryview(buffer)
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def read_records(body: bytes, member: str, columns: Sequence[str]) -> pd.DataFrame:
    """The frame of a JSON object whose `member` is an array of objects: a row each, its `columns` first."""
    try:
        records = decode_json(decode_json(body, dict[str, msgspec.Raw])[member], _RECORDS)
    except (msgspec.DecodeError, KeyError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}. Is it Loadlens?") from error
    more = {name: None for record in records for name in record if name not in columns}
    return pd.DataFrame.from_records(records, columns=[*columns, *more])


def next_page(body: bytes) -> str | None:
    """The `after` of the page behind a page of a list; None at its end, and for services that know of no pages."""
    try:
        return decode_json(body, _Page).next
    except msgspec.DecodeError as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}. Is it Loadlens?") from error


def read_hosts(body: bytes) -> tuple[pd.DataFrame, str | None]:
    """The frame of a page of hosts, an Arrow stream, and the `after` of the page behind it; None at its end."""
    try:
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all().select(_HOSTS)
        columns = {name: table[name].to_pandas() for name in _HOSTS if name not in ("states", "labels")}
        states, labels = table["states"].to_pylist(), table["labels"].to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}. Is it Loadlens?") from error
    columns["states"] = [" ".join(of_one) for of_one in states]
    columns["labels"] = [labels_text(dict(of_one)) for of_one in labels]
    cores = columns["cores"].astype("Int64")
    columns["cores"] = cores.where(cores > 0)
    found = pd.DataFrame({name: columns[name] for name in _HOSTS}).rename(columns={"user_id": "user"})
    found["last_seen"] = found["last_seen"].dt.as_unit("ms")
    behind = (table.schema.metadata or {}).get(b"next")
    return found, behind.decode() if behind else None


def is_others(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows of such a frame are of all that are not named; a process of that name has a user."""
    return (frame["name"] == OTHERS) & (frame["user"] == "") & (frame["unit"] == "") & (frame["command"] == "")


def read_use(document: Mapping[str, Any]) -> pd.DataFrame:
    """The frame of what a service answers of who used the CPU."""
    keys = [tuple(one[name] for name in USE_KEYS) for one in document["top"]] + [(OTHERS, "", "", "")]
    busy_s = document["busy_s"]
    if "buckets" in document:
        buckets = document["buckets"]
        rows = [
            (*key, cpu_s, bucket["busy_s"], bucket["core_s"])
            for bucket in buckets
            for key, cpu_s in zip(keys, [*bucket["top_s"], bucket["others_s"]], strict=True)
        ]
        times = pd.to_datetime([one["time"] for one in buckets for _ in keys], utc=True, format="ISO8601")
        frame = pd.DataFrame(rows, columns=[*_USE_OVER_TIME], index=pd.DatetimeIndex(times, name="time").as_unit("ms"))
    else:
        entries = [tuple(one[name] for name in _USE) for one in document["top"]]
        if busy_s:
            entries.append((*keys[-1], document["others_s"], None, document["others_s"] / busy_s, None, None))
        frame = pd.DataFrame(entries, columns=[*_USE])
        frame["at_most_s"] = frame["at_most_s"].astype("float64")
        frame[["resident_bytes", "machines"]] = frame[["resident_bytes", "machines"]].astype("Int64")
    told = ("busy_s", "core_s", "machines", "any_other_at_most_s", "approximation")
    frame.attrs = {name: document[name] for name in told}
    return frame


class _Page(msgspec.Struct):
    next: str | None = None
