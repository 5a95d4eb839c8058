"""/sign-in and /sign-out: a person pastes a token once, and the browser keeps a cookie; /api/v1/sessions lists them."""

import asyncio
import functools
import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import falcon
import msgspec
from falcon.asgi import Request, Response

from contract import times
from contract.problems import display
from service.credentials.identity import ANYBODY, Identity
from service.credentials.openid import OpenId
from service.credentials.sessions import FOR_PEOPLE, Session, Sessions
from service.http.access import address_of
from service.http.authentication import Authentication, actor_of, clear_cookie, identity_of, set_cookie
from service.http.listing import asked_page, page_of
from service.http.pages import environment
from service.http.problems import HTTPProblem
from service.http.requests import read_body

if TYPE_CHECKING:
    import jinja2

_log = logging.getLogger("loadlens.service")
_FORM = "application/x-www-form-urlencoded"
_MAX_FORM = 16 * 1024
_MAX_SHOWN = 100
"""Sessions on the page; GET /api/v1/sessions has all."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_UNKNOWN = "This token is not known, is revoked, or is past its end."
_NOT_FOR_PEOPLE = "This token is for programs: sign in with a reader's, an operator's or an admin's."


class SignIn:
    """The page where a browser signs in, and where it sees its sessions."""

    def __init__(self, sessions: Sessions, authentication: Authentication | None, openid: OpenId | None = None) -> None:
        """`authentication` is None where the service asks for no token, `openid` where there is no provider."""
        self._sessions = sessions
        self._authentication = authentication
        self.openid = openid

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with the page."""
        self._show(req, resp, next_path=own_path(req.get_param("next") or "", req.root_path))

    async def on_post(self, req: Request, resp: Response) -> None:
        """303 to where the browser wanted to go, with the cookie; 401 or 403 with the page for another token."""
        form = await _form(req)
        next_path = own_path(form.get("next", ""), req.root_path)
        if self._authentication is None:
            raise falcon.HTTPSeeOther(next_path)
        identity = self._authentication.identity_of_token(form.get("token", "").strip(), req)
        if identity is None or identity.role not in FOR_PEOPLE:
            resp.status = falcon.HTTP_401 if identity is None else falcon.HTTP_403
            self._show(req, resp, next_path=next_path, wrong=_UNKNOWN if identity is None else _NOT_FOR_PEOPLE)
            return
        self._authentication.count(identity)
        await self.begin_session(req, resp, identity)
        resp.set_header("Cache-Control", "no-store")
        resp.status = falcon.HTTP_303
        resp.location = next_path

    async def begin_session(self, req: Request, resp: Response, identity: Identity) -> None:
        """Let the browser in, and give it its cookie; the session that it shows is over. Raises ProblemError 503."""
        before: Identity | None = getattr(req.context, "identity", None)
        req.context.identity = identity
        browser = req.get_header("User-Agent") or ""
        session, cookie = await asyncio.to_thread(
            self._sessions.begin, identity, address=address_of(req), browser=browser, actor=actor_of(req)
        )
        if before is not None and before.session:
            await _end(self._sessions, before.session, before, req)
        set_cookie(req, resp, cookie, session.expires_ms)

    def refuse(self, req: Request, resp: Response, status: str, error: Exception) -> None:
        """The page, with why somebody who was at the provider is not let in."""
        _log.warning("a sign-in at %s has failed: %s", self.openid and self.openid.name, error)
        resp.status = status
        text = str(error)
        self._show(req, resp, next_path=f"{req.root_path}/", wrong=f"{text[:1].upper()}{text[1:].rstrip('.')}.")

    def lead_on(self, req: Request, resp: Response, next_path: str) -> None:
        """A page that leads on by itself, as a page of ours and not as the provider's."""
        self._show(req, resp, next_path=next_path, leads=True)

    def _show(self, req: Request, resp: Response, *, next_path: str, wrong: str = "", leads: bool = False) -> None:
        identity: Identity | None = getattr(req.context, "identity", None)
        shown = [] if identity is None or identity is ANYBODY or leads else self._sessions.of(whose(identity))
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "same-origin")
        resp.set_header("Cache-Control", "no-store")
        resp.text = _template().render(
            base=req.root_path, open=self._authentication is None, identity=identity, next=next_path, wrong=wrong,
            leads=leads, provider=self.openid and self.openid.name, more=max(0, len(shown) - _MAX_SHOWN),
            sessions=[_shown(session) for session in shown[:_MAX_SHOWN]],
        )  # fmt: skip


