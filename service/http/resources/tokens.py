"""/api/v1/tokens: tokens are made, listed, changed, rotated and revoked; /api/v1/identity says whose one is."""

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import UNSET, Meta, Struct, UnsetType

from contract import times
from contract.selectors import MAX_PATTERN, MAX_USER_ID
from contract.times import DAY_MS, parse_duration, parse_timestamp
from service.credentials.identity import ANYBODY, EVERYONE, Role
from service.credentials.token import Made, Token
from service.credentials.tokens import LONGEST_MS, TokenRefused, Tokens, end_of, scope_problem
from service.http.authentication import actor_of, identity_of
from service.http.listing import asked_page, page_of
from service.http.problems import HTTPProblem, invalid
from service.http.requests import MERGE_PATCH, read_as

MAX_USES = 100_000
_REFUSED = "Nothing was changed."
_LONGEST_OVERLAP_MS = 90 * DAY_MS
_Name = Annotated[str, Meta(min_length=1, max_length=100)]
_Moment = Annotated[str | int | None, Meta(description="ISO 8601 or epoch milliseconds.")]
_Lifetime = Annotated[str | None, Meta(extra_json_schema={"examples": ["90d"]})]
T = TypeVar("T")


class NewToken(Struct, forbid_unknown_fields=True, kw_only=True):
    """Whom a token is for, and until when: `expires` or `lifetime`."""

    name: _Name
    role: Role
    scope: Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)] = EVERYONE
    """For an agent its user id; for a reader and for enrolment a pattern of user ids."""
    expires: _Moment = None
    lifetime: _Lifetime = None
    """How long, in place of `expires`; for ever without either."""
    uses: Annotated[int, Meta(ge=1, le=MAX_USES)] | None = None
    """For enrolment: how many agents may get a token with it; 1 unless it is said."""


class ChangedToken(Struct, forbid_unknown_fields=True, kw_only=True):
    """Another name, or another end; null for none."""

    name: _Name | UnsetType = UNSET
    expires: _Moment | UnsetType = UNSET
    lifetime: _Lifetime | UnsetType = UNSET
    """How long from now, in place of `expires`."""


class Rotation(Struct, forbid_unknown_fields=True, kw_only=True):
    """How long the text before goes on."""

    overlap: Annotated[str, Meta(extra_json_schema={"examples": ["1d"]})] = "1d"
    """A duration; `0s` to end it at once."""


class Who:
    """Says who asks."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the role, the scope and the id of the token that was shown."""
        identity = identity_of(req)
        resp.content_type = falcon.MEDIA_JSON
        resp.set_header("Cache-Control", "no-store")
        resp.data = msgspec.json.encode({"role": identity.role, "scope": identity.scope, "token": identity.token})


class TokenList:
    """All tokens, in pages."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of them by id, those that are revoked or have expired too; never with what opens."""
        limit, after = await asked_page(req)
        page, behind = page_of(self._tokens.all(), lambda token: token.id, after, limit)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode({"tokens": [token.document() for token in page], "next": behind})

    async def on_post(self, req: Request, resp: Response) -> None:
        """Makes a token; answers 201 with it, and with its text, which is never shown again."""
        asked = await read_as(req, NewToken, _REFUSED)
        if identity_of(req) is ANYBODY:
            raise HTTPProblem(
                falcon.HTTP_409,
                "This service asks for no token. Stop it and make the first one where its data are:"
                " loadlens-service tokens create --offline --data-dir DIR --role admin NAME",
            )
        problem = scope_problem(asked.role, asked.scope, asked.uses)
        if problem is not None:
            raise invalid(f"/{problem[0]}", problem[1])
        expires_ms = _end(asked.expires, asked.lifetime)
        made = await _changed(
            lambda: self._tokens.create(
                asked.name, asked.role, asked.scope, expires_ms=expires_ms, uses=asked.uses, actor=actor_of(req)
            )
        )
        resp.location = f"{req.root_path}/api/v1/tokens/{made.token.id}"
        _answer_once(resp, made)


class NewEnrolment(Struct, forbid_unknown_fields=True):
    """Who wants a token."""

    user_id: Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID)]


