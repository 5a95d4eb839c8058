"""The client has a method for every endpoint; lists are read to their end; what only asks is patient."""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

import analytics
from analytics.sources.service import Client
from service.http.openapi.operations import OPERATIONS
from tests.support.access import make_tokens
from tests.support.reports import original
from tests.support.running import RunningService

pytestmark = pytest.mark.server
USER = "6a:d6:96:d3:45:35"
RULE = {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9}
NOT_CALLED = {
    ("POST", "/api/v1/agents/{user_id}/state"),  # agents themselves send it
    ("POST", "/api/v1/enrolments"),  # agents themselves ask
    ("POST", "/api/v1/otlp/v1/metrics"),  # exporters of OpenTelemetry send it
    ("POST", "/api/v1/prometheus/write"),  # Prometheus sends it
    ("GET", "/api/v1/stream"),  # analytics.stream follows it
    ("POST", "/api/v1/notifications/{message_id}/redeliver"),  # nothing was told to anybody here
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("operations") / "data") as service:
        yield service


def report_of(user: str) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    status = {"version": "1", "cpu_seconds": 1.0, "resident_bytes": 1}
    return original(user, start_timestamp=now_ms - 6000, end_timestamp=now_ms - 1000, agent=status)


def test_every_endpoint_has_a_method(service: RunningService, tmp_path: Path) -> None:
    with Client(service.url) as client:
        asked: set[tuple[str, str]] = set()
        client._http.event_hooks["request"] = [lambda request: asked.add((request.method, _template(request.url)))]
        assert client.send(report_of(USER))["accepted"] == 1
        assert client.users()["user"].tolist() == [USER]
        assert len(client.metrics()) > 10
        for stat in (None, "p95"):
            assert len(client.history(USER, stat=stat)) == len(client.fleet(stat=stat)) == 1
        table = client.query(["cpuLoadAvg.p95", "cpuLoadVar"], by=["all", "user"], users=["6a:*"], rate="all")
        assert list(table.columns) == ["by", "group", "cpuLoadAvg.p95", "cpuLoadVar.var"]
        assert list(table["by"]) == ["all", "user"]

        [agent] = client.agents(connected=False)
        assert agent["user_id"] == client.agent(USER)["user_id"] == USER
        assert client.put_settings({"interval": 0.1}) == {"interval": 0.1}
        assert client.change_settings({"samples": 50}) == {"interval": 0.1, "samples": 50}
        settings, etag = client.settings()
        assert settings == {"interval": 0.1, "samples": 50}
        with pytest.raises(analytics.ProblemError) as changed:
            client.put_settings({}, if_match='"0"')
        assert changed.value.status == 412
        assert [layer["selector"] for layer in client.layers()] == ["all"]
        client.delete_settings(if_match=etag)
        assert client.put_settings({"paused": True}, user=USER) == {"paused": True}
        assert client.change_settings({"paused": None}, user=USER) == {}
        assert client.settings(user=USER)[0] == {}
        client.delete_settings(user=USER)
        with pytest.raises(analytics.ProblemError, match="takes no commands"):
            client.command(USER, "report_now")
        assert client.commands(USER) == []
        client.forget_agent(USER)
        assert client.agents() == []
        assert client.send(report_of("gone"))["accepted"] == 1
        client.forget_user("gone")
        assert client.users()["user"].tolist() == [USER]
        with pytest.raises(analytics.ProblemError, match="No such command"):
            client.command_result("none")

        assert client.put_rule("hot", RULE)["source"] == "api"
        assert [rule["rule"]["name"] for rule in client.rules()] == [client.rule("hot")["rule"]["name"]] == ["hot"]
        client.delete_rule("hot")
        assert client.alerts() == client.notifications("dead") == []
        with pytest.raises(analytics.ProblemError, match="No such target"):
            client.test_target("ops")
        with pytest.raises(analytics.ProblemError, match="No such notification"):
            client.notification("none")
        silence = client.silence(user="web-*", duration="2h", comment="moving")
        assert client.silences() == [silence]
        client.end_silence(silence["id"])

        said = client.annotate("deploy 1.4", tags=["deploy"], user="6a:*")
        assert client.annotations(tags=["deploy"], user=USER) == [said] == [client.annotation(said["id"])]
        client.delete_annotation(said["id"])
        planned = client.schedule_report(USER, days=["mon"], at="07:30", tz="Europe/Berlin", last="1d")
        assert client.schedules() == [planned] == [client.schedule(planned["id"])]
        with pytest.raises(analytics.ProblemError, match="no report yet"):
            client.scheduled_report(planned["id"])
        client.delete_schedule(planned["id"])
        assert {entry["action"] for entry in client.audit()} >= {"annotation", "silence", "rule"}
        assert b"Loadlens" in client.report(form="html") or client.report(USER, form="md")
        client.report(USER, form="json")
        assert client.analysis(USER, "week")
        assert client.fleet_picture(columns=10)
        assert USER in set(client.hosts(start=0)["user"])
        assert client.backtest(RULE, "2018-07-12T12:00:00Z", "2018-07-12T13:00:00Z")
        assert client.who_document(USER)["machines"] == 0
        assert client.health() == {"status": "ok"}
        assert client.ready()["status"] == "ready"
        assert "loadlens_reports_accepted" in client.own_metrics()
        assert client.openapi()["openapi"].startswith("3.1")
        asked |= _of_tokens(tmp_path)
    described = {(method, path) for path, methods in OPERATIONS.items() for method in methods}
    assert described - asked == NOT_CALLED


