"""/api/v1/who: which processes and units used the CPU of a host, or of all."""

import asyncio
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import UNSET, Struct, UnsetType

from contract import times
from contract.selectors import MAX_USER_ID
from contract.times import format_instant, wrong_end
from service.http.authentication import identity_of
from service.http.buckets import fitting_rate
from service.http.listing import one_of, whole_number
from service.http.parameters import MAX_TOP_USERS, WhoParameters, names_of
from service.http.problems import HTTPProblem
from service.http.queries import take_range
from service.http.requests import Parameters, duration
from service.stores.base import Store
from service.stores.process_use import KINDS, UseAnswer, UseQuestion

MAX_BUCKETS = 2000


class WhoEntry(Struct):
    """Processes of one name, user and unit, or a unit."""

    name: str
    user: str
    unit: str
    command: str
    cpu_s: float
    """CPU time that it used at least,"""
    at_most_s: float
    """and at most."""
    share: float
    """`cpu_s` of all that was used."""
    resident_bytes: int
    """The most memory that it had."""
    machines: int


class WhoBucket(Struct):
    """A stretch of time."""

    time: str
    busy_s: float
    core_s: float
    top_s: list[float]
    """What each of `top` used."""
    others_s: float


class WhoDocument(Struct):
    """Who used most, the most first; they and the others used `busy_s` together."""

    start: str
    end: str
    by: str
    machines: int
    """How many hosts told of their processes."""
    seconds: float
    """The time that is told of, added up over hosts."""
    core_s: float
    """CPU time that the cores had in it."""
    busy_s: float
    """What of it was used."""
    top: list[WhoEntry]
    others_s: float
    """What all others used."""
    any_other_at_most_s: float
    """The most that one can have used whom no window names."""
    approximation: str
    buckets: list[WhoBucket] | UnsetType = UNSET


class TopProcesses:
    """Who used the CPU."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with those that used most; 404 for a host that is not known."""
        question = await _question(req)
        identity = identity_of(req)
        if question.user_id is not None and not identity.covers(question.user_id):
            raise HTTPProblem(falcon.HTTP_403, "The scope of this token does not have this user id.")
        if question.user_id is not None and not self._store.has_user(question.user_id):
            raise HTTPProblem(falcon.HTTP_404, "No such host; GET /api/v1/users lists them.")
        if identity.is_scoped:
            question = question._replace(covers=identity.covers)
        answer = await asyncio.to_thread(self._store.who, question)
        resp.content_type = falcon.MEDIA_JSON
        resp.set_header("Cache-Control", "no-store")
        resp.data = msgspec.json.encode(_document(question, answer))


async def _question(req: Request) -> UseQuestion:
    asked = await Parameters.read(req, names_of(WhoParameters))
    start_ms, end_ms = take_range(asked, times.now_ms())
    question = UseQuestion(
        start_ms=start_ms,
        end_ms=end_ms,
        by=asked.take("by", lambda value: one_of(value, KINDS), "process"),
        top=asked.take("top", lambda value: whole_number(value, 1, MAX_TOP_USERS), 5),
        user_id=asked.take("host", _host, None),
        rate_ms=asked.take("resample_rate", duration, None),
    )
    if end_ms <= start_ms:
        asked.refuse("end", wrong_end(start_ms, end_ms))
    elif question.rate_ms is not None and (end_ms - start_ms) // question.rate_ms > MAX_BUCKETS:
        advice = fitting_rate(end_ms - start_ms, MAX_BUCKETS)
        asked.refuse("resample_rate", f"expected at most {MAX_BUCKETS} buckets, got more: {advice}")
    asked.check()
    return question


def _host(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_USER_ID:
        raise ValueError(f"expected a user id of 1 to {MAX_USER_ID} characters")
    return value


def _document(question: UseQuestion, answer: UseAnswer) -> WhoDocument:
    top = [
        WhoEntry(
            one.name, one.user, one.unit, one.command, one.cpu_s, one.at_most_s,
            min(1.0, one.cpu_s / answer.busy_s) if answer.busy_s else 0.0, one.resident_bytes, one.hosts,
        )
        for one in answer.top
    ]  # fmt: skip
    buckets = [
        WhoBucket(
            format_instant(one.start_ms), one.busy_s, one.core_s, [*one.top_s], max(0.0, one.busy_s - sum(one.top_s))
        )
        for one in answer.buckets
    ]
    return WhoDocument(
        start=format_instant(question.start_ms), end=format_instant(question.end_ms), by=question.by,
        machines=answer.hosts, seconds=answer.seconds, core_s=answer.core_s, busy_s=answer.busy_s, top=top,
        others_s=max(0.0, answer.busy_s - sum(one.cpu_s for one in answer.top)),
        any_other_at_most_s=answer.beyond_s,
        approximation="Each used at least cpu_s and at most at_most_s; a window names those that used most of it.",
        buckets=UNSET if question.rate_ms is None else buckets,
    )  # fmt: skip