class SignOut:
    """Ends a session."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def on_post(self, req: Request, resp: Response) -> None:
        """303 to the page where one signs in; `session` ends another session of the same token instead."""
        form = await _form(req)
        identity = identity_of(req)
        ended = form.get("session") or identity.session
        await _end(self._sessions, ended, identity, req)
        if ended == identity.session:
            clear_cookie(req, resp)
        resp.set_header("Cache-Control", "no-store")
        resp.status = falcon.HTTP_303
        resp.location = f"{req.root_path}/sign-in"


class SessionList:
    """The sessions of browsers, in pages."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page of them by id: all for who has the role admin, those of the same token for others."""
        limit, after = await asked_page(req)
        identity = identity_of(req)
        found = self._sessions.of(whose(identity))
        page, behind = page_of(found, lambda session: session.id, after, limit)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = msgspec.json.encode({"sessions": [session.document() for session in page], "next": behind})


class OneSession:
    """A session by its id."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def on_delete(self, req: Request, resp: Response, session_id: str) -> None:
        """Ends it; answers 204."""
        if not await _end(self._sessions, session_id, identity_of(req), req):
            raise HTTPProblem(falcon.HTTP_404, "No such session; GET /api/v1/sessions lists them.")
        resp.status = falcon.HTTP_204


def whose(identity: Identity) -> str | None:
    """Whose sessions somebody sees and may end: those of the same token or person; of all, None, for an admin."""
    return None if identity.role == "admin" else identity.token


async def _end(sessions: Sessions, session_id: str, identity: Identity, req: Request) -> bool:
    """End a session that is somebody's to end."""
    return await asyncio.to_thread(
        lambda: sessions.end(
            session_id, actor=actor_of(req), allowed=lambda one: whose(identity) in (None, one.identity.token)
        )
    )


async def _form(req: Request) -> dict[str, str]:
    """The last value of each field of a form. Raises ProblemError 413 and 415."""
    if (req.content_type or "").partition(";")[0].strip().lower() != _FORM:
        raise HTTPProblem(falcon.HTTP_415, f"Expected a form, {_FORM}.")
    body = await read_body(req)
    if len(body) > _MAX_FORM:
        raise HTTPProblem(falcon.HTTP_413, f"A form has at most {_MAX_FORM} bytes.")
    fields = parse_qs(body.decode("latin-1"), max_num_fields=16)
    return {name: values[-1] for name, values in fields.items()}


def own_path(text: str, base: str) -> str:
    """Where to go on: a path of this service, which is under `base`; the first page for anything else."""
    first = f"{base}/"
    if not text.startswith(first) or text.startswith("//") or not text.isprintable() or "\\" in text:
        return first
    try:
        parts = urlsplit(text)
    except ValueError:  # what stands in place of a host is none
        return first
    if parts.scheme or parts.netloc:
        return first
    # A browser takes steps out of `base` before it asks.
    return first if ".." in unquote(parts.path).split("/") else text


def _shown(session: Session) -> dict[str, object]:
    minutes = max(0, session.expires_ms - times.now_ms()) // 60_000
    return {
        "id": session.id,
        "who": display(session.identity.token),
        "address": session.address,
        "browser": display(session.browser),
        "left": f"{minutes // 60} h {minutes % 60} min",
    }


@functools.cache
def _template() -> "jinja2.Template":
    import analytics.reports.html

    page = environment()
    page.globals["style"] = analytics.reports.html.style()
    return page.get_template("sign_in.html.j2")
