"""`loadlens-service status` with real services, in the states that an operator meets."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract import times
from service.cli import main
from tests.support import preloaded
from tests.support.agent_states import SETTINGS, state
from tests.support.agent_states import agent as path_of
from tests.support.reports import post, small
from tests.support.running import RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    environment = clean_environment(LOADLENS_TOKEN="agents", LOADLENS_OPERATOR_TOKEN="operators")
    with RunningService(tmp_path_factory.mktemp("status") / "data", environment=environment) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    with service.client(headers={"Authorization": "Bearer operators"}) as client:
        yield client


AGENT = {"version": "0.1.0", "cpu_seconds": 1.0, "resident_bytes": 20_000_000}


def run(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(
        "service", "status", *arguments, environment=clean_environment(LOADLENS_URL=url, **environment)
    )


def found(service: RunningService) -> tuple[int, list[dict[str, Any]]]:
    done = run(service.url, "--json", LOADLENS_OPERATOR_TOKEN="operators")
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["works"] is (done.returncode == 0)
    return done.returncode, document["findings"]


def says(findings: list[dict[str, Any]], state: str) -> str:
    return " ".join(f"{one['says']} {one.get('remedy', '')}" for one in findings if one["state"] == state)


def test_what_works_is_said_and_ends_with_0(service: RunningService, client: httpx.Client) -> None:
    post(client, small("web-1", times.now_ms(), agent=AGENT))
    code, findings = found(service)
    assert code == 0, findings
    assert "takes reports; its store is embedded" in says(findings, "works")
    assert "1 agent of 1 reported" in says(findings, "works")


@pytest.mark.parametrize("tokens", [{}, {"LOADLENS_TOKEN": "agents"}, {"LOADLENS_TOKEN": "wrong"}])
def test_a_token_that_is_not_the_operators_is_named(service: RunningService, tokens: dict[str, str]) -> None:
    done = run(service.url, **tokens)
    assert done.returncode == 1
    assert "FAILS token" in done.stdout and "LOADLENS_OPERATOR_TOKEN" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_service_that_is_away_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--url", "http://127.0.0.1:9"]) == 1
    out = capsys.readouterr().out
    assert "FAILS service" in out and "-> Start it" in out


def test_agents_that_are_paused_or_behind_are_named(service: RunningService, client: httpx.Client) -> None:
    client.post(f"{path_of('web-2')}/state", json=state(settings=SETTINGS | {"paused": True}))
    client.put(f"{path_of('web-2')}/settings", json={"samples": 50}, headers={"If-Match": "*"})
    _, findings = found(service)
    assert "paused on purpose: web-2" in says(findings, "note")
    assert "not in sync with what was asked: web-2" in says(findings, "note")


def test_reports_that_an_agent_lost_are_told(service: RunningService, client: httpx.Client) -> None:
    post(client, small("web-3", times.now_ms(), agent=AGENT | {"dropped": 3, "refused": 2}))
    code, findings = found(service)
    assert code == 1
    assert "2 reports of 1 agent were refused: web-3" in says(findings, "fails")
    assert "3 reports of 1 agent were dropped: web-3" in says(findings, "note")


def test_rules_that_cannot_be_read_again_fail_while_reports_are_taken(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("")
    with RunningService(tmp_path / "data", "--rules", str(rules)) as service, service.client() as client:
        client.get("/readyz")
        rules.write_text("[[rules]]\nname = 7\n")
        wait_until(lambda: "problems" in client.get("/readyz").json(), "the change is noticed")
        done = run(service.url)
    words = " ".join(done.stdout.split())
    assert done.returncode == 1
    assert "and takes reports; its store is embedded" in words
    assert "FAILS service Rules stay as they were" in words and "loadlens-service rules test" in words
