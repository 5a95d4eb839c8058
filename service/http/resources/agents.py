"""/api/v1/agents: agents and what is asked of them, what they say of themselves, and commands to them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Annotated, Any

import falcon
import msgspec
from falcon.asgi import Request, Response, SSEvent
from msgspec import Meta, Struct

from contract.agent_protocol import INSTANCE_HEADER, MAX_DOCUMENT, AgentState, CommandName
from contract.problems import Problem, decode_json, problem_of, undecodable
from contract.selectors import MAX_USER_ID, fault_of_labels
from contract.times import DAY_S
from service.agents.commands import TooManyCommands
from service.agents.layers import Layers
from service.agents.registry import Agent
from service.agents.remote_configuration import RemoteConfiguration
from service.agents.shared_ids import SharedId
from service.agents.views import detail, in_sync, overview
from service.alerts.runner import Runner
from service.credentials.identity import Identity
from service.credentials.tokens import Tokens
from service.http.access import is_foreign
from service.http.authentication import actor_of, identity_of
from service.http.listing import flag, page_of, take_limit
from service.http.operation_parameters import AgentsParameters
from service.http.parameters import names_of
from service.http.permissions import SLASH
from service.http.problems import HTTPProblem
from service.http.requests import Parameters, read_as, read_body, text
from service.ingest.admission import Admission, NotLetInError


class AgentList:
    """Lists agents by user id, in pages."""

    def __init__(self, remote_configuration: RemoteConfiguration) -> None:
        self._remote_configuration = remote_configuration

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page, how many agents there are of the kind asked for, and how many of them are in sync."""
        asked = await Parameters.read(req, names_of(AgentsParameters))
        limit, after, keep = take_limit(asked), asked.take("after", text, ""), _condition(asked)
        agents, meant = asked.take("selector", lambda value: self._remote_configuration.chosen(text(value)), None) or (
            self._remote_configuration.chosen("all")
        )
        asked.check()
        resp.content_type = falcon.MEDIA_JSON
        shared = self._remote_configuration.shared_ids.found
        layers = self._remote_configuration.layers
        show = partial(_shown, shared=shared, layers=layers)
        resp.data = await asyncio.to_thread(_page, agents, show, (meant, keep), after, limit)


class OneAgent:
    """Shows one agent, with the layers of settings that it stands under, and forgets it."""

    def __init__(self, remote_configuration: RemoteConfiguration, rules: Runner) -> None:
        self._remote_configuration = remote_configuration
        self._rules = rules

    async def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """200, or 404 for an agent that was never heard of."""
        agent = known_agent(self._remote_configuration, user_id_of(user_id))
        resp.content_type = falcon.MEDIA_JSON
        shared = self._remote_configuration.shared_ids.found.get(agent.user_id)
        resp.data = msgspec.json.encode(detail(agent, shared, self._remote_configuration.layers))

    async def on_delete(self, req: Request, resp: Response, user_id: str) -> None:
        """Forgets the agent, its settings, its commands and its alarms; answers 204. One that still reports is back."""
        user = user_id_of(user_id)
        known = await self._remote_configuration.forget(user, actor_of(req))
        if not known:
            raise HTTPProblem(
                falcon.HTTP_404,
                f"No agent {user!r} is known, and nothing is set for it."
                " DELETE /api/v1/users/... forgets a host with its windows.",
            )
        self._rules.forget(user)
        resp.status = falcon.HTTP_204


def user_id_of(segment: str) -> str:
    """The user id of a path's segment, in which a slash may stand for itself; raises 404 for what cannot be one."""
    user_id = segment.replace(SLASH, "/")
    if not (0 < len(user_id) <= MAX_USER_ID and user_id.isprintable()):
        raise HTTPProblem(falcon.HTTP_404, f"A user id has 1 to {MAX_USER_ID} printable characters.")
    return user_id


def known_agent(remote_configuration: RemoteConfiguration, user_id: str) -> Agent:
    """The agent of a user id; raises 404 where it was never heard of."""
    agent = remote_configuration.registry.get(user_id)
    if agent is None:
        raise HTTPProblem(falcon.HTTP_404, f"No agent reports as {user_id!r}. GET /api/v1/agents lists those that do.")
    return agent


def _condition(asked: Parameters) -> Callable[[Agent], bool]:
    sync, connected = asked.take("in_step", flag, None), asked.take("connected", flag, None)
    return lambda agent: sync in (None, in_sync(agent)) and connected in (None, agent.connected)


def _shown(agent: Agent, shared: Mapping[str, SharedId], layers: Layers) -> dict[str, Any]:
    return overview(agent, shared.get(agent.user_id), layers)


def _page(
    agents: list[Agent],
    show: Callable[[Agent], dict[str, Any]],
    conditions: tuple[Callable[[Agent], bool], ...],
    after: str,
    limit: int,
) -> bytes:
    """A page of the agents for which all conditions hold. Called in a thread: there may be very many."""
    kept = [agent for agent in agents if all(holds(agent) for holds in conditions)]
    kept.sort(key=lambda agent: agent.user_id)
    page, behind = page_of(kept, lambda agent: agent.user_id, after, limit)
    document: dict[str, Any] = {
        "agents": [show(agent) for agent in page],
        "total": len(kept),
        "in_step": sum(map(in_sync, kept)),
        "next": behind,
    }
    return msgspec.json.encode(document)


_MAX_BYTES = 2 * MAX_DOCUMENT
_FULL_RETRY_S = 60


