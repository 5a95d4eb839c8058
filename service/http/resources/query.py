"""History, fleet, tables of both, users and windows."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import falcon
import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from falcon.asgi import Request, Response
from msgspec.structs import replace

from analytics.frames.resampling import RAW_MS
from contract import times
from contract.selectors import host_matcher, names_labels
from contract.times import format_instant
from service.agents.registry import Registry
from service.agents.shared_ids import SharedIds, as_members
from service.control.database import ControlError
from service.credentials.identity import Identity
from service.dashboard.hosts import names_shown
from service.dashboard.matrix import FleetCache
from service.forgetting import Forgetting
from service.http.answers import form_of, send
from service.http.authentication import actor_of, identity_of
from service.http.listing import labels, take_limit
from service.http.operation_parameters import UsersParameters
from service.http.parameters import MAX_USERS, names_of
from service.http.problems import HTTPProblem, invalid
from service.http.queries import (
    ask,
    check_device,
    check_user,
    fleet,
    gone,
    history,
    named_metric,
    read_query,
    unknown_user,
)
from service.http.requests import Parameters, text
from service.http.table_forms import send_table
from service.http.table_query import chosen_users, read_table_query, table, user_patterns
from service.http.versions import RangeVersions, is_unchanged
from service.http.window_forms import FORMS, Form
from service.http.window_queries import EACH, Plan, WindowsQuery, check_size, read_windows_query
from service.stores.base import CannotForget, Store, StoreUnavailable


class History:
    """Answers the values of one user's metric, one for each bucket that has data."""

    def __init__(self, store: Store, versions: RangeVersions) -> None:
        self._store = store
        self._versions = versions

    async def on_get(self, req: Request, resp: Response, metric: str, user_id: str) -> None:
        """200 with entries; 404 for a metric, user, core or device that is not known."""
        named = named_metric(metric)
        form = form_of(req)
        query = await read_query(req, named, self._store, fleet=False)
        check_user(self._store, user_id, named.quantity, query.core)
        if query.device is not None:
            check_device(self._store, user_id, named.quantity, query.device)
        if is_unchanged(req, resp, self._versions, form, (query.start_ms, query.end_ms)):
            return
        send(resp, form, await ask(history, self._store, named, user_id, query))


class Fleet:
    """Answers the values of a metric over the fleet."""

    def __init__(self, store: Store, versions: RangeVersions) -> None:
        self._store = store
        self._versions = versions

    async def on_get(self, req: Request, resp: Response, metric: str) -> None:
        """200 with entries, which name their group where `by` asks for groups."""
        named = named_metric(metric)
        form = form_of(req)
        if named.over_cores:
            raise invalid(
                "metric", f"{metric} is about one host's cores; for the fleet ask for cpuLoadAvg or cpuLoadVar"
            )
        query = await read_query(req, named, self._store, fleet=True)
        by_hosts = query.weight == "cores" or query.by not in (None, "user")
        if is_unchanged(req, resp, self._versions, form, (query.start_ms, query.end_ms), by_hosts=by_hosts):
            return
        send(resp, form, await ask(fleet, self._store, named, query))


