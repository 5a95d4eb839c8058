"""The agent as a process: what it reports, what it survives, how it ends."""

import itertools
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from contract import times
from contract.metrics import Cpu
from contract.report import Report, decode_report
from contract.validation import check
from tests.support.agents import ROOT, Answering, FakeService, RunningAgent, serving, wait_until

pytestmark = [pytest.mark.server, pytest.mark.skipif(os.name == "nt", reason="sends signals")]
NOBODY = "http://127.0.0.1:9"
DOWN = Answering(503, {"title": "Starting"})


def waiting(agent: RunningAgent) -> int:
    """How many reports wait, by the last message of the agent that says so."""
    counts = [int(match[1]) for line in agent.log if (match := re.search(r"(\d+) wait", line))]
    return counts[-1] if counts else 0


def spooled(directory: Path) -> list[int]:
    """The ends of the reports that an agent has left in its spool."""
    db = sqlite3.connect(directory / "spool.db")
    ends = [end for (end,) in db.execute("SELECT end_ms FROM report ORDER BY number")]
    db.close()
    return ends


def assert_no_window_is_missing(reports: list[Report]) -> None:
    for before, after in itertools.pairwise(reports):
        assert abs(after.start_timestamp - before.end_timestamp) < 10, "windows follow each other"
    # A sample that came late covers the intervals before it too.
    assert all(report.observations_per_metric >= 10 for report in reports[:-1])


def test_reports_of_this_host_reach_the_service(tmp_path: Path) -> None:
    with serving(FakeService()) as service, RunningAgent("--url", service.url, "--spool-dir", str(tmp_path)) as agent:
        wait_until(lambda: len(service.stored) >= 5, "five reports")
        assert agent.stop() == 0
    report = service.reports()[0]
    assert list(check(report, now_ms=times.now_ms())) == []
    [cpu] = report.metrics
    assert isinstance(cpu, Cpu)
    assert len(cpu.avg_utilization_by_core) == len(cpu.histogram_by_core) >= 1
    assert report.observations_per_metric >= 10
    assert report.report_id == f"test@{report.end_timestamp}"
    assert_no_window_is_missing(service.reports())


def test_a_report_says_what_the_agent_costs_and_how_it_samples(tmp_path: Path) -> None:
    options = ("--metrics", "cpu,memory", "--spool-dir", str(tmp_path))
    with serving(FakeService()) as service, RunningAgent("--url", service.url, *options):
        wait_until(lambda: service.stored, "a report")
    status = service.reports()[0].agent
    assert status
    assert status.settings == {"interval": 0.01, "samples": 10, "metrics": ["cpu", "memory"]}
    assert 0.0 < status.cpu_seconds < 60.0
    assert 5e6 < status.resident_bytes < 100e6


def test_once_prints_one_report_and_ends() -> None:
    with RunningAgent("--once", "--url", NOBODY) as agent:
        assert agent.ended() == 0
        [line] = agent.lines
        assert decode_report(line.encode()).user_id == "test"


