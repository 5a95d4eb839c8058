"""Questions to a Loadlens service: its answers as DataFrames, its errors as exceptions; for event loops too."""

import asyncio
import functools
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar

import httpx
import pandas as pd

from analytics.frames.weights import Weight
from analytics.sources.base import Grouping, Moment, check_windows_by, epoch_ms, of_groups
from analytics.sources.operations import Operations
from analytics.sources.service_answers import (
    next_page,
    read_hosts,
    read_records,
    read_table,
    read_use,
    read_values,
    read_windows,
)
from analytics.sources.service_api import IMPATIENT, JSON_TYPE, Patience, path_segment, refusal
from contract.metrics import NAMES, Statistic
from contract.selectors import labels_text

if TYPE_CHECKING:
    pass


_ARROW = "application/vnd.apache.arrow.stream"
_USERS = (
    "user_id", "os_type", "os_version", "cores", "first_seen", "last_seen", "shared_windows", "shared_at", "labels",
)  # fmt: skip
_PAGE = 10_000
_SELECTION = ("q", "os", "label", "state", "sort", "order", "first", "count")
_METRICS = ("name", "title", "unit", "statistic", "by_core", "by_device", "type", "stored")


def _check_hosts(hosts: Mapping[str, object]) -> None:
    foreign = [name for name in hosts if name not in _SELECTION]
    if foreign:
        raise ValueError(f"expected as members of hosts {', '.join(_SELECTION)}, got {foreign[0]!r}")


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _by_old_name(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """The method, which takes `hosts` as `machines` too, its deprecated name."""

    @functools.wraps(method)
    def named(*arguments: _P.args, **options: _P.kwargs) -> _R:
        if "machines" in options:
            warnings.warn("expected hosts, got machines, its deprecated name", DeprecationWarning, stacklevel=2)
            options["hosts"] = options.pop("machines")
        return method(*arguments, **options)

    return named


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

    @_by_old_name
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
        hosts: Mapping[str, object] = {},
    ) -> pd.DataFrame:
        """The windows of all users together or of each, or with `stat` their values (`analytics.sources.base`).

        Of windows, `users` (ids, patterns, or labels such as `role=web`) says which are meant; `hosts` chooses as
        the dashboard does: `q`, `os`, `label`, `state`, and `first` and `count` in the order of `sort` and `order`
        (docs/api.md), as in `hosts={"state": "hot"}`; all unless said.
        """
        query: dict[str, Any] = {"start": start, "end": end, "resample_rate": rate, "by": by}
        if users and stat is not None:
            raise ValueError("expected users without stat; query() takes both")
        if hosts and stat is not None:
            raise ValueError("expected hosts without stat")
        _check_hosts(hosts)
        weighed: dict[str, Any] = {} if weight == "samples" else {"weight": weight}
        if stat is None:
            check_windows_by(by, top)
            wanted = query | weighed | {"metric": metric, "histograms": histograms, "user": list(users) or None}
            wanted |= hosts
            return self._windows("windows/fleet", f"{metric} of the fleet", wanted)
        values = self._values(
            f"metrics/{path_segment(metric)}/fleet", metric, query | {"top": top, "stat": stat} | weighed
        )
        return of_groups(values, by)

    @_by_old_name
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
        hosts: Mapping[str, object] = {},
    ) -> pd.DataFrame:
        """Several metrics, statistics, groupings and hosts (ids or patterns) at once.

        A row for each grouping, group and bucket: the index `time` (UTC), the columns `by`, `group` (missing for all
        together), with `by` core `core`, with `by` device `device`, then a column such as `cpuLoadAvg.p95` for each
        metric and statistic.
        `rate="all"` has one bucket, the range itself; `tz` and `offset` say where buckets begin, `weight` how users
        count in what is said of several (docs/api.md); `hosts` chooses as in `fleet`, by the first metric.
        """
        _check_hosts(hosts)
        query = {
            "metric": metrics if isinstance(metrics, str) else list(metrics), "stat": list(stats) or None,
            "by": by if isinstance(by, str) else list(by), "user": list(users) or None, "start": start, "end": end,
            "resample_rate": rate, "tz": tz, "offset": offset, "top": top,
            "weight": None if weight == "samples" else weight,
        } | dict(hosts)  # fmt: skip
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
        """Who used the CPU of a host, or of all: those that used most, and behind them `others` together.

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
        # The service says 0 of a host that names no cores: how many it has is not known.
        users["cores"] = users["cores"].astype("Int64").where(users["cores"] > 0)
        return users.assign(user=pd.Categorical(users["user"])).reset_index(drop=True)

    @_by_old_name
    def hosts(
        self,
        metric: str = "cpuUtilization",
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        rate: str | None = None,
        hosts: Mapping[str, object] = {},
    ) -> pd.DataFrame:
        """Hosts with their exact statistics over a range, as the dashboard lists them: a row each.

        The columns `user`, `states` (words), `mean`, `p95`, `max`, `change` (to the same time before), `cores`,
        `os_type`, `last_seen` and `labels`. `hosts` chooses and sorts as in `fleet`; all by name unless said.
        `rate` is without effect: statistics are over the range, whatever a picture's columns are.
        """
        _check_hosts(hosts)
        query: dict[str, Any] = {"metric": metric, "start": start, "end": end, "resample_rate": rate, "limit": _PAGE}
        query |= hosts
        pages = []
        after: str | None = ""
        while after is not None:
            page, after = read_hosts(self._get("fleet/machines", query | {"after": after or None}, accept=_ARROW))
            pages.append(page)
        return pd.concat(pages, ignore_index=True) if len(pages) > 1 else pages[0]

    def machines(self, metric: str = "cpuUtilization", **options: Any) -> pd.DataFrame:
        """What `hosts` answers; the deprecated name of it."""
        warnings.warn("expected hosts(), got machines(), its deprecated name", DeprecationWarning, stacklevel=2)
        return self.hosts(metric, **options)

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


class AsyncClient:
    """Every method of `Client`, to be awaited: `await service.fleet(rate="1h")`. An asynchronous context manager.

    Each call runs in a thread of its own, on the connections that all of them share, so the event loop goes on while an
    answer comes and is made a DataFrame; a call whose task is cancelled ends by itself, and what it brings is dropped.
    `audit`, which reads page by page, gives all entries at once.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """A method of `Client`; raises AttributeError for what it does not have."""
        method = getattr(self._client, name)
        if name.startswith("_") or not callable(method):
            raise AttributeError(f"'AsyncClient' has no method {name!r}")

        @functools.wraps(method)
        async def awaited(*arguments: Any, **options: Any) -> Any:
            return await asyncio.to_thread(_whole, method, arguments, options)

        return awaited

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _whole(method: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    answer = method(*arguments, **options)
    return [*answer] if hasattr(answer, "__next__") else answer
