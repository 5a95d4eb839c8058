"""/api/v1/schedules: reports that the service makes by itself, and the last one that each schedule has made."""

import asyncio
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import Struct

from contract.times import format_instant
from service.http.authentication import actor_of
from service.http.buckets import zone_of
from service.http.listing import take_limit, whole_number
from service.http.operation_parameters import PageParameters
from service.http.parameters import names_of
from service.http.problems import HTTPProblem, invalid
from service.http.requests import Parameters, duration, read_as
from service.reporting.schedules import MOST, Schedule, Schedules, Timing, TooManySchedules
from service.stores.base import Store

_MAX_ID = 10**15


class RunDocument(Struct):
    """How the last run of a schedule ended."""

    at: str
    failure: str | None
    """Why it made no report; null where it did."""


class ScheduleDocument(Struct):
    """A schedule as it is answered."""

    id: int
    schedule: Timing
    created: str
    next: str
    """When it is made next, or is to be tried again."""
    run: RunDocument | None
    """The last run; null before the first."""
    made: str | None
    """When the report that is kept was made; null where there is none."""


class SchedulePage(Struct):
    """A page of schedules."""

    schedules: list[ScheduleDocument]
    next: str | None


class ScheduleList:
    """All schedules."""

    def __init__(self, schedules: Schedules, store: Store) -> None:
        self._schedules = schedules
        self._store = store

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of the schedules, in the order in which they were made."""
        asked = await Parameters.read(req, names_of(PageParameters))
        limit, after = take_limit(asked, default=MOST), asked.take("after", _place, 0)
        asked.check()
        found = [one for one in await asyncio.to_thread(self._schedules.all) if one.id > after]
        behind = str(found[limit - 1].id) if len(found) > limit else None
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(SchedulePage([*map(_document, found[:limit])], behind))

    async def on_post(self, req: Request, resp: Response) -> None:
        """201 with the schedule, and its place in Location."""
        timing = await self._timing(req)
        try:
            schedule = await asyncio.to_thread(self._schedules.add, timing, actor_of(req))
        except TooManySchedules as error:
            raise HTTPProblem(falcon.HTTP_409, str(error)) from None
        resp.status = falcon.HTTP_201
        resp.location = f"{req.root_path}/api/v1/schedules/{schedule.id}"
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(_document(schedule))

    async def _timing(self, req: Request) -> Timing:
        timing = await read_as(req, Timing, "The schedule is wrong; nothing was kept.")
        for pointer, check, value in (("/last", duration, timing.last), ("/tz", zone_of, timing.tz)):
            try:
                check(value)
            except ValueError as error:
                raise invalid(pointer, str(error)) from None
        if timing.user is not None and not self._store.has_user(timing.user):
            raise invalid("/user", f"expected a host that has reported, got {timing.user!r}, which has not")
        return timing


class OneSchedule:
    """A schedule by its id."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def on_get(self, req: Request, resp: Response, schedule_id: str) -> None:
        """200 with the schedule, and how its last run ended."""
        schedule = await asyncio.to_thread(self._schedules.get, _number(schedule_id))
        if schedule is None:
            raise _unknown()
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(_document(schedule))

    async def on_delete(self, req: Request, resp: Response, schedule_id: str) -> None:
        """Forgets the schedule and its report; answers 204."""
        there = await asyncio.to_thread(self._schedules.delete, _number(schedule_id), actor_of(req))
        if not there:
            raise _unknown()
        resp.status = falcon.HTTP_204


class ScheduledReport:
    """The last report that a schedule has made."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    async def on_get(self, req: Request, resp: Response, schedule_id: str) -> None:
        """200 with the page; 404 where none was made yet."""
        number = _number(schedule_id)
        report = await asyncio.to_thread(self._schedules.report, number)
        if report is None:
            if await asyncio.to_thread(self._schedules.get, number) is None:
                raise _unknown()
            raise HTTPProblem(
                falcon.HTTP_404, "This schedule has made no report yet; `run` says how the last one ended."
            )
        resp.content_type = "text/html; charset=utf-8"
        resp.set_header("Content-Security-Policy", f"{report.policy}; frame-ancestors 'none'")
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Cache-Control", "private, no-cache")
        resp.data = report.content


def _unknown() -> HTTPProblem:
    return HTTPProblem(falcon.HTTP_404, "No such schedule; GET /api/v1/schedules lists them.")


def _number(text: str) -> int:
    """The number that an id is; 0, which none has, for what cannot be one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < len(str(_MAX_ID)) else 0


def _place(value: Any) -> int:
    return whole_number(value, 1, _MAX_ID)


def _document(one: Schedule) -> ScheduleDocument:
    return ScheduleDocument(
        one.id,
        one.timing,
        format_instant(one.created_ms),
        format_instant(one.next_ms),
        None if one.ran_ms is None else RunDocument(format_instant(one.ran_ms), one.failure),
        None if one.made_ms is None else format_instant(one.made_ms),
    )
