"""Who may ask: a bearer token, where one is set."""

import hmac

import falcon
from falcon.asgi import Request, Response

from service.problems import ProblemError

__all__ = ["RequireToken"]

_OPEN = ("/healthz", "/readyz")


class RequireToken:
    """Asks every request but the health checks for `Authorization: Bearer <token>`."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

    async def process_request(self, req: Request, resp: Response) -> None:
        """401 for a request without the token."""
        if req.path in _OPEN:
            return
        given = (req.get_header("Authorization") or "").encode()
        if not hmac.compare_digest(given, self._expected):
            raise ProblemError(
                falcon.HTTP_401,
                "This service asks for the header 'Authorization: Bearer <token>' with the token of its settings.",
                headers={"WWW-Authenticate": "Bearer"},
            )
