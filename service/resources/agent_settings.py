"""/api/v1/agents/{user_id}/settings: what is asked of one agent only."""

from falcon.asgi import Request, Response

from service.agents import editing
from service.agents.layers import AGENT
from service.agents.steering import Steering
from service.resources.agents import user_id_of

__all__ = ["OneAgentsSettings"]


class OneAgentsSettings:
    """The strongest layer of an agent's settings. It may be set before the agent is heard of."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    async def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with this layer; GET /api/v1/agents/{user_id} shows what all layers make together."""
        editing.get(self._steering, req, resp, AGENT + user_id_of(user_id))

    async def on_put(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with the layer as it is now."""
        await editing.put(self._steering, req, resp, AGENT + user_id_of(user_id))

    async def on_patch(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with the layer as it is now."""
        await editing.patch(self._steering, req, resp, AGENT + user_id_of(user_id))

    async def on_delete(self, req: Request, resp: Response, user_id: str) -> None:
        """204."""
        await editing.delete(self._steering, req, resp, AGENT + user_id_of(user_id))
