"""POST /api/v1/agents/{user_id}/state: an agent says what is in force, and hears what is asked of it."""

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract.decoding import decode_json
from contract.problems import problem_of
from contract.steering import MAX_DOCUMENT, AgentState
from service.agents.steering import Steering
from service.bodies import read_body
from service.control import ControlError
from service.problems import ProblemError
from service.resources.agents import user_id_of

__all__ = ["OneAgentsState"]

_MOST_BYTES = 2 * MAX_DOCUMENT


class OneAgentsState:
    """Takes what an agent says of itself besides reports."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering

    async def on_post(self, req: Request, resp: Response, user_id: str) -> None:
        """200 with everything that is asked of the agent."""
        body = await read_body(req)
        if len(body) > _MOST_BYTES:
            raise ProblemError(falcon.HTTP_413, f"A state has at most {_MOST_BYTES} bytes.")
        try:
            state = decode_json(body, AgentState)
        except msgspec.ValidationError as error:
            raise ProblemError(falcon.HTTP_422, "The state is wrong.", [problem_of(error)]) from None
        except msgspec.DecodeError as error:
            raise ProblemError(falcon.HTTP_400, f"The body is not JSON: {error}") from None
        try:
            instructions = await self._steering.exchange(user_id_of(user_id), state)
        except ControlError as error:
            raise ProblemError(falcon.HTTP_503, str(error), headers={"Retry-After": "5"}) from None
        if instructions is None:
            raise ProblemError(falcon.HTTP_503, "There are too many agents.", headers={"Retry-After": "600"})
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode(instructions)
