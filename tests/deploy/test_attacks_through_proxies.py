"""What somebody may try who reaches a service through a proxy: its headers, other paths, two requests in one."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.access import bearer, make_tokens
from tests.support.proxies import CLIENT, NAMES, PREFIX, Proxy, proxied
from tests.support.running import RunningService

pytestmark = pytest.mark.server

FORGED = "203.0.113.9"
ADDRESSES = [
    ("X-Forwarded-For", FORGED),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Forwarded-For", f"{FORGED}, 127.0.0.1"),
    ("X-Forwarded-For", f"127.0.0.1, {FORGED}"),
    ("X-Forwarded-For", "127.0.0.1, 127.0.0.1"),
    ("X-Forwarded-For", ""),
    ("X-Forwarded-For", f"{FORGED}:80"),
    ("X-Forwarded-For", "[::1]"),
    ("X-Forwarded-For", "a" * 4000),
    ("x-forwarded-for", FORGED),
    ("X_Forwarded_For", FORGED),
    ("X-Real-IP", FORGED),
    ("X-Client-IP", FORGED),
    ("True-Client-IP", FORGED),
    ("CF-Connecting-IP", FORGED),
    ("X-Cluster-Client-IP", FORGED),
    ("X-Originating-IP", FORGED),
    ("Forwarded", f"for={FORGED}"),
    ("Forwarded", 'for="[::1]";proto=http;host=evil.example'),
    ("Via", f"1.1 {FORGED}"),
]
"""Headers that say where a request comes from."""
OTHER_WORDS = [
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Proto", "http, http"),
    ("X-Forwarded-Proto", "javascript"),
    ("X-Forwarded-Protocol", "http"),
    ("X-Forwarded-Scheme", "http"),
    ("X-Url-Scheme", "http"),
    ("X-Scheme", "http"),
    ("X-Forwarded-Ssl", "off"),
    ("Front-End-Https", "off"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Host", "evil.example"),
    ("X-Forwarded-Server", "evil.example"),
    ("X-Forwarded-Port", "80"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-Path", "/evil"),
    ("X-Script-Name", "/evil"),
    ("X-Original-URL", f"{PREFIX}/healthz"),
    ("X-Rewrite-URL", f"{PREFIX}/healthz"),
    ("X-Original-Host", "evil.example"),
]
"""Headers that say which host, scheme and path are meant."""
NAMES_OF_PEOPLE = [
    ("X-Forwarded-User", "admin"),
    ("X-Remote-User", "admin"),
    ("Remote-User", "admin"),
    ("X-Auth-Request-User", "admin"),
    ("X-Auth-Request-Groups", "admin"),
    ("X-Forwarded-Client-Cert", 'Subject="CN=web-1"'),
    ("X-Client-Cert", "CN=web-1"),
    ("X-SSL-Client-S-DN", "CN=web-1"),
    ("Ssl-Client-Verify", "SUCCESS"),
    ("X-Forwarded-Access-Token", "admin"),
]
"""Headers by which some proxies say who somebody is."""
PATHS = [
    "/api/v1/users", "/sign-in", "/LOADLENS/api/v1/users", "/loadlensx/api/v1/users", "/loadlens%2Fapi/v1/users",
    "/%6coadlens/api/v1/users", "/x/../loadlensx/api/v1/users", "/loadlens/../api/v1/users",
    "/loadlens/%2e%2e/api/v1/users", "/loadlens;x/api/v1/users", "//loadlens//api/v1/users",
    "/loadlens/..%2Fapi/v1/users", "/loadlens/../../etc/passwd", "/loadlens/static/..%2f..%2f..%2fetc/passwd",
]  # fmt: skip
"""Paths that are none of the service's, or try to be another one."""
SMUGGLED = [
    "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 6\r\nTransfer-Encoding:\tchunked\r\n",
    "Content-Length: 6\r\nTransfer-Encoding : chunked\r\n",
    "Content-Length: 6\r\nTransfer-Encoding: xchunked\r\n",
    "Content-Length: 6\r\nTransfer-Encoding: chunked, identity\r\n",
    "Content-Length: 0\r\nContent-Length: 6\r\n",
    "Content-Length: +6\r\n",
    "Content-Length: 6, 6\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
]
"""Headers by which a proxy and a service may come to think differently of where a request ends."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, str]:
    return make_tokens(folder / "data", ("admin", "admin", "*"), ("people", "reader", "*"))


@pytest.fixture(scope="module")
def service(folder: Path, tokens: dict[str, str]) -> Iterator[RunningService]:
    arguments = ("--path-prefix", PREFIX, "--trusted-proxies", "127.0.0.1", "--failed-sign-ins", "1000")
    with RunningService(folder / "data", *arguments) as service:
        yield service
        assert "Traceback" not in service.log


@pytest.fixture(scope="module", params=NAMES)
def proxy(request: pytest.FixtureRequest, folder: Path, service: RunningService) -> Iterator[Proxy]:
    with proxied(request.param, folder / request.param, service.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with proxy.client() as client:
        yield client


@pytest.mark.parametrize(("name", "value"), ADDRESSES)
def test_nobody_says_that_they_come_from_elsewhere(
    client: httpx.Client, tokens: dict[str, str], name: str, value: str
) -> None:
    answer = client.get("/api/v1/tokens", headers=bearer(tokens["admin"]) | {name: value})
    if answer.status_code != 400:  # a proxy may refuse it altogether
        assert {token["last_address"] for token in answer.json()["tokens"] if token["name"] == "admin"} == {CLIENT}


@pytest.mark.parametrize(("name", "value"), OTHER_WORDS)
def test_nobody_says_for_which_host_scheme_or_path_they_ask(
    client: httpx.Client, tokens: dict[str, str], name: str, value: str
) -> None:
    forged = {name: value, "Accept": "text/html"}
    led = client.get("/host", headers=forged)
    assert (led.status_code, led.headers["Location"].partition("?")[0]) == (303, f"{PREFIX}/sign-in")
    assert led.headers["Strict-Transport-Security"]
    ours = {"Sec-Fetch-Site": "same-origin"}
    signed = client.post("/sign-in", data={"token": tokens["people"]}, headers=forged | ours)
    client.cookies.clear()
    assert (signed.status_code, signed.headers["Location"]) == (303, f"{PREFIX}/")
    for part in ("__Secure-loadlens=", "Secure", f"Path={PREFIX}"):
        assert part in signed.headers["Set-Cookie"]
    assert client.get("/api/v1/users", headers={name: value}).status_code == 401


@pytest.mark.parametrize(("name", "value"), NAMES_OF_PEOPLE)
def test_nobody_is_who_a_header_says(client: httpx.Client, tokens: dict[str, str], name: str, value: str) -> None:
    assert client.get("/api/v1/users", headers={name: value}).status_code == 401
    assert client.get("/api/v1/tokens", headers=bearer(tokens["people"]) | {name: value}).status_code == 403


@pytest.mark.parametrize("dropped", ["X-Forwarded-For", "X-Forwarded-Proto", "Host", "Authorization", "Cookie"])
def test_headers_that_are_called_those_of_a_connection_open_nothing(
    client: httpx.Client, tokens: dict[str, str], dropped: str
) -> None:
    headers = bearer(tokens["admin"]) | {"Connection": f"close, {dropped}", "X-Forwarded-For": FORGED}
    answer = client.get("/api/v1/tokens", headers=headers)
    assert answer.status_code in (200, 400, 401)
    if answer.status_code == 200:
        assert FORGED not in answer.text
    assert client.get("/api/v1/tokens", headers={"Connection": f"close, {dropped}"}).status_code in (400, 401)


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_are_none_of_the_services_lead_nowhere(
    proxy: Proxy, tokens: dict[str, str], path: str, client: httpx.Client
) -> None:
    good = f"Authorization: Bearer {tokens['admin']}\r\n"
    for headers in ("", good):
        answer = asked(
            proxy, f"GET {path} HTTP/1.1\r\nHost: localhost:{proxy.port}\r\n{headers}Connection: close\r\n\r\n"
        )
        assert b"user_id" not in answer
        assert b'"users"' not in answer
        assert b"root:" not in answer


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1@evil.example", ""])
def test_pages_under_another_name_change_nothing(proxy: Proxy, tokens: dict[str, str], host: str) -> None:
    body = '{"name": "x", "role": "admin"}'
    request = (
        f"POST {PREFIX}/api/v1/tokens HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\n"
        f"Content-Length: {len(body)}\r\nContent-Type: application/json\r\n"
        f"X-Forwarded-Host: localhost\r\nConnection: close\r\n\r\n{body}"
    )
    assert b"loadlens_" not in asked(proxy, request)


@pytest.mark.parametrize("lengths", SMUGGLED)
def test_no_second_request_hides_in_a_first(proxy: Proxy, service: RunningService, lengths: str) -> None:
    hidden = f"GET {PREFIX}/api/v1/hidden HTTP/1.1\r\nHost: localhost\r\nX: "
    request = (
        f"POST {PREFIX}/api/v1/metrics HTTP/1.1\r\nHost: localhost:{proxy.port}\r\nContent-Type: application/json\r\n"
        f"{lengths}Connection: close\r\n\r\n0\r\n\r\n{hidden}"
    )
    answer = asked(proxy, request)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"HTTP/1.1 2" not in answer


def test_who_guesses_is_slowed_whatever_they_say_of_themselves(folder: Path) -> None:
    make_tokens(folder / "guessed", ("admin", "admin", "*"))
    arguments = ("--path-prefix", PREFIX, "--trusted-proxies", "127.0.0.1", "--failed-sign-ins", "1")
    with RunningService(folder / "guessed", *arguments) as service:
        for name in NAMES:
            with proxied(name, folder / f"guessed-{name}", service.port) as proxy, proxy.client() as client:
                answers = [
                    client.get("/api/v1/users", headers=bearer("x") | {"X-Forwarded-For": f"203.0.113.{number}"})
                    for number in range(60)
                ]
                slowed = [answer for answer in answers if answer.status_code == 429]
                assert slowed
                assert all(int(answer.headers["Retry-After"]) > 0 for answer in slowed)


def asked(proxy: Proxy, request: str) -> bytes:
    """What a proxy answers to a text, whatever it is."""
    url = urlsplit(proxy.url)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60, source_address=(CLIENT, 0)) as plain:
        with proxy.context.wrap_socket(plain, server_hostname=url.hostname) as encrypted:
            encrypted.sendall(request.encode("latin-1"))
            answer = b""
            try:
                while part := encrypted.recv(1 << 16):
                    answer += part
            except OSError:
                pass  # it hung up
            return answer
