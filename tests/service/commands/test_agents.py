"""`loadlens-service agents` as an operator uses it, with a real service and a real agent."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.cli import main
from tests.support import preloaded
from tests.support.agent_states import agent as path_of
from tests.support.agent_states import state
from tests.support.reports import END_MS, original, post, small
from tests.support.running import ROOT, RunningService, clean_environment, wait_until
from tests.support.steering import SteeredAgent

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("console") / "data") as service:
        yield service


@pytest.fixture(scope="module")
def client(service: RunningService) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def real(service: RunningService, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("agent")
    with SteeredAgent(service.url, "web-1", folder, client, "--interval", "20ms", "--samples", "50") as agent:
        agent.wait_connected()
        wait_until(lambda: bool(agent.shown()["spool"]), "a report")
        yield agent.user_id


def run(service: RunningService, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(
        "service", "agents", *arguments, environment=clean_environment(LOADLENS_URL=service.url, **environment)
    )


def test_a_roll_out_is_set_followed_listed_and_taken_back(service: RunningService, real: str) -> None:
    done = run(service, "set", "user:web-*", "interval=40ms", "metrics=cpu,memory", "--watch", "--rank", "300")
    assert done.returncode == 0, done.stderr
    assert "Set for user:web-* now: interval=40ms metrics=cpu,memory." in done.stdout
    assert "1 agent: what was asked is in force." in done.stdout
    listed = run(service)
    assert "40ms x 50 cpu,memory" in listed.stdout and "1 agent, 0 not in sync." in listed.stdout
    assert run(service, "unset", "user:web-*", "metrics").stdout.startswith("Set for user:web-* now: interval=40ms.")
    assert run(service, "unset", "user:web-*").stdout.startswith("Nothing is set for user:web-* now.")
    watched = run(service, "watch", "--json")
    assert (watched.returncode, json.loads(watched.stdout)) == (0, {"agents": 1, "behind": []})
    [entry] = json.loads(run(service, "list", "--json").stdout)
    assert entry["reported"]["interval"] == 0.02 and entry["in_step"] is True


def test_a_roll_out_that_was_refused_ends_at_once_with_the_reason(service: RunningService, real: str) -> None:
    assert json.loads(run(service, "set", "all", "interval=60s", "--json").stdout) == {"interval": 60.0}
    watched = run(service, "set", real, "samples=100", "--watch")
    assert watched.returncode == 1
    assert "web-1: it refused: samples: expected a report each 0.1 s to 3600 s, got one each 6000 s" in watched.stdout
    for target in ("all", real):
        run(service, "unset", target)
    assert run(service, "watch", real).returncode == 0


def test_a_roll_out_ends_at_the_deadline(service: RunningService, client: httpx.Client) -> None:
    client.post(f"{path_of('slow')}/state", json=state())
    assert run(service, "set", "slow", "samples=5").returncode == 0
    watched = run(service, "watch", "slow", "--deadline", "1s")
    assert watched.returncode == 1
    assert "slow: it will be told with the answer to its next report" in watched.stdout
    assert run(service, "watch", "slow", "--deadline", "1s", "--json").returncode == 1


def test_commands_are_given_and_their_outcomes_shown(service: RunningService, real: str) -> None:
    reported = run(service, "report-now", real)
    assert (reported.returncode, reported.stdout) == (0, "web-1: done\n")
    diagnosed = run(service, "diagnostics", real)
    document = json.loads(diagnosed.stdout)
    assert diagnosed.returncode == 0
    assert document["user_id"] == "web-1" and document["settings"]["listening"] is True
    assert run(service, "diagnostics", "nobody").returncode == 1


def test_what_is_set_for_an_agent_that_never_reported_says_so(service: RunningService) -> None:
    done = run(service, "set", "nobody", "interval=50ms")
    assert done.returncode == 0, done.stderr
    assert "No agent that nobody means has reported yet" in done.stdout


def test_a_bare_pattern_is_one_and_who_keeps_other_settings_is_said(
    service: RunningService, client: httpx.Client
) -> None:
    for user in ("lab-1", "lab-2", "lab-3"):
        client.post(f"{path_of(user)}/state", json=state())
    assert run(service, "set", "lab-2", "samples=50").returncode == 0
    done = run(service, "set", "lab-*", "samples=20", "interval=40ms")
    assert "Set for lab-* now: interval=40ms samples=20." in done.stdout, done.stderr
    assert "1 of 3 agents keeps its own samples, as a stronger layer asks: lab-2." in done.stdout
    assert "own interval" not in done.stdout
    assert run(service, "unset", "lab-*").returncode == 0


def test_agents_that_are_gone_are_forgotten(service: RunningService, client: httpx.Client) -> None:
    for user in ("gone-1", "gone-2"):
        client.post(f"{path_of(user)}/state", json=state())
    refused = run(service, "forget", "gone-*")
    assert refused.returncode == 2 and "expected user ids, got the selection gone-*" in refused.stderr
    assert run(service, "forget", "gone-1", "gone-2").stdout == "2 forgotten.\n"
    assert client.get(path_of("gone-1")).status_code == 404
    assert run(service, "forget", "gone-1").returncode == 1


def test_users_are_forgotten_with_their_windows(service: RunningService, client: httpx.Client) -> None:
    post(client, small("gone-3", END_MS)).raise_for_status()
    assert run(service, "forget", "--windows", "gone-3").stdout == "1 forgotten.\n"
    assert "gone-3" not in client.get("/api/v1/users").text
    assert "No report of user 'gone-3'" in run(service, "forget", "--windows", "gone-3").stderr


def test_the_audit_trail_names_whoever_called(service: RunningService) -> None:
    run(service, "set", "agent:os:odd", "samples=7")
    [entry] = json.loads(run(service, "audit", "agent:os:odd", "--json").stdout)
    assert entry["after"] == {"samples": 7} and "@" in entry["actor"]
    assert '{"samples":7}' in run(service, "audit", "--most", "3").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["set", "all"], 2, "CHANGES"),
        (["set", "all", "interval"], 2, "expected name=value"),
        (["set", "all", "interval=1ms"], 2, "interval: expected 10ms to 60s, got 1ms"),
        (["set", "all", "metrics=cpu,gpu"], 2, "gpu"),
        (["set", "all", "colour=red"], 2, "got 'colour'"),
        (["set", "os:Plan9", "samples=1"], 2, "os:Linux"),
        (["set", "all", "samples=10", "--rank", "3"], 1, "rank"),
        (["nosuch"], 2, "report-now"),
        (["pause", "web-1"], 2, "`loadlens-service agents set TARGET paused=true` does that"),
        (["report-now", "nobody"], 1, "no agent is meant by nobody"),
        (["forget", "never-heard-of"], 1, "`loadlens-service agents forget --windows` forgets"),
        (["--url", "ftp://x"], 2, "http://localhost:8888"),
        (["--url", "http://127.0.0.1:1"], 1, "cannot be reached"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_is_right(
    service: RunningService, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("LOADLENS_URL", service.url)
    with pytest.raises(SystemExit) as ended:
        main(["agents", *arguments])
    assert ended.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("loadlens-service agents") and words in line


@pytest.mark.parametrize("command", ["list", "set", "unset", "watch", "report-now", "diagnostics", "audit"])
def test_every_command_teaches_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["agents", command, "--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out
    assert main(["agents", "--help"]) == 0
    assert f"  {command} " in capsys.readouterr().out


def test_the_operators_token_is_taken_from_the_services_own_file(tmp_path: Path) -> None:
    config = tmp_path / "loadlens.toml"
    config.write_text('[service]\ntoken = "for-agents"\noperator_token = "for-operators"\n')
    with RunningService(tmp_path / "data", "--config", str(config)) as guarded:
        assert run(guarded, "list", "--config", str(config)).returncode == 0
        refused = run(guarded, "list", "--token", "for-agents")
        assert refused.returncode == 1 and "operator" in refused.stderr


STEERING = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\r\n[red]forged: done[/]"
"""Clears the screen, names the window, turns text around, and begins a line of its own."""


def harmless(text: str) -> bool:
    return text.replace("\n", "").isprintable() and "\nforged" not in text and "\n[red]" not in text


def test_what_an_agent_says_does_not_steer_the_terminal(service: RunningService, client: httpx.Client) -> None:
    path = path_of("rogue-1")
    assert client.post(f"{path}/state", json=state()).status_code == 200
    assert run(service, "set", "rogue-1", "samples=50").returncode == 0
    asked = client.post(f"{path}/state", json=state()).json()
    problems = [{"pointer": f"/{STEERING}", "detail": STEERING}]
    refused = state(
        refused={"version": asked["version"], "problems": problems}, os_version=STEERING[:200], agent_version=STEERING
    )
    assert client.post(f"{path}/state", json=refused).status_code == 200
    for arguments in (("list", "rogue-1"), ("watch", "rogue-1"), ("audit", "rogue-1")):
        shown = run(service, *arguments)
        assert "rogue-1" in shown.stdout
        assert harmless(shown.stdout + shown.stderr), ascii(shown.stdout + shown.stderr)
    assert "forged: done" in run(service, "watch", "rogue-1").stdout


def test_what_a_report_says_of_its_agent_does_not_steer_the_terminal_nor_end_the_list(
    service: RunningService, client: httpx.Client
) -> None:
    metrics = [STEERING, "cpu"]
    for number, settings in enumerate(
        [
            {"interval": 0.05, "samples": 100, "metrics": metrics},
            {"interval": "x", "samples": 1e300, "metrics": 5},
            {"interval": 1e308, "samples": "[red]", STEERING: STEERING},
        ]
    ):
        status = {"version": STEERING, "cpu_seconds": 1e12, "resident_bytes": 2**53, "settings": settings}
        assert client.post("/api/v1/metrics", json=original(f"rogue-report-{number}", agent=status)).status_code == 202
    shown = run(service, "list", "user:rogue-report-*")
    assert shown.returncode == 0, shown.stderr
    assert harmless(shown.stdout + shown.stderr), ascii(shown.stdout + shown.stderr)
    assert "50ms x 100" in shown.stdout
    told = client.get("/api/v1/agents", params={"selector": "user:rogue-report-*"}).text
    assert harmless(told), ascii(told)


@pytest.mark.parametrize("document", [None, {STEERING: [STEERING, 1]}, [STEERING]])
def test_an_outcome_does_not_steer_the_terminal(
    service: RunningService, client: httpx.Client, document: object
) -> None:
    path = path_of("rogue-2")
    assert client.post(f"{path}/state", json=state()).status_code == 200
    with subprocess.Popen(
        [sys.executable, "-m", "service", "agents", "diagnostics", "rogue-2", "--wait", "60s"],
        cwd=ROOT, env=clean_environment(LOADLENS_URL=service.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as asking:  # fmt: skip
        waiting: list[str] = []

        def is_asked() -> bool:
            found = client.post(f"{path}/state", json=state()).json().get("commands", [])
            waiting[:] = [command["id"] for command in found]
            return bool(waiting)

        wait_until(is_asked, "the command")
        outcome = {"id": waiting[0], "status": "done" if document else "refused", "detail": STEERING}
        told = state(outcomes=[outcome | ({"document": document} if document else {})])
        assert client.post(f"{path}/state", json=told).status_code == 200
        shown, said = asking.communicate(timeout=120)
    assert "rogue-2" in shown
    assert harmless(shown + said), ascii(shown + said)