def test_dry_run_prints_reports_and_leaves_the_spool_alone(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with RunningAgent("--dry-run", "--spool-dir", str(spool)) as agent:
        wait_until(lambda: len(agent.lines) >= 3, "three reports")
        assert agent.stop(signal.SIGINT) == 0
    assert not spool.exists()
    assert_no_window_is_missing([decode_report(line.encode()) for line in agent.lines])


def test_a_reader_of_printed_reports_that_has_enough_ends_the_agent_quietly() -> None:
    agent = f"{sys.executable} -m agent --dry-run --interval 10ms --samples 3 --log-level error"
    command = ["bash", "-c", f"set -o pipefail; {agent} | head -n 2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 2, b"")


def test_the_end_sends_the_unfinished_window(tmp_path: Path) -> None:
    with serving(FakeService()) as service:
        with RunningAgent("--url", service.url, "--spool-dir", str(tmp_path), "--samples", "10000") as agent:
            wait_until(lambda: agent.says("reports go to"), "the start")
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 0.3, "some samples")
            assert agent.stop() == 0
        [report] = service.reports()
    assert 1 <= report.observations_per_metric < 10_000


def test_the_end_is_quick_and_loses_nothing_while_the_service_hangs(tmp_path: Path) -> None:
    service = FakeService()
    service.hang = Event()
    with serving(service):
        with RunningAgent("--url", service.url, "--spool-dir", str(tmp_path)) as agent:
            wait_until(lambda: service.arrived, "a request that hangs")
            # `stop` waits for the end, and fails at its deadline: the service gives no answer before that.
            assert agent.stop() == 0
        left = spooled(tmp_path)
        assert left
        service.hang.set()
        with RunningAgent("--url", service.url, "--spool-dir", str(tmp_path)):
            wait_until(lambda: set(left) <= set(service.ends()), "the reports of the first run")


def test_an_outage_of_the_service_costs_no_window(tmp_path: Path) -> None:
    service = FakeService()
    with serving(service):
        port = int(service.url.rpartition(":")[2])
        agent = RunningAgent("--url", service.url, "--spool-dir", str(tmp_path), "--log-level", "debug")
        wait_until(lambda: len(service.stored) >= 3, "reports before the outage")
    with agent:
        wait_until(lambda: waiting(agent) >= 20, "reports that wait")
        with serving(service, port):
            wait_until(lambda: agent.says("takes reports again"), "the end of the outage")
            assert agent.stop() == 0
    assert_no_window_is_missing(service.reports())
    assert service.ends() == sorted(service.ends())
    # The service may have ended between storing a report and answering: that one is sent again, and stored once.
    assert service.duplicates <= 1
    assert spooled(tmp_path) == []
    assert max(len(request.reports) for request in service.requests) >= 20, "many in one request when behind"


def test_a_killed_agent_loses_no_finished_window(tmp_path: Path) -> None:
    service = FakeService()
    with RunningAgent("--url", NOBODY, "--spool-dir", str(tmp_path), "--log-level", "debug") as agent:
        wait_until(lambda: waiting(agent) >= 20, "reports that wait")
        agent.process.kill()
    left = spooled(tmp_path)
    assert len(left) >= 20
    with serving(service), RunningAgent("--url", service.url, "--spool-dir", str(tmp_path)) as agent:
        wait_until(lambda: len(service.stored) > len(left), "the reports of both runs")
        assert agent.stop() == 0
    assert service.ends()[: len(left)] == left
    assert_no_window_is_missing(service.reports()[: len(left)])


def test_a_second_agent_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    with RunningAgent("--url", NOBODY, "--spool-dir", str(tmp_path)) as agent:
        wait_until(lambda: agent.says("reports go to"), "the first agent")
        with RunningAgent("--url", NOBODY, "--spool-dir", str(tmp_path)) as second:
            assert second.ended() == 1
            assert second.says("another agent works with") and second.says("--spool-dir")
            assert not second.says("Traceback")


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process")
def test_a_full_disk_does_not_stop_the_agent(tmp_path: Path) -> None:
    import resource

    service = FakeService()
    service.always = DOWN
    with serving(service), RunningAgent("--url", service.url, "--spool-dir", str(tmp_path)) as agent:
        wait_until(lambda: service.arrived, "the start")
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        wait_until(lambda: agent.says("cannot be written"), "a word on the full disk")
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_until(lambda: agent.says("can be written again"), "a word on the free disk")
        service.always = None
        wait_until(lambda: agent.says("takes reports again"), "the reports")
        assert agent.stop() == 0
    assert_no_window_is_missing(service.reports())
    assert service.duplicates == 0


def test_a_spool_that_cannot_be_made_does_not_stop_the_agent(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with serving(FakeService()) as service:
        with RunningAgent("--url", service.url, "--spool-dir", str(tmp_path / "file" / "spool")) as agent:
            wait_until(lambda: len(service.stored) >= 3, "reports")
            assert agent.stop() == 0
    assert agent.says("cannot be used") and agent.says("in memory")
    assert_no_window_is_missing(service.reports())


def test_a_damaged_spool_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"not a database, by far" * 500)
    with serving(FakeService()) as service:
        with RunningAgent("--url", service.url, "--spool-dir", str(tmp_path)) as agent:
            wait_until(lambda: service.stored, "a report")
            assert agent.stop() == 0
    assert agent.says("is damaged")
    assert (tmp_path / "spool.db.damaged").exists()


def test_a_wrong_token_is_said_clearly_and_costs_nothing(tmp_path: Path) -> None:
    service = FakeService()
    service.always = Answering(401, {"title": "Unauthorized"})
    with serving(service), RunningAgent("--url", service.url, "--spool-dir", str(tmp_path), "--token", "abc") as agent:
        wait_until(lambda: agent.says("set --token"), "a word on the token")
        assert agent.stop() == 0
        service.always = None
        left = spooled(tmp_path)
        with RunningAgent("--url", service.url, "--spool-dir", str(tmp_path), "--token", "right"):
            wait_until(lambda: set(left) <= set(service.ends()), "the reports of the first run")
    assert {request.headers["Authorization"] for request in service.requests} == {"Bearer abc", "Bearer right"}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_plain_http_loads_no_tls(tmp_path: Path) -> None:
    with serving(FakeService()) as service:
        with RunningAgent("--url", service.url, "--spool-dir", str(tmp_path)) as agent:
            wait_until(lambda: service.stored, "a report")
            assert "libssl" not in Path(f"/proc/{agent.process.pid}/maps").read_text()


def test_a_wrong_setting_is_one_line_and_exit_code_2() -> None:
    with RunningAgent("--interval", "1ms") as agent:
        assert agent.ended() == 2
        [line] = agent.log
        assert line.startswith("loadlens-agent: error: --interval: expected 10ms to 60s")