class QueryTables:
    """Answers several metrics, statistics, users and groupings at once."""

    def __init__(self, versions: RangeVersions, cache: FleetCache, alerting: Callable[[], frozenset[str]]) -> None:
        """`alerting` names the hosts about which an alert fires, and may block."""
        self._store = cache.store
        self._versions = versions
        self._cache = cache
        self._alerting = alerting

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a table; 404 for a metric or user that is not known."""
        form = form_of(req)
        query = await read_table_query(req, self._store, identity_of(req))
        by_groups = not {"all", "user", "core"}.issuperset(query.by)
        chosen = query.selection
        by_hosts = query.weight == "cores" or by_groups or names_labels(query.users) or not chosen.is_everybody
        range_ms = (query.start_ms, query.end_ms)
        # Who is silent or alerting changes without any report.
        if chosen.asks_for_numbers:
            resp.cache_control = ["no-store"]
        elif is_unchanged(req, resp, self._versions, form, range_ms, by_hosts=by_hosts):
            return
        parts = await table(self._cache, self._alerting, query)
        await asyncio.to_thread(send_table, resp, form, query, parts)


class Users:
    """Lists the users, by name."""

    def __init__(self, store: Store, shared_ids: SharedIds, agents: Registry) -> None:
        self._store = store
        self._shared = shared_ids.found
        self._agents = agents

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of them: what each last said of itself, and whether several hosts report under its id."""
        asked = await Parameters.read(req, names_of(UsersParameters), ("user",))
        patterns, label = asked.take("user", user_patterns, ()), asked.take("label", labels, "")
        limit, after = take_limit(asked, MAX_USERS, MAX_USERS), asked.take("after", text, "")
        asked.check()
        frame = await asyncio.to_thread(self._store.users)
        identity = identity_of(req)
        if identity.is_scoped:
            frame = frame[frame["user_id"].map(identity.covers)]
        if patterns:
            frame = frame[_matching(frame, host_matcher(patterns))]
        if label:
            labelled = host_matcher([label])
            frame = frame[_matching(frame, lambda _, labels: labelled("", labels))]
        if after:
            frame = frame[frame["user_id"] > after]
        behind = frame["user_id"].iloc[limit - 1] if len(frame) > limit else None
        frame = frame.head(limit).copy()
        for name in ("first_seen", "last_seen"):
            frame[name] = [format_instant(time.value // 1_000_000) for time in frame[name]]
        users = [user | self._told(user["user_id"]) for user in frame.to_dict("records")]
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"users": users, "next": behind})

    def _told(self, user_id: str) -> dict[str, Any]:
        """What is known of who reports under an id."""
        agent = self._agents.get(user_id)
        return as_members(self._shared.get(user_id)) | {"clock_ahead_s": agent.clock_ahead_s if agent else None}


def _matching(users: pd.DataFrame, matches: Callable[[str, Mapping[str, str]], bool]) -> npt.NDArray[np.bool_]:
    found = map(matches, users["user_id"].tolist(), users["labels"].tolist())
    return np.fromiter(found, np.bool_, len(users))


T = TypeVar("T")
_AT_ONCE = 1
"""Pieces that are worked on at once, of all requests together; with two, reports that come in wait twice as long."""


class OneUser:
    """Forgets a user with all that is known of it."""

    def __init__(self, forgetting: Forgetting | None) -> None:
        self._forgetting = forgetting

    async def on_delete(self, req: Request, resp: Response, user_id: str) -> None:
        """204 when no answer has it any more; what it sends afterwards is a new user's."""
        if self._forgetting is None:
            raise HTTPProblem(
                falcon.HTTP_501,
                "With a journal in NATS no single user can be forgotten: all processes read its log, which keeps what "
                "it has. Nothing was changed.",
            )
        try:
            known = await self._forgetting.forget(user_id, actor_of(req))
        except CannotForget as error:
            raise HTTPProblem(falcon.HTTP_501, f"{error}. Nothing was changed.") from None
        except (StoreUnavailable, ControlError, OSError) as error:
            raise HTTPProblem(
                falcon.HTTP_503, f"The user is not forgotten yet: {error}", headers={"Retry-After": "5"}
            ) from None
        if not known:
            raise unknown_user(user_id)
        resp.status = falcon.HTTP_204


