"""Questions to a Loadlens service: its answers as DataFrames, its errors as exceptions."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import httpx
import msgspec
import pandas as pd
import pyarrow as pa

from analytics.frames.arrow import frame_of
from analytics.frames.frame import FrameError, of_metric
from analytics.frames.progress import progress
from analytics.frames.weights import Weight
from analytics.sources.base import Grouping, Moment, check_windows_by, epoch_ms, of_groups
from analytics.sources.operations import Operations
from analytics.sources.service_api import IMPATIENT, JSON_TYPE, Patience, ServiceError, path_segment, refusal
from contract.metrics import NAMES, Statistic
from contract.selectors import labels_text

if TYPE_CHECKING:
    from typing_extensions import Buffer as WriteableBuffer

_BUFFER = 1 << 20
_RECORDS = list[dict[str, object]]


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


def read_table(body: bytes) -> pd.DataFrame:
    """The frame of an Arrow stream with `date` and any other columns."""
    try:
        with pa.ipc.open_stream(body) as stream:
            frame: pd.DataFrame = stream.read_all().to_pandas()
        return frame.set_index(pd.DatetimeIndex(frame.pop("date"), name="time").as_unit("ms"))
    except (pa.ArrowException, KeyError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}") from error


def read_windows(parts: Iterator[bytes], what: str) -> pd.DataFrame:
    """The frame of windows of an Arrow stream that comes in parts; `what` names it beside a progress bar."""
    try:
        with pa.ipc.open_stream(io.BufferedReader(_Stream(parts), _BUFFER)) as stream:
            metadata = {name.decode(): value.decode() for name, value in (stream.schema.metadata or {}).items()}
            with progress(what, int(metadata.get("pieces", 1))) as step:
                frame = frame_of(pa.Table.from_batches(_each(stream, step), stream.schema))
    except (pa.ArrowException, FrameError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}") from error
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
        records = msgspec.json.decode(msgspec.json.decode(body, type=dict[str, msgspec.Raw])[member], type=_RECORDS)
    except (msgspec.DecodeError, KeyError) as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}") from error
    more = {name: None for record in records for name in record if name not in columns}
    return pd.DataFrame.from_records(records, columns=[*columns, *more])


def next_page(body: bytes) -> str | None:
    """The `after` of the page behind a page of a list; None at its end, and for services that know of no pages."""
    try:
        return msgspec.json.decode(body, type=_Page).next
    except msgspec.DecodeError as error:
        raise ServiceError(f"The service gave an answer that cannot be read: {error}") from error


USE_KEYS = ("name", "user", "unit", "command")
"""What tells processes and units apart in frames of who used the CPU."""
OTHERS = "others"
"""What stands there for all that are not named, with no user, unit or command."""
_USE = (*USE_KEYS, "cpu_s", "at_most_s", "share", "resident_bytes", "machines")
_USE_OVER_TIME = (*USE_KEYS, "cpu_s", "busy_s", "core_s")


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


_ARROW = "application/vnd.apache.arrow.stream"
_USERS = (
    "user_id", "os_type", "os_version", "cores", "first_seen", "last_seen", "shared_windows", "shared_at", "labels",
)  # fmt: skip
_MACHINES = ("user_id", "states", "mean", "p95", "max", "change", "cores", "os_type", "last_seen", "labels")
_PAGE = 10_000
_SELECTION = ("q", "os", "label", "state", "sort", "order", "first", "count")
_METRICS = ("name", "title", "unit", "statistic", "by_core", "by_device", "type", "stored")


def _check_machines(machines: Mapping[str, object]) -> None:
    foreign = [name for name in machines if name not in _SELECTION]
    if foreign:
        raise ValueError(f"expected as members of machines {', '.join(_SELECTION)}, got {foreign[0]!r}")


class Client(Operations):
    """Asks the service at `url`, with `token` where it asks for one; a source as `analytics.sources.base` describes it.

    By default it answers the last day. Nothing is sent before the first question. Raises ValueError for what is not an
    http(s) address. Every question raises UnreachableError where the service does not answer, and ProblemError, with
    the service's own words, where it refuses: an unknown metric or user, a wrong range, rate or token; CutShortError
    where an answer ends before it is whole. Metrics that compare cores, such as `cpuCoreLoadAvgMax`, have no windows:
    they are answered as values. With `patience` what only asks is asked again while the service is busy or away. What
    concerns agents, rules and the like is in `analytics.sources.operations`; `call` sends anything else.
    """

    def __init__(self, url: str, token: str | None = None, *, patience: Patience = IMPATIENT, **options: Any) -> None:
        super().__init__(url, token, **options)
        self.patience = patience

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
        device: str | None = None,
        histograms: bool = True,
    ) -> pd.DataFrame:
        """The windows of one user, or with `stat` its values (`analytics.sources.base`)."""
        query = {"start": start, "end": end, "resample_rate": rate, "core": core, "device": device}
        if stat is None and not _compares_cores(metric):
            query |= {"metric": metric, "histograms": histograms}
            return self._windows(f"windows/byUser/{path_segment(user)}", f"{metric} of {user}", query)
        if rate == "raw" or "each" in (core, device):
            raise ValueError(
                "expected rate='raw', core='each' and device='each' without stat, as they are for windows, got both"
            )
        return self._values(
            f"metrics/{path_segment(metric)}/byUser/{path_segment(user)}", metric, query | {"stat": stat}
        )

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
        weight: Weight = "samples",
        users: Sequence[str] = (),
        machines: Mapping[str, object] = {},
    ) -> pd.DataFrame:
        """The windows of all users together or of each, or with `stat` their values (`analytics.sources.base`).

        Of windows, `users` (ids, patterns, or labels such as `role=web`) says which are meant; `machines` chooses as
        the dashboard does: `q`, `os`, `label`, `state`, and `first` and `count` in the order of `sort` and `order`
        (docs/api.md), as in `machines={"state": "hot"}`; all unless said.
        """
        query: dict[str, Any] = {"start": start, "end": end, "resample_rate": rate, "by": by}
        if users and stat is not None:
            raise ValueError("expected users without stat; query() takes both")
        if machines and stat is not None:
            raise ValueError("expected machines without stat")
        _check_machines(machines)
        weighed: dict[str, Any] = {} if weight == "samples" else {"weight": weight}
        if stat is None:
            check_windows_by(by, top)
            wanted = query | weighed | {"metric": metric, "histograms": histograms, "user": list(users) or None}
            wanted |= machines
            return self._windows("windows/fleet", f"{metric} of the fleet", wanted)
        values = self._values(
            f"metrics/{path_segment(metric)}/fleet", metric, query | {"top": top, "stat": stat} | weighed
        )
        return of_groups(values, by)

    def query(
        self,
        metrics: str | Sequence[str] = "cpuLoadAvg",
        *,
        stats: Sequence[Statistic] = (),
        by: str | Sequence[str] = "all",
        users: Sequence[str] = (),
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str = "15m",
        tz: str | None = None,
        offset: str | None = None,
        top: int | None = None,
        weight: Weight = "samples",
        machines: Mapping[str, object] = {},
    ) -> pd.DataFrame:
        """Several metrics, statistics, groupings and machines (ids or patterns) at once.

        A row for each grouping, group and bucket: the index `time` (UTC), the columns `by`, `group` (missing for all
        together), with `by` core `core`, with `by` device `device`, then a column such as `cpuLoadAvg.p95` for each
        metric and statistic.
        `rate="all"` has one bucket, the range itself; `tz` and `offset` say where buckets begin, `weight` how users
        count in what is said of several (docs/api.md); `machines` chooses as in `fleet`, by the first metric.
        """
        _check_machines(machines)
        query = {
            "metric": metrics if isinstance(metrics, str) else list(metrics), "stat": list(stats) or None,
            "by": by if isinstance(by, str) else list(by), "user": list(users) or None, "start": start, "end": end,
            "resample_rate": rate, "tz": tz, "offset": offset, "top": top,
            "weight": None if weight == "samples" else weight,
        } | dict(machines)  # fmt: skip
        return read_table(self._get("query", query, accept=_ARROW))

    def who(
        self,
        host: str | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        by: Literal["process", "unit"] = "process",
        top: int = 5,
        rate: str | None = None,
    ) -> pd.DataFrame:
        """Who used the CPU of a machine, or of all: those that used most, and behind them `others` together.

        Without `rate` a row each, with `name`, `user`, `unit`, `command`, `cpu_s`, `at_most_s` (missing for the
        others), `share` of all that was used, `resident_bytes` and `machines`. With it a row for each of these in each
        bucket: the index `time`, the same names, `cpu_s`, and `busy_s` and `core_s` of the bucket: what was used, and
        what its cores had. `attrs` have `busy_s`, `core_s`, `machines`, `any_other_at_most_s` and `approximation` of
        the range.
        """
        moments = {name: None if at is None else epoch_ms(at) for name, at in (("start", start), ("end", end))}
        document = self.who_document(host, by=by, top=top, rate=rate, **moments)
        return read_use(document)

    def users(self, patterns: Sequence[str] = (), *, label: str | None = None) -> pd.DataFrame:
        """The users that have reported, and what each last said of itself (`analytics.sources.base`).

        Only those that `patterns` mean (ids, patterns, or labels such as `role=web`), and of these only those that are
        labelled `label`.
        """
        pages = []
        after: str | None = ""
        while after is not None:
            body = self._get("users", {"user": list(patterns) or None, "label": label, "after": after or None})
            pages.append(read_records(body, "users", _USERS))
            after = next_page(body)
        users = (pd.concat(pages) if len(pages) > 1 else pages[0]).rename(columns={"user_id": "user"})
        for name in ("first_seen", "last_seen", "shared_at"):
            users[name] = pd.to_datetime(users[name], utc=True, format="ISO8601").dt.as_unit("ms")
        users["shared_windows"] = users["shared_windows"].astype("Int64")
        # An older service says nothing of labels.
        users["labels"] = [labels_text(labels) if isinstance(labels, dict) else "" for labels in users["labels"]]
        # The service says 0 of a machine that names no cores: how many it has is not known.
        users["cores"] = users["cores"].astype("Int64").where(users["cores"] > 0)
        return users.assign(user=pd.Categorical(users["user"])).reset_index(drop=True)

    def machines(
        self,
        metric: str = "cpuUtilization",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str | None = None,
        machines: Mapping[str, object] = {},
    ) -> pd.DataFrame:
        """Machines with their exact statistics over a range, as the dashboard lists them: a row each.

        The columns `user`, `states` (words), `mean`, `p95`, `max`, `change` (to the same time before), `cores`,
        `os_type`, `last_seen` and `labels`. `machines` chooses and sorts as in `fleet`; all by name unless said.
        `rate` widens the range to whole buckets.
        """
        _check_machines(machines)
        query: dict[str, Any] = {"metric": metric, "start": start, "end": end, "resample_rate": rate, "limit": _PAGE}
        query |= machines
        pages = []
        after: str | None = ""
        while after is not None:
            body = self._get("fleet/machines", query | {"after": after or None})
            pages.append(read_records(body, "machines", _MACHINES))
            after = next_page(body)
        found = (pd.concat(pages, ignore_index=True) if len(pages) > 1 else pages[0]).rename(
            columns={"user_id": "user"}
        )
        for name in ("mean", "p95", "max", "change"):
            found[name] = found[name].astype("float64")
        found["last_seen"] = pd.to_datetime(found["last_seen"], utc=True, format="ISO8601").dt.as_unit("ms")
        found["states"] = [" ".join(states) for states in found["states"]]
        found["labels"] = [labels_text(labels) for labels in found["labels"]]
        found["cores"] = found["cores"].astype("Int64").where(found["cores"] > 0)
        return found

    def metrics(self) -> pd.DataFrame:
        """The metrics that can be asked for (`analytics.sources.base`)."""
        return read_records(self._get("metrics"), "metrics", _METRICS).rename(columns={"name": "metric"})

    def _values(self, path: str, metric: str, query: Mapping[str, Any]) -> pd.DataFrame:
        return read_values(self._get(path, query, accept=_ARROW), metric, query["stat"])

    def _windows(self, path: str, what: str, query: Mapping[str, Any]) -> pd.DataFrame:
        with self._asked(path, query, _ARROW) as response:
            return read_windows(response.iter_bytes(), what)

    def _get(self, path: str, query: Mapping[str, Any] | None = None, accept: str = JSON_TYPE) -> bytes:
        headers = {"Accept": accept}
        response = self.call("GET", path, params=_parameters(query or {}), headers=headers, patience=self.patience)
        media_type = response.headers.get("Content-Type", "")
        if response.status != 200 or media_type.partition(";")[0] != accept:
            raise refusal(response.status, media_type, response.body, accept)
        return response.body

    @contextmanager
    def _asked(self, path: str, query: Mapping[str, Any], accept: str) -> Iterator[httpx.Response]:
        """The answer to a question, which is one of the media type `accept`, before its body is read."""
        # Histograms are packed already: compressing them again costs more time than it saves on most networks.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        with self._answering("GET", path, params=_parameters(query), headers=headers) as response:
            media_type = response.headers.get("Content-Type", "")
            if response.status_code != 200 or media_type.partition(";")[0] != accept:
                raise refusal(response.status_code, media_type, response.read(), accept)
            yield response


def _parameters(query: Mapping[str, Any]) -> dict[str, Any]:
    moments = {name: epoch_ms(query[name]) for name in ("start", "end") if query.get(name) is not None}
    return {
        name: str(value).lower() if isinstance(value, bool) else value for name, value in {**query, **moments}.items()
    }


def _compares_cores(metric: str) -> bool:
    named = NAMES.get(metric)
    return named is not None and named.over_cores is not None
