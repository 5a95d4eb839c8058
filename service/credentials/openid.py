"""Signing in by OpenID Connect: the authorization code flow with PKCE, and who a person is here by their groups."""

import base64
import hashlib
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from service.credentials.identity import Identity
from service.credentials.openid_provider import OpenIdError, Provider
from service.openid_settings import OpenIdSettings

_log = logging.getLogger("loadlens.service")
CALLBACK = "/sign-in/openid/callback"
"""Where the provider sends people back to, under the public address."""
LIFETIME_S = 600
"""So long a person may take at the provider."""
_KEPT = 10_000
"""Sign-ins that are under way; the oldest are forgotten first."""
_MAX_SUBJECT = 255


class Started(NamedTuple):
    """A sign-in under way."""

    url: str
    """Where the person goes to."""
    browser: str
    """What the browser has to show when it comes back: nobody can be made to end a sign-in that they did not begin."""


class _Attempt(NamedTuple):
    browser: bytes
    """SHA-256 of what the browser shows."""
    nonce: str
    verifier: str
    next_path: str
    end_s: float


class OpenId:
    """Begins and ends sign-ins. For one event loop."""

    def __init__(self, settings: OpenIdSettings, public_url: str) -> None:
        self._settings = settings
        self._roles = settings.group_roles()
        self._redirect_uri = public_url.rstrip("/") + CALLBACK
        self._provider = Provider(settings, self._redirect_uri)
        self._attempts: OrderedDict[str, _Attempt] = OrderedDict()

    @property
    def name(self) -> str:
        """The provider's host, to show to people."""
        return urlsplit(self._settings.openid_issuer).netloc

    async def begin(self, next_path: str) -> Started:
        """Send a person to the provider, who wants to go on at `next_path`. Raises ProviderUnavailable."""
        metadata = await self._provider.metadata()
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        end_s = time.monotonic() + LIFETIME_S
        self._attempts[state] = _Attempt(_digest(browser), nonce, verifier, next_path, end_s)
        if len(self._attempts) > _KEPT:
            self._attempts.popitem(last=False)
        challenge = base64.urlsafe_b64encode(_digest(verifier)).rstrip(b"=").decode()
        asked = {
            "response_type": "code", "client_id": self._settings.openid_client_id, "redirect_uri": self._redirect_uri,
            "scope": " ".join(("openid", *self._settings.openid_scopes)), "state": state, "nonce": nonce,
            "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        joint = "&" if urlsplit(metadata.authorization_endpoint).query else "?"
        return Started(f"{metadata.authorization_endpoint}{joint}{urlencode(asked)}", browser)

    async def finish(self, answer: Mapping[str, str], browser: str) -> tuple[Identity, str]:
        """Who comes back from the provider with an answer, and where they want to go on. Raises OpenIdError.

        `answer` are the parameters that the provider gave the browser. Whatever comes of it, the sign-in is over.
        """
        attempt = self._attempts.pop(answer.get("state", ""), None)
        if attempt is None or time.monotonic() >= attempt.end_s:
            raise OpenIdError("this sign-in is over, or was not begun here; begin again")
        if not hmac.compare_digest(_digest(browser), attempt.browser):
            raise OpenIdError("this sign-in was begun in another browser; begin again")
        await self._check_issuer(answer.get("iss"))
        if "error" in answer or not answer.get("code"):
            raise OpenIdError("the provider lets nobody in, or the sign-in was given up there")
        claims = await self._provider.claims(answer["code"], attempt.verifier, attempt.nonce)
        return self._identity(claims), attempt.next_path

    async def _check_issuer(self, issuer: str | None) -> None:
        """Raise OpenIdError where the answer is another provider's (RFC 9207)."""
        metadata = await self._provider.metadata()
        if issuer is None and not metadata.authorization_response_iss_parameter_supported:
            return
        if issuer != metadata.issuer:
            raise OpenIdError("this answer is another provider's")

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = str(claims["sub"])
        if not subject.isprintable() or len(subject) > _MAX_SUBJECT:
            raise OpenIdError("the provider names this person in a way that cannot be kept")
        given = claims.get(self._settings.openid_groups_claim)
        groups = given if isinstance(given, list) else [given]
        for known in self._roles:
            if known.group in groups:
                return Identity(known.role, known.scope, f"openid:{subject}")
        _log.warning("openid:%s has signed in at the provider, and is in no group that is let in", subject)
        raise NotLetIn("you are in no group that is let in here; an admin of this service decides which are")


class NotLetIn(OpenIdError):
    """The person is who they say, and may do nothing here."""


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
