"""/api/v1/agents/{user_id}/commands: an operator's POST, an agent's stream, and what has become of commands."""

import asyncio
from typing import Annotated

import falcon
import msgspec
from falcon.asgi import Request, Response
from msgspec import Meta, Struct

from contract.problems import problem_of
from contract.steering import CommandName
from contract.times import DAY_S
from service.agents.commands import TooManyCommands
from service.agents.steering import Steering
from service.audit import actor_of
from service.bodies import read_json
from service.control import ControlError
from service.problems import ProblemError
from service.resources.agents import known_agent, user_id_of

__all__ = ["OneAgentsCommands", "OneCommand"]

_EVENTS = "text/event-stream"
_RETRY_STREAM_S = "300"
_MOST = 100


class _Asked(Struct, forbid_unknown_fields=True):
    command: CommandName
    expires_s: Annotated[float, Meta(ge=1.0, le=7 * DAY_S)] = 60.0
    """After so long it is given up."""


class OneAgentsCommands:
    """What one agent is to do once."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    async def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """For `Accept: text/event-stream` the agent's stream; otherwise 200 with its last commands."""
        user = user_id_of(user_id)
        if _EVENTS in req.accept:
            self._listen(req, resp, user)
            return
        agent = known_agent(self._steering, user)
        found = await asyncio.to_thread(self._steering.commands.of, agent.user_id, _MOST)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode({"commands": found})

    def _listen(self, req: Request, resp: Response, user_id: str) -> None:
        agent = known_agent(self._steering, user_id)
        events = self._steering.listen(agent, req.get_header("Last-Event-ID"))
        if events is None:
            raise ProblemError(
                falcon.HTTP_503,
                "No more streams are kept open; what is asked of an agent comes with the answers to its reports too.",
                headers={"Retry-After": _RETRY_STREAM_S},
            )
        resp.cache_control = ["no-store"]
        # nginx and its like would hold events back.
        resp.set_header("X-Accel-Buffering", "no")
        resp.sse = events

    async def on_post(self, req: Request, resp: Response, user_id: str) -> None:
        """202 with the command's id, and its place in Location."""
        agent = known_agent(self._steering, user_id_of(user_id))
        try:
            asked = msgspec.convert(await read_json(req, "application/json"), _Asked)
        except msgspec.ValidationError as error:
            problem = problem_of(error)
            raise ProblemError(
                falcon.HTTP_422, 'The command is wrong; {"command": "report_now"} or "diagnostics" is right.', [problem]
            ) from None
        if not agent.remote:
            raise ProblemError(falcon.HTTP_409, f"The agent {agent.user_id!r} takes no commands.")
        try:
            id_ = await self._steering.command(agent, asked.command, asked.expires_s, actor_of(req))
        except TooManyCommands as error:
            raise ProblemError(falcon.HTTP_429, str(error), headers={"Retry-After": "60"}) from None
        except ControlError as error:
            raise ProblemError(falcon.HTTP_503, str(error), headers={"Retry-After": "5"}) from None
        resp.status = falcon.HTTP_202
        resp.location = f"/api/v1/commands/{id_}"
        resp.media = {"id": id_}


class OneCommand:
    """GET /api/v1/commands/{command_id}: what has become of a command."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    async def on_get(self, req: Request, resp: Response, command_id: str) -> None:
        """200 with its status and its result."""
        command = await asyncio.to_thread(self._steering.commands.get, command_id)
        if command is None:
            raise ProblemError(falcon.HTTP_404, "No such command is known, or not any more.")
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(command)
