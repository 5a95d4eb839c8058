"""GET /api/v1/query: several metrics, statistics, users and groupings in one question, and the table of its answer."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import falcon
import pandas as pd
from falcon.asgi import Request
from msgspec import Struct

from analytics.frames.frame import with_histograms
from analytics.frames.statistics import SHARES, approximation_of, statistic
from analytics.frames.weights import Weight
from contract import times
from contract.devices import Names
from contract.metrics import BY_CORE, BY_DEVICE, TYPE_OF, NamedMetric, Quantity, Statistic, type_name
from contract.problems import shortened
from contract.selectors import (
    EVERYBODY,
    NOT_LABELLED,
    column_of_grouping,
    exact_names,
    host_matcher,
    label_of,
    names_labels,
)
from service.credentials.identity import ANYBODY, Identity
from service.dashboard.hosts import Selection, names_shown
from service.dashboard.matrix import FleetCache
from service.http.buckets import MAX_BUCKETS, AskedBuckets, check_kept, fitting_rate, take_buckets
from service.http.listing import take_selection
from service.http.parameters import LEVELS, PARTS, Level, TableParameters, names_of
from service.http.problems import HTTPProblem
from service.http.queries import a_statistic, ask, named_metric, number_of_groups, take_range
from service.http.requests import Parameters
from service.http.weighing import a_weight, weighed
from service.stores.base import Grouping, Question, Store

MAX_COLUMNS = 32
MAX_VALUES = 2_000_000
"""What one answer may hold: a fleet of 10,000 in 200 buckets."""
MAX_PATTERNS = 1000
_SEVERAL = ("metric", "stat", "by", "user")
_DEFAULT_METRIC = "cpuLoadAvg"


class Column(Struct, frozen=True):
    """One column of values."""

    metric: NamedMetric
    statistic: Statistic

    @property
    def name(self) -> str:
        """What it is called, such as `cpuLoadAvg.p95`."""
        return f"{self.metric.name}.{self.statistic}"


class TableQuery(Struct, frozen=True, kw_only=True):
    """A checked query. Times are epoch milliseconds, the range is half-open."""

    columns: tuple[Column, ...]
    start_ms: int
    end_ms: int
    buckets: AskedBuckets
    by: tuple[Level, ...]
    users: tuple[str, ...]
    """Patterns of user ids; none for everybody."""
    top: int | None
    selection: Selection = Selection()
    """Of these, the hosts that a picture of the first metric and the range shows."""
    weight: Weight = "samples"
    """How users count in what is said of several."""
    identity: Identity = ANYBODY
    """Who asks: only hosts in its scope count."""


class GroupRows(Struct, frozen=True):
    """The rows of one grouping."""

    level: Level
    frame: pd.DataFrame
    """A row for each group and bucket, sorted so: `time` (UTC), `group` (not at the level `all`), `core` or `device`
    (at the level of that name), and a column of float64 for each of the query's, NaN where the metric has no data."""
    approximations: dict[str, str]
    """How a column is approximate, by its name."""


async def read_table_query(req: Request, store: Store, identity: Identity) -> TableQuery:
    """The query of a request, about the hosts in the scope of who asks.

    Raises ProblemError 422, 404 for an unknown metric, 400 for a body that is no object.
    """
    asked = await Parameters.read(req, names_of(TableParameters), _SEVERAL)
    now_ms = times.now_ms()
    start_ms, end_ms = take_range(asked, now_ms)
    statistics = asked.take("stat", lambda value: tuple(a_statistic(one) for one in _listed(value)), ())
    columns = asked.take("metric", lambda value: _columns(_listed(value), statistics), None)
    query = TableQuery(
        columns=columns or _columns([_DEFAULT_METRIC], statistics),
        start_ms=start_ms,
        end_ms=end_ms,
        buckets=take_buckets(asked, start_ms, end_ms),
        by=asked.take("by", _levels, ("all",)),
        users=asked.take("user", user_patterns, ()),
        selection=Selection(**take_selection(req, asked)),
        top=asked.take("top", number_of_groups, None),
        weight=asked.take("weight", a_weight, "samples"),
        identity=identity,
    )
    if not asked.refused:
        _check_levels(asked, query)
    if not asked.refused:
        check_kept(asked, store, start_ms, query.buckets.step_ms, now_ms)
    asked.check()
    return query


def _check_levels(asked: Parameters, query: TableQuery) -> None:
    for column in query.columns:
        metric = column.metric
        if metric.over_cores and query.by != ("user",):
            asked.refuse("by", f"{metric.name} compares the cores of one host: by=user alone goes with it")
        elif "core" in query.by and not metric.by_core:
            asked.refuse("by", f"{metric.name} has no cores; {', '.join(BY_CORE[:-1])} and {BY_CORE[-1]} have")
        elif "device" in query.by and not metric.by_device:
            asked.refuse("by", f"{metric.name} names no devices; {', '.join(BY_DEVICE[:-1])} and {BY_DEVICE[-1]} do")
    if query.weight != "samples" and any(column.statistic == "count" for column in query.columns):
        asked.refuse("weight", "does not go with count, which counts samples")
    if query.top is not None and set(query.by) <= {"all", "core"}:
        asked.refuse(
            "top",
            "goes with by=user, os_type, os_version, device or a label: it keeps the groups with the highest values",
        )


