"""An OpenID Connect provider as its client sees it: where it answers, its keys, and the id token for a code.

Signatures and claims are checked by joserfc. OpenID Connect Core 1.0, Discovery 1.0; RFC 6749, 7636, 9207.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

import msgspec
from msgspec import Struct

from contract.problems import display, shortened
from contract.service_address import is_loopback, proxy_for, tls_context
from service.openid_settings import OpenIdSettings

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Of signatures of id tokens. None of them is by a shared secret, and `none` is not among them."""
_TIMEOUT_S = 10.0
_FRESH_S = 3600.0
"""So long the provider's description and keys are taken as they were."""
_KEYS_AGAIN_S = 60.0
"""A key that is not known is looked for so often at most."""
_LEEWAY_S = 60
"""Clocks may differ by so much."""
_MAX_WORDS = 200


class OpenIdError(Exception):
    """A person cannot sign in; the message says why, and has nothing that is secret."""


class ProviderUnavailable(OpenIdError):
    """The provider does not answer, or not as one."""


class Metadata(Struct):
    """What a provider says of itself (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[str] = msgspec.field(default_factory=lambda: ["client_secret_basic"])
    authorization_response_iss_parameter_supported: bool = False


class _Tokens(Struct):
    id_token: str


class Provider:
    """Asks the provider; what it answers is kept for a while. For one event loop."""

    def __init__(self, settings: OpenIdSettings, redirect_uri: str) -> None:
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._metadata: Metadata | None = None
        self._keys: KeySet | None = None
        self._metadata_s = self._keys_s = 0.0
        self._turn = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """Where it answers. Raises ProviderUnavailable."""
        async with self._turn:
            if self._metadata is None or time.monotonic() - self._metadata_s > _FRESH_S:
                issuer = self._settings.openid_issuer
                text = await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
                self._metadata = _metadata(text, issuer)
                self._metadata_s = time.monotonic()
            return self._metadata

    async def claims(self, code: str, verifier: str, nonce: str) -> Mapping[str, Any]:
        """The claims of the id token that a code is exchanged for. Raises OpenIdError."""
        id_token = await self._exchange(code, verifier)
        return await self._checked(id_token, nonce)

    async def _exchange(self, code: str, verifier: str) -> str:
        settings, metadata = self._settings, await self.metadata()
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }  # fmt: skip
        auth = None
        if not settings.openid_client_secret:
            form["client_id"] = settings.openid_client_id
        elif "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            # Both are encoded as in a form first (RFC 6749, section 2.3.1).
            auth = (quote_plus(settings.openid_client_id), quote_plus(settings.openid_client_secret))
        else:
            form |= {"client_id": settings.openid_client_id, "client_secret": settings.openid_client_secret}
        status, body = await self._ask("POST", metadata.token_endpoint, data=form, auth=auth)
        if status != 200:
            raise OpenIdError(f"the provider does not take the code: {_error_of(body)} (status {status})")
        try:
            return msgspec.json.decode(body, type=_Tokens).id_token
        except msgspec.DecodeError:
            raise OpenIdError("the provider gave no id token for the code") from None

    async def _checked(self, id_token: str, nonce: str) -> Mapping[str, Any]:
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError

        try:
            try:
                token = jwt.decode(id_token, await self._key_set(), algorithms=ALGORITHMS)
            except InvalidKeyIdError:
                # Keys are changed now and then.
                token = jwt.decode(id_token, await self._key_set(again=True), algorithms=ALGORITHMS)
            self._registry(nonce).validate(token.claims)
        except (JoseError, ValueError) as error:
            raise OpenIdError(f"the id token is not right: {_words(str(error))}") from None
        _check_audience(token.claims, self._settings.openid_client_id)
        if token.claims["nonce"] != nonce:
            raise OpenIdError("the id token is not right: it is for another sign-in")
        claims: Mapping[str, Any] = token.claims
        return claims

    def _registry(self, nonce: str) -> Any:
        from joserfc.jwt import JWTClaimsRegistry

        return JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._settings.openid_issuer},
            aud={"essential": True, "value": self._settings.openid_client_id},
            nonce={"essential": True, "value": nonce},
            sub={"essential": True}, exp={"essential": True}, iat={"essential": True},
        )  # fmt: skip

    async def _key_set(self, *, again: bool = False) -> "KeySet":
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        metadata = await self.metadata()
        async with self._turn:
            if self._keys is None or time.monotonic() - self._keys_s > (_KEYS_AGAIN_S if again else _FRESH_S):
                try:
                    self._keys = KeySet.import_key_set(msgspec.json.decode(await self._get(metadata.jwks_uri)))
                except (msgspec.DecodeError, JoseError, KeyError, TypeError, ValueError):
                    raise ProviderUnavailable(f"the provider has no keys at {metadata.jwks_uri}") from None
                self._keys_s = time.monotonic()
            return self._keys

    async def _get(self, url: str) -> bytes:
        status, body = await self._ask("GET", url)
        if status != 200:
            raise ProviderUnavailable(f"the provider answers with status {status} at {url}")
        return body

    async def _ask(
        self, method: str, url: str, data: Mapping[str, str] | None = None, auth: tuple[str, str] | None = None
    ) -> tuple[int, bytes]:
        import httpx

        try:
            async with httpx.AsyncClient(
                verify=tls_context(), timeout=_TIMEOUT_S, proxy=proxy_for(url), trust_env=False
            ) as client:
                answer: httpx.Response = await client.request(
                    method,
                    url,
                    data=data,
                    auth=auth or httpx.USE_CLIENT_DEFAULT,
                    headers={"Accept": "application/json"},
                )
        except (httpx.HTTPError, OSError) as error:
            raise ProviderUnavailable(
                f"the provider does not answer at {url}: {_words(str(error) or type(error).__name__)}"
            ) from None
        return answer.status_code, answer.content


def _metadata(text: bytes, issuer: str) -> Metadata:
    try:
        metadata = msgspec.json.decode(text, type=Metadata)
    except msgspec.DecodeError as error:
        raise ProviderUnavailable(f"the provider does not say what it is: {error}") from None
    if metadata.issuer != issuer:
        raise ProviderUnavailable(f"the provider calls itself {_words(metadata.issuer)}; --openid-issuer differs")
    for url in (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri):
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise ProviderUnavailable(f"the provider names an address that is not https: {_words(url)}")
    return metadata


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    """Raise OpenIdError for a token that was made for another client (OpenID Connect Core 1.0, section 3.1.3.7)."""
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise OpenIdError("the id token is not right: it was made for another client")


def _error_of(body: bytes) -> str:
    try:
        return _words(str(msgspec.json.decode(body, type=dict[str, Any]).get("error", "no reason")))
    except msgspec.DecodeError:
        return "no reason"


def _words(text: str) -> str:
    return display(shortened(text, _MAX_WORDS))
