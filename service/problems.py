"""Errors as answers: `application/problem+json` (RFC 9457), made in one place."""

import math
from collections.abc import Sequence
from typing import Any

import falcon
import falcon.asgi
import msgspec

from contract.problems import Problem
from service.stores.base import StoreUnavailable

__all__ = ["ProblemError", "invalid", "serialize", "unavailable", "unexpected"]


_RETRY_S = 5


class ProblemError(falcon.HTTPError):
    """An error with the members that are wrong.

    `problems` become the member `errors`, each with a JSON pointer into the body, or the name of a query parameter, and
    what would be right. `extra` members are added as they are.
    """

    def __init__(
        self,
        status: str,
        detail: str,
        problems: Sequence[Problem] = (),
        *,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(status, description=detail, headers=headers)
        self.problems = problems
        self.extra = extra


def invalid(pointer: str, detail: str) -> ProblemError:
    """422 for one wrong member or parameter."""
    return ProblemError(falcon.HTTP_422, detail, [Problem(pointer, detail)])


_DETAILS = {
    404: "Nothing is at this path. GET /api/v1/metrics and GET /api/v1/users are where to begin.",
    405: "This method is not for this path; the header Allow names those that are.",
}


def serialize(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError) -> None:
    """Write any HTTP error as problem details."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": falcon.code_to_http_status(error.status_code).partition(" ")[2],
        "status": error.status_code,
    }
    detail = error.description or _DETAILS.get(error.status_code)
    if detail:
        document["detail"] = detail
    if isinstance(error, ProblemError):
        if error.problems:
            document["errors"] = error.problems
        document |= error.extra
    resp.content_type = "application/problem+json"
    resp.data = msgspec.json.encode(document)


async def unexpected(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, params: Any) -> None:
    """500 for a fault of ours: logged in full, told without its inside."""
    import logging

    logging.getLogger("loadlens.service").error("%s %s failed", req.method, req.path, exc_info=error)
    raise falcon.HTTPInternalServerError(description="The service failed here; its log says why.")


async def unavailable(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: StoreUnavailable, params: Any
) -> None:
    """503 for a store that is away: what was asked may be asked again."""
    headers = {"Retry-After": str(max(math.ceil(error.retry_after_s or 0), _RETRY_S))}
    raise ProblemError(falcon.HTTP_503, str(error), headers=headers)