async def table(cache: FleetCache, alerting: Callable[[], frozenset[str]], query: TableQuery) -> list[GroupRows]:
    """The answer of the cache's store, a part for each grouping, made in a thread.

    `alerting` names the hosts about which an alert fires, and may block. Raises ProblemError: 404 where a user that
    is named has never reported, 422 where the answer would be too large; StoreUnavailable.
    """
    return await ask(_table, cache, alerting, query)


def _table(cache: FleetCache, alerting: Callable[[], frozenset[str]], query: TableQuery) -> list[GroupRows]:
    store = cache.store
    users = chosen_users(store, query.users, query.identity)
    if not query.selection.is_everybody:
        shown = names_shown(
            cache,
            query.selection,
            query.columns[0].metric.quantity,
            (query.start_ms, query.end_ms),
            alerting(),
            times.now_ms(),
        )
        users = shown if users is None else shown & users
    _check_size(store, query, users)
    return [_part(store, query, level, users) for level in query.by]


def chosen_users(store: Store, patterns: Sequence[str], identity: Identity) -> frozenset[str] | None:
    """The users that patterns name and whom the asker may see; None for everybody.

    Raises ProblemError: 403 for an id outside of the asker's scope, 404 for one that has never reported.
    """
    covers = identity.covers
    if not patterns and not identity.is_scoped:
        return None
    named = [one for one in patterns if exact_names([one]) is not None and not names_labels([one])]
    if not all(map(covers, named)):
        raise HTTPProblem(falcon.HTTP_403, "The scope of this token does not have each user id that is named.")
    unknown = next((name for name in named if not store.has_user(name)), None)
    if unknown is not None:
        raise HTTPProblem(
            falcon.HTTP_404, f"No report of user {unknown!r} has come in. GET /api/v1/users lists those that have."
        )
    if patterns and len(named) == len(patterns):
        return frozenset(named)
    matches = host_matcher(patterns or EVERYBODY)
    known = store.users()
    return frozenset(
        user
        for user, labels in zip(known["user_id"], known["labels"], strict=True)
        if matches(user, labels) and covers(user)
    )