class OneAgentsState:
    """Takes what an agent says of itself besides reports."""

    def __init__(self, remote_configuration: RemoteConfiguration, admission: Admission) -> None:
        self._remote_configuration = remote_configuration
        self._admission = admission

    async def on_post(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with everything that is asked of the agent; 429 for one whose reports would not be taken either."""
        body = await read_body(req)
        if len(body) > _MAX_BYTES:
            raise HTTPProblem(falcon.HTTP_413, f"A state has at most {_MAX_BYTES} bytes.")
        try:
            state = decode_json(body, AgentState)
            body.decode()  # a command's outcome is kept and handed on as it came
        except UnicodeDecodeError as error:
            raise HTTPProblem(falcon.HTTP_400, f"The body is not JSON: {undecodable(error)}") from None
        except msgspec.ValidationError as error:
            raise HTTPProblem(falcon.HTTP_422, "The state is wrong.", [problem_of(error, AgentState)]) from None
        except msgspec.DecodeError as error:
            raise HTTPProblem(falcon.HTTP_400, f"The body is not JSON: {error}") from None
        if fault := fault_of_labels(state.labels):
            raise HTTPProblem(falcon.HTTP_422, "The state is wrong.", [Problem("/labels", fault)])
        user = user_id_of(user_id)
        registry = self._remote_configuration.registry
        try:
            if registry.get(user) is None:
                self._admission.check_room(user, len(registry))
        except NotLetInError as error:
            raise HTTPProblem(
                falcon.HTTP_429, "No more hosts are let in.", [Problem("", str(error))],
                headers={"Retry-After": str(_FULL_RETRY_S)},
            ) from None  # fmt: skip
        instructions = await self._remote_configuration.exchange(user, state)
        if instructions is None:
            raise HTTPProblem(falcon.HTTP_503, "There are too many agents.", headers={"Retry-After": "600"})
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(instructions)


_EVENTS = "text/event-stream"
_RETRY_STREAM_S = "300"
_MAX_OPEN = 100


class NewCommand(Struct, forbid_unknown_fields=True):
    """What an agent is to do once."""

    command: CommandName
    expires_s: Annotated[float, Meta(ge=1.0, le=7 * DAY_S)] = 60.0
    """After so long it is given up."""


class OneAgentsCommands:
    """What one agent is to do once."""

    def __init__(self, remote_configuration: RemoteConfiguration, tokens: Tokens) -> None:
        self._remote_configuration = remote_configuration
        self._tokens = tokens

    async def on_get(self, req: Request, resp: Response, user_id: str) -> None:
        """For `Accept: text/event-stream` the agent's stream; otherwise 200 with its last commands."""
        user = user_id_of(user_id)
        identity = identity_of(req)
        if _EVENTS in req.accept and req.method == "GET":
            if identity.role not in ("agent", "admin"):
                raise HTTPProblem(falcon.HTTP_403, "The stream is the agent's; without Accept: text/event-stream you"
                                   " get its last commands.")  # fmt: skip
            self._listen(req, resp, user, identity)
            return
        if identity.role == "agent":
            raise HTTPProblem(falcon.HTTP_403, "An agent's token is good for its stream: Accept: text/event-stream.")
        agent = known_agent(self._remote_configuration, user)
        found = await asyncio.to_thread(self._remote_configuration.commands.of, agent.user_id, _MAX_OPEN)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode({"commands": found})

    def _listen(self, req: Request, resp: Response, user_id: str, identity: Identity) -> None:
        if is_foreign(req):
            raise HTTPProblem(falcon.HTTP_403, "A page of another site must not take an agent's place.")
        agent = known_agent(self._remote_configuration, user_id)
        instance = req.get_header(INSTANCE_HEADER, default="")
        events = self._remote_configuration.listen(agent, req.get_header("Last-Event-ID"), instance[:64])
        if events is None:
            raise HTTPProblem(
                falcon.HTTP_503,
                "No more streams are kept open; what is asked of an agent comes with the answers to its reports too.",
                headers={"Retry-After": _RETRY_STREAM_S},
            )
        resp.cache_control = ["no-store"]
        # nginx and its like would hold events back.
        resp.set_header("X-Accel-Buffering", "no")
        resp.sse = self._while_valid(events, identity)

    async def _while_valid(self, events: AsyncIterator[SSEvent], identity: Identity) -> AsyncIterator[SSEvent]:
        async with contextlib.aclosing(events) as stream:  # type: ignore[type-var]  # it is a generator
            async for event in stream:
                if not self._tokens.is_valid(identity):
                    return
                yield event

    async def on_post(self, req: Request, resp: Response, user_id: str) -> None:
        """202 with the command's id, and its place in Location."""
        agent = known_agent(self._remote_configuration, user_id_of(user_id))
        expected = 'The command is wrong: expected {"command": "report_now"} or "diagnostics".'
        asked = await read_as(req, NewCommand, expected)
        if not agent.remote:
            raise HTTPProblem(falcon.HTTP_409, f"The agent {agent.user_id!r} takes no commands.")
        try:
            id_ = await self._remote_configuration.command(agent, asked.command, asked.expires_s, actor_of(req))
        except TooManyCommands as error:
            raise HTTPProblem(falcon.HTTP_429, str(error), headers={"Retry-After": "60"}) from None
        resp.status = falcon.HTTP_202
        resp.location = f"{req.root_path}/api/v1/commands/{id_}"
        resp.media = {"id": id_}


class OneCommand:
    """GET /api/v1/commands/{command_id}: what has become of a command."""

    def __init__(self, remote_configuration: RemoteConfiguration) -> None:
        self._remote_configuration = remote_configuration

    async def on_get(self, req: Request, resp: Response, command_id: str) -> None:
        """200 with its status and its result."""
        command = await asyncio.to_thread(self._remote_configuration.commands.get, command_id)
        if command is None:
            raise HTTPProblem(falcon.HTTP_404, "No such command is known, or not any more.")
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(command)
