"""Reading and changing one layer of settings over HTTP: the same for an agent, a selection and the fleet."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract.agent_settings import InvalidSettings, parse_settings
from service import preconditions
from service.agents.layers import Layer, TooManyLayers
from service.agents.steering import Steering
from service.audit import actor_of
from service.bodies import read_json
from service.control import ControlError
from service.problems import ProblemError

__all__ = ["delete", "get", "patch", "put"]

_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"


def get(steering: Steering, req: Request, resp: Response, target: str) -> None:
    """200 with the settings and their ETag, `{}` where nobody has set any; 304 where the asker has them."""
    layer = steering.layers.get(target)
    _answer(resp, layer)
    if preconditions.is_known(req, resp, layer.revision):
        resp.data = None


async def put(steering: Steering, req: Request, resp: Response, target: str, rank: int | None = None) -> None:
    """200 with the settings that were there now instead of the old ones."""
    settings = _parsed(await read_json(req, _JSON))

    def edit(layer: Layer) -> Layer:
        preconditions.check(req, layer.revision)
        return replace(layer, settings=settings, rank=layer.rank if rank is None else rank)

    await _change(steering, req, resp, target, edit)


async def patch(steering: Steering, req: Request, resp: Response, target: str, rank: int | None = None) -> None:
    """200 with the settings after a merge patch (RFC 7396): null takes a member out, the others are set."""
    changes = await read_json(req, _MERGE_PATCH, _JSON)

    def edit(layer: Layer) -> Layer:
        preconditions.check(req, layer.revision)
        settings = _parsed(_patched(msgspec.to_builtins(layer.settings), changes))
        return replace(layer, settings=settings, rank=layer.rank if rank is None else rank)

    await _change(steering, req, resp, target, edit)


async def delete(steering: Steering, req: Request, resp: Response, target: str) -> None:
    """204; what remains are the other layers."""

    def edit(layer: Layer) -> None:
        preconditions.check(req, layer.revision)

    await _change(steering, req, resp, target, edit)
    resp.data = None
    resp.status = falcon.HTTP_204


async def _change(
    steering: Steering, req: Request, resp: Response, target: str, edit: Callable[[Layer], Layer | None]
) -> None:
    preconditions.required(req)
    try:
        layer = await steering.change(target, actor_of(req), edit)
    except TooManyLayers as error:
        raise ProblemError(falcon.HTTP_409, str(error)) from None
    except ControlError as error:
        raise ProblemError(falcon.HTTP_503, f"Nothing was changed: {error}", headers={"Retry-After": "5"}) from None
    _answer(resp, layer)


def _answer(resp: Response, layer: Layer) -> None:
    preconditions.tag(resp, layer.revision)
    resp.content_type = _JSON
    resp.data = msgspec.json.encode(layer.settings)


def _parsed(document: object) -> Any:
    try:
        return parse_settings(document)
    except InvalidSettings as error:
        raise ProblemError(falcon.HTTP_422, "The settings are wrong; nothing was changed.", error.problems) from None


def _patched(document: dict[str, Any], changes: object) -> object:
    """MergePatch of RFC 7396; no setting is itself an object."""
    if not isinstance(changes, dict):
        return changes
    return {name: value for name, value in (document | changes).items() if value is not None}
