"""What people noted of moments stands in reports, whether the service makes them or a command that asks it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.times import DAY_MS, HOUR_MS, MINUTE_MS, format_instant
from tests.support.reports import END_MS, post, small
from tests.support.running import ROOT, RunningService, clean_environment

pytestmark = pytest.mark.server

STEP_MS = 15 * MINUTE_MS
START_MS = END_MS // DAY_MS * DAY_MS
DAYS = 6
CHANGED_MS = START_MS + 4 * DAY_MS + 10 * HOUR_MS
BURST_MS = START_MS + 5 * DAY_MS + 3 * HOUR_MS
DEPLOY, RESTART = "deploy <b>1.4</b>", "restart"
AFTER_DEPLOY, AFTER_RESTART = f"2 minutes after “{DEPLOY}”", f"5 minutes after “{RESTART}”"


def load_at(user: str, end_ms: int) -> float:
    """`steps` rises for good; `other` has a burst of an hour."""
    ripple = 0.004 * (end_ms // STEP_MS * 7919 % 11 - 5)
    if user == "other":
        return 0.95 if BURST_MS <= end_ms < BURST_MS + HOUR_MS else 0.3 + ripple
    return (0.2 if end_ms < CHANGED_MS else 0.5) + ripple


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with six days of two hosts, and what was noted of one, of another and of none that is there."""
    with RunningService(tmp_path_factory.mktemp("annotations") / "data") as service:
        with service.client() as client:
            for user in ("steps", "other"):
                ends = range(START_MS, START_MS + DAYS * DAY_MS, STEP_MS)
                assert post(client, *(small(user, end_ms, load_at(user, end_ms)) for end_ms in ends)).status_code == 202
            for text, time_ms, user in (
                (DEPLOY, CHANGED_MS - 2 * MINUTE_MS, "st*"),
                ("of another", CHANGED_MS - MINUTE_MS, "other"),
                (RESTART, BURST_MS - 5 * MINUTE_MS, "*"),
                ("long before", START_MS - DAY_MS, "*"),
            ):
                told = {"text": text, "time": time_ms, "user": user}
                assert client.post("/api/v1/annotations", json=told).status_code == 201
        yield service
        assert service.stop() == 0, service.log
        assert "Traceback" not in service.log


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


def of_service(client: httpx.Client, path: str) -> dict[str, Any]:
    answer = client.get(f"/reports/{path}", params={"format": "json"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def finding(report: dict[str, Any], kind: str) -> dict[str, Any]:
    [found] = [one for one in report["findings"] if one["kind"] == kind]
    return dict(found)


def test_a_change_and_an_anomaly_say_what_they_came_shortly_after(client: httpx.Client) -> None:
    change, anomaly = (
        finding(of_service(client, f"users/{user}"), kind) for user, kind in (("steps", "change"), ("other", "anomaly"))
    )
    assert f"{format_instant(CHANGED_MS)[:16].replace('T', ' ')} UTC, {AFTER_DEPLOY}, from 2" in change["sentence"]
    assert change["numbers"]["level_follows"] == AFTER_DEPLOY
    assert f", {AFTER_RESTART}: 95.0 % where" in anomaly["sentence"]
    assert anomaly["numbers"]["strongest_follows"] == AFTER_RESTART


def test_the_command_says_what_the_service_says(service: RunningService, client: httpx.Client, tmp_path: Path) -> None:
    asked = ["report", "user", "steps", "--url", service.url, "--out", str(tmp_path / "report.json")]
    made = subprocess.run(
        [sys.executable, "-P", "-m", "analytics", *asked], cwd=tmp_path, env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    mine, theirs = json.loads((tmp_path / "report.json").read_text()), of_service(client, "users/steps")
    assert mine["findings"] == theirs["findings"]
    assert mine["tables"]["annotations-table"] == theirs["tables"]["annotations-table"]


def test_annotations_of_the_range_are_listed_and_marked_where_the_load_is_drawn(client: httpx.Client) -> None:
    of_host, of_fleet = (of_service(client, path)["tables"]["annotations-table"] for path in ("users/steps", "fleet"))
    assert [row[2] for row in of_host["rows"]] == [DEPLOY, RESTART]
    assert [row[2] for row in of_fleet["rows"]] == [DEPLOY, "of another", RESTART]
    assert of_host["rows"][0] == [format_instant(CHANGED_MS - 2 * MINUTE_MS), None, DEPLOY, "st*"]
    page = client.get("/reports/users/steps").text
    block = page.partition('id="report-figures">')[2].partition("</script>")[0]
    trend = json.loads(block)["trend"]
    [marks] = [trace for trace in trend["data"] if trace["name"] == "annotation"]
    assert marks["text"] == ["deploy &lt;b&gt;1.4&lt;/b&gt;", RESTART]
    assert len(trend["layout"]["shapes"]) == 2


def test_what_concerns_one_host_does_not_explain_the_fleet(client: httpx.Client) -> None:
    report = of_service(client, "fleet")
    assert DEPLOY not in json.dumps(report["findings"])
    table = report["tables"]["anomalies-table"]
    assert table["columns"][-1]["name"] == "shortly after"
    followed = {(row[0], row[1]): row[-1] for row in table["rows"]}
    assert followed["steps", format_instant(CHANGED_MS)] == AFTER_DEPLOY
    assert followed["other", format_instant(BURST_MS)] == AFTER_RESTART


def test_the_view_of_a_host_says_the_same(client: httpx.Client) -> None:
    asked = {"start": START_MS, "end": START_MS + DAYS * DAY_MS}
    for kind, user, at_ms, words in (
        ("changes", "steps", CHANGED_MS, AFTER_DEPLOY),
        ("anomalies", "other", BURST_MS, AFTER_RESTART),
    ):
        answer = client.get(f"/api/v1/analysis/{kind}/byUser/{user}", params=asked)
        assert answer.status_code == 200, answer.text
        told = {one["time"]: one["follows"] for one in answer.json()[kind]}
        assert told[at_ms] == words
        assert {follows for time_ms, follows in told.items() if not 0 <= time_ms - at_ms <= HOUR_MS} <= {None}
