"""One contract for what operators decide and what is owed to them: kept by SQLite alone, or alike by two processes.

Each case changes something at one process and asks another: by itself a service is both.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from contract import times
from contract.agent_protocol import AgentState
from service.agents import layers
from service.agents.layers import ALL, Layer, TooManyLayers
from service.alerts import repository
from service.alerts.alarms import SavedAlarm, Transition
from service.alerts.repository import TooMany
from service.annotations import AnnotationFilter, ListPosition
from service.control.database import ControlError
from service.credentials.tokens import TokenRefused
from service.reporting import schedules
from service.reporting.schedules import KeptReport, Timing, TooManySchedules
from tests.support.agent_states import state
from tests.support.deciding import (
    OPERATOR,
    DecidingProcess,
    DecidingProcesses,
    any_version,
    at_once,
    count_at_once,
    rule_of,
)

MINUTE_MS = 60_000
FLEET = Timing(days=("mon",), at="06:00")


class Service:
    """`here` is asked to change something, `there` what holds."""

    def __init__(self, folder: Path, address: str | None) -> None:
        self._processes = DecidingProcesses(folder)
        self._address = address
        self._open()

    def _open(self) -> None:
        self.here = self._processes.open("a", self._address)
        self.there = self.here if self._address is None else self._processes.open("b", self._address)

    @property
    def processes(self) -> list[DecidingProcess]:
        """Both; where they are one, it is here twice."""
        return [self.here, self.there]

    def settle(self) -> None:
        """Return when each process has what was changed so far."""
        for process in self.processes:
            process.catch_up()

    def join(self) -> DecidingProcess:
        """A process that is new; by itself a service has no other."""
        return self.here if self._address is None else self._processes.open("c", self._address)

    def restart(self) -> None:
        """End all, and begin again."""
        self.close()
        self._open()

    def close(self) -> None:
        """End all."""
        self._processes.end_all()


@pytest.fixture(params=["alone", pytest.param("two of a cluster", marks=pytest.mark.server)])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A service whose control database is empty."""
    address = None
    if request.param != "alone":
        address = request.getfixturevalue("one_node").address(request.getfixturevalue("name"))
    service = Service(tmp_path, address)
    yield service
    service.close()


def entries_of(process: DecidingProcess) -> list[dict[str, Any]]:
    """The audit trail, newest first, without the numbers of its entries."""
    found = process.audit.entries(target=None, before=None, limit=1000)
    return [{name: value for name, value in entry.items() if name != "id"} for entry in found]


def saying(**members: Any) -> AgentState:
    """What an agent says of its state."""
    return msgspec.convert(state(**members), AgentState)


# Settings of agents


def test_settings_that_one_sets_the_other_asks_agents_for(service: Service) -> None:
    service.here.set(ALL.text, samples=20)
    service.here.set("os:Linux", samples=25)
    service.here.set("agent:web-1", samples=30)
    service.settle()
    for user, os_type, samples in (("web-1", "Linux", 30), ("web-2", "Linux", 25), ("web-3", "Windows", 20)):
        asked, version = service.there.layers.desired(user, os_type, {})
        assert asked.samples == samples
        assert (asked, version) == service.here.layers.desired(user, os_type, {})
    for target in (ALL.text, "os:Linux", "agent:web-1"):
        assert service.there.layers.get(target) == service.here.layers.get(target)
    assert service.there.layers.get(ALL.text).revision > 0


def test_settings_that_are_taken_back_ask_for_nothing_and_never_have_a_revision_again(service: Service) -> None:
    first = service.here.set(ALL.text, samples=20)
    service.settle()
    service.there.layers.change(ALL.text, OPERATOR, lambda layer: None)
    service.settle()
    assert service.here.layers.get(ALL.text).revision == 0
    assert service.here.layers.desired("web-1", "Linux", {})[0].samples is UNSET
    again = service.here.set(ALL.text, samples=20)
    service.settle()
    assert service.there.layers.get(ALL.text) == again
    assert again.revision > first.revision