def _check_size(store: Store, query: TableQuery, users: frozenset[str] | None) -> None:
    groups = sum(_groups(store, query, level, users) for level in query.by)
    range_ms = query.end_ms - query.start_ms
    edges = query.buckets.edges
    buckets = -(-range_ms // query.buckets.rate_ms) if edges is None else len(edges)
    values = buckets * groups * len(query.columns)
    if values > MAX_VALUES:
        fitting = fitting_rate(range_ms, min(MAX_VALUES // max(groups * len(query.columns), 1), MAX_BUCKETS))
        problems = Parameters({}, "")
        problems.refuse(
            "resample_rate",
            f"{buckets} buckets of {groups} groups and {len(query.columns)} columns are {values} values; at most "
            f"{MAX_VALUES} are answered: {fitting}, or fewer users and columns",
        )
        problems.check()


def _groups(store: Store, query: TableQuery, level: Level, users: frozenset[str] | None) -> int:
    if level == "all":
        return 1
    known = store.users()
    if users is not None:
        known = known[known["user_id"].isin(users)]
    if level == "core":
        return int(known["cores"].sum())
    if level == "device":
        kinds = {type_name(TYPE_OF[column.metric.quantity.name]) for column in query.columns}
        devices = (store.devices_of(user) for user in known["user_id"])
        return sum(len(one.get(kind, ())) for one in devices for kind in kinds)
    label = label_of(level)
    if label is not None:
        return len({labels.get(label, NOT_LABELLED) for labels in known["labels"]})
    return len(known) if level == "user" else int(known[level].nunique())


def _part(store: Store, query: TableQuery, level: Level, users: frozenset[str] | None) -> GroupRows:
    # What one question to the store answers stands together; the columns keep their order.
    columns = sorted(query.columns, key=_asked_with)
    approximations: dict[str, str] = {}
    values: dict[str, pd.Series[Any]] = {}
    for (quantity, over_cores), some in groupby(columns, key=_source_of):
        wanted = list(some)
        question = _question(query, level, users, quantity, wanted, each=over_cores or level in PARTS)
        windows = weighed(store, question, query.weight)
        if level == "device":
            windows = with_devices(store, windows, quantity)
        if "histogram" in windows:
            windows = with_histograms(windows)
        for column, found in _values(windows, level, wanted):
            values[column.name] = found
            approximation = approximation_of(windows, column.statistic)
            if approximation:
                approximations[column.name] = approximation
    joined = pd.concat({column.name: values[column.name] for column in query.columns}, axis=1)
    frame = (joined if joined.index.is_monotonic_increasing else joined.sort_index()).reset_index()
    if query.top is not None and level not in ("all", "core"):
        frame = _highest(store, query, level, users, frame)
    return GroupRows(level, frame, approximations)


def _highest(
    store: Store, query: TableQuery, level: Level, users: frozenset[str] | None, frame: pd.DataFrame
) -> pd.DataFrame:
    """The rows of the groups whose first column is highest over the whole range, the highest first."""
    assert query.top is not None
    first = query.columns[0]
    over_all = TableQuery(
        columns=(first,), start_ms=query.start_ms, end_ms=query.end_ms, by=(level,), users=query.users, top=None,
        weight=query.weight,
        buckets=AskedBuckets(query.buckets.rate_ms, (query.start_ms,)),
    )  # fmt: skip
    whole = _part(store, over_all, level, users).frame
    names = [name for name in ("group", "device") if name in frame]
    kept = pd.MultiIndex.from_frame(whole.nlargest(query.top, first.name)[names])
    rank = kept.get_indexer(pd.MultiIndex.from_frame(frame[names]))
    ranked = frame.assign(rank=rank)[rank >= 0].sort_values("rank", kind="stable")
    return ranked.drop(columns="rank").reset_index(drop=True)


def _source_of(column: Column) -> tuple[Quantity, bool]:
    return column.metric.quantity, column.metric.over_cores is not None


def _asked_with(column: Column) -> tuple[str, bool]:
    return column.metric.quantity.name, column.metric.over_cores is not None


def _question(
    query: TableQuery, level: Level, users: frozenset[str] | None, quantity: Quantity, columns: Sequence[Column], *,
    each: bool,
) -> Question:  # fmt: skip
    by: Grouping | None = None if level == "all" else "user" if level in PARTS else level
    return Question(
        quantity=quantity,
        start_ms=query.start_ms,
        end_ms=query.end_ms,
        rate_ms=query.buckets.rate_ms,
        edges=query.buckets.edges,
        cores="each" if each else "whole",
        by=by,
        users=users,
        histograms=any(column.statistic in SHARES for column in columns),
    )


def _values(
    windows: pd.DataFrame, level: Level, columns: Sequence[Column]
) -> Iterator[tuple[Column, "pd.Series[Any]"]]:
    """The values of each column, by group, core and time as far as the level has them."""
    names = [] if level == "all" else ["user", level] if level in PARTS else [column_of_grouping(level)]
    labels = [windows[name].astype("str") if name != "core" else windows[name].astype("int64") for name in names]
    keys = [*labels, windows.index]
    index = pd.MultiIndex.from_arrays(keys, names=[*("group", level)[: len(names)], "time"])
    for column in columns:
        values = pd.Series(statistic(windows, column.statistic), index=index)
        if column.metric.over_cores:
            values = values.groupby(level=["group", "time"]).agg(column.metric.over_cores)
        yield column, values


def with_devices(store: Store, windows: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """Windows of `user` and each device, with the name of that (`device`) in the place of its number (`core`)."""
    kind = type_name(TYPE_OF[quantity.name])
    known: dict[str, Names] = {}
    told = []
    for user, number in zip(windows["user"].astype("str"), windows["core"], strict=True):
        if user not in known:
            known[user] = Names(store.devices_of(user).get(kind, {}))
        told.append(known[user][int(number)])
    return windows.assign(device=pd.array(told, dtype="str")).drop(columns="core")


def _listed(value: Any) -> list[Any]:
    """The members of a list: of JSON, of a parameter given several times, or of texts with commas between."""
    given = value if isinstance(value, list) else [value]
    return [part for one in given for part in (one.split(",") if isinstance(one, str) else [one])]


def _columns(names: Sequence[Any], statistics: Sequence[Statistic]) -> tuple[Column, ...]:
    columns: dict[str, Column] = {}
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"expected the name of a metric such as cpuLoadAvg, got {shortened(repr(name))}")
        metric, _, own = name.partition(".")
        named = named_metric(metric)
        wanted = (a_statistic(own),) if own else statistics or (named.statistic,)
        for one in wanted:
            column = Column(named, one)
            columns[column.name] = column
    if not 1 <= len(columns) <= MAX_COLUMNS:
        raise ValueError(f"expected 1 to {MAX_COLUMNS} columns, each a metric with a statistic, got {len(columns)}")
    return tuple(columns.values())


def _levels(value: Any) -> tuple[Level, ...]:
    levels: dict[Level, None] = {}
    for name in _listed(value):
        if name not in LEVELS and (not isinstance(name, str) or label_of(name) is None):
            raise ValueError(f"expected some of {', '.join(LEVELS)} and label:NAME, got {shortened(repr(name))}")
        levels[str(name)] = None
    if not levels:
        raise ValueError(f"expected some of {', '.join(LEVELS)} and label:NAME, got none")
    return tuple(levels)


def user_patterns(value: Any) -> tuple[str, ...]:
    """The patterns of a parameter, one or several; raises ValueError."""
    # A user id may have a comma, so several users are several parameters.
    given = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in given):
        raise ValueError(
            f"expected user ids, patterns such as web-* or labels such as role=web, got {shortened(repr(value))}"
        )
    if len(given) > MAX_PATTERNS:
        raise ValueError(f"expected at most {MAX_PATTERNS} users or patterns, got {len(given)}")
    host_matcher(given)
    return tuple(given)
