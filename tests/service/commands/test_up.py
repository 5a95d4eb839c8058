"""`loadlens-service up`: real processes, ended in every way that a person or a supervisor may choose."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from agent.settings import MIB
from agent.spool import Spool
from service.commands.up import UpSettings, _data_paths
from tests.support.access import make_tokens
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

pytestmark = [pytest.mark.server, pytest.mark.skipif(os.name != "posix", reason="the server runs on POSIX systems")]

END_S = 30.0
NOBODY = "http://127.0.0.1:9"


class Up:
    """A running `up`, in a process group of its own as a shell would start it."""

    def __init__(self, data_dir: Path, *arguments: str, code: str = "", **env: str) -> None:
        self.data_dir = data_dir
        program = ["-c", code] if code else ["-m", "service", "up"]
        self.out, self.err = data_dir.with_suffix(".out"), data_dir.with_suffix(".err")
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, *program, "--port", "0", "--data-dir", str(data_dir), *arguments],
                cwd=ROOT, env=clean_environment(**env), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        self.family: list[psutil.Process] = []

    def await_running(self) -> None:
        """Until it has said where to look."""
        wait_until(lambda: "Ctrl-C stops" in self.said or self.process.poll() is not None, "up to run")
        assert self.process.poll() is None, self.said + self.complaints
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    @property
    def said(self) -> str:
        return self.out.read_text()

    @property
    def complaints(self) -> str:
        return self.err.read_text()

    @property
    def url(self) -> str:
        return re.findall(r"http://localhost:\d+", self.said)[-1]

    @property
    def user(self) -> str:
        return re.findall(r"byUser/([0-9A-Za-z:_-]+)", self.said)[0]

    def get(self, path: str, **options: Any) -> Any:
        return httpx.get(self.url + path, trust_env=False, **options).raise_for_status().json()

    def child(self, word: str) -> psutil.Process:
        """The child whose command line holds `word`."""

        def found() -> psutil.Process | None:
            children = psutil.Process(self.process.pid).children()
            return next((process for process in children if word in process.cmdline()), None)

        # One that was begun this moment does not have its own command line yet.
        return wait_until(found, f"a child with {word}")

    def end(self) -> int:
        return self.process.wait(END_S)

    def assert_no_child_left(self) -> None:
        _, alive = psutil.wait_procs(self.family, timeout=END_S)
        assert self.family
        assert not alive


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*arguments: str, **options: Any) -> Up:
        started.append(Up(tmp_path / "data", *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        for process in [*one.family, one.process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        one.process.wait()


def shell(command: str) -> str:
    """What a command that is copied from the terminal prints."""
    return subprocess.run(["bash", "-c", f"{command} -sSf"], capture_output=True, text=True, check=True).stdout


def ctrl_c(running: Up) -> None:
    """As a terminal does: to the whole foreground group."""
    os.killpg(running.process.pid, signal.SIGINT)


def terminate(running: Up) -> None:
    """As a supervisor does."""
    running.process.terminate()


def hang_up(running: Up) -> None:
    """As a terminal does that is closed."""
    os.killpg(running.process.pid, signal.SIGHUP)


def test_this_hosts_windows_are_answered_where_it_says(up: Callable[..., Up]) -> None:
    running = up(LOADLENS_SAMPLES="4")
    running.await_running()
    wait_until(lambda: running.user in str(running.get("/api/v1/users")), "the first report")
    assert f"export LOADLENS_URL={running.url}" in running.said
    answers = [shell(command) for command in re.findall(r"curl .*", running.said)]
    entries = json.loads(answers[0])["entries"]
    assert entries
    assert all(0 <= entry["value"] <= 1 for entry in entries)
    assert len(answers) == 4
    assert "loadlens_reports_accepted_total" in answers[-1]
    ctrl_c(running)
    assert running.end() == 0


@pytest.mark.parametrize("ask", [ctrl_c, terminate, hang_up])
def test_it_ends_in_order_and_leaves_nothing(up: Callable[..., Up], ask: Callable[[Up], None]) -> None:
    # Windows of 100 s: what is known of the host afterwards is the window that the agent could not finish.
    running = up(LOADLENS_SAMPLES="10000", LOADLENS_INTERVAL="10ms")
    running.await_running()
    agent = running.child("agent")
    wait_until(lambda: agent.num_threads() > 2, "the agent to start")
    before_s = agent.cpu_times().user
    wait_until(lambda: agent.cpu_times().user > before_s, "the agent to sample")
    ask(running)
    assert running.end() == 0
    running.assert_no_child_left()
    assert running.complaints == ""
    assert running.said.index("Stopping the agent") < running.said.index("Stopping the service")
    with RunningService(running.data_dir) as service, service.client() as client:
        known = [user["user_id"] for user in client.get("/api/v1/users").json()["users"]]
        # Where a busy host leaves the agent no time to send it, it waits for the next start.
        assert known == [running.user] or (known, waiting_in(running.data_dir / "agent")) == ([], 1)
        assert service.stop() == 0


def waiting_in(directory: Path) -> int:
    spool = Spool(directory, MIB, 3600.0)
    try:
        return spool.waiting
    finally:
        spool.close()


def test_what_was_started_ends_with_it_even_when_it_is_killed(up: Callable[..., Up]) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells children of their parent's end")
    running = up()
    running.await_running()
    assert len(running.family) >= 3
    running.process.kill()
    running.assert_no_child_left()


@pytest.mark.parametrize("name", ["agent", "service"])
def test_when_one_dies_it_says_so_and_ends_the_other(up: Callable[..., Up], name: str) -> None:
    running = up()
    running.await_running()
    running.child(name).kill()
    assert running.end() == 1
    # The agent may say besides that it has lost the service.
    assert f"loadlens-service up: error: the {name} ended (killed by SIGKILL)\n" in running.complaints
    assert "Traceback" not in running.complaints
    running.assert_no_child_left()


def test_a_port_in_use_is_said_in_one_line(up: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        running = up("--port", str(port))
        assert running.end() == 1
    assert running.complaints.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port" in running.complaints


def test_a_service_that_cannot_start_ends_it(up: Callable[..., Up]) -> None:
    running = up("--data-dir", "/dev/null/data")
    assert running.end() == 1
    assert (
        running.complaints.splitlines()[-1] == "loadlens-service up: error: the service ended (exit code 1); see above"
    )
    assert "Traceback" not in running.complaints


def test_an_agent_that_cannot_start_is_said_in_one_line(up: Callable[..., Up]) -> None:
    running = up(LOADLENS_USER_ID="a\tb")
    assert running.end() == 1
    assert running.complaints.count("\n") == 1
    assert "the agent cannot start: loadlens-agent: error: --user-id" in running.complaints


def test_a_wrong_setting_ends_it_with_2(up: Callable[..., Up]) -> None:
    running = up("--flush-interval", "soon")
    assert running.end() == 2
    assert running.complaints.startswith("loadlens-service up: error: --flush-interval: expected a duration")


def test_without_an_agent_the_service_runs_alone(up: Callable[..., Up]) -> None:
    # Nor does a proxy of the environment, which would not find the way back to this machine, matter.
    running = up("--no-agent", http_proxy=NOBODY, all_proxy=NOBODY)
    running.await_running()
    assert len(psutil.Process(running.process.pid).children()) == 1
    assert running.get("/api/v1/users") == {"users": [], "next": None}
    terminate(running)
    assert running.end() == 0


def test_service_and_agent_share_the_token_of_a_file(up: Callable[..., Up], tmp_path: Path) -> None:
    config = tmp_path / "loadlens.toml"
    config.write_text('[service]\ntoken = "s3cret"\n[agent]\nuser_id = "me"\nsamples = 4\n')
    running = up("--config", str(config))
    running.await_running()
    assert httpx.get(running.url + "/api/v1/users", trust_env=False).status_code == 401
    headers = {"Authorization": "Bearer s3cret"}
    wait_until(lambda: "'me'" in str(running.get("/api/v1/users", headers=headers)), "the first report")
    assert "$LOADLENS_TOKEN" in running.said
    assert "s3cret" not in running.said


def test_where_tokens_are_asked_for_the_agent_gets_one(up: Callable[..., Up], tmp_path: Path) -> None:
    admin = make_tokens(tmp_path / "data", ("me", "admin", "*"))["me"]
    headers = {"Authorization": f"Bearer {admin}"}
    running = up()
    running.await_running()
    assert httpx.get(running.url + "/api/v1/users", trust_env=False).status_code == 401
    wait_until(lambda: len(running.get("/api/v1/users", headers=headers)["users"]) == 1, "the first report")
    (user,) = running.get("/api/v1/users", headers=headers)["users"]
    tokens = running.get("/api/v1/tokens", headers=headers)["tokens"]
    assert [token["scope"] for token in tokens if token["role"] == "agent"] == [user["user_id"]]
    terminate(running)
    assert running.end() == 0


def test_demo_loads_the_fleet_the_first_time_only(up: Callable[..., Up]) -> None:
    first = up("--demo")
    first.await_running()
    assert "Loaded 93,024 windows" in first.said
    for command in re.findall(r"curl -H .*", first.said):
        answer = shell(command)
        assert answer.startswith("date,value")
        assert answer.count("\n") > 10
    ctrl_c(first)
    assert first.end() == 0
    second = up("--demo")
    wait_until(lambda: second.said.count("Ctrl-C stops") == 2, "up to run again")
    assert "The fleet of 60 hosts is there already" in second.said
    assert second.said.count("Loaded") == 1


def test_ctrl_c_during_the_loading_ends_it_too(up: Callable[..., Up]) -> None:
    running = up("--demo")
    wait_until(lambda: "60 hosts" in running.said, "the loading")
    running.family = psutil.Process(running.process.pid).children(recursive=True)
    ctrl_c(running)
    assert running.end() == 0
    running.assert_no_child_left()
    assert running.complaints == ""


INTERRUPTED = """
import os, signal, sys
from service.commands import up

