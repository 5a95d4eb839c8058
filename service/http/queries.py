"""History and fleet: what is asked, which windows that needs, and the values that answer it.

The store is asked in threads of their own: where it stands still, nothing else waits behind them.
"""

import asyncio
import contextvars
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, ParamSpec, TypeVar

import falcon
import numpy as np
import pandas as pd
from falcon.asgi import Request
from msgspec import Struct

from analytics.frames.frame import frame_of_columns, moments_of
from analytics.frames.statistics import SHARES, highest, values_of
from analytics.frames.weights import Weight
from contract import times
from contract.devices import MAX_NAME
from contract.metrics import (
    BY_CORE,
    BY_DEVICE,
    NAMES,
    STATISTICS,
    TYPE_OF,
    NamedMetric,
    Quantity,
    Statistic,
    type_name,
)
from contract.problems import did_you_mean, shortened
from contract.selectors import label_of
from contract.times import DAY_MS, parse_timestamp
from service.http.buckets import AskedBuckets, check_kept, take_buckets
from service.http.parameters import GROUPINGS, FleetParameters, HistoryParameters, names_of
from service.http.problems import HTTPProblem
from service.http.requests import Parameters
from service.http.weighing import a_weight, weighed
from service.stores.base import Grouping, Question, Store

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""As asyncio has for all else; more answers at once only take memory."""
_pool = ThreadPoolExecutor(_THREADS, "ask")


async def ask(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """The outcome of `work`, which asks the store and blocks."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_pool, lambda: context.run(work, *arguments, **options))


async def gone(req: Request) -> None:
    """Returns when the client has gone: servers take what is sent to it then, and say nothing."""
    while (await req._receive())["type"] != "http.disconnect":
        pass


class Query(Struct, frozen=True, kw_only=True):
    """A checked query. Times are epoch milliseconds, the range is half-open."""

    start_ms: int
    end_ms: int
    buckets: AskedBuckets
    statistic: Statistic
    core: int | None
    device: str | None
    """One disk or interface by its name, of metrics that name them."""
    by: Grouping | None
    top: int | None
    weight: Weight
    """How users count in what is said of several."""


async def read_query(req: Request, metric: NamedMetric, store: Store, *, fleet: bool) -> Query:
    """The query of a request for `metric` to `store`.

    Missing members get their defaults: the day before now, 15 minutes, the metric's own statistic. Raises
    ProblemError (422, or 400 for a body that is not a JSON object) that names the wrong member.
    """
    asked = await Parameters.read(req, names_of(FleetParameters if fleet else HistoryParameters))
    now_ms = times.now_ms()
    start_ms, end_ms = take_range(asked, now_ms)
    query = Query(
        start_ms=start_ms,
        end_ms=end_ms,
        buckets=take_buckets(asked, start_ms, end_ms),
        statistic=asked.take("stat", a_statistic, metric.statistic),
        core=asked.take("core", lambda value: core_number(value, metric), None),
        device=asked.take("device", lambda value: device_name(value, metric), None),
        by=asked.take("by", _grouping, None),
        top=asked.take("top", number_of_groups, None),
        weight=asked.take("weight", a_weight, "samples"),
    )
    if query.weight != "samples" and query.statistic == "count" and not asked.refused:
        asked.refuse("weight", "does not go with stat=count, which counts samples")
    if query.top is not None and query.by is None and not asked.refused:
        asked.refuse("top", "goes with by: it keeps the groups with the highest values")
    if not asked.refused:
        check_kept(asked, store, start_ms, query.buckets.step_ms, now_ms)
    asked.check()
    return query


def take_range(asked: Parameters, now_ms: int) -> tuple[int, int]:
    """Start and end of the range that is asked for, the last day unless it is said."""
    end_ms = asked.take("end", parse_timestamp, now_ms)
    return asked.take("start", parse_timestamp, end_ms - DAY_MS), end_ms


def named_metric(name: str) -> NamedMetric:
    """The metric of a name; raises ProblemError 404 with the names there are."""
    metric = NAMES.get(name)
    if metric is None:
        raise HTTPProblem(
            falcon.HTTP_404,
            f"There is no metric {shortened(name)!r}{did_you_mean(shortened(name), NAMES)}. "
            f"GET /api/v1/metrics lists them: {', '.join(NAMES)}.",
        )
    return metric


def a_statistic(value: Any) -> Statistic:
    """A statistic by its name; raises ValueError for another."""
    for known in STATISTICS:
        if known == value:
            return known
    raise ValueError(f"expected a statistic ({', '.join(STATISTICS)}), got {value!r}")


def unknown_user(user_id: str) -> HTTPProblem:
    """404 for a user that has never reported."""
    return HTTPProblem(
        falcon.HTTP_404, f"No report of user {user_id!r} has come in. GET /api/v1/users lists those that have."
    )


def check_user(store: Store, user_id: str, quantity: Quantity, core: int | None) -> None:
    """Raise ProblemError 404 where a user, or a core of it, has never reported."""
    if not store.has_user(user_id):
        raise unknown_user(user_id)
    if core is not None and core not in (cores := store.cores(user_id, quantity)):
        known = ", ".join(map(str, cores)) or "none"
        raise HTTPProblem(falcon.HTTP_404, f"User {user_id!r} has no core {core}; its cores are {known}.")


