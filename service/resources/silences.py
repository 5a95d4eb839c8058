"""/api/v1/silences: for whom nothing is said, and how long."""

import asyncio
from typing import Annotated, Any

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import Meta, Struct

from contract import times
from contract.patterns import MAX_PATTERN
from contract.problems import problem_of
from contract.times import DAY_MS, format_instant, parse_duration, parse_timestamp
from service.audit import actor_of
from service.bodies import read_json
from service.control import ControlError
from service.problems import ProblemError, invalid
from service.rules.shelf import Shelf, Silence, TooMany

__all__ = ["OneSilence", "Silences"]

_LONGEST_MS = 366 * DAY_MS
_Pattern = Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)]


class _Asked(Struct, forbid_unknown_fields=True):
    rule: _Pattern = "*"
    user: _Pattern = "*"
    until: str | int | None = None
    duration: str | None = None
    comment: Annotated[str, Meta(max_length=500)] = ""


class Silences:
    """All silences that are in force."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the silences, the next to end first."""
        silences = await asyncio.to_thread(self._shelf.silences, times.now_ms())
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode({"silences": [_shown(silence) for silence in silences]})

    async def on_post(self, req: Request, resp: Response) -> None:
        """201 with the silence."""
        try:
            asked = msgspec.convert(await read_json(req, "application/json"), _Asked)
        except msgspec.ValidationError as error:
            problem = problem_of(error)
            raise ProblemError(falcon.HTTP_422, "The silence is wrong; nothing was changed.", [problem]) from None
        until_ms = _until_ms(asked)
        try:
            silence = await asyncio.to_thread(
                self._shelf.add_silence, asked.rule, asked.user, until_ms, asked.comment, actor_of(req)
            )
        except TooMany as error:
            raise ProblemError(falcon.HTTP_409, str(error)) from None
        except ControlError as error:
            raise ProblemError(falcon.HTTP_503, f"Nothing was changed: {error}", headers={"Retry-After": "5"}) from None
        resp.status = falcon.HTTP_201
        resp.content_type = "application/json"
        resp.data = msgspec.json.encode(_shown(silence))


class OneSilence:
    """A silence by its id."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def on_delete(self, req: Request, resp: Response, silence_id: str) -> None:
        """204; what fires and was silenced is said now."""
        if not await asyncio.to_thread(self._shelf.end_silence, silence_id, actor_of(req)):
            raise ProblemError(falcon.HTTP_404, "No such silence; GET /api/v1/silences lists them.")
        resp.status = falcon.HTTP_204


def _until_ms(asked: _Asked) -> int:
    if (asked.until is None) == (asked.duration is None):
        raise invalid("/until", "one of until, a moment, and duration, such as 2h, is right")
    now_ms = times.now_ms()
    try:
        if asked.duration is not None:
            return now_ms + parse_duration(asked.duration, 1000, _LONGEST_MS)
        until_ms = parse_timestamp(asked.until)
    except ValueError as error:
        raise invalid("/until" if asked.duration is None else "/duration", str(error)) from None
    if not now_ms < until_ms <= now_ms + _LONGEST_MS:
        raise invalid("/until", "a moment within the next year is right")
    return until_ms


def _shown(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "rule": silence.rule,
        "user": silence.user,
        "until": format_instant(silence.until_ms),
        "comment": silence.comment,
        "created": format_instant(silence.created_ms),
    }
