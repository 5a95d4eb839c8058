"""Errors as answers (`application/problem+json`, RFC 9457), and changes that go only where nobody else has changed."""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import falcon
import falcon.asgi
import msgspec
from falcon.asgi import Request, Response
from uvicorn.protocols.utils import ClientDisconnected

from contract.problems import Problem, shortened
from service.control.database import ControlError
from service.http.pages import environment
from service.stores.base import StoreUnavailable

if TYPE_CHECKING:
    import jinja2

PROBLEM_JSON: Final = "application/problem+json"
_RETRY_S = 5
_MAX_DETAIL = 2000
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class HTTPProblem(falcon.HTTPError):
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


def invalid(pointer: str, detail: str) -> HTTPProblem:
    """422 for one wrong member or parameter."""
    return HTTPProblem(falcon.HTTP_422, detail, [Problem(pointer, detail)])


_DETAILS = {
    404: "Nothing is at this path. GET /api/v1/metrics and GET /api/v1/users are where to begin.",
    405: "This method is not for this path; the header Allow names those that are.",
}


def serialize(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError) -> None:
    """Write any HTTP error as problem details, or as a page where a person's browser finds nothing."""
    if error.status_code == 404 and _for_a_person(req):
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.text = _not_found().render(
            detail=shortened(error.description or "Nothing is at this address.", _MAX_DETAIL), base=req.root_path
        )
        return
    resp.content_type = PROBLEM_JSON
    resp.data = problem_details(error)


def problem_details(error: falcon.HTTPError) -> bytes:
    """What an answer with an error says (RFC 9457)."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": falcon.code_to_http_status(error.status_code).partition(" ")[2],
        "status": error.status_code,
    }
    detail = error.description or _DETAILS.get(error.status_code)
    if detail:
        document["detail"] = shortened(detail, _MAX_DETAIL)
    if isinstance(error, HTTPProblem):
        if error.problems:
            document["errors"] = error.problems
        document |= error.extra
    return msgspec.json.encode(document)


def _for_a_person(req: Request) -> bool:
    """Whether an answer is read by a person: outside the interface for programs, and asked for as HTML first."""
    if req.method not in ("GET", "HEAD") or req.path.startswith("/api/"):
        return False
    return req.client_prefers((falcon.MEDIA_JSON, PROBLEM_JSON, falcon.MEDIA_HTML)) == falcon.MEDIA_HTML


@functools.cache
def _not_found() -> "jinja2.Template":
    import analytics.reports.html

    page = environment()
    page.globals["style"] = analytics.reports.html.style()
    return page.get_template("not_found.html.j2")


async def unexpected(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, params: Any) -> None:
    """500 for a fault of ours: logged in full, told without its inside."""
    if isinstance(error, ClientDisconnected):
        return  # the server has closed a WebSocket before us, because it stops
    raise fault(req.method, req.path, error)


def fault(method: str, path: str, error: Exception) -> falcon.HTTPInternalServerError:
    """What is answered for a fault of ours, which is logged."""
    import logging

    logging.getLogger("loadlens.service").error("%s %s failed", method, path, exc_info=error)
    return falcon.HTTPInternalServerError(description="The service failed here; its log says why.")


async def unavailable(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: StoreUnavailable, params: Any
) -> None:
    """503 for a store that is away: what was asked may be asked again."""
    headers = {"Retry-After": str(max(math.ceil(error.retry_after_s or 0), _RETRY_S))}
    raise HTTPProblem(falcon.HTTP_503, str(error), headers=headers)


async def uncontrolled(req: falcon.asgi.Request, resp: falcon.asgi.Response, error: ControlError, params: Any) -> None:
    """503 for a control database that cannot be used."""
    words = str(error) if req.method in ("GET", "HEAD") else f"Nothing was changed: {error}"
    raise HTTPProblem(falcon.HTTP_503, words, headers={"Retry-After": str(_RETRY_S)})


def tag(resp: Response, revision: int) -> None:
    """Name the version that is answered."""
    resp.etag = str(revision)
    resp.cache_control = ["private", "no-cache"]


def is_known(req: Request, resp: Response, revision: int | str) -> bool:
    """Whether the asker has this version already, and gets 304 (RFC 9110, 13.1.2) instead of it."""
    known = req.if_none_match
    if known is None or not (known == ["*"] or str(revision) in known):
        return False
    resp.status = falcon.HTTP_304
    return True


def required(req: Request) -> None:
    """Raise 428 (RFC 6585) for a change that does not say which version it changes."""
    if req.if_match is None and req.if_none_match is None:
        raise HTTPProblem(
            falcon.HTTP_428,
            'Say which version you change: If-Match with the ETag of a GET, If-None-Match: * for settings that are not '
            "there yet, or If-Match: * to overwrite whatever there is.",
        )  # fmt: skip


def check(req: Request, revision: int) -> None:
    """Raise 412 (RFC 9110, 13.1) where the version is not the one that the request is meant for; 0 is no version."""
    if not _matches(req, revision):
        raise HTTPProblem(
            falcon.HTTP_412, f'It has been changed meanwhile: its ETag is "{revision}" now. GET it again, and decide.'
        )


def _matches(req: Request, revision: int) -> bool:
    wanted, unwanted = req.if_match, req.if_none_match
    is_wanted = (
        wanted is None
        or wanted == ["*"]
        or any(isinstance(one, falcon.ETag) and one == str(revision) and not one.is_weak for one in wanted)
    )
    # Where both are given, both count (RFC 9110, 13.2.2).
    return is_wanted and (unwanted is None or not (revision if unwanted == ["*"] else str(revision) in unwanted))