class Sending:
    """Sends windows piece by piece, the work done in threads beside the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def send(self, req: Request, resp: Response, media_type: str, plan: Plan) -> None:
        """Answer with what is planned. Raises StoreUnavailable where the store is away before the answer begins.

        Where it goes away later, the stream raises it: the server then closes the connection, so that nobody takes
        what is there for the whole.
        """
        plan = await self._beside(plan.along, self._store)
        tables = self._tables(plan)
        first = await anext(tables)  # there is at least one piece; before it nothing is sent, the status neither
        caveat = plan.caveat(self._store)
        if caveat:
            resp.set_header("Caveat", caveat)
        resp.content_type = media_type
        resp.stream = self._bytes(first, tables, FORMS[media_type](plan.schema), req)

    async def _bytes(
        self, first: pa.Table, rest: AsyncIterator[pa.Table], form: Form, req: Request
    ) -> AsyncIterator[bytes]:
        left = asyncio.create_task(gone(req))
        try:
            async for table in _chained(first, rest):
                steps = form.write(table)
                while (part := await self._beside(next, steps, None)) is not None:
                    if left.done():
                        return
                    if part:
                        yield part
            yield form.end()
        finally:
            left.cancel()

    async def _tables(self, plan: Plan) -> AsyncIterator[pa.Table]:
        """The pieces in order; while one is sent, the next is read."""
        ahead: asyncio.Task[pa.Table] | None = None
        try:
            for start_ms, end_ms in plan.ranges():
                before, ahead = ahead, asyncio.create_task(self._beside(plan.answer, self._store, start_ms, end_ms))
                ahead.add_done_callback(_note_failure)
                if before:
                    yield await before
            if ahead:
                yield await ahead
        finally:
            if ahead:
                ahead.cancel()

    async def _beside(self, work: Callable[..., T], *arguments: object) -> T:
        async with self._turn:
            return await ask(work, *arguments)


async def _chained(first: T, rest: AsyncIterator[T]) -> AsyncIterator[T]:
    yield first
    async for one in rest:
        yield one


def _note_failure(task: "asyncio.Task[pa.Table]") -> None:
    """Its failure is known, even if nobody waits for the piece any more; asyncio would log it otherwise."""
    if not task.cancelled():
        task.exception()


class UserWindows:
    """Answers the windows of one host."""

    def __init__(self, store: Store, sending: Sending) -> None:
        self._store = store
        self._sending = sending

    async def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with windows; 404 for a user, metric, core or device that is not known, 503 where the store is away."""
        media_type = form_of(req)
        query = await read_windows_query(req, self._store, fleet=False)
        quantity = query.metric.quantity
        check_user(self._store, user_id, quantity, None if query.core == "each" else query.core)
        if query.device is not None and query.device != EACH:
            query = replace(query, core=check_device(self._store, user_id, quantity, query.device))
        series = 1 + len(self._store.cores(user_id, quantity)) if EACH in (query.core, query.device) else 1
        check_size(query, series)
        await self._sending.send(req, resp, media_type, Plan(query, user_id, series))


class FleetWindows:
    """Answers the windows of all hosts, together or by user."""

    def __init__(
        self, store: Store, sending: Sending, cache: FleetCache, alerting: Callable[[], frozenset[str]]
    ) -> None:
        """`alerting` names the hosts about which an alert fires, and may block."""
        self._store = store
        self._sending = sending
        self._cache = cache
        self._alerting = alerting

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with windows; 503 where the store is away."""
        media_type = form_of(req)
        query = await read_windows_query(req, self._store, fleet=True)
        users = await ask(self._meant, query, identity_of(req))
        series = 1
        if query.by_user or query.weighs or query.rate_ms == RAW_MS:
            series = max(1, len(await asyncio.to_thread(self._store.users)) if users is None else len(users))
        check_size(query, series)
        await self._sending.send(req, resp, media_type, Plan(query, None, series, users))

    def _meant(self, query: WindowsQuery, identity: Identity) -> frozenset[str] | None:
        """The hosts that are asked about; None for all."""
        users = chosen_users(self._store, query.users, identity) if query.users else None
        if query.selection.is_everybody:
            return users
        shown = names_shown(
            self._cache,
            query.selection,
            query.metric.quantity,
            (query.start_ms, query.end_ms),
            self._alerting(),
            times.now_ms(),
        )
        return shown if users is None else shown & users