def check_device(store: Store, user_id: str, quantity: Quantity, name: str) -> int:
    """The number of a device of a known user; raises ProblemError 404 where it was never named."""
    known = devices_of(store, user_id, quantity)
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise HTTPProblem(
            falcon.HTTP_404, f"User {user_id!r} has no device {shortened(name)!r}; its devices are {names}."
        )
    return known[name]


def devices_of(store: Store, user_id: str, quantity: Quantity) -> Mapping[str, int]:
    """The numbers of the devices, by name, that a user has named of a quantity."""
    return store.devices_of(user_id).get(type_name(TYPE_OF[quantity.name]), {})


def device_name(value: Any, metric: NamedMetric) -> str:
    """The name of a device of a metric that names them; raises ValueError otherwise."""
    if not metric.by_device:
        raise ValueError(
            f"does not go with {metric.name}; it goes with {', '.join(BY_DEVICE[:-1])} and {BY_DEVICE[-1]}"
        )
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise ValueError(f"expected the name of a device, such as sda, got {shortened(repr(value))}")
    return value


def core_number(value: Any, metric: NamedMetric) -> int:
    """The number of a core of a metric that has cores; raises ValueError otherwise."""
    if not metric.by_core:
        raise ValueError(f"does not go with {metric.name}; it goes with {', '.join(BY_CORE[:-1])} and {BY_CORE[-1]}")
    text = str(value)
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"expected the number of a core (0, 1, ...), got {value!r}")
    return int(text)


def _grouping(value: Any) -> Grouping:
    if value not in GROUPINGS and (not isinstance(value, str) or label_of(value) is None):
        raise ValueError(
            f"expected a grouping ({', '.join(GROUPINGS)}, or label: and a name such as label:role), got {value!r}"
        )
    return str(value)


def number_of_groups(value: Any) -> int:
    """How many groups to keep, 1 to 10000; raises ValueError."""
    text = str(value)
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise ValueError(f"expected a number of groups from 1 to 10000, got {value!r}")
    return int(text)


def history(store: Store, metric: NamedMetric, user_id: str, query: Query) -> pd.DataFrame:
    """One user's values, as `values_of` gives them."""
    cores: int | Literal["whole", "each"] = "whole"
    if metric.over_cores:
        cores = "each"
    elif query.device is not None:
        cores = check_device(store, user_id, metric.quantity, query.device)
    elif query.core is not None:
        cores = query.core
    question = replace(_question(metric, query, user_id=user_id, cores=cores), statistic=query.statistic)
    values = values_of(store.answer(question), query.statistic)
    return _with_caveat(over_cores(values, metric.over_cores) if metric.over_cores else values, store, question)


def fleet(store: Store, metric: NamedMetric, query: Query) -> pd.DataFrame:
    """The values of all users together, or of each group of them; with `top`, of the highest groups only."""
    question = _question(metric, query, by=query.by)
    if query.top is None and (query.weight == "samples" or query.by == "user"):
        question = replace(question, statistic=query.statistic)
    windows = weighed(store, question, query.weight)
    if query.top is not None:
        windows = highest(windows, query.top, query.statistic)
    return _with_caveat(values_of(windows, query.statistic), store, question)


def _with_caveat(values: pd.DataFrame, store: Store, question: Question) -> pd.DataFrame:
    """The values, with what they lack for damage on disk as `attrs["caveat"]`."""
    caveat = store.caveat(question)
    if caveat:
        values.attrs["caveat"] = caveat
    return values


def _question(
    metric: NamedMetric,
    query: Query,
    user_id: str | None = None,
    cores: int | Literal["whole", "each"] = "whole",
    by: Grouping | None = None,
) -> Question:
    return Question(
        quantity=metric.quantity,
        start_ms=query.start_ms,
        end_ms=query.end_ms,
        rate_ms=query.buckets.rate_ms,
        edges=query.buckets.edges,
        user_id=user_id,
        cores=cores,
        by=by,
        histograms=query.statistic in SHARES,
    )


def over_cores(values: pd.DataFrame, over: Literal["max", "min"]) -> pd.DataFrame:
    """The highest or lowest value of each bucket."""
    time = moments_of(values).asi8
    cores = int(np.count_nonzero(time == time[0])) if len(time) else 1
    table = time.reshape(cores, -1) if len(time) % cores == 0 else time[:0]
    if len(table) and np.all(table == table[0]) and np.all(table[0, 1:] > table[0, :-1]):
        # Each core has the same buckets, as nearly always: a third of what groups of them would take.
        of_cores = values["value"].to_numpy().reshape(cores, -1)
        buckets = frame_of_columns({"value": of_cores.max(0) if over == "max" else of_cores.min(0)}, table[0])
        buckets.attrs = values.attrs
        return buckets
    by_bucket = values["value"].groupby(time)
    extremes = by_bucket.max() if over == "max" else by_bucket.min()
    buckets = frame_of_columns({"value": extremes.to_numpy()}, extremes.index.to_numpy())
    buckets.attrs = values.attrs
    return buckets
