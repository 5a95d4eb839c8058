"""What was asked is logged and counted: with an id, how it was answered, and why reports were refused."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract import __version__
from tests.service.conftest import StartService
from tests.support.reports import END_MS, METRICS, post, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server
Line = dict[str, Any]
JSON = {"Content-Type": "application/json"}


def lines(service: RunningService) -> list[Line]:
    """The lines of its log, each of which must be JSON."""
    return [json.loads(line) for line in service.log.splitlines()]


def found(service: RunningService, holds: Callable[[Line], bool]) -> Line:
    """The first line of which this holds; it may come a moment after the answer."""
    wait_until(lambda: any(holds(line) for line in lines(service)), "the line")
    return next(line for line in lines(service) if holds(line))


def test_every_line_is_json_and_says_what_was_asked_and_refused(start: StartService) -> None:
    service = start("--log-format", "json")
    with service.client() as client:
        answer = client.get("/api/v1/users?limit=5", headers={"X-Request-ID": "mine-1"})
        assert answer.headers["X-Request-ID"] == "mine-1"
        line = found(service, lambda line: line.get("request_id") == "mine-1")
        assert (line["method"], line["path"], line["status"]) == ("GET", "/api/v1/users", 200)
        assert line["bytes"] == len(answer.content) and line["milliseconds"] > 0
        made = client.get("/nowhere", headers={"X-Request-ID": "not usable: a blank"}).headers["X-Request-ID"]
        assert found(service, lambda line: line.get("request_id") == made)["status"] == 404
        post(client, small("web-1", END_MS, mean=7.0))
        refused = found(service, lambda line: "is refused" in line["message"])
        assert (refused["user"], refused["level"]) == ("web-1", "warning")
        assert refused["reason"].startswith("/metrics/0/avg_utilization: ")
        assert found(service, lambda line: line.get("request_id") == refused["request_id"] and "status" in line)
        client.post(METRICS, content=b"{")
        assert found(service, lambda line: "is refused" in line["message"] and line["user"] is None)
    service.stop()
    assert found(service, lambda line: "Loadlens service on" in line["message"])["version"] == __version__
    ended = found(service, lambda line: "has ended" in line["message"])
    assert (ended["accepted"], ended["rejected"], ended["waiting"]) == (0, 2, 0)


def test_a_flood_of_refused_reports_is_a_few_lines(start: StartService) -> None:
    service = start()
    with service.client() as client:
        post(client, *(small("web-1", END_MS + number, mean=7.0) for number in range(500)))
        assert client.get("/metrics").text.count("loadlens_reports_rejected_total 500.0") == 1
    assert 1 <= service.log.count("a report of web-1 is refused") < 100


def test_requests_are_logged_only_where_that_is_asked_for(start: StartService) -> None:
    service = start("--log-requests", "failed")
    with service.client() as client:
        client.get("/api/v1/users")
        client.get("/nowhere")
        wait_until(lambda: "GET /nowhere 404 in " in service.log, "the line")
    assert "/api/v1/users" not in service.log


def test_answers_are_counted_by_route_and_status_and_their_time_measured(start: StartService) -> None:
    service = start()
    with service.client() as client:
        for user in ("web-1", "web-2", "web-3"):
            assert client.get(f"/api/v1/agents/{user}").status_code == 404
        client.get("/no/such/path")
        exposition = client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(exposition)}
    requests = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for sample in families["loadlens_http_requests"].samples
        if sample.name.endswith("_total")
    }
    assert requests["GET", "/api/v1/agents/{user_id}", "404"] == 3
    assert requests["GET", "none", "404"] == 1
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in families["loadlens_http_request_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["route"] == "/api/v1/agents/{user_id}"
    ]
    assert [value for _, value in sorted(buckets)] == sorted(value for _, value in buckets)
    assert max(buckets) == (float("inf"), 3.0)
    (build,) = families["loadlens_build_info"].samples
    assert build.labels["version"] == __version__


def test_bodies_may_begin_with_a_byte_order_mark_and_what_is_doubtful_is_refused(start: StartService) -> None:
    service = start()
    with service.client() as client:
        body = json.dumps(small("web-1", END_MS))
        answer = client.post(
            METRICS, content=b"\xef\xbb\xbf" + body.encode(), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 202, answer.text
        repeated = client.post("/api/v1/silences", content=b'{"duration": "1h", "duration": "2h"}', headers=JSON)
        assert (repeated.status_code, "'duration' stands twice" in repeated.json()["detail"]) == (400, True)
        answer = client.post(METRICS, content=body.encode("utf-16"), headers={"Content-Type": "application/json"})
        assert (answer.status_code, "UTF-16" in answer.json()["detail"]) == (400, True)
