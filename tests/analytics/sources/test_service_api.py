"""Calls of the service's API: JSON in and out, typed refusals, and patience with a service that is busy."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from analytics.sources.service import Client
from analytics.sources.service_api import (
    ApiResponse,
    Patience,
    ProblemError,
    ServiceApi,
    ServiceError,
    UnreachableError,
    path_segment,
)
from tests.support.small_fleet import USERS

pytestmark = pytest.mark.server


@pytest.fixture
def api(service_url: str) -> Iterator[ServiceApi]:
    with ServiceApi(service_url) as api:
        yield api


def test_a_document_is_answered(api: ServiceApi) -> None:
    response = api.call("GET", "users")
    assert response.status == 200
    assert response.headers["content-type"].startswith("application/json")
    assert {user["user_id"] for user in response.document()["users"]} >= set(USERS)


@pytest.mark.parametrize("user", USERS)
def test_any_user_id_fits_in_a_path(api: ServiceApi, user: str) -> None:
    answer = api.call("GET", f"agents/{path_segment(user)}/settings", expected=(200, 404))
    assert answer.status == 200 or "agent" in answer.document()["detail"].lower()


def test_the_client_of_frames_calls_too(service_url: str) -> None:
    with Client(service_url) as client:
        assert "rules" in client.call("GET", "rules").document()


def test_a_document_is_sent_and_what_is_kept_can_be_changed_by_its_tag(api: ServiceApi) -> None:
    query = {"selector": "all", "unused": None}
    created = api.call("PATCH", "settings", {"interval": 0.02}, params=query, headers={"If-None-Match": "*"})
    try:
        assert created.headers["ETag"] == api.call("GET", "settings", params=query).headers["ETag"]
        with pytest.raises(ProblemError) as refusal:
            api.call("DELETE", "settings", params=query, headers={"If-Match": '"0"'})
        assert refusal.value.status == 412
    finally:
        api.call("DELETE", "settings", params=query, headers={"If-Match": created.headers["ETag"]})


def test_a_refusal_is_typed(api: ServiceApi) -> None:
    with pytest.raises(ProblemError, match="timestamp") as refusal:
        api.call("POST", "metrics", {"user_id": "a"})
    assert refusal.value.status == 422
    assert refusal.value.title
    assert refusal.value.detail
    assert any("timestamp" in problem.detail for problem in refusal.value.problems)
    answer = api.call("POST", "metrics", {"user_id": "a"}, expected=(422,))
    assert answer.document()["detail"] == refusal.value.detail


def test_headers_go_with_each_call(guarded_url: str) -> None:
    with ServiceApi(guarded_url, headers={"Authorization": "Bearer secret"}) as api:
        assert api.call("GET", "users").document() == {"users": [], "next": None}
    with ServiceApi(guarded_url) as api, pytest.raises(ProblemError, match="token") as refusal:
        api.call("GET", "users")
    assert refusal.value.status == 401


def test_an_answer_that_is_not_json_is_an_error() -> None:
    with pytest.raises(ServiceError, match="expected JSON"):
        ApiResponse(200, {}, b"<p>").document()


class _Scripted(BaseHTTPRequestHandler):
    """Answers with the server's script, an answer each: status, headers, document; counts connections."""

    protocol_version = "HTTP/1.1"
    # Head and body in one segment: a second one would wait 40 ms for the acknowledgement of the first.
    wbufsize = -1
    server: "_Script"

    def setup(self) -> None:
        self.server.connections += 1
        super().setup()

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        status, headers, document = self.server.answers.pop(0)
        body = json.dumps(document).encode()
        self.send_response(status)
        kind = "application/json" if status == 200 else "application/problem+json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Script(ThreadingHTTPServer):
    def __init__(self, *answers: tuple[int, dict[str, str], Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Scripted)
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.connections = 0


@contextmanager
def scripted(*answers: tuple[int, dict[str, str], Any]) -> Iterator[_Script]:
    with _Script(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_a_busy_service_is_asked_again_when_it_says_on_one_connection() -> None:
    slept: list[float] = []
    busy = {"title": "Service Unavailable", "detail": "no room"}
    soon = formatdate(time.time() + 20, usegmt=True)
    with scripted(
        (503, {"Retry-After": "7"}, busy), (429, {"Retry-After": soon}, busy), (503, {}, busy), (200, {}, {"taken": 1})
    ) as server:
        with ServiceApi(f"http://127.0.0.1:{server.server_port}") as api:
            patience = Patience(60.0, first_s=1.0, cap_s=1.0, sleep=slept.append)
            answer = api.call("POST", "metrics", body=b"{}\n", patience=patience)
        assert answer.document() == {"taken": 1}
        assert server.bodies == [b"{}\n"] * 4
        assert server.connections == 1
    assert 7.5 <= slept[0] <= 8.0
    assert 18.0 <= slept[1] <= 21.0
    assert 0.5 <= slept[2] <= 1.0


def test_without_patience_a_busy_service_is_an_error() -> None:
    with scripted((503, {"Retry-After": "7"}, {"title": "Service Unavailable", "detail": "no room"})) as server:
        with (
            ServiceApi(f"http://127.0.0.1:{server.server_port}") as api,
            pytest.raises(ProblemError, match="no room") as refusal,
        ):
            api.call("POST", "metrics", [])
    assert (refusal.value.status, refusal.value.title) == (503, "Service Unavailable")


def test_patience_with_a_service_that_is_not_there_can_be_ended() -> None:
    class Enough(Exception):
        pass

    def enough(_: float) -> None:
        raise Enough

    with ServiceApi("http://127.0.0.1:9") as api:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
            api.call("GET", "users")
        with pytest.raises(Enough):
            api.call("GET", "users", patience=Patience(60.0, sleep=enough))


def test_calls_alone_load_no_frames() -> None:
    code = "import sys, analytics.sources.service_api; assert not {'numpy', 'pandas', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
