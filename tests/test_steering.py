"""Agents steered for real: what an operator sets is in force at once, and every sample counts once, at one rate."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract import times
from contract.report import Report
from tests.support.reports import original
from tests.support.running import RunningService, wait_until
from tests.support.steering import FORCE, Proxy, SteeredAgent, merged_cpu, proxy

pytestmark = pytest.mark.server

STEP_S = 0.6
"""Windows of this length, where a test waits for some."""
HELD_UP_S = 8.0
"""So long may a busy machine hold up an agent; a sample later than `agent.sampler.GAP_S` would end the window."""
ROUNDING_S = 0.002
"""Start and end of a window are whole milliseconds."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("steering") / "data") as service:
        yield service
        assert service.stop() == 0, service.log
        assert "Traceback" not in service.log


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture
def between(service: RunningService) -> Iterator[Proxy]:
    with proxy(service) as between:
        yield between


def passes(seconds: float) -> Callable[[], bool]:
    """True once so much time has passed."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def settings_of(report: Report) -> tuple[float, int]:
    assert report.agent
    return report.agent.settings["interval"], report.agent.settings["samples"]  # type: ignore[return-value]


def assert_no_window_mixes_rates(reports: list[Report]) -> None:
    """Each window took as long as so many samples at its interval take, as exactly as the machine lets it sample."""
    for report in reports:
        interval, samples = settings_of(report)
        # A sample that comes late stands for each interval that it covers, and may end the window beyond its number.
        assert report.observations_per_metric <= samples + HELD_UP_S / interval
        span_s = (report.end_timestamp - report.start_timestamp) / 1000
        scheduled_s = report.observations_per_metric * interval
        # Deadlines lie on a grid: a window that began with a late sample is shorter by less than an interval.
        assert scheduled_s - interval - ROUNDING_S <= span_s <= scheduled_s + HELD_UP_S, (span_s, scheduled_s)


def assert_whole(reports: list[Report]) -> None:
    """Each window has as many observations as its settings ask for, or more where its last sample came late."""
    assert all(report.observations_per_metric >= settings_of(report)[1] for report in reports)


def assert_history_is_that_of_all_samples(client: httpx.Client, user: str, reports: list[Report]) -> None:
    """Count and mean as answered are those of the raw windows merged, whatever their rates."""
    whole = merged_cpu(reports)
    start = min(report.start_timestamp for report in reports) - 60_000
    query: dict[str, Any] = {"start": start, "end": reports[-1].end_timestamp + 60_000, "resample_rate": "1d"}
    answers = {
        stat: client.get(f"/api/v1/metrics/cpuLoadAvg/byUser/{user}", params=query | {"stat": stat}).json()["entries"]
        for stat in ("count", "mean", "var")
    }
    count = sum(entry["value"] for entry in answers["count"])
    assert count == whole.count == sum(report.observations_per_metric for report in reports)
    if len(answers["mean"]) == 1:  # not over midnight
        assert answers["mean"][0]["value"] == pytest.approx(whole.mean, rel=1e-12)
        assert answers["var"][0]["value"] == pytest.approx(whole.variance, rel=1e-9)


def test_a_rate_set_from_the_api_is_in_force_at_once_and_every_sample_counts_at_its_own(
    between: Proxy, client: httpx.Client, tmp_path: Path
) -> None:
    with SteeredAgent(between.url, "quick", tmp_path, client, "--interval", "50ms", "--samples", "100") as agent:
        agent.wait_connected()
        wait_until(lambda: len(between.reports()) == 1, "a window at the first rate")
        wait_until(passes(STEP_S), "some samples of the next")
        agent.set(interval=0.02, samples=30)
        agent.wait(lambda shown: shown["reported"]["interval"] == 0.02, "the new rate")
        wait_until(lambda: len(between.reports()) >= 5, "windows at the new rate")
        assert agent.stop() == 0
    reports = between.reports()
    slow = [report for report in reports if settings_of(report) == (0.05, 100)]
    quick = [report for report in reports if settings_of(report) == (0.02, 30)]
    assert reports == slow + quick
    # The window that ran was cut short at the change; the last one at the end.
    assert_whole(slow[:-1])
    assert slow[-1].observations_per_metric >= 1
    assert_whole(quick[:-1])
    assert {report.agent.settings_version for report in slow if report.agent} == {""}
    assert len({report.agent.settings_version for report in quick if report.agent} - {""}) == 1
    assert_no_window_mixes_rates(reports)
    assert_history_is_that_of_all_samples(client, "quick", reports)


def test_an_interval_of_a_minute_is_left_at_once(service: RunningService, client: httpx.Client, tmp_path: Path) -> None:
    with SteeredAgent(service.url, "minute", tmp_path, client, "--interval", "60s", "--samples", "2") as agent:
        agent.wait_connected()
        agent.set(interval=0.05, samples=10)
        agent.wait(lambda shown: shown["spool"] is not None, "a report", 60.0)


def test_where_no_stream_gets_through_the_next_report_is_answered_with_what_is_asked(
    between: Proxy, client: httpx.Client, tmp_path: Path
) -> None:
    between.refuses_streams = True
    with SteeredAgent(between.url, "blocked", tmp_path, client, "--interval", "20ms", "--samples", "30") as agent:
        wait_until(lambda: len(between.reports()) >= 2, "reports")
        agent.set(interval=0.03)
        wait_until(lambda: between.reports()[-1].agent.settings["interval"] == 0.03, "a report at the new rate")  # type: ignore[union-attr]
        agent.wait(lambda shown: shown["in_step"], "the agent to be in step")
        assert not agent.shown()["connected"]
        assert agent.stop() == 0
    told = [place for place, answer in enumerate(between.answers) if "instructions" in answer]
    # Told until a report was made under the new plan; and no window was under the old one after the first of those.
    assert told
    intervals = [settings_of(report)[0] for report in between.reports()]
    assert intervals == sorted(intervals)
    assert told[-1] <= len(intervals) - intervals.count(0.03)
    assert_no_window_mixes_rates(between.reports())
    assert_history_is_that_of_all_samples(client, "blocked", between.reports())


def test_agents_beyond_the_limit_of_streams_are_steered_by_answers(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data", "--agent-streams", "1") as service, service.client() as client:
        arguments = ("--interval", "20ms", "--samples", "20", "--log-level", "debug")
        with SteeredAgent(service.url, "first", tmp_path / "1", client, *arguments) as first:
            first.wait_connected()
            with SteeredAgent(service.url, "second", tmp_path / "2", client, *arguments) as second:
                wait_until(lambda: "answered 503" in second.log, "the refusal of the second stream")
                client.put("/api/v1/settings", params={"selector": "all"}, json={"samples": 25}, headers=FORCE)
                for agent in (first, second):
                    shown = agent.wait(
                        lambda shown: shown["in_step"] and shown["reported"]["samples"] == 25, "25 samples"
                    )
                    assert shown["connected"] is (agent is first)
        assert service.stop() == 0, service.log


def test_settings_outlive_restarts_of_both_sides(tmp_path: Path) -> None:
    arguments = ("--interval", "20ms", "--samples", "30")
    service = RunningService(tmp_path / "data")
    with service, service.client() as client, proxy(service) as between:
        with SteeredAgent(between.url, "kept", tmp_path / "agent", client, *arguments) as agent:
            agent.wait_connected()
            agent.set(interval=0.03, samples=20)
            agent.wait(lambda shown: shown["in_step"] and shown["reported"]["interval"] == 0.03, "the new rate")
            agent.process.send_signal(signal.SIGKILL)
            agent.process.wait()
        service.kill()
        restarted_ms = times.now_ms()
        # The agent begins while there is no service: what was asked before is in force all the same.
        with SteeredAgent(between.url, "kept", tmp_path / "agent", client, *arguments) as agent:
            wait_until(lambda: "takes no reports" in agent.log, "the outage to be noticed")
            with RunningService(tmp_path / "data") as again, again.client() as another:
                between.target = again
                agent.client = another
                wait_until(lambda: between.newest_ms() > restarted_ms, "what the agent kept")
                agent.wait(lambda shown: shown["in_step"] and shown["connected"], "the agent to be back")
                assert another.get(f"{agent.path}/settings").json() == {"interval": 0.03, "samples": 20}
                # Nothing is asked any more, so the agent's own settings are in force again.
                another.delete(f"{agent.path}/settings", headers=FORCE)
                agent.wait(lambda shown: shown["in_step"] and shown["reported"]["interval"] == 0.02, "its own rate")
                assert agent.stop() == 0
                reports = between.reports()
                since = [settings_of(report) for report in reports if report.start_timestamp > restarted_ms]
                assert since == sorted(since, reverse=True)
                assert since[0] == (0.03, 20)
                assert_no_window_mixes_rates(reports)
                assert_history_is_that_of_all_samples(another, "kept", reports)
                assert again.stop() == 0


def test_what_an_agent_refuses_is_shown_with_the_reason_and_nothing_of_it_is_in_force(
    service: RunningService, client: httpx.Client, tmp_path: Path
) -> None:
    with SteeredAgent(service.url, "strict", tmp_path, client, "--samples", "100") as agent:
        agent.wait_connected()
        agent.set(interval=60, log_level="debug")
        shown = agent.wait(lambda shown: shown["refused"], "the refusal")
        assert shown["in_step"] is False
        assert shown["why"] == (
            "it refused: samples: expected a report each 0.1 s to 3600 s, got one each 6000 s from 100 samples at 60 s"
        )
        assert (shown["reported"]["interval"], shown["reported"]["log_level"]) == (0.05, "info")
        agent.set(interval=30)
        shown = agent.wait(lambda shown: shown["in_step"], "the settings that go together")
        assert (shown["refused"], shown["reported"]["interval"]) == ([], 30.0)


def test_an_agent_is_paused_and_resumed(between: Proxy, client: httpx.Client, tmp_path: Path) -> None:
    with SteeredAgent(between.url, "resting", tmp_path, client, "--interval", "20ms", "--samples", "20") as agent:
        agent.wait_connected()
        agent.set(paused=True)
        agent.wait(lambda shown: shown["reported"]["paused"], "the pause")
        paused_at = between.newest_ms()
        outcome = agent.command("report_now")
        wait_until(lambda: agent.outcome(outcome)["status"] == "refused", "a word on the pause")
        assert "paused" in agent.outcome(outcome)["detail"]
        still = len(between.reports())
        wait_until(passes(3 * STEP_S), "time to pass")
        assert len(between.reports()) <= still + 1
        resumed = time.time() * 1000
        agent.set(paused=False)
        agent.wait(lambda shown: not shown["reported"]["paused"], "the end of the pause")
        wait_until(lambda: between.newest_ms() > paused_at + 1500, "a report after the pause")
        assert agent.stop() == 0
    # No window spans the pause.
    reports = between.reports()
    assert_no_window_mixes_rates(reports)
    assert not [one for one in reports if one.start_timestamp < resumed - 1000 and one.end_timestamp > resumed + 100]


def test_a_paused_agent_stays_so_over_a_restart(service: RunningService, client: httpx.Client, tmp_path: Path) -> None:
    for run in (1, 2):
        with SteeredAgent(service.url, "asleep", tmp_path, client, "--interval", "20ms", "--samples", "10") as agent:
            wait_until(lambda run=run: agent.log.count("sampling cpu") == run, "the agent to begin")
            if run == 1:
                agent.wait_connected()
                agent.set(paused=True)
            agent.wait(lambda shown: shown["in_step"] and shown["reported"]["paused"], "the pause")
            id_ = agent.command("diagnostics")
            wait_until(lambda id_=id_: agent.outcome(id_)["status"] == "done", "the agent's own word")
            assert agent.outcome(id_)["document"]["settings"]["in_force"]["paused"] is True
            assert agent.stop() == 0


def test_report_now_ends_the_window_and_loses_no_sample(between: Proxy, client: httpx.Client, tmp_path: Path) -> None:
    with SteeredAgent(between.url, "now", tmp_path, client, "--interval", "20ms", "--samples", "1000") as agent:
        agent.wait_connected()
        wait_until(passes(STEP_S), "some samples")
        id_ = agent.command("report_now")
        wait_until(lambda: bool(between.reports()), "the report")
        wait_until(lambda: agent.outcome(id_)["status"] == "done", "the outcome")
        assert agent.stop() == 0
    first, last = between.reports()
    assert first.observations_per_metric < 1000
    assert last.start_timestamp == pytest.approx(first.end_timestamp, abs=2)
    assert_history_is_that_of_all_samples(client, "now", [first, last])


def test_a_command_is_done_once_however_often_it_is_told(between: Proxy, client: httpx.Client, tmp_path: Path) -> None:
    """Without a stream, each answer repeats a command until the agent has said what came of it."""
    between.refuses_streams = True
    with SteeredAgent(between.url, "once", tmp_path, client, "--interval", "10ms", "--samples", "10") as agent:
        wait_until(lambda: bool(between.reports()), "a report")
        ids = [agent.command(name) for name in ("report_now", "diagnostics", "report_now")]
        wait_until(lambda: all(agent.outcome(id_)["status"] == "done" for id_ in ids), "the outcomes")
        told = [
            command["id"]
            for answer in between.answers
            for command in answer.get("instructions", {}).get("commands", [])
        ]
        assert set(told) <= set(ids)
        assert json.loads((tmp_path / "spool" / "remote.json").read_text())["commands"] == ids
        assert agent.stop() == 0
    short = [report for report in between.reports()[:-1] if report.observations_per_metric < 10]
    assert len(short) <= 2


def test_diagnostics_say_what_helps_and_no_secret(tmp_path: Path) -> None:
    token = "hush-hush-token"
    with RunningService(tmp_path / "data", "--token", token) as service:
        with service.client(headers={"Authorization": f"Bearer {token}"}) as client:
            with SteeredAgent(service.url, "open", tmp_path / "agent", client, "--token", token) as agent:
                agent.wait_connected()
                agent.set(metrics=["cpu", "memory"], samples=20)
                agent.wait(lambda shown: shown["in_step"] and shown["spool"], "a report")
                id_ = agent.command("diagnostics")
                wait_until(lambda: agent.outcome(id_)["status"] == "done", "the document")
                document = agent.outcome(id_)["document"]
    assert document["settings"]["in_force"]["metrics"] == ["cpu", "memory"]
    assert document["spool"]["spooled"] == 0
    assert {"sampler", "sender", "remote", "listener"} <= set(document["agent"]["threads"])
    text = json.dumps(document)
    assert token not in text and str(tmp_path) not in text and "PATH" not in text


def test_commands_that_nobody_fetches_expire(service: RunningService, client: httpx.Client, tmp_path: Path) -> None:
    with SteeredAgent(service.url, "gone", tmp_path, client) as agent:
        agent.wait_connected()
    id_ = agent.command("report_now", expires_s=1)
    wait_until(lambda: agent.outcome(id_)["status"] == "expired", "the end of its time")
    assert agent.shown()["commands_waiting"] == 0
    for _ in range(16):
        agent.command("report_now")
    assert client.post(f"{agent.path}/commands", json={"command": "report_now"}).status_code == 429
    assert client.post(f"{agent.path}/commands", json={"command": "rm -rf"}).status_code == 422


def test_an_agent_that_takes_no_orders_gets_none(between: Proxy, client: httpx.Client, tmp_path: Path) -> None:
    with SteeredAgent(
        between.url, "free", tmp_path, client, "--no-remote", "--interval", "20ms", "--samples", "10"
    ) as agent:
        agent.wait(lambda shown: shown["spool"], "a report")
        agent.set(interval=0.5)
        shown = agent.shown()
        assert (shown["in_step"], shown["why"]) == (False, "it takes no settings: it was started with --no-remote")
        assert client.post(f"{agent.path}/commands", json={"command": "report_now"}).status_code == 409
        seen = len(between.reports())
        wait_until(lambda: len(between.reports()) > seen + 3, "more reports")
        assert agent.stop() == 0
    assert {settings_of(report)[0] for report in between.reports()} == {0.02}
    assert between.streams == 0
    assert all("instructions" not in answer for answer in between.answers)


def test_an_agent_of_an_earlier_version_keeps_reporting_and_is_shown_to_take_no_settings(client: httpx.Client) -> None:
    status = {"version": "0.0.9", "cpu_seconds": 1.5, "resident_bytes": 20_000_000, "settings": {"interval": 0.05}}
    client.put("/api/v1/settings", params={"selector": "user:old"}, json={"samples": 10}, headers=FORCE)
    now = times.now_ms()
    for number in range(2):
        report = original(
            "old", start_timestamp=now - 5000, end_timestamp=now + number,
            agent=status | {"cpu_seconds": 1.5 + number / 100_000},
        )  # fmt: skip
        answer = client.post("/api/v1/metrics", json=report)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "duplicates": 0})
    shown = client.get("/api/v1/agents/old").json()
    assert (shown["in_step"], shown["why"]) == (False, "it takes no settings: its version knows of none")
    assert (shown["version"], shown["overhead"]["cpu_share"]) == ("0.0.9", 0.01)


def test_the_originals_client_is_answered_as_ever_whatever_is_asked_of_agents(client: httpx.Client) -> None:
    client.put("/api/v1/settings", params={"selector": "user:02:*"}, json={"samples": 10}, headers=FORCE)
    answer = client.post("/api/v1/metrics", json=original("02:00:00:00:00:01"))
    assert (answer.status_code, answer.content) == (202, b'{"accepted":1,"duplicates":0}')
    assert client.get("/api/v1/agents", params={"selector": "user:02:*"}).json()["total"] == 0
