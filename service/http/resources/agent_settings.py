"""/api/v1/settings and /api/v1/agents/{user_id}/settings: what is asked of the fleet, a selection, or one agent."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract.agent_protocol import InvalidSettings, parse_settings
from service.agents.layers import AGENT, ALL, Layer, TooManyLayers, parse_selector
from service.agents.remote_configuration import RemoteConfiguration
from service.http import problems
from service.http.authentication import actor_of
from service.http.listing import whole_number
from service.http.problems import HTTPProblem, invalid
from service.http.requests import MERGE_PATCH, read_json
from service.http.resources.agents import user_id_of

_JSON = "application/json"


def get(remote_configuration: RemoteConfiguration, req: Request, resp: Response, target: str) -> None:
    """200 with the settings and their ETag, `{}` where nobody has set any; 304 where the asker has them."""
    layer = remote_configuration.layers.get(target)
    _answer(resp, layer)
    if problems.is_known(req, resp, layer.revision):
        resp.data = None


async def put(
    remote_configuration: RemoteConfiguration, req: Request, resp: Response, target: str, rank: int | None = None
) -> None:
    """200 with the settings that were there now instead of the old ones."""
    settings = _parsed(await read_json(req, _JSON))

    def edit(layer: Layer) -> Layer:
        problems.check(req, layer.revision)
        return replace(layer, settings=settings, rank=layer.rank if rank is None else rank)

    await _change(remote_configuration, req, resp, target, edit)


async def patch(
    remote_configuration: RemoteConfiguration, req: Request, resp: Response, target: str, rank: int | None = None
) -> None:
    """200 with the settings after a merge patch (RFC 7396): null takes a member out, the others are set."""
    changes = await read_json(req, MERGE_PATCH, _JSON)
    if not isinstance(changes, dict):
        _parsed(changes)  # says what is right instead

    def edit(layer: Layer) -> Layer:
        problems.check(req, layer.revision)
        settings = _parsed(_patched(msgspec.to_builtins(layer.settings), changes))
        return replace(layer, settings=settings, rank=layer.rank if rank is None else rank)

    await _change(remote_configuration, req, resp, target, edit)


async def delete(remote_configuration: RemoteConfiguration, req: Request, resp: Response, target: str) -> None:
    """Take the layer away; answers 204. The other layers remain."""

    def edit(layer: Layer) -> None:
        problems.check(req, layer.revision)

    await _change(remote_configuration, req, resp, target, edit)
    resp.data = None
    resp.status = falcon.HTTP_204


async def _change(
    remote_configuration: RemoteConfiguration,
    req: Request,
    resp: Response,
    target: str,
    edit: Callable[[Layer], Layer | None],
) -> None:
    problems.required(req)
    try:
        layer = await remote_configuration.change(target, actor_of(req), edit)
    except TooManyLayers as error:
        raise HTTPProblem(falcon.HTTP_409, str(error)) from None
    _answer(resp, layer)


def _answer(resp: Response, layer: Layer) -> None:
    problems.tag(resp, layer.revision)
    resp.content_type = _JSON
    resp.data = msgspec.json.encode(layer.settings)


def _parsed(document: object) -> Any:
    try:
        return parse_settings(document)
    except InvalidSettings as error:
        raise HTTPProblem(falcon.HTTP_422, "The settings are wrong; nothing was changed.", error.problems) from None


def _patched(document: dict[str, Any], changes: object) -> object:
    """MergePatch of RFC 7396; no setting is itself an object."""
    if not isinstance(changes, dict):
        return changes
    return {name: value for name, value in (document | changes).items() if value is not None}


class OneAgentsSettings:
    """The strongest layer of an agent's settings. It may be set before the agent is heard of."""

    def __init__(self, remote_configuration: RemoteConfiguration) -> None:
        self._remote_configuration = remote_configuration

    async def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with this layer; GET /api/v1/agents/{user_id} shows what all layers make together."""
        get(self._remote_configuration, req, resp, AGENT + user_id_of(user_id))

    async def on_put(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with the layer as it is now."""
        await put(self._remote_configuration, req, resp, AGENT + user_id_of(user_id))

    async def on_patch(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with the layer as it is now."""
        await patch(self._remote_configuration, req, resp, AGENT + user_id_of(user_id))

    async def on_delete(self, req: Request, resp: Response, user_id: str) -> None:
        """Removes the layer; answers 204."""
        await delete(self._remote_configuration, req, resp, AGENT + user_id_of(user_id))


_MAX_RANK = 1000


class FleetSettings:
    """The layers of the fleet and of selections."""

    def __init__(self, remote_configuration: RemoteConfiguration) -> None:
        self._remote_configuration = remote_configuration

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the layer of `selector`; without one, with all layers in the order in which they are laid."""
        if req.get_param("selector") is not None:
            get(self._remote_configuration, req, resp, _target(req))
            return
        layers = [layer for _, layer in self._remote_configuration.layers.selections()]
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(
            {
                "layers": [
                    {
                        "selector": layer.target,
                        "rank": layer.rank,
                        "settings": layer.settings,
                        "etag": f'"{layer.revision}"',
                    }
                    for layer in layers
                ]
            }
        )

    async def on_put(self, req: Request, resp: Response) -> None:
        """200 with the layer as it is now."""
        target = _target(req)
        await put(self._remote_configuration, req, resp, target, _rank(req, target))

    async def on_patch(self, req: Request, resp: Response) -> None:
        """200 with the layer as it is now."""
        target = _target(req)
        await patch(self._remote_configuration, req, resp, target, _rank(req, target))

    async def on_delete(self, req: Request, resp: Response) -> None:
        """Removes the layer; answers 204."""
        await delete(self._remote_configuration, req, resp, _target(req))


def _target(req: Request) -> str:
    try:
        return parse_selector(req.get_param("selector", default="")).text
    except ValueError as error:
        raise invalid("selector", str(error)) from None


def _rank(req: Request, target: str) -> int | None:
    asked = req.get_param("rank")
    if asked is None:
        return None
    if target == ALL.text:
        raise invalid("rank", "The fleet's settings lie under all others; they have no rank")
    try:
        return whole_number(asked, 1, _MAX_RANK)
    except ValueError as error:
        raise invalid("rank", str(error)) from None
