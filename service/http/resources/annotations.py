"""/api/v1/annotations: what people or their tools say of moments."""

import asyncio
import re
from typing import Annotated, Any

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import Meta, Struct

from contract import times
from contract.selectors import MAX_PATTERN, MAX_USER_ID
from contract.times import format_instant, parse_timestamp
from service.annotations import Annotation, AnnotationFilter, Annotations, ListPosition
from service.http.authentication import actor_of
from service.http.listing import one_of, take_limit
from service.http.operation_parameters import AnnotationsParameters
from service.http.parameters import names_of
from service.http.problems import HTTPProblem, invalid
from service.http.requests import Parameters, read_as

MAX_TAGS = 16
_ORDERS = ("time", "-time")
_PLACE = re.compile("([0-9]{1,15})-([0-9]{1,15})")
_MAX_ID = 10**15
Tag = Annotated[str, Meta(min_length=1, max_length=64)]


class NewAnnotation(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is said of a moment, or of a stretch of time."""

    text: Annotated[str, Meta(min_length=1, max_length=500)]
    time: str | int | None = None
    """ISO 8601 or epoch milliseconds; now where it is left out."""
    end: str | int | None = None
    """Where a stretch ends."""
    tags: Annotated[list[Tag], Meta(max_length=MAX_TAGS)] = []
    user: Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)] = "*"
    """The hosts that it is about, a pattern."""


class AnnotationDocument(Struct):
    """An annotation as it is answered."""

    id: int
    time: str
    end: str | None
    text: str
    tags: list[str]
    user: str
    created: str


class AnnotationPage(Struct):
    """A page of annotations."""

    annotations: list[AnnotationDocument]
    next: str | None


class AnnotationList:
    """All annotations, in pages."""

    def __init__(self, annotations: Annotations) -> None:
        self._annotations = annotations

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with those that touch a range, have all of some tags and are about a host, by time."""
        asked = await Parameters.read(req, names_of(AnnotationsParameters), ("tag",))
        wanted = AnnotationFilter(
            start_ms=asked.take("start", parse_timestamp, None),
            end_ms=asked.take("end", parse_timestamp, None),
            tags=asked.take("tag", _tags, ()),
            user=asked.take("user", _user, None),
        )
        newest_first = asked.take("sort", lambda value: one_of(value, _ORDERS), "time") == "-time"
        limit, after = take_limit(asked), asked.take("after", _place, None)
        asked.check()
        found = await asyncio.to_thread(
            self._annotations.page, wanted, after=after, limit=limit + 1, newest_first=newest_first
        )
        shown = found[:limit]
        behind = f"{shown[-1].time_ms}-{shown[-1].id}" if len(found) > limit else None
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(AnnotationPage([*map(_document, shown)], behind))

    async def on_post(self, req: Request, resp: Response) -> None:
        """201 with the annotation, and its place in Location."""
        asked = await read_as(req, NewAnnotation, "The annotation is wrong; nothing was kept.")
        time_ms, end_ms = _range(asked)
        annotation = await asyncio.to_thread(
            self._annotations.add, time_ms, end_ms, asked.text, asked.tags, asked.user, actor_of(req)
        )
        resp.status = falcon.HTTP_201
        resp.location = f"{req.root_path}/api/v1/annotations/{annotation.id}"
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(_document(annotation))


class OneAnnotation:
    """An annotation by its id."""

    def __init__(self, annotations: Annotations) -> None:
        self._annotations = annotations

    async def on_get(self, req: Request, resp: Response, annotation_id: str) -> None:
        """200 with the annotation."""
        annotation = await asyncio.to_thread(self._annotations.get, _number(annotation_id))
        if annotation is None:
            raise _unknown()
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(_document(annotation))

    async def on_delete(self, req: Request, resp: Response, annotation_id: str) -> None:
        """Removes the annotation; answers 204. The audit trail keeps what it said."""
        there = await asyncio.to_thread(self._annotations.delete, _number(annotation_id), actor_of(req))
        if not there:
            raise _unknown()
        resp.status = falcon.HTTP_204


def _unknown() -> HTTPProblem:
    return HTTPProblem(falcon.HTTP_404, "No such annotation; GET /api/v1/annotations lists them.")


def _number(text: str) -> int:
    """The number that an id is; 0, which none has, for what cannot be one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < len(str(_MAX_ID)) else 0


def _range(asked: NewAnnotation) -> tuple[int, int]:
    time_ms = times.now_ms() if asked.time is None else _moment("/time", asked.time)
    end_ms = time_ms if asked.end is None else _moment("/end", asked.end)
    if end_ms < time_ms:
        raise invalid("/end", f"expected a moment not before {format_instant(time_ms)}, got {format_instant(end_ms)}")
    return time_ms, end_ms


def _moment(pointer: str, value: str | int) -> int:
    try:
        return parse_timestamp(value)
    except ValueError as error:
        raise invalid(pointer, str(error)) from None


def _tags(value: Any) -> tuple[str, ...]:
    tags = value if isinstance(value, list) else [value]
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError("expected texts")
    return tuple(tags)


def _user(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_USER_ID:
        raise ValueError(f"expected a user id of 1 to {MAX_USER_ID} characters")
    return value


def _place(value: Any) -> ListPosition:
    match = _PLACE.fullmatch(str(value))
    if match is None or not str(value).isascii():
        raise ValueError(f"expected the next of the page before, got {str(value)[:32]!r}")
    return ListPosition(int(match[1]), int(match[2]))


def _document(annotation: Annotation) -> AnnotationDocument:
    return AnnotationDocument(
        annotation.id,
        format_instant(annotation.time_ms),
        None if annotation.end_ms == annotation.time_ms else format_instant(annotation.end_ms),
        annotation.text,
        [*annotation.tags],
        annotation.user,
        format_instant(annotation.created_ms),
    )