class Interrupted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(10))  # the signal is handled between two steps

class Demonstrated(up._Up):
    def _demonstrate(self):
        del_me = Interrupted()
        del del_me
        return super()._demonstrate()

up._Up = Demonstrated
sys.exit(up.main(sys.argv[1:]))
"""
"""Ctrl-C comes while something is cleaned up: what is raised there goes to no caller."""


def test_ctrl_c_in_a_callback_is_not_lost(up: Callable[..., Up]) -> None:
    running = up("--demo", code=INTERRUPTED)
    assert running.end() == 0
    assert "Stopped." in running.said
    assert running.complaints == ""


TWICE = """
import os, signal, sys
from service.commands import up

class Twice(up._Up):
    def _demonstrate(self):
        os.kill(os.getpid(), signal.SIGINT)

    def say(self, text):
        if not text:
            os.kill(os.getpid(), signal.SIGINT)
        super().say(text)

up._Up = Twice
sys.exit(up.main(sys.argv[1:]))
"""
"""Ctrl-C comes again before anything was done about the first."""


def test_ctrl_c_twice_at_once_ends_it_without_a_traceback(up: Callable[..., Up]) -> None:
    running = up("--demo", code=TWICE)
    assert running.end() in (0, 1)
    assert "Traceback" not in running.complaints
    assert "Stopping the service" in running.said or "Stopped." in running.said


def test_with_influxdb_it_says_where_the_windows_are() -> None:
    assert _data_paths(UpSettings(data_dir="here")) == "here"
    elsewhere = _data_paths(UpSettings(data_dir="here", store="influx://localhost:8086/METRICS"))
    assert elsewhere == "influx://localhost:8086/METRICS (windows) and here (the rest)"
