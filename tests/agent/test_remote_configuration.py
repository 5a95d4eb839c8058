"""Remote configuration by itself: what is applied, what is refused, what is done once, and when an agent asks."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from agent.connection import Connection, ServiceAnswer, ServiceUnreachable
from agent.identity import HostIdentity
from agent.plan import CommandBox
from agent.probes import PROBES
from agent.remote_configuration import RemoteConfigurationClient, RemoteStateFile
from contract.agent_protocol import AgentState, SettingsInForce
from contract.retry import Backoff
from tests.support.agents import wait_until

OWN = SettingsInForce(interval=0.05, samples=100, metrics=["cpu"])
URL = "http://127.0.0.1:1"


@dataclass
class Service:
    """What the service heard, and what it answers; `away` while it cannot be reached."""

    asked: dict[str, Any] = field(default_factory=dict)
    states: list[AgentState] = field(default_factory=list)
    status: int = 200
    page: bytes | None = None
    """Answered instead by something that is not the service."""
    away: bool = False

    def post_state(self, user_id: str, body: bytes, timeout_s: float) -> ServiceAnswer:
        if self.away:
            raise ServiceUnreachable("nobody there")
        self.states.append(msgspec.json.decode(body, type=AgentState))
        return ServiceAnswer(self.status, self.page or json.dumps(self.asked).encode(), "application/json", 0.0)

    def close(self) -> None:
        pass


def unable() -> Any:
    raise OSError("not on this host")


class Controlled:
    """Remote configuration with a sampler that obeys at once, on a host that cannot sample its load averages."""

    def __init__(self, directory: Path, service: Service, backoff: Backoff | None = None) -> None:
        self.service = service
        self.commands = CommandBox()
        self.plans: list[Any] = []
        connection: Any = service
        soon = Backoff(uniform=lambda _least, _most: 0.02, retry_after_cap_s=0.0)
        self.remote = RemoteConfigurationClient(
            OWN,
            HostIdentity("me", "Linux", "x"),
            RemoteStateFile(directory, URL),
            connection,
            self.commands,
            backoff=backoff or soon,
            poll_s=0.05,
            probes=PROBES | {"load": unable},
        )
        self.remote.diagnose = lambda: {"fine": True}
        self.plan = self.remote.first_plan()
        self._threads = [Thread(target=self.remote.run), Thread(target=self._obey)]
        for thread in self._threads:
            thread.start()

    def _obey(self) -> None:
        while not self.commands.stopping:
            self.commands.sleep(5.0)
            for command in self.commands.take():
                self.plans.append(command.plan)
                command.set_done()

    def close(self) -> None:
        self.commands.stop()
        self.remote._wake.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def controlled(tmp_path: Path, service: Service) -> Iterator[Controlled]:
    level = logging.getLogger().level
    controlled = Controlled(tmp_path, service)
    yield controlled
    controlled.close()
    logging.getLogger().setLevel(level)


def test_a_real_connection_has_what_is_used_here() -> None:
    assert {"post_state", "close"} <= set(dir(Connection))


def test_the_state_is_said_at_the_start_and_after_each_change(controlled: Controlled, service: Service) -> None:
    wait_until(lambda: service.states, "the first state")
    service.asked = {"version": "v", "settings": {"samples": 7}}
    controlled.remote.receive(json.dumps(service.asked).encode())
    wait_until(lambda: service.states[-1].settings_version == "v", "the new state")
    assert service.states[-1].settings.samples == 7
    [plan] = controlled.plans
    assert (plan.samples, plan.interval_s, plan.version) == (7, 0.05, "v")


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        ({"interval": 0.001}, "/interval"),
        ({"colour": "red", "samples": 7}, "/colour"),
        ({"interval": 60.0}, "/samples"),
        ({"metrics": ["cpu", "load"]}, "/metrics/1"),
        ([], ""),
    ],
)
def test_what_is_refused_is_refused_whole_and_once(
    controlled: Controlled, service: Service, settings: object, pointer: str
) -> None:
    service.asked = {"version": "bad", "settings": settings}
    for _ in range(3):
        controlled.remote.receive(json.dumps(service.asked).encode())
    wait_until(lambda: service.states and service.states[-1].refused, "the refusal")
    refused = service.states[-1].refused
    assert refused
    assert (refused.version, refused.problems[0].pointer) == ("bad", pointer)
    assert service.states[-1].settings == OWN
    assert controlled.plans == []
    # Taken back, nothing is refused any more.
    service.asked = {}
    controlled.remote.receive(b"{}")
    wait_until(lambda: not service.states[-1].refused, "the end of the refusal")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"[]",
        b'{"version":1}',
        b'{"commands":[{"id":"../x","command":"a"}]}',
        b"\xff",
        b'{"version":"\xff"}',
        b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_what_makes_no_sense_is_passed_over(controlled: Controlled, service: Service, garbage: bytes) -> None:
    wait_until(lambda: service.states, "the first state")
    controlled.remote.receive(garbage)
    controlled.remote.receive(b'{"version":"v","settings":{"samples":7}}')
    service.asked = {"version": "v", "settings": {"samples": 7}}
    wait_until(lambda: service.states[-1].settings_version == "v", "what makes sense")


def test_settings_that_are_no_utf8_are_refused(controlled: Controlled, service: Service) -> None:
    wait_until(lambda: service.states, "the first state")
    controlled.remote.receive(b'{"version":"bad","settings":{"log_level":"\xff"}}')
    wait_until(lambda: [state for state in service.states if state.refused], "the refusal")
    [state] = [state for state in service.states if state.refused]
    assert state.refused
    assert (state.refused.version, "UTF-8" in state.refused.problems[0].detail) == ("bad", True)
    assert state.settings == OWN


@pytest.mark.parametrize("command", ["shell", "rm -rf /", "REPORT_NOW", ""])
def test_an_agent_does_nothing_but_what_it_knows(controlled: Controlled, service: Service, command: str) -> None:
    service.asked = {"commands": [{"id": "c1", "command": command}]}
    controlled.remote.receive(json.dumps(service.asked).encode())
    wait_until(lambda: [one for state in service.states for one in state.outcomes], "the outcome")
    [outcome] = service.states[-1].outcomes
    assert (outcome.id, outcome.status) == ("c1", "refused")
    assert "report_now and diagnostics, and nothing else" in outcome.detail
    assert controlled.plans == []


def outcomes(service: Service) -> list[tuple[str, str]]:
    return [(one.id, one.status) for state in service.states for one in state.outcomes]


def test_a_command_told_again_and_again_is_done_once(controlled: Controlled, service: Service) -> None:
    body = b'{"commands":[{"id":"c1","command":"report_now"},{"id":"c2","command":"diagnostics"}]}'
    service.away = True
    for _ in range(5):
        controlled.remote.receive(body)
    wait_until(lambda: controlled.plans, "the report")
    service.away = False
    wait_until(lambda: len(outcomes(service)) >= 2, "the outcomes")
    assert set(outcomes(service)[:2]) == {("c1", "done"), ("c2", "done")}
    assert controlled.plans == [None]


def test_word_that_comes_after_a_command_does_not_take_it_back(controlled: Controlled, service: Service) -> None:
    service.asked = {"version": "v", "settings": {"samples": 7}}
    controlled.remote.receive(b'{"commands":[{"id":"c1","command":"report_now"}]}')
    for _ in range(3):
        controlled.remote.receive(b'{"version":"v","settings":{"samples":7}}')
    wait_until(lambda: outcomes(service) and service.states[-1].settings_version == "v", "both")
    assert outcomes(service) == [("c1", "done")]


def test_a_command_that_a_restart_interrupted_is_not_begun_again(tmp_path: Path, service: Service) -> None:
    RemoteStateFile(tmp_path, URL).begin("c1")
    service.asked = {"commands": [{"id": "c1", "command": "report_now"}]}
    controlled = Controlled(tmp_path, service)
    try:
        wait_until(lambda: outcomes(service), "the outcome")
        assert outcomes(service)[0] == ("c1", "interrupted")
        assert controlled.plans == []
    finally:
        service.asked = {}
        controlled.close()


def test_a_paused_agent_that_hears_no_stream_asks_what_it_is_to_do(controlled: Controlled, service: Service) -> None:
    wait_until(lambda: service.states, "the first state")
    service.asked = {"version": "p", "settings": {"paused": True}}
    controlled.remote.receive(json.dumps(service.asked).encode())
    wait_until(lambda: service.states[-1].settings.paused, "the pause")
    said = len(service.states)
    wait_until(lambda: len(service.states) > said + 3, "more questions")
    service.asked = {"version": "r", "settings": {"paused": False}}
    wait_until(lambda: not service.states[-1].settings.paused, "the end of the pause")


@pytest.mark.parametrize("status", [404, 500, 301])
def test_a_service_that_does_not_hear_the_state_is_told_again(tmp_path: Path, service: Service, status: int) -> None:
    service.status = status
    controlled = Controlled(tmp_path, service)
    try:
        wait_until(lambda: len(service.states) > 2, "further attempts")
        assert not controlled.remote.registered.is_set()
        service.status = 200
        wait_until(controlled.remote.registered.is_set, "the registration")
        assert controlled.plans == []
    finally:
        controlled.close()


def test_an_outcome_that_the_service_refuses_is_not_said_for_ever(controlled: Controlled, service: Service) -> None:
    wait_until(lambda: service.states, "the first state")
    service.status = 413
    controlled.remote.receive(b'{"commands":[{"id":"c1","command":"diagnostics"}]}')
    wait_until(lambda: outcomes(service), "the outcome")
    service.status = 200
    controlled.remote.register_again()
    wait_until(lambda: service.states[-1].outcomes == [], "a state without it")


def test_what_was_asked_before_a_restart_is_in_force_from_the_first_sample(tmp_path: Path, service: Service) -> None:
    service.asked = {"version": "v", "settings": {"samples": 9, "paused": True}}
    first = Controlled(tmp_path, service)
    wait_until(lambda: service.states and service.states[-1].settings_version == "v", "the settings")
    first.close()
    service.away = True
    second = Controlled(tmp_path, service)
    second.close()
    assert (second.plan.samples, second.plan.paused, second.plan.version) == (9, True, "v")


@pytest.mark.parametrize("page", [b"<html>Please sign in</html>", b"[]", b'"ok"'])
def test_whatever_answers_200_without_being_the_service_is_asked_ever_more_seldom(
    tmp_path: Path, page: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(page=page)
    waits: list[float] = []

    def wait(_least: float, most: float) -> float:
        waits.append(most)
        return 0.0

    controlled = Controlled(tmp_path, service, Backoff(wait, retry_after_cap_s=0.01))
    wait_until(lambda: len(waits) >= 8, "attempts")
    controlled.close()
    assert waits[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert not controlled.remote.registered.is_set()
    assert caplog.text.count("cannot be understood") == 1


@pytest.mark.parametrize("error", [KeyError("siblings"), RuntimeError("no clock"), OSError("no /proc")])
def test_diagnostics_that_cannot_be_made_are_refused_and_the_agent_goes_on(
    controlled: Controlled, service: Service, error: Exception
) -> None:
    def fail() -> dict[str, Any]:
        raise error

    controlled.remote.diagnose = fail
    service.asked = {"commands": [{"id": "c1", "command": "diagnostics"}]}
    controlled.remote.receive(json.dumps(service.asked).encode())
    wait_until(lambda: ("c1", "refused") in outcomes(service), "the outcome")
    service.asked = {"commands": [{"id": "c2", "command": "report_now"}]}
    controlled.remote.receive(json.dumps(service.asked).encode())
    wait_until(lambda: ("c2", "done") in outcomes(service), "the next command")
