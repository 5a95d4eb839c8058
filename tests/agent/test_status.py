"""`loadlens-agent status`: what it says of an agent and its service, whatever state both are in."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import psutil
import pytest

from agent.heartbeat import Heartbeat, HeartbeatFile, read_heartbeat
from agent.status import StatusSettings, look
from contract import times
from contract.agent_protocol import SettingsInForce
from contract.checkup import CheckResult
from tests.support.agents import ROOT, Answering, RunningAgent, wait_until

NOBODY = "http://127.0.0.1:9"
OK = Answering(200, {"status": "ok"})
READY = Answering(200, {"status": "ready"})
WHO = "/api/v1/identity"
TAKEN = Answering(202, {"accepted": 0, "duplicates": 0})
SAMPLING = SettingsInForce(interval=0.05, samples=100, metrics=["cpu"])


@contextmanager
def answering(answers: Mapping[str, Answering], clock_off_s: float = 0.0) -> Iterator[str]:
    """A server that gives these answers by path, and tells its own time."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one segment: a second one would wait 40 ms for the acknowledgement of the first.
        wbufsize = -1

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer = answers.get(self.path, Answering(404))
            body = json.dumps(answer.body).encode()
            self.send_response_only(answer.status)
            self.send_header("Date", formatdate(time.time() + clock_off_s, usegmt=True))
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with answering({"/healthz": OK, "/readyz": READY, "/api/v1/metrics": TAKEN}) as url:
        yield url


def beating(directory: Path, **members: object) -> Path:
    """A spool's folder with the heartbeat of an agent that runs: this process."""
    heartbeat = Heartbeat(
        at=times.now_ms(), pid=os.getpid(), process_started=psutil.Process().create_time(), user_id="web-1",
        url=NOBODY, settings=SAMPLING, spool_limit_bytes=1_000_000,
    )  # fmt: skip
    content = msgspec.json.encode(msgspec.structs.replace(heartbeat, **members))
    (directory / "heartbeat.json").write_bytes(content)
    return directory


def found(directory: Path, url: str | None = NOBODY, token: str | None = None) -> list[CheckResult]:
    return list(look(StatusSettings(spool_dir=directory, url=url, token=token)))


def failing(findings: list[CheckResult]) -> dict[str, CheckResult]:
    return {finding.about: finding for finding in findings if finding.state == "fails"}


def test_an_agent_that_runs_with_a_service_that_takes_its_reports_works(tmp_path: Path, service: str) -> None:
    findings = found(beating(tmp_path), service)
    assert failing(findings) == {}
    says = " ".join(finding.says for finding in findings)
    assert "reports as web-1, and samples cpu every 50ms: a report every 5s" in says
    assert "answers, and takes reports" in says and "agrees with the service's" in says


def test_a_service_that_is_away_is_named_with_what_to_do(tmp_path: Path) -> None:
    away = failing(found(beating(tmp_path)))["service"]
    assert NOBODY in away.says and "Reports wait in the spool" in away.says
    assert "--url" in away.remedy


def test_the_service_that_the_agent_sends_to_is_looked_at_unless_another_is_named(tmp_path: Path, service: str) -> None:
    assert NOBODY in failing(found(beating(tmp_path), url=None))["service"].says
    assert any(finding.about == "url" for finding in found(beating(tmp_path), service))


def test_what_is_no_loadlens_service_is_told_apart(tmp_path: Path) -> None:
    with answering({"/healthz": Answering(200, "<html>")}) as url:
        assert "not as a Loadlens service does" in failing(found(beating(tmp_path), url))["service"].says


def test_a_service_that_turns_reports_away_says_why(tmp_path: Path) -> None:
    full = Answering(503, {"status": "full", "detail": "The journal is at its limit; the store is behind."})
    with answering({"/healthz": OK, "/readyz": full, "/api/v1/metrics": TAKEN}) as url:
        assert "The journal is at its limit" in failing(found(beating(tmp_path), url))["service"].says


def test_a_wrong_token_is_named_and_what_the_agent_itself_sends_counts(tmp_path: Path) -> None:
    with answering({"/healthz": OK, "/readyz": READY, "/api/v1/metrics": Answering(401, {})}) as url:
        wrong = failing(found(beating(tmp_path), url, token="wrong"))["token"]
        assert "with this token" in wrong.says and "LOADLENS_TOKEN" in wrong.remedy
        assert failing(found(beating(tmp_path), url)) == {}
        problem = "it answered 401 (it asks for another token: set --token)"
        assert {"token", "reports"} == failing(found(beating(tmp_path, problem=problem), url)).keys()


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ({"role": "agent", "scope": "web-1", "token": "00aa"}, "is 00aa, which has the role agent for web-1"),
        ({"role": "operator", "scope": "*", "token": "operator"}, "is the one of the service's --operator-token"),
        ({"role": "admin", "scope": "*", "token": "none"}, "None is asked"),
    ],
)
def test_whose_token_it_is_is_told(tmp_path: Path, who: dict[str, str], words: str) -> None:
    (beating(tmp_path) / "token").write_text("loadlens_x")
    with answering({"/healthz": OK, "/readyz": READY, "/api/v1/metrics": TAKEN, WHO: Answering(200, who)}) as url:
        [kept] = [one.says for one in found(tmp_path, url) if one.about == "token"]
        [given] = [one.says for one in found(tmp_path, url, token="loadlens_y") if one.about == "token"]
    assert words in kept and words in given
    if who["token"] != "none":
        assert f"The token in {tmp_path / 'token'}" in kept and "The token given to this command" in given


