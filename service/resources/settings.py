"""/api/v1/settings: what is asked of all agents, or of a selection of them."""

import falcon
import msgspec
from falcon.asgi import Request, Response

from service.agents import editing
from service.agents.selectors import ALL, parse_selector
from service.agents.steering import Steering
from service.problems import invalid

__all__ = ["FleetSettings"]

_MOST_RANK = 1000


class FleetSettings:
    """The layers of the fleet and of selections."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the layer of `selector`; without one, with all layers in the order in which they are laid."""
        if req.get_param("selector") is not None:
            editing.get(self._steering, req, resp, _target(req))
            return
        layers = [layer for _, layer in self._steering.layers.selections()]
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
        await editing.put(self._steering, req, resp, target, _rank(req, target))

    async def on_patch(self, req: Request, resp: Response) -> None:
        """200 with the layer as it is now."""
        target = _target(req)
        await editing.patch(self._steering, req, resp, target, _rank(req, target))

    async def on_delete(self, req: Request, resp: Response) -> None:
        """204."""
        await editing.delete(self._steering, req, resp, _target(req))


def _target(req: Request) -> str:
    try:
        return parse_selector(req.get_param("selector", default="")).text
    except ValueError as error:
        raise invalid("selector", str(error)) from None


def _rank(req: Request, target: str) -> int | None:
    rank: int | None = req.get_param_as_int("rank", min_value=1, max_value=_MOST_RANK)
    if rank is not None and target == ALL.text:
        raise invalid("rank", "The fleet's settings lie under all others; they have no rank")
    return rank
