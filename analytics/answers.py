"""What a service answers, read into DataFrames, and its errors as exceptions."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import pandas as pd
import pyarrow as pa

from analytics.frames import FrameError
from analytics.progress import progress
from analytics.wire import frame_of
from contract.metrics import NAMES
from contract.problems import Problem

if TYPE_CHECKING:
    from typing_extensions import Buffer as WriteableBuffer

__all__ = [
    "CutShortError", "ProblemError", "ServiceError", "UnreachableError", "check", "read_records", "read_values",
    "read_windows",
]  # fmt: skip

PROBLEM = "application/problem+json"
_BUFFER = 1 << 20
_RECORDS = list[dict[str, object]]


class ServiceError(Exception):
    """A question that was not answered; the message says why."""


class UnreachableError(ServiceError):
    """No answer came: nothing listens there, or it took too long."""


class CutShortError(ServiceError):
    """An answer began, and ended before it was whole; the service's log says why."""


class ProblemError(ServiceError):
    """The service refused, or failed, and said why (RFC 9457)."""

    def __init__(self, status: int, detail: str, problems: tuple[Problem, ...] = ()) -> None:
        reasons = "".join(
            f"\n  {problem.pointer.lstrip('/')}: {problem.detail}" for problem in problems if problem.detail != detail
        )
        super().__init__(detail + reasons)
        self.status = status
        """The HTTP status, such as 404."""
        self.detail = detail
        """What is wrong, in the service's words."""
        self.problems = problems
        """The single parameters that are wrong, where there are such."""


class _Document(msgspec.Struct):
    title: str = ""
    detail: str = ""
    errors: tuple[Problem, ...] = ()


def check(status: int, media_type: str, body: bytes, expected: str) -> bytes:
    """The body of an answer that is one, of the media type `expected`; raises ProblemError or ServiceError."""
    media_type = media_type.partition(";")[0].strip().lower()
    if media_type == PROBLEM:
        try:
            document = msgspec.json.decode(body, type=_Document)
        except msgspec.DecodeError:
            document = _Document()
        raise ProblemError(status, document.detail or document.title or f"HTTP status {status}", document.errors)
    if status != 200 or media_type != expected:
        given = media_type or "something without a type"
        raise ServiceError(f"The service answered {status} with {given} instead of {expected}: is it Loadlens?")
    return body


def read_values(body: bytes, metric: str, stat: str | None) -> pd.DataFrame:
    """The frame of an Arrow stream with `date`, `value` and perhaps `group`; its `attrs` say what the values are."""
    try:
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        columns = {name: table.column(name).to_pandas() for name in table.column_names}
        time = pd.DatetimeIndex(columns.pop("date"), name="time").tz_convert("UTC").as_unit("ms")
    except (pa.ArrowException, KeyError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}") from error
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


def read_windows(parts: Iterator[bytes], what: str) -> pd.DataFrame:
    """The frame of windows of an Arrow stream that comes in parts; `what` names it beside a progress bar."""
    try:
        with pa.ipc.open_stream(io.BufferedReader(_Stream(parts), _BUFFER)) as stream:
            metadata = {name.decode(): value.decode() for name, value in (stream.schema.metadata or {}).items()}
            with progress(what, int(metadata.get("pieces", 1))) as step:
                frame = frame_of(pa.Table.from_batches(_each(stream, step), stream.schema))
    except (pa.ArrowException, FrameError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}") from error
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
        records = msgspec.json.decode(msgspec.json.decode(body, type=dict[str, msgspec.Raw])[member], type=_RECORDS)
    except (msgspec.DecodeError, KeyError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}") from error
    more = {name: None for record in records for name in record if name not in columns}
    return pd.DataFrame.from_records(records, columns=[*columns, *more])