def test_the_token_of_another_host_is_found_out(tmp_path: Path) -> None:
    who = {"role": "agent", "scope": "web-2", "token": "00aa"}
    with answering({"/healthz": OK, "/readyz": READY, "/api/v1/metrics": TAKEN, WHO: Answering(200, who)}) as url:
        wrong = failing(found(beating(tmp_path), url, token="loadlens_y"))["token"]
    assert "the agent reports as web-1" in wrong.says and "--scope web-1" in wrong.remedy


@pytest.mark.parametrize(
    ("off_s", "side", "effect"),
    [(-30.0, "ahead of", "This machine"), (3600.0, "behind", "stamped by"), (-3600.0, "ahead of", "stamped by")],
)
def test_a_clock_that_is_off_is_measured(tmp_path: Path, off_s: float, side: str, effect: str) -> None:
    with answering({"/healthz": OK, "/readyz": READY, "/api/v1/metrics": TAKEN}, off_s) as url:
        clock = failing(found(beating(tmp_path), url))["clock"]
    assert f"{side} the service's" in clock.says and effect in clock.says
    assert "NTP" in clock.remedy


def test_an_agent_that_was_never_there_or_has_ended_is_told(tmp_path: Path, service: str) -> None:
    assert "No agent has run" in failing(found(tmp_path, service))["agent"].says
    ended = failing(found(beating(tmp_path, process_started=1.0), service))["agent"]
    assert "It does not run" in ended.says and "Start it" in ended.remedy


def test_a_paused_agent_is_no_failure_and_how_it_goes_on_is_said(tmp_path: Path, service: str) -> None:
    paused = msgspec.structs.replace(SAMPLING, paused=True)
    findings = found(beating(tmp_path, settings=paused, at=times.now_ms() - 3_600_000), service)
    assert failing(findings) == {}
    assert any("paused=false" in finding.remedy for finding in findings if finding.state == "note")


def test_an_agent_that_makes_no_reports_is_told(tmp_path: Path, service: str) -> None:
    stuck = failing(found(beating(tmp_path, at=times.now_ms() - 600_000), service))["agent"]
    assert "no report since" in stuck.says


def test_a_spool_that_fills_and_reports_that_were_refused_are_told(tmp_path: Path, service: str) -> None:
    filling = beating(tmp_path, waiting=700, waiting_bytes=600_000, dropped=3, refused=2)
    findings = found(filling, service)
    assert "oldest reports are dropped" in failing(findings)["spool"].says
    assert "refused.ndjson" in failing(findings)["reports"].remedy
    assert any("3 reports dropped" in finding.says for finding in findings)


def test_a_metric_that_cannot_be_sampled_is_told(tmp_path: Path, service: str) -> None:
    findings = found(beating(tmp_path, not_sampled={"disk": "no counters"}), service)
    assert failing(findings)["metrics"].says == "disk cannot be sampled: no counters"


def test_a_heartbeat_that_cannot_be_read_is_told(tmp_path: Path, service: str) -> None:
    (tmp_path / "heartbeat.json").write_text("{")
    assert "cannot be read" in failing(found(tmp_path, service))["agent"].says


def test_a_disk_that_takes_no_heartbeat_is_no_fault_of_the_agent(tmp_path: Path) -> None:
    file = HeartbeatFile(tmp_path / "gone", lambda pid, started: pytest.fail("looked") if pid < 0 else heartbeat)
    beating(tmp_path)
    heartbeat = read_heartbeat(tmp_path)
    assert heartbeat is not None
    file.beat()
    assert read_heartbeat(tmp_path / "gone") is None


@pytest.mark.server
def test_a_real_agent_is_found_by_its_spool_and_missed_when_it_has_ended(tmp_path: Path) -> None:
    def status() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent", "status", "--spool-dir", str(tmp_path), "--json"],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    with RunningAgent("--url", NOBODY, "--spool-dir", str(tmp_path)) as agent:
        wait_until(lambda: (beat := read_heartbeat(tmp_path)) and beat.problem and beat.waiting, "a problem is noted")
        done = status()
        assert (done.returncode, done.stderr) == (1, "")
        findings = msgspec.json.decode(done.stdout, type=dict[str, bool | list[CheckResult]])["findings"]
        assert isinstance(findings, list)
        assert {"service", "reports"} == failing(findings).keys()
        assert agent.stop() == 0
    assert '"It does not run.' in status().stdout
