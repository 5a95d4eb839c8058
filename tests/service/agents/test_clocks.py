"""Agents whose clock is wrong, as processes: their windows are filed when they were, each once."""

import contextlib
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from contract.times import DAY_MS, DAY_S, now_ms
from tests.faults.preload import Preload, can_build
from tests.service.conftest import StartService
from tests.support.agents import RunningAgent
from tests.support.reports import entries, history
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

LIMIT_S = 60
LIMIT_MS = 60_000

pytestmark = pytest.mark.server
needs_compiler = pytest.mark.skipif(not can_build(), reason="there is no C compiler")


@pytest.fixture
def wall_clock(tmp_path: Path) -> Iterator[Preload]:
    with Preload(tmp_path / "control") as preload:
        yield preload


@needs_compiler
@pytest.mark.parametrize("days", [400, -3])
@pytest.mark.parametrize("remote", ["--remote", "--no-remote"])
def test_an_agent_with_a_wrong_clock_files_its_windows_when_they_were(
    start: StartService, tmp_path: Path, wall_clock: Preload, days: int, remote: str
) -> None:
    service = start()
    wall_clock.shift_clock(days * DAY_S)
    began_ms = now_ms()
    with (
        service.client() as client,
        RunningAgent(
            "--url", service.url, "--spool-dir", str(tmp_path / "spool"), remote, environment=wall_clock.environment
        ) as agent,
    ):
        wait_until(lambda: samples(client) >= 200, "windows")
        ahead_s = wait_until(lambda: told_alike(client), "the same clock among agents and users")
        assert ahead_s == pytest.approx(days * DAY_S, abs=LIMIT_S)
        ready = client.get("/readyz")
        assert ready.status_code == 200
        (problem,) = ready.json()["problems"]
        assert problem.startswith("Clocks of hosts are off by more than 60 s: 1, one by ")
        assert "test" not in problem
        listed = subprocess.run(
            [sys.executable, "-m", "service", "agents", "--url", service.url],
            cwd=ROOT, env=clean_environment(COLUMNS="200"), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert re.search(rf"clock \d+d {'ahead' if days > 0 else 'behind'}", listed.stdout)
        assert agent.stop() == 0
        assert_all_since(client, began_ms)
    assert not (tmp_path / "spool" / "refused.ndjson").exists()


@needs_compiler
def test_reports_that_waited_before_the_time_was_known_are_corrected_once(
    start: StartService, tmp_path: Path, wall_clock: Preload
) -> None:
    wall_clock.shift_clock(400 * DAY_S)
    service = start()
    port = service.port
    service.kill()
    spool = ("--spool-dir", str(tmp_path / "spool"), "--url", f"http://127.0.0.1:{port}")
    began_ms = now_ms()
    for _ in range(2):
        # Of an agent that is killed: what it left is corrected by the next one.
        with RunningAgent(*spool, environment=wall_clock.environment) as agent:
            wait_until(lambda: spooled(tmp_path / "spool") >= 10, "reports in the spool")
            agent.process.kill()
            agent.ended()
    waited = spooled(tmp_path / "spool")
    service = start("--port", str(port))
    with service.client() as client, RunningAgent(*spool, environment=wall_clock.environment) as agent:
        wait_until(lambda: samples(client) >= 10 * (waited + 5), "windows")
        assert agent.stop() == 0
        assert_all_since(client, began_ms)
    assert not (tmp_path / "spool" / "refused.ndjson").exists()


def told_alike(client: httpx.Client) -> float | None:
    """How far the agent's clock is ahead, where agents and users say the same; the next report may say another."""
    (agent,) = client.get("/api/v1/agents").json()["agents"]
    (user,) = client.get("/api/v1/users").json()["users"]
    ahead_s: float = user["clock_ahead_s"]
    return ahead_s if agent["clock_ahead_s"] == ahead_s else None


def spooled(folder: Path) -> int:
    """How many reports an agent has put into its spool so far, by looking on."""
    log = folder / "spool.db-wal"
    return log.read_bytes().count(b'"report_id"') if log.exists() else 0


def samples(client: httpx.Client, **span: object) -> float:
    """How many samples the service has of the agent, whenever they were, or of a span."""
    answer = history(client, "test", stat="count", **span)
    return 0.0 if answer.status_code == 404 else sum(value for _, value in entries(answer))


def assert_all_since(client: httpx.Client, began_ms: int) -> None:
    """Every sample is filed between a moment and now, as far as clocks are believed."""
    span = {"start": began_ms - LIMIT_MS, "end": now_ms() + LIMIT_MS, "resample_rate": "1s"}
    assert samples(client, **span) == samples(client) > 0


@needs_compiler
def test_a_service_whose_clock_is_set_back_gets_every_window_once_and_says_so(
    tmp_path: Path, wall_clock: Preload
) -> None:
    environment = clean_environment(**wall_clock.environment)
    with RunningService(tmp_path / "data", environment=environment) as service, service.client() as client:
        options = ("--url", service.url, "--spool-dir", str(tmp_path / "spool"))
        with RunningAgent(*options) as agent:
            wait_until(lambda: samples(client) >= 50, "windows")
            wall_clock.shift_clock(-3 * DAY_S)
            before = samples(client)
            wait_until(lambda: samples(client) >= before + 100, "windows by the service's clock")
            wait_until(lambda: "Clocks of hosts are off" in client.get("/readyz").text, "it to be said")
            assert agent.stop() == 0
        moment = now_ms()
        span = {"start": moment - 4 * DAY_MS, "end": moment + DAY_MS, "resample_rate": "raw"}
        rows = client.get("/api/v1/windows/byUser/test", params=span).raise_for_status().json()["windows"]
    with contextlib.closing(sqlite3.connect(tmp_path / "spool" / "spool.db")) as spool:
        ((made, waiting),) = spool.execute("SELECT max(number), (SELECT count(*) FROM report) FROM given_out")
    assert len({row["time"] for row in rows}) == len(rows) == made - waiting
    assert not (tmp_path / "spool" / "refused.ndjson").exists()
