"""An OpenID Connect provider on this machine: the code flow with PKCE, and wrong answers where a test asks for them."""

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "OpenIdProvider", "providing"]

CLIENT_ID, CLIENT_SECRET = "loadlens", "a client's secret: &%+"
Claims = dict[str, Any]


@dataclass
class OpenIdProvider:
    """Lets everybody in as `claims` say; what it answers a test may change."""

    issuer: str = ""
    claims: Claims = field(default_factory=lambda: {"sub": "alice", "groups": ["sre"]})
    change: Callable[[Claims], Claims] = lambda claims: claims
    """What becomes of the claims of an id token before it is signed."""
    sign: Callable[["OpenIdProvider", Claims], str] = lambda provider, claims: provider.signed(claims)
    answer: Callable[[dict[str, str]], dict[str, str]] = lambda answer: answer
    """What becomes of the parameters that the browser brings back."""
    described: Claims = field(default_factory=dict)
    """Members of the description in place of its own."""
    keys: KeySet = field(default_factory=lambda: KeySet([RSAKey.generate_key(2048, {"kid": "one"})]))
    down: bool = False
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    """Parameters with which browsers came."""

    def signed(self, claims: Claims, algorithm: str = "RS256") -> str:
        """An id token, by the newest key."""
        key = self.keys.keys[-1]
        return jwt.encode({"alg": algorithm, "kid": key.kid}, claims, key, algorithms=[algorithm])

    def unsigned(self, claims: Claims) -> str:
        """An id token whose algorithm is `none`."""
        parts = ({"alg": "none", "typ": "JWT"}, claims)
        return ".".join([*(_encoded(json.dumps(part).encode()) for part in parts), ""])

    def signed_by_public_key(self, claims: Claims) -> str:
        """An id token whose HMAC has the public key as its secret."""
        key = self.keys.keys[-1]
        parts = ({"alg": "HS256", "kid": key.kid, "typ": "JWT"}, claims)
        text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_encoded(hmac.digest(key.as_pem(private=False), text.encode(), 'sha256'))}"

    def signed_by_another(self, claims: Claims) -> str:
        """An id token by a key that is none of the provider's, under a name of one that is."""
        key = RSAKey.generate_key(2048)
        return jwt.encode({"alg": "RS256", "kid": self.keys.keys[-1].kid}, claims, key, algorithms=["RS256"])

    def renew_key(self) -> None:
        """Sign with a new key from now on, and no more name the one before."""
        self.keys = KeySet([ECKey.generate_key("P-256", {"kid": secrets.token_hex(4)})])

    def description(self) -> Claims:
        """/.well-known/openid-configuration."""
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        } | self.described

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent on to."""
        self.asked.append(asked)
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = self.answer({"code": code, "state": asked["state"]})
        return f"{asked['redirect_uri']}?{urlencode(answer)}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, Claims]:
        """An id token for a code that is used for the first time, by who began."""
        expected = f"{quote_plus(CLIENT_ID)}:{quote_plus(CLIENT_SECRET)}"
        if authorization != f"Basic {base64.b64encode(expected.encode()).decode()}":
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = _encoded(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now_s = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now_s, "exp": now_s + 300, "nonce": asked["nonce"]}
        id_token = self.sign(self, self.change(claims | self.claims))
        return 200, {"access_token": "x", "token_type": "Bearer", "expires_in": 300, "id_token": id_token}


@contextlib.contextmanager
def providing() -> Iterator[OpenIdProvider]:
    """A provider on a free port of this machine."""
    provider = OpenIdProvider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one segment: a second one would wait 40 ms for the acknowledgement of the first.
        wbufsize = -1

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if provider.down:
                self._answer(503, {})
            elif parts.path == "/.well-known/openid-configuration":
                self._answer(200, provider.description())
            elif parts.path == "/jwks":
                self._answer(200, dict(provider.keys.as_dict(private=False)))
            elif parts.path == "/authorize":
                self._answer(303, {}, provider.authorize(_fields(parts.query)))
            else:
                self._answer(404, {})

        def do_POST(self) -> None:
            form = _fields(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self._answer(*provider.token(form, self.headers.get("Authorization", "")))

        def _answer(self, status: int, document: Claims, location: str = "") -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _fields(text: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(text).items()}


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