class Enrolments:
    """Gives agents tokens of their own."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def on_post(self, req: Request, resp: Response) -> None:
        """201 with an agent's token for one user id, which is never shown again; 409 where the id has one."""
        asked = await read_as(req, NewEnrolment, _REFUSED)
        identity = identity_of(req)
        if self._tokens.get(identity.token) is None:
            raise HTTPProblem(falcon.HTTP_409, "This service asks for no token.")
        problem = scope_problem("agent", asked.user_id, None)
        if problem is not None:
            raise invalid("/user_id", problem[1])
        if not identity.covers(asked.user_id):
            raise HTTPProblem(falcon.HTTP_403, "The scope of this token does not have this user id.")
        _answer_once(resp, await _changed(lambda: self._tokens.enrol(identity, asked.user_id, actor=actor_of(req))))


class OneToken:
    """A token by its id."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def on_get(self, req: Request, resp: Response, token_id: str) -> None:
        """200 with all but what opens."""
        token = self._tokens.get(token_id)
        if token is None:
            raise _unknown()
        _answer(resp, token)

    async def on_patch(self, req: Request, resp: Response, token_id: str) -> None:
        """Gives it another name or another end; answers 200 with it."""
        asked = await read_as(req, ChangedToken, _REFUSED, MERGE_PATCH)
        name = None if asked.name is UNSET else asked.name
        unchanged = asked.expires is UNSET and asked.lifetime is UNSET
        end_ms = UNSET if unchanged else _end(_given(asked.expires), _given(asked.lifetime))
        _answer(
            resp,
            await _changed(lambda: self._tokens.change(token_id, name=name, expires_ms=end_ms, actor=actor_of(req))),
        )

    async def on_delete(self, req: Request, resp: Response, token_id: str) -> None:
        """Revokes it for good; answers 204. Answers that go on for ever end within seconds."""
        await _changed(lambda: self._tokens.revoke(token_id, actor=actor_of(req)))
        resp.status = falcon.HTTP_204


class NewSecret:
    """Gives a token another text."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def on_post(self, req: Request, resp: Response, token_id: str) -> None:
        """201 with the new text, which is never shown again; the one before goes on for `overlap`."""
        asked = await read_as(req, Rotation, _REFUSED)
        try:
            overlap_ms = parse_duration(asked.overlap, least_ms=0, most_ms=_LONGEST_OVERLAP_MS)
        except ValueError as error:
            raise invalid("/overlap", str(error)) from None
        _answer_once(
            resp, await _changed(lambda: self._tokens.rotate(token_id, overlap_ms=overlap_ms, actor=actor_of(req)))
        )


async def _changed(change: Callable[[], T]) -> T:
    """What a change makes, in a thread; raises ProblemError where it cannot be made."""
    try:
        return await asyncio.to_thread(change)
    except KeyError:
        raise _unknown() from None
    except TokenRefused as error:
        raise HTTPProblem(falcon.HTTP_409, f"Nothing was changed: {error}.") from None


def _end(expires: str | int | None, lifetime: str | None) -> int | None:
    """When a token ends; None for never."""
    if expires is not None and lifetime is not None:
        raise invalid("/expires", "expected one of expires and lifetime, got both")
    if lifetime is not None:
        try:
            return end_of(lifetime)
        except ValueError as error:
            raise invalid("/lifetime", str(error)) from None
    if expires is None:
        return None
    try:
        end_ms = parse_timestamp(expires)
    except ValueError as error:
        raise invalid("/expires", str(error)) from None
    if end_ms > times.now_ms() + LONGEST_MS:
        raise invalid("/expires", "expected a moment within the next hundred years")
    return end_ms


def _given(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value


def _unknown() -> HTTPProblem:
    return HTTPProblem(falcon.HTTP_404, "No such token; GET /api/v1/tokens lists them.")


def _answer(resp: Response, token: Token) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = msgspec.json.encode(token.document())


def _answer_once(resp: Response, made: Made) -> None:
    resp.status = falcon.HTTP_201
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("Cache-Control", "no-store")
    resp.data = msgspec.json.encode(made.token.document() | {"token": made.text})