def _of_tokens(folder: Path) -> set[tuple[str, str]]:
    """What a client asks of a service that has tokens, about them."""
    admin = make_tokens(folder / "data", ("me", "admin", "*"))["me"]
    asked: set[tuple[str, str]] = set()
    with RunningService(folder / "data") as service, Client(service.url, admin) as client:
        client._http.event_hooks["request"] = [lambda request: asked.add((request.method, _template(request.url)))]
        mine = client.identity()
        assert (mine["role"], mine["scope"]) == ("admin", "*")
        made = client.create_token("web", "agent", scope="web-1", lifetime="90d")
        assert [token["id"] for token in client.tokens()] == sorted([made["id"], mine["token"]])
        assert client.change_token(made["id"], name="web-1", lifetime=None)["expires"] is None
        assert client.rotate_token(made["id"], overlap="0s")["token"] != made["token"]
        client.revoke_token(made["id"])
        assert client.sessions() == []
        with pytest.raises(analytics.ProblemError, match="No such session"):
            client.end_session("none")
        assert client.token(made["id"])["revoked"] is not None
    return asked


def _template(url: httpx.URL) -> str:
    path = url.raw_path.decode().partition("?")[0]
    templates = sorted(OPERATIONS, key=lambda template: template.count("{"))
    return next(template for template in templates if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path))


def test_lists_are_read_to_their_end(service: RunningService) -> None:
    with Client(service.url) as client:
        for number in range(5):
            client.annotate(f"number {number}", time=1_600_000_000_000 + number, tags=["pages"])
        pages = client._pages("annotations", "annotations", {"tag": "pages", "limit": 2})
        assert [one["text"] for one in pages] == [f"number {number}" for number in range(5)]


def test_every_method_can_be_awaited(service: RunningService) -> None:
    async def ask() -> tuple[Any, ...]:
        async with analytics.connect_async(service.url) as client:
            return await asyncio.gather(client.ready(), client.fleet(rate="1h"), client.audit())

    ready, fleet, audit = asyncio.run(ask())
    assert ready["status"] == "ready"
    assert fleet.attrs["metric"] == "cpuUtilization" or "mean" in fleet
    assert isinstance(audit, list)


def test_what_is_no_method_cannot_be_awaited(service: RunningService) -> None:
    client = analytics.connect_async(service.url)
    with pytest.raises(AttributeError):
        client.nothing  # noqa: B018
    with pytest.raises(AttributeError):
        client.url  # noqa: B018


@pytest.fixture
def busy() -> Iterator[tuple[str, list[str]]]:
    """A host that is busy twice and then answers, and what it was asked."""
    asked: list[str] = []

    class Host(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = b'{"status": "ok"}' if len(asked) > 2 else b""
            self.send_response(200 if body else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_a_patient_client_asks_again_until_the_service_is_there(busy: tuple[str, list[str]]) -> None:
    url, asked = busy
    with Client(url, patience=analytics.Patience(30.0, first_s=0.5, sleep=lambda _: None)) as client:
        assert client.health() == {"status": "ok"}
    assert asked == ["/healthz"] * 3


def test_a_client_asks_once_unless_it_is_told_to_be_patient(busy: tuple[str, list[str]]) -> None:
    url, asked = busy
    with Client(url) as client, pytest.raises(analytics.ServiceError):
        client.health()
    assert asked == ["/healthz"]
