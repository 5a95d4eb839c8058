"""Who may ask what: a bearer token, where one is set, or two, of which one only lets agents do their part."""

import hmac

import falcon
from falcon.asgi import Request, Response, WebSocket

from service.problems import ProblemError

__all__ = ["RequireToken"]

_OPEN = ("/healthz", "/readyz")
_AGENTS = "/api/v1/agents/"


class RequireToken:
    """Asks every request but the health checks for `Authorization: Bearer <token>`.

    With an operator's token beside it, `token` is that of agents: good for reports, for an agent's state and for
    what is asked of it. Everything else needs the operator's.
    """

    def __init__(self, token: str, operator_token: str = "") -> None:
        self._token = f"Bearer {token}".encode()
        self._operator = f"Bearer {operator_token}".encode() if operator_token else None

    async def process_request(self, req: Request, resp: Response) -> None:
        """401 for a request without a token, 403 for one that the agents' token is not good for."""
        self._check(req)

    async def process_request_ws(self, req: Request, ws: WebSocket) -> None:
        """403 for a WebSocket without a token, or with the agents'."""
        self._check(req)

    def _check(self, req: Request) -> None:
        if req.path in _OPEN:
            return
        given = (req.get_header("Authorization") or "").encode()
        if self._operator is not None and hmac.compare_digest(given, self._operator):
            req.context.token = "operator"  # noqa: S105 - which one was shown
            return
        if not hmac.compare_digest(given, self._token):
            raise ProblemError(
                falcon.HTTP_401,
                "This service asks for the header 'Authorization: Bearer <token>' with the token of its settings.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        req.context.token = "token"  # noqa: S105
        if self._operator is not None and not _is_for_agents(req):
            raise ProblemError(
                falcon.HTTP_403, "The agents' token lets agents report; this asks for the operator's token."
            )


def _is_for_agents(req: Request) -> bool:
    if req.path == "/api/v1/metrics":
        return bool(req.method == "POST")
    if not req.path.startswith(_AGENTS):
        return False
    if req.method == "POST":
        return bool(req.path.endswith("/state"))
    return bool(req.method == "GET" and req.path.endswith("/commands") and "text/event-stream" in req.accept)
