"""GET /api/v1/agents: the agents, what is asked of each, what is in force, and whether the two agree."""

import asyncio
from collections.abc import Callable
from typing import Any

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract.report import MAX_USER_ID
from service.agents.registry import Agent
from service.agents.steering import Steering
from service.agents.views import detail, in_step, overview
from service.problems import ProblemError, invalid
from service.slashes import SLASH

__all__ = ["AgentList", "OneAgent", "known_agent", "user_id_of"]

_MOST = 1000


class AgentList:
    """Lists agents by user id, in pages."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page, how many agents there are of the kind asked for, and how many of them are in step."""
        limit = req.get_param_as_int("limit", min_value=1, max_value=_MOST, default=100)
        after = req.get_param("after", default="")
        keep = _condition(req)
        try:
            agents, meant = self._steering.chosen(req.get_param("selector", default="all"))
        except ValueError as error:
            raise invalid("selector", str(error)) from None
        resp.content_type = falcon.MEDIA_JSON
        resp.data = await asyncio.to_thread(_page, agents, (meant, keep), after, limit)


class OneAgent:
    """Shows one agent, with the layers of settings that it stands under."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    async def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """200, or 404 for an agent that was never heard of."""
        agent = known_agent(self._steering, user_id_of(user_id))
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(detail(agent, self._steering.layers))


def user_id_of(segment: str) -> str:
    """The user id of a path's segment, in which a slash may stand for itself; raises 404 for what cannot be one."""
    user_id = segment.replace(SLASH, "/")
    if not (0 < len(user_id) <= MAX_USER_ID and user_id.isprintable()):
        raise ProblemError(falcon.HTTP_404, f"A user id has 1 to {MAX_USER_ID} printable characters.")
    return user_id


def known_agent(steering: Steering, user_id: str) -> Agent:
    """The agent of a user id; raises 404 where it was never heard of."""
    agent = steering.registry.get(user_id)
    if agent is None:
        raise ProblemError(falcon.HTTP_404, f"No agent reports as {user_id!r}. GET /api/v1/agents lists those that do.")
    return agent


def _condition(req: Request) -> Callable[[Agent], bool]:
    step = req.get_param_as_bool("in_step")
    connected = req.get_param_as_bool("connected")
    return lambda agent: step in (None, in_step(agent)) and connected in (None, agent.connected)


def _page(agents: list[Agent], conditions: tuple[Callable[[Agent], bool], ...], after: str, limit: int) -> bytes:
    """A page of the agents for which all conditions hold. Called in a thread: there may be very many."""
    kept = [agent for agent in agents if all(holds(agent) for holds in conditions)]
    kept.sort(key=lambda agent: agent.user_id)
    behind = [agent for agent in kept if agent.user_id > after] if after else kept
    page = behind[:limit]
    document: dict[str, Any] = {
        "agents": [overview(agent) for agent in page],
        "total": len(kept),
        "in_step": sum(map(in_step, kept)),
        "next": page[-1].user_id if len(behind) > limit else None,
    }
    return msgspec.json.encode(document)
