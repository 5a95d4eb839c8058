"""/sign-in/openid: a person goes to the OpenID Connect provider, and comes back with a session."""

import math
import time
from datetime import UTC, datetime

import falcon
from falcon.asgi import Request, Response

from service.credentials.openid import LIFETIME_S, NotLetIn, OpenId
from service.credentials.openid_provider import OpenIdError, ProviderUnavailable
from service.credentials.rates import FailedAttempts
from service.http.access import address_of
from service.http.problems import HTTPProblem
from service.http.resources.sign_in import SignIn, own_path
from service.http.token_limits import rate_headers

_COOKIE = "loadlens-sign-in"
_PATH = "/sign-in"
_ANSWER = ("state", "code", "error", "iss")


class OpenIdBegin:
    """Where a sign-in at the provider begins."""

    def __init__(self, sign_in: SignIn, begun: FailedAttempts) -> None:
        """`begun` counts sign-ins: who begins very many would have those of others forgotten."""
        self._sign_in = sign_in
        self._begun = begun

    async def on_get(self, req: Request, resp: Response) -> None:
        """303 to the provider; 429 for an address that begins too many, 503 with the page where it does not answer."""
        openid = _needed(self._sign_in.openid)
        self._count(address_of(req))
        try:
            started = await openid.begin(own_path(req.get_param("next") or "", req.root_path))
        except ProviderUnavailable as error:
            self._sign_in.refuse(req, resp, falcon.HTTP_503, error)
            return
        _set(req, resp, started.browser, LIFETIME_S)
        resp.set_header("Cache-Control", "no-store")
        resp.status = falcon.HTTP_303
        resp.location = started.url

    def _count(self, address: str) -> None:
        now_s = time.monotonic()
        wait_s = math.ceil(self._begun.wait_s(address, now_s))
        if wait_s:
            raise HTTPProblem(
                falcon.HTTP_429, "Too many sign-ins have been begun from this address.",
                headers=rate_headers("sign-ins", self._begun.rate, wait_s),
            )  # fmt: skip
        self._begun.note(address, now_s)


class OpenIdEnd:
    """Where the provider sends people back to."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 with a page that leads on, and the cookie; 401, 403 or 503 with the page where one signs in."""
        openid = _needed(self._sign_in.openid)
        answer = {name: value for name in _ANSWER if (value := req.get_param(name)) is not None}
        _set(req, resp, "", 0)
        try:
            identity, next_path = await openid.finish(answer, req.cookies.get(_cookie_name(req), ""))
        except NotLetIn as error:
            self._sign_in.refuse(req, resp, falcon.HTTP_403, error)
        except ProviderUnavailable as error:
            self._sign_in.refuse(req, resp, falcon.HTTP_503, error)
        except OpenIdError as error:
            self._sign_in.refuse(req, resp, falcon.HTTP_401, error)
        else:
            await self._sign_in.begin_session(req, resp, identity)
            # A redirect would still be the provider's doing, to which the browser shows no SameSite=Strict cookie.
            self._sign_in.lead_on(req, resp, next_path)


def _needed(openid: OpenId | None) -> OpenId:
    if openid is None:
        raise HTTPProblem(falcon.HTTP_404, "No OpenID Connect provider is set (--openid-issuer).")
    return openid


def _cookie_name(req: Request) -> str:
    return f"__Secure-{_COOKIE}" if req.scheme == "https" else _COOKIE


def _set(req: Request, resp: Response, value: str, for_s: int) -> None:
    """SameSite=Lax: the browser is to show it when the provider's page leads back here."""
    expires = datetime.fromtimestamp(time.time() + for_s if for_s else 0, UTC)
    resp.set_cookie(
        _cookie_name(req), value, expires=expires, path=f"{req.root_path}{_PATH}", secure=req.scheme == "https",
        http_only=True, same_site="Lax",
    )  # fmt: skip