def test_an_edit_sees_the_newest_settings_and_may_refuse(service: Service) -> None:
    service.here.set(ALL.text, samples=20)
    service.settle()
    trail = service.here.trail

    def refuse(layer: Layer) -> Layer:
        assert layer.settings.samples == 20
        raise ValueError("another revision")

    with pytest.raises(ValueError, match="another revision"):
        service.there.layers.change(ALL.text, OPERATOR, refuse)
    service.settle()
    assert service.here.layers.get(ALL.text).settings.samples == 20
    assert [process.trail for process in service.processes] == [trail, trail]


def test_many_who_change_the_same_settings_at_once_lose_nothing(service: Service) -> None:
    count_at_once(service.processes, ALL.text, 20)
    service.settle()
    assert [process.layers.get(ALL.text).settings.samples for process in service.processes] == [40, 40]
    assert service.here.layers.get(ALL.text) == service.there.layers.get(ALL.text)


def test_only_so_many_selections_have_settings(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_SELECTIONS", 2)
    service.here.set("os:Linux", samples=20)
    service.settle()
    service.there.set("os:Windows", samples=20)
    service.settle()
    for process in service.processes:
        with pytest.raises(TooManyLayers):
            process.set("os:MacOS", samples=20)


# Commands for agents


def test_a_command_and_its_outcome_are_known_everywhere(service: Service) -> None:
    async def command() -> None:
        for process in service.processes:
            assert await process.agents.exchange("web-1", saying()) is not None
        id_ = await service.here.agents.command(service.here.agents.registry.get("web-1"), "report_now", 600, OPERATOR)
        await asyncio.to_thread(service.settle)
        assert service.there.agents.commands.get(id_)["status"] == "waiting"
        await service.there.agents.exchange("web-1", saying(outcomes=[{"id": id_, "status": "done"}]))
        await asyncio.to_thread(service.settle)
        for process in service.processes:
            assert process.agents.commands.get(id_)["status"] == "done"
        assert service.there.agents.commands.of("web-1", 9) == service.here.agents.commands.of("web-1", 9)

    asyncio.run(command())


# Rules and silences


def test_rules_are_the_same_with_versions_that_never_come_again(service: Service) -> None:
    first = service.here.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    service.settle()
    assert service.there.repository.rules() == {"busy": (rule_of(), first)}
    found: list[int] = []
    second = service.there.repository.change_rule("busy", rule_of(above=0.5), OPERATOR, found.append)
    service.settle()
    assert found == [first]
    assert service.here.repository.rules() == {"busy": (rule_of(above=0.5), second)}
    service.here.repository.change_rule("busy", None, OPERATOR, any_version)
    service.settle()
    assert service.there.repository.rules() == {}
    third = service.there.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    assert first < second < third


def test_a_rule_of_another_version_than_was_meant_stays(service: Service) -> None:
    version = service.here.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    service.settle()

    def refuse(found: int) -> None:
        assert found == version
        raise ValueError("another version")

    with pytest.raises(ValueError, match="another version"):
        service.there.repository.change_rule("busy", rule_of(above=0.5), OPERATOR, refuse)
    service.settle()
    for process in service.processes:
        assert process.repository.rules() == {"busy": (rule_of(), version)}
        assert process.trail == [("rule", "rule:busy")]


def test_only_so_many_rules_and_silences_are_kept(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_MAX_RULES", 1)
    monkeypatch.setattr(repository, "_MAX_SILENCES", 1)
    service.here.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    service.here.repository.add_silence("*", "*", times.now_ms() + MINUTE_MS, "", OPERATOR)
    service.settle()
    for process in service.processes:
        with pytest.raises(TooMany):
            process.repository.change_rule("idle", rule_of(name="idle"), OPERATOR, any_version)
        with pytest.raises(TooMany):
            process.repository.add_silence("*", "*", times.now_ms() + MINUTE_MS, "", OPERATOR)


def test_a_silence_holds_everywhere_until_it_is_ended_anywhere(service: Service) -> None:
    now_ms = times.now_ms()
    later = service.here.repository.add_silence("busy", "web-*", now_ms + 9 * MINUTE_MS, "a deploy", OPERATOR)
    sooner = service.here.repository.add_silence("*", "*", now_ms + MINUTE_MS, "", OPERATOR, start_ms=now_ms + 10)
    service.settle()
    assert service.there.silences == service.here.silences == [sooner, later]
    assert service.there.repository.end_silence(later.id, OPERATOR)
    service.settle()
    assert service.here.silences == [sooner]
    assert not service.here.repository.end_silence(later.id, OPERATOR)


# Tokens and sessions


def test_a_token_opens_everywhere_as_long_as_it_is_good(service: Service) -> None:
    made = service.here.tokens.create("anna", "reader", "web-*", expires_ms=None, actor=OPERATOR)
    service.settle()
    assert service.there.opens(made.text)
    assert service.there.tokens.get(made.token.id).scope == "web-*"
    service.there.tokens.change(made.token.id, name="berta", actor=OPERATOR)
    turned = service.there.tokens.rotate(made.token.id, overlap_ms=0, actor=OPERATOR)
    service.settle()
    assert service.here.tokens.get(made.token.id).name == "berta"
    assert (service.here.opens(made.text), service.here.opens(turned.text)) == (False, True)
    service.here.tokens.revoke(made.token.id, actor=OPERATOR)
    service.settle()
    assert not service.there.opens(turned.text)
    with pytest.raises(TokenRefused, match="revoked"):
        service.there.tokens.rotate(made.token.id, overlap_ms=0, actor=OPERATOR)


def test_a_text_that_was_rotated_goes_on_for_its_overlap_everywhere(service: Service) -> None:
    made = service.here.tokens.create("anna", "reader", "all", expires_ms=None, actor=OPERATOR)
    service.settle()
    turned = service.there.tokens.rotate(made.token.id, overlap_ms=MINUTE_MS, actor=OPERATOR)
    service.settle()
    for process in service.processes:
        assert process.opens(made.text) and process.opens(turned.text)
        assert process.tokens.identity(made.text, times.now_ms() + 2 * MINUTE_MS, "127.0.0.1") is None


def test_an_enrolment_token_is_used_up_once_by_all(service: Service) -> None:
    made = service.here.tokens.create("fleet", "enrolment", "all", expires_ms=None, actor=OPERATOR, uses=10)
    service.settle()
    enrolled: list[str] = []

    def enrol(process: DecidingProcess, place: str) -> None:
        enrolled.append(process.tokens.enrol(made.token.identity, place, actor=OPERATOR).text)

    def enrol_all(process: DecidingProcess, place: str) -> None:
        for number in range(10):
            enrol(process, f"{place}-{number}")

    raised = at_once(lambda: enrol_all(service.here, "a"), lambda: enrol_all(service.there, "b"))
    service.settle()
    assert len(enrolled) == 10
    assert raised and all(isinstance(error, TokenRefused) for error in raised)
    assert all(process.opens(text) for process in service.processes for text in enrolled)


@pytest.mark.parametrize("attempt", range(3))
def test_somebody_can_always_make_tokens(service: Service, attempt: int) -> None:
    """Where two admins end each other's tokens at once, one stays."""
    one, other = (
        service.here.tokens.create(name, "admin", "all", expires_ms=None, actor=OPERATOR) for name in ("anna", "berta")
    )
    service.settle()
    raised = at_once(
        lambda: service.here.tokens.revoke(one.token.id, actor=OPERATOR),
        lambda: service.there.tokens.revoke(other.token.id, actor=OPERATOR),
    )
    service.settle()
    assert [str(error) for error in raised] == ["it is the last token with the role admin; make another first"]
    for process in service.processes:
        assert sorted([process.opens(one.text), process.opens(other.text)]) == [False, True]


def test_a_session_is_good_everywhere_until_it_or_its_token_ends(service: Service) -> None:
    made = service.here.tokens.create("anna", "operator", "all", expires_ms=None, actor=OPERATOR)
    identity = made.token.identity

    def begin(process: DecidingProcess) -> tuple[str, str]:
        session, cookie = process.sessions.begin(identity, address="127.0.0.1", browser="", actor=OPERATOR)
        service.settle()
        return session.id, cookie

    (first, cookie), (second, other) = begin(service.here), begin(service.here)
    assert [session.id for session in service.there.sessions.of(None)] == sorted((first, second))
    assert service.there.sessions.end(first, actor=OPERATOR)
    service.settle()
    assert service.here.sessions.identity(cookie, times.now_ms()) is None
    assert service.here.sessions.identity(other, times.now_ms()) is not None
    service.there.tokens.revoke(made.token.id, actor=OPERATOR)
    service.settle()
    assert service.here.sessions.identity(other, times.now_ms()) is None


# Annotations


def test_annotations_are_listed_alike_page_by_page(service: Service) -> None:
    made = []
    for number in range(6):
        process = service.processes[number % 2]
        end_ms = 1000 * number + 500 * (number % 2)
        tags = ["deploy", "eu"] if number % 2 else ["incident"]
        made.append(process.annotations.add(1000 * number, end_ms, f"{number}", tags, f"web-{number}", OPERATOR))
        service.settle()
    for process in service.processes:
        assert process.annotated == made
        found = process.annotations
        wanted = AnnotationFilter(tags=("deploy",))
        assert found.page(wanted, after=None, limit=9, newest_first=False) == made[1::2]
        behind = ListPosition(made[1].time_ms, made[1].id)
        assert found.page(AnnotationFilter(), after=behind, limit=2, newest_first=False) == made[2:4]
        assert found.page(AnnotationFilter(user="web-3"), after=None, limit=9, newest_first=True) == [made[3]]
        touching = AnnotationFilter(start_ms=3400, end_ms=5000)
        assert found.page(touching, after=None, limit=9, newest_first=True) == [made[4], made[3]]


def test_annotations_that_are_made_at_once_have_different_numbers(service: Service) -> None:
    def make(process: DecidingProcess) -> None:
        for _ in range(20):
            process.annotate("a deploy")

    raised = at_once(lambda: make(service.here), lambda: make(service.there))
    service.settle()
    assert raised == []
    assert len({one.id for one in service.here.annotated}) == 40
    assert service.here.annotated == service.there.annotated


def test_numbers_of_what_was_deleted_are_not_given_again(service: Service) -> None:
    """Not even by a process that never saw it."""
    for _ in range(3):
        note, schedule = service.here.annotate("a mistake"), service.here.schedules.add(FLEET, OPERATOR)
        assert service.here.annotations.delete(note.id, OPERATOR)
        assert service.here.schedules.delete(schedule.id, OPERATOR)
    service.settle()
    for process in (service.join(), *service.processes):
        service.settle()
        note, before = process.annotate("a deploy"), note
        schedule, earlier = process.schedules.add(FLEET, OPERATOR), schedule
        assert note.id > before.id
        assert schedule.id > earlier.id


# Schedules of reports


def test_schedules_and_what_came_of_them_are_the_same(service: Service) -> None:
    made = service.here.schedules.add(FLEET, OPERATOR)
    service.settle()
    assert service.there.schedules.all() == [made]
    service.there.schedules.note_failed(made, "The store is away.", again=True)
    service.settle()
    [failed] = service.here.schedules.all()
    assert (failed.failure, failed.tries) == ("The store is away.", 1)
    # More than a message of NATS holds, however well it is compressed.
    for size in (3 << 20, 1000, 2 << 20):
        report = KeptReport(os.urandom(size), "default-src 'none'")
        service.there.schedules.note_made(failed, report, 0)
        service.settle()
        assert service.here.schedules.report(made.id) == report
    assert service.here.schedules.all() == service.there.schedules.all()
    assert service.here.schedules.get(made.id).made_ms is not None
    service.restart()
    assert service.there.schedules.report(made.id) == report


def test_a_schedule_that_is_deleted_goes_with_its_report_also_while_one_is_made(service: Service) -> None:
    made = service.here.schedules.add(FLEET, OPERATOR)
    service.settle()
    service.there.schedules.note_made(made, KeptReport(b"<h1>", ""), 0)
    service.settle()
    assert service.here.schedules.delete(made.id, OPERATOR)
    service.settle()
    service.there.schedules.note_made(made, KeptReport(b"<h2>", ""), 0)
    service.settle()
    for process in service.processes:
        assert (process.schedules.all(), process.schedules.report(made.id)) == ([], None)
        assert process.control.read("SELECT count(*) FROM reporting_piece") == [(0,)]
        assert not process.schedules.delete(made.id, OPERATOR)
    assert service.there.schedules.add(FLEET, OPERATOR).id > made.id


def test_only_so_many_schedules_are_kept(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "MOST", 1)
    service.here.schedules.add(FLEET, OPERATOR)
    service.settle()
    for process in service.processes:
        with pytest.raises(TooManySchedules):
            process.schedules.add(FLEET, OPERATOR)


# What the rules have come to


def test_alerts_and_notifications_of_the_one_that_evaluates_are_everywhere(service: Service) -> None:
    rule = rule_of(targets=["chat"], group="0s")
    service.here.take_over()
    saved = SavedAlarm(MINUTE_MS, 2, MINUTE_MS, -1, 0.95, None)

    def fire() -> None:
        with service.here.control.transaction():
            transition = Transition("busy", "web-1", "firing", MINUTE_MS, MINUTE_MS, 0.95)
            service.here.repository.fire(transition, "info", notified=True)
            service.here.repository.put_alarms(rule, {"web-1": saved})
            service.here.repository.put_progress(7)
            service.here.queue.add_test("chat", times.now_ms())

    service.here.control.attempt(fire)
    service.settle()
    for process in service.processes:
        assert process.repository.progress() == 7
        assert process.repository.alarms(rule) == {"web-1": saved}
        assert [(alert.rule, alert.user, alert.state) for alert in process.repository.alerts()] == [
            ("busy", "web-1", "firing")
        ]
        [message] = process.queue.messages(None, 10)
    service.here.queue.finish(message, "dead", "nobody there")
    service.settle()
    assert service.there.queue.redeliver(message.id, times.now_ms())
    service.settle()
    assert [one.state for one in service.here.queue.messages(None, 10)] == ["waiting"]


# All of it


def test_everything_is_as_it_was_after_a_restart_and_in_the_audit_trail_once(service: Service) -> None:
    service.here.set(ALL.text, samples=20)
    service.here.set("agent:web-1", samples=30)
    service.here.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    silence = service.here.repository.add_silence("busy", "*", times.now_ms() + MINUTE_MS, "", OPERATOR)
    note = service.here.annotate("a deploy")
    made = service.here.tokens.create("anna", "operator", "all", expires_ms=None, actor=OPERATOR)
    schedule = service.here.schedules.add(FLEET, OPERATOR)
    service.settle()
    trail = entries_of(service.here)
    assert len(trail) == 7
    assert entries_of(service.there) == trail
    service.restart()
    for process in service.processes:
        assert process.layers.desired("web-1", "Linux", {})[0].samples == 30
        assert process.layers.desired("web-2", "Linux", {})[0].samples == 20
        assert process.repository.rules()["busy"][0] == rule_of()
        assert (process.silences, process.annotated, process.schedules.all()) == ([silence], [note], [schedule])
        assert process.opens(made.text)
        assert entries_of(process) == trail


def test_what_was_taken_back_stays_so_after_a_restart(service: Service) -> None:
    here, there = service.processes
    here.set(ALL.text, samples=20)
    here.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    silence = here.repository.add_silence("*", "*", 2**50, "", OPERATOR)
    note, schedule = here.annotate("a deploy"), here.schedules.add(FLEET, OPERATOR)
    made = here.tokens.create("anna", "operator", "all", expires_ms=None, actor=OPERATOR)
    service.settle()
    there.layers.change(ALL.text, OPERATOR, lambda layer: None)
    there.repository.change_rule("busy", None, OPERATOR, any_version)
    assert there.repository.end_silence(silence.id, OPERATOR)
    assert there.annotations.delete(note.id, OPERATOR)
    assert there.schedules.delete(schedule.id, OPERATOR)
    there.tokens.revoke(made.token.id, actor=OPERATOR)
    service.settle()
    service.restart()
    for process in service.processes:
        assert process.layers.get(ALL.text).revision == 0
        assert (process.repository.rules(), process.silences, process.annotated) == ({}, [], [])
        assert process.schedules.all() == []
        assert not process.opens(made.text)


def test_a_change_that_fails_half_way_is_nowhere(service: Service) -> None:
    def fail() -> None:
        with service.here.control.transaction() as db:
            db.execute("DELETE FROM annotations_annotation")
            db.execute("INSERT INTO no_such_table VALUES (1)")

    note = service.here.annotate("a deploy")
    with pytest.raises(ControlError):
        service.here.control.attempt(fail)
    service.settle()
    assert [process.annotated for process in service.processes] == [[note], [note]]
