"""Agents and a service, as they run together: what was sampled while the service was away is answered in the end."""

import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from tests.support.running import ROOT, RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server

AWAY_S = float(os.environ.get("LOADLENS_TEST_OUTAGE_S", "4"))
"""How long the service is away; two minutes are worth a run by hand."""
WINDOW_S = 0.5
AGENTS = ("one", "two", "three")


def start_agent(name: str, url: str, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "agent", "--url", url, "--user-id", name, "--samples", "10",
         "--spool-dir", str(folder / name)],
        cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


def test_no_window_is_missing_and_none_counts_twice_after_the_service_was_away(tmp_path: Path) -> None:
    with ExitStack() as stack:
        service = stack.enter_context(RunningService(tmp_path / "data", "--flush-interval", "0.5"))
        port = httpx.URL(service.url).port
        agents = [start_agent(name, service.url, tmp_path) for name in AGENTS]
        for agent in agents:
            stack.callback(agent.wait)
            stack.callback(agent.kill)
        with service.client() as client:
            wait_until(lambda: len(client.get("/api/v1/users").json()["users"]) == len(AGENTS), "the first reports")
        service.kill()
        until = time.monotonic() + AWAY_S
        wait_until(lambda: time.monotonic() > until, "the outage's end", AWAY_S + 1)
        service = stack.enter_context(RunningService(tmp_path / "data", "--port", str(port)))
        back = time.time()
        with service.client() as client:

            def caught_up() -> bool:
                users = client.get("/api/v1/users").json()["users"]
                return all(seconds(user["last_seen"]) > back for user in users)

            wait_until(caught_up, "what the agents kept", AWAY_S * 2 + 60)
            for agent in agents:
                agent.send_signal(signal.SIGTERM)
            assert [agent.wait(30) for agent in agents] == [0] * len(agents)
            for user in client.get("/api/v1/users").json()["users"]:
                query = {"start": user["first_seen"], "resample_rate": "5s", "stat": "count"}
                answer = client.get(f"/api/v1/metrics/cpuLoadAvg/byUser/{user['user_id']}", params=query)
                entries = answer.json()["entries"]
                times = [seconds(entry["date"]) for entry in entries]
                assert [after - before for before, after in itertools.pairwise(times)] == [5] * (len(times) - 1)
                span = seconds(user["last_seen"]) - seconds(user["first_seen"])
                # The last window is one that SIGTERM cut short.
                assert sum(entry["value"] for entry in entries) / 10 == pytest.approx(span / WINDOW_S, abs=1)
