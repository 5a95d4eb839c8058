"""The contract for annotations, schedules, alerts and the audit trail, kept by SQLite alone, or alike by two processes.

Each case changes something at one process and asks another: by itself a service is both.
"""

import os

import pytest

from contract import times
from service.agents.layers import ALL
from service.alerts.alarms import SavedAlarm, Transition
from service.annotations import AnnotationFilter, ListPosition
from service.control.database import ControlError
from service.reporting import schedules
from service.reporting.schedules import KeptReport, Timing, TooManySchedules
from tests.support.deciding import (
    OPERATOR,
    DecidingProcess,
    any_version,
    at_once,
    rule_of,
)
from tests.support.deciding_service import MINUTE_MS, Service, entries_of

FLEET = Timing(days=("mon",), at="06:00")


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
