"""Questions to a Loadlens service: its answers as DataFrames, its errors as exceptions."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote

import httpx
import msgspec
import pandas as pd
import pyarrow as pa

from analytics.frames.arrow import frame_of
from analytics.frames.frame import FrameError
from analytics.frames.progress import progress
from analytics.sources.base import Grouping, Moment, check_windows_by, epoch_ms
from contract.metrics import NAMES, Statistic
from contract.problems import Problem
from contract.service_address import check_service_url

if TYPE_CHECKING:
    from typing_extensions import Buffer as WriteableBuffer

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


_ARROW = "application/vnd.apache.arrow.stream"
_JSON = "application/json"
_USERS = ("user_id", "os_type", "os_version", "cores", "first_seen", "last_seen")
_METRICS = ("name", "title", "unit", "statistic", "by_core", "type", "stored")
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)


class Client:
    """Asks the service at `url`, with `token` where it asks for one; a source as `analytics.sources.base` describes it.

    By default it answers the last day. Nothing is sent before the first question. Raises ValueError for what is not an
    http(s) address. Every question raises UnreachableError where the service does not answer, and ProblemError, with
    the service's own words, where it refuses: an unknown metric or user, a wrong range, rate or token; CutShortError
    where an answer ends before it is whole. Metrics that compare cores, such as `cpuCoreLoadAvgMax`, have no windows:
    they are answered as values.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        check_service_url(url)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.HTTPTransport(retries=1)  # a second try to connect, as the first may meet a closing socket
        self._http = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)

    def history(
        self,
        user: str,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        stat: Statistic | None = None,
        core: int | Literal["each"] | None = None,
        histograms: bool = True,
    ) -> pd.DataFrame:
        """The windows of one user, or with `stat` its values (`analytics.sources.base`)."""
        query = {"start": start, "end": end, "resample_rate": rate, "core": core}
        if stat is None and not _compares_cores(metric):
            query |= {"metric": metric, "histograms": histograms}
            return self._windows(f"windows/byUser/{_escaped(user)}", f"{metric} of {user}", query)
        if rate == "raw" or core == "each":
            raise ValueError("rate='raw' and core='each' are for windows, without stat")
        return self._values(f"metrics/{_escaped(metric)}/byUser/{_escaped(user)}", metric, query | {"stat": stat})

    def fleet(
        self,
        metric: str = "cpuLoadAvg",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        by: Grouping | None = None,
        top: int | None = None,
        stat: Statistic | None = None,
        histograms: bool = True,
    ) -> pd.DataFrame:
        """The windows of all users together or of each, or with `stat` their values (`analytics.sources.base`)."""
        query = {"start": start, "end": end, "resample_rate": rate, "by": by}
        if stat is None:
            check_windows_by(by, top)
            query |= {"metric": metric, "histograms": histograms}
            return self._windows("windows/fleet", f"{metric} of the fleet", query)
        return self._values(f"metrics/{_escaped(metric)}/fleet", metric, query | {"top": top, "stat": stat})

    def users(self) -> pd.DataFrame:
        """The users that have reported, and what each last said of itself (`analytics.sources.base`)."""
        users = read_records(self._get("users"), "users", _USERS).rename(columns={"user_id": "user"})
        for name in ("first_seen", "last_seen"):
            users[name] = pd.to_datetime(users[name], utc=True, format="ISO8601").dt.as_unit("ms")
        return users.set_index("user")

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for (`analytics.sources.base`)."""
        return read_records(self._get("metrics"), "metrics", _METRICS).set_index("name")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _values(self, path: str, metric: str, query: Mapping[str, Any]) -> pd.DataFrame:
        return read_values(self._get(path, query, accept=_ARROW), metric, query["stat"])

    def _windows(self, path: str, what: str, query: Mapping[str, Any]) -> pd.DataFrame:
        with self._asked(path, query, _ARROW) as response:
            return read_windows(response.iter_raw(), what)

    def _get(self, path: str, query: Mapping[str, Any] | None = None, accept: str = _JSON) -> bytes:
        with self._asked(path, query or {}, accept) as response:
            return response.read()

    @contextmanager
    def _asked(self, path: str, query: Mapping[str, Any], accept: str) -> Iterator[httpx.Response]:
        """The answer to a question, which is one of the media type `accept`, before its body is read."""
        moments = {name: epoch_ms(query[name]) for name in ("start", "end") if query.get(name) is not None}
        parameters = {name: _parameter(value) for name, value in {**query, **moments}.items() if value is not None}
        begun = False
        try:
            with self._http.stream("GET", f"api/v1/{path}", params=parameters, headers={"Accept": accept}) as response:
                begun = True
                media_type = response.headers.get("Content-Type", "")
                if response.status_code != 200 or media_type.partition(";")[0] != accept:
                    check(response.status_code, media_type, response.read(), accept)
                yield response
        except httpx.TimeoutException as error:
            raise UnreachableError(f"{self._http.base_url} did not answer in time") from error
        except httpx.TransportError as error:
            if begun:
                raise CutShortError(f"{self._http.base_url}: the answer ended early; ask again") from error
            raise UnreachableError(f"{self._http.base_url} cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            raise ServiceError(f"{self._http.base_url} gave an answer that cannot be read: {error}") from error


def _parameter(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _compares_cores(metric: str) -> bool:
    named = NAMES.get(metric)
    return named is not None and named.over_cores is not None


def _escaped(segment: str) -> str:
    """A segment of a path, whatever characters it has; `..` would otherwise be another path."""
    return segment.replace(".", "%2E") if segment in (".", "..") else quote(segment, safe="")
