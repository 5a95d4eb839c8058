"""Pages of other sites in a browser change nothing here; programs, and who has the token, are not concerned."""

import json
import socket
from collections.abc import Mapping

import httpx
import pytest
import websockets
from websockets.sync.client import connect

from tests.service.conftest import StartService
from tests.support.reports import METRICS, original
from tests.support.running import RunningService

pytestmark = pytest.mark.server

SETTINGS = "/api/v1/settings"
STREAM = "/api/v1/stream"
TOKEN = "not-to-be-guessed"


def status_of_upgrade(service: RunningService, **headers: str) -> int:
    """The status that a WebSocket is answered with."""
    try:
        with connect(f"ws://127.0.0.1:{service.port}{STREAM}", additional_headers=headers, proxy=None, open_timeout=60):
            return 101
    except websockets.InvalidStatus as error:
        return error.response.status_code


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8888", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_without_a_token_a_name_that_leads_here_opens_nothing(
    service: RunningService, client: httpx.Client, host: str
) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    for answer in (
        client.get("/", headers=headers),
        client.put(SETTINGS, json={"interval": 1}, headers=headers | {"If-None-Match": "*"}),
        client.post(METRICS, json=original("pages"), headers=headers),
    ):
        assert answer.status_code == 421
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "localhost" in answer.json()["detail"]
    assert client.get(SETTINGS).json()["layers"] == []
    assert status_of_upgrade(service, **headers) == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8888", "app.localhost", "127.0.0.1:1", "[::1]:8888", "10.1.2.3"]
)
def test_addresses_and_localhost_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_request_without_host_is_answered(service: RunningService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 " in connection.recv(4096)


def test_with_a_token_any_name_is_right(start: StartService) -> None:
    service = start("--token", TOKEN)
    headers = {"Host": "service:8888", "Authorization": f"Bearer {TOKEN}"}
    with service.client() as client:
        assert client.get("/readyz", headers={"Host": "service:8888"}).status_code == 200
        assert client.post(METRICS, json=original("pages"), headers=headers).status_code == 202
        foreign = headers | {"Origin": "https://evil.example"}
        assert client.post(METRICS, json=original("pages"), headers=foreign).status_code == 403
    assert status_of_upgrade(service, **headers) == 101


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_a_page_of_another_site_sends_no_report(client: httpx.Client, headers: Mapping[str, str]) -> None:
    body = json.dumps(original(user_id="foreign page"))
    for path in (METRICS, "/api/v1/agents/x/state", "/api/v1/notifications/x/redeliver"):
        answer = client.post(path, content=body, headers={"Content-Type": "text/plain", **headers})
        assert answer.status_code == 403, path
        assert "another site" in answer.json()["detail"]
    assert client.get("/healthz", headers=headers).status_code == 200


def test_a_page_of_the_same_origin_may(service: RunningService, client: httpx.Client) -> None:
    for headers in ({"Origin": service.url}, {"Origin": service.url, "Sec-Fetch-Site": "same-origin"}):
        assert client.post(METRICS, json=original("pages"), headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("shown", "origin", "status"),
    [("https", "http", 403), ("https", "https", 202), ("http", "http", 202), ("http", "https", 202)],
)
def test_a_page_that_came_without_tls_is_another_site_to_who_asks_over_tls(
    start: StartService, shown: str, origin: str, status: int
) -> None:
    with start("--trusted-proxies", "127.0.0.1").client() as client:
        headers = {"Host": "localhost", "X-Forwarded-Proto": shown, "Origin": f"{origin}://localhost"}
        assert client.post(METRICS, json=original("pages"), headers=headers).status_code == status
