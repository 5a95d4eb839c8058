"""Changes that go only where nobody else has changed the same meanwhile: ETag, If-Match, If-None-Match."""

import falcon
from falcon.asgi import Request, Response

from service.problems import ProblemError

__all__ = ["check", "is_known", "required", "tag"]


def tag(resp: Response, revision: int) -> None:
    """Name the version that is answered."""
    resp.etag = str(revision)
    resp.cache_control = ["no-cache"]


def is_known(req: Request, resp: Response, revision: int) -> bool:
    """Whether the asker has this version already, and gets 304 (RFC 9110, 13.1.2) instead of it."""
    known = req.if_none_match
    if known is None or not (known == ["*"] or str(revision) in known):
        return False
    resp.status = falcon.HTTP_304
    return True


def required(req: Request) -> None:
    """Raise 428 (RFC 6585) for a change that does not say which version it changes."""
    if req.if_match is None and req.if_none_match is None:
        raise ProblemError(
            falcon.HTTP_428,
            'Say which version you change: If-Match with the ETag of a GET, If-None-Match: * for settings that are not '
            "there yet, or If-Match: * to overwrite whatever there is.",
        )  # fmt: skip


def check(req: Request, revision: int) -> None:
    """Raise 412 (RFC 9110, 13.1) where the version is not the one that the request is meant for; 0 is no version."""
    if not _matches(req, revision):
        raise ProblemError(
            falcon.HTTP_412, f'It has been changed meanwhile: its ETag is "{revision}" now. GET it again, and decide.'
        )


def _matches(req: Request, revision: int) -> bool:
    wanted, unwanted = req.if_match, req.if_none_match
    if wanted is not None:
        return wanted == ["*"] or any(
            isinstance(one, falcon.ETag) and one == str(revision) and not one.is_weak for one in wanted
        )
    return unwanted is None or not (revision if unwanted == ["*"] else str(revision) in unwanted)
