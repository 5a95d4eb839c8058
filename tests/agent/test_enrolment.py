"""An agent gets a token of its own once, keeps it where nobody else reads it, and reports with it."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.enrolment import TOKEN_FILE, keep, kept
from tests.support.access import bearer, make_tokens
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningService, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("enrolling") / "data"
    tokens = make_tokens(
        folder, ("admin", "admin", "*"), ("one", "enrolment", "web-*"), ("other", "enrolment", "*"),
        ("third", "enrolment", "*"), ("expired", "enrolment", "*"), ("agent", "agent", "web-9"),
    )  # fmt: skip
    with RunningService(folder) as service:
        yield service, tokens


def enrol(service: RunningService, token: str, folder: Path, user: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "enrol", "--url", service.url, "--spool-dir", str(folder), "--user-id", user],
        cwd=ROOT, env=clean_environment(LOADLENS_ENROLMENT_TOKEN=token), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def test_an_agent_gets_its_own_token_and_reports_with_it(
    service: tuple[RunningService, dict[str, str]], tmp_path: Path
) -> None:
    running, tokens = service
    refused = enrol(running, tokens["one"], tmp_path, "db-1")
    assert refused.returncode == 1
    assert "scope" in refused.stderr
    done = enrol(running, tokens["one"], tmp_path, "web-1")
    assert done.returncode == 0, done.stderr
    path = tmp_path / TOKEN_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in done.stdout + done.stderr
    used_up = enrol(running, tokens["one"], tmp_path / "other", "web-2")
    assert "used up" in used_up.stderr
    command = [
        sys.executable, "-m", "agent", "--url", running.url, "--spool-dir", str(tmp_path), "--user-id", "web-1",
        "--samples", "5", "--interval", "10ms",
    ]  # fmt: skip
    with running.client(headers=bearer(tokens["admin"])) as client:
        agent = subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stderr=subprocess.DEVNULL)
        try:
            wait_until(
                lambda: [user["user_id"] for user in client.get("/api/v1/users").json()["users"]] == ["web-1"],
                "a report with the token that is kept",
            )
        finally:
            agent.terminate()
            agent.wait(60)
        made = [token for token in client.get("/api/v1/tokens").json()["tokens"] if token["scope"] == "web-1"]
        assert [token["role"] for token in made] == ["agent"]
        entries = client.get("/api/v1/audit", params={"target": f"token:{made[0]['id']}"}).json()["entries"]
    assert [entry["action"] for entry in entries] == ["token enrol"]


def test_at_its_first_start_an_agent_enrols_by_itself(
    service: tuple[RunningService, dict[str, str]], tmp_path: Path
) -> None:
    running, tokens = service
    command = [
        sys.executable, "-m", "agent", "--url", running.url, "--spool-dir", str(tmp_path), "--user-id", "first-start",
        "--samples", "5", "--interval", "10ms",
    ]  # fmt: skip
    environment = clean_environment(LOADLENS_ENROLMENT_TOKEN=tokens["other"])
    with running.client(headers=bearer(tokens["admin"])) as client:
        agent = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: "first-start" in client.get("/api/v1/users").text, "its first report")
        finally:
            agent.terminate()
            agent.wait(60)
    assert stat.S_IMODE((tmp_path / TOKEN_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "user", "word"),
    [
        ("third", "web-9", "has a token already"),
        ("third", "*", "one user id"),
        ("expired", "web-5", "no token"),
        ("agent", "web-5", "role agent"),
    ],
)
def test_nobody_takes_a_place_by_enrolling(
    service: tuple[RunningService, dict[str, str]], tmp_path: Path, name: str, user: str, word: str
) -> None:
    running, tokens = service
    refused = enrol(running, tokens[name], tmp_path, user)
    assert refused.returncode == 1
    assert word in refused.stderr
    assert kept(tmp_path) is None


def test_a_service_that_is_away_is_said(tmp_path: Path, service: tuple[RunningService, dict[str, str]]) -> None:
    running, tokens = service
    url = running.url
    running.url = "http://127.0.0.1:1"
    try:
        refused = enrol(running, tokens["third"], tmp_path, "web-7")
    finally:
        running.url = url
    assert refused.returncode == 1
    assert "cannot be reached" in refused.stderr


def test_a_kept_token_is_read_by_nobody_else_even_where_somebody_loosened_it(tmp_path: Path) -> None:
    keep(tmp_path, "loadlens_x")
    path = tmp_path / TOKEN_FILE
    path.chmod(0o644)
    assert kept(tmp_path) == "loadlens_x"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keep(tmp_path, "loadlens_y")
    assert kept(tmp_path) == "loadlens_y"
    assert json.dumps([one.name for one in tmp_path.iterdir()]) == f'["{TOKEN_FILE}"]'
