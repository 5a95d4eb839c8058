"""Who is told when: not while silenced or inhibited, again after a while, and of no agent that is paused."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from contract import times
from contract.metrics import Cpu
from contract.processes import Consumer, Named, ProcessUse
from contract.report import Report
from contract.times import HOUR_MS, MINUTE_MS, parse_timestamp
from service.alerts import wording
from service.alerts.alarms import Transition
from service.alerts.engine import Engine
from service.alerts.notifier import Notifier
from service.alerts.repository import RuleRepository
from service.alerts.rules import Rule, parse_rule
from service.alerts.silences import parse_silence
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase
from service.notifications.queue import NotificationQueue
from tests.support.reports import END_MS

ACTOR = Actor("none", "127.0.0.1", "somebody")


class Desk:
    """A notifier, its repository, and what it has told."""

    def __init__(
        self,
        control: ControlDatabase,
        *rules: Rule,
        paused: Callable[[str], bool] = lambda user: False,
        labels: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ):
        self.repository = RuleRepository(control, Audit(control), ".")
        self._queue = NotificationQueue(control)
        self.notifier = Notifier(
            self.repository, self._queue, is_paused=paused, labels_of=lambda user: labels.get(user, {})
        )
        self.rules = {one.name: one for one in rules}

    def note(self, *transitions: Transition) -> None:
        self.notifier.notify(transitions, self.rules)

    def look(self, value: float = 0.99) -> None:
        self.notifier.notify_of_firing(self.rules, lambda rule, user: value)

    def told(self) -> list[tuple[str, str, str]]:
        """Rule, user and state of what was told, in order; it is forgotten."""
        found = [
            (message.rule, one["user"], one["state"])
            for message in sorted(self._queue.messages("gathering", 100), key=lambda message: message.created_ms)
            for one in message.changes
        ]
        for message in self._queue.messages("gathering", 100):
            self._queue.finish(message, "delivered")
        return found

    def last(self) -> dict[str, Any]:
        (message,) = self._queue.messages("gathering", 1)
        return message.changes[-1]


def report(user: str) -> Report:
    return Report(user, END_MS - 5000, END_MS, 100, "Linux", "", [Cpu(0.5)])


def rule(name: str = "busy", **more: Any) -> Rule:
    document = {"name": name, "kind": "threshold", "metric": "cpuLoadAvg", "above": 0.8, "targets": ["ops"]}
    return parse_rule(document | more)


def firing(name: str = "busy", user: str = "web-1") -> Transition:
    return Transition(name, user, "firing", END_MS, END_MS, 0.9)


def test_what_still_fires_is_told_again_with_its_value_now(
    control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(control, rule(repeat="4h"), rule("once"))
    desk.note(firing(), firing("once"))
    assert len(desk.told()) == 2
    desk.look()
    assert desk.told() == []
    now_ms = times.now_ms()
    monkeypatch.setattr(times, "now_ms", lambda: now_ms + 5 * HOUR_MS)
    desk.look()
    assert (desk.last()["value"], desk.last()["repeated"]) == (0.99, True)
    assert desk.told() == [("busy", "web-1", "firing")]
    desk.look()
    assert desk.told() == []


def test_what_fires_is_told_again_after_the_clock_was_set_back(
    control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(control, rule(repeat="4h"))
    now_ms = times.now_ms()
    monkeypatch.setattr(times, "now_ms", lambda: now_ms + 24 * HOUR_MS)
    desk.note(firing())
    desk.told()
    monkeypatch.setattr(times, "now_ms", lambda: now_ms)
    desk.look()
    assert desk.told() == [("busy", "web-1", "firing")]
    desk.look()
    assert desk.told() == []


def test_who_used_most_of_the_cpu_then_is_named(control: ControlDatabase) -> None:
    used = [Consumer("python3", 4.1, unit="backup.service"), Consumer("postgres", 0.4)]
    use = ProcessUse(seconds=5.0, cores=1, busy_s=5.0, processes=used)
    desk = Desk(control, rule(), rule("later"))
    desk.notifier.hear([replace(report("web-1"), processes=use), report("web-2")])
    desk.note(firing())
    assert desk.last()["summary"].endswith("; most of the CPU by python3 (backup.service) 82 %, postgres 8 %")
    (alert,) = desk.repository.alerts("firing")
    assert alert.who == [Named("python3", "backup.service", 0.82), Named("postgres", "", 0.08)]
    desk.told()
    desk.note(firing(user="web-2"))
    assert desk.repository.alerts("firing", 1)[0].who == []
    assert "most of the CPU" not in desk.last()["summary"]
    desk.told()
    desk.note(firing("later")._replace(at_ms=END_MS + HOUR_MS))
    assert "most of the CPU" not in desk.last()["summary"]
    desk.told()
    desk.notifier.forget("web-1")
    desk.note(firing("later", "web-3"), firing())
    assert "most of the CPU" not in desk.last()["summary"]


def test_of_a_paused_agent_nothing_is_told_again(control: ControlDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(control, rule(repeat="1m"), paused=lambda user: user == "web-1")
    desk.note(firing(), firing(user="web-2"))
    desk.told()
    now_ms = times.now_ms()
    monkeypatch.setattr(times, "now_ms", lambda: now_ms + 2 * MINUTE_MS)
    desk.look()
    assert desk.told() == [("busy", "web-2", "firing")]


def test_what_is_inhibited_is_told_once_its_cause_is_over(control: ControlDatabase) -> None:
    desk = Desk(control, rule("cause"), rule("effect", inhibited_by=["cause"]))
    desk.note(firing("effect"), firing("cause"), firing("effect", "web-2"))
    assert sorted(desk.told()) == [("cause", "web-1", "firing"), ("effect", "web-2", "firing")]
    desk.look()
    assert desk.told() == []
    desk.note(Transition("cause", "web-1", "resolved", END_MS, END_MS, 0.1))
    desk.look()
    assert sorted(desk.told()) == [("cause", "web-1", "resolved"), ("effect", "web-1", "firing")]


def test_a_rule_of_the_fleet_inhibits_for_every_user(control: ControlDatabase) -> None:
    desk = Desk(control, rule("half"), rule("effect", inhibited_by=["half"]))
    desk.note(firing("half", ""))
    desk.note(firing("effect", "web-1"), firing("effect", "web-2"))
    assert desk.told() == [("half", "", "firing")]


def test_a_silence_that_begins_later_is_not_in_force_yet(
    control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(control, rule())
    now_ms = times.now_ms()
    desk.repository.add_silence("*", "*", now_ms + 2 * HOUR_MS, "", ACTOR, start_ms=now_ms + HOUR_MS)
    desk.note(firing())
    assert len(desk.told()) == 1
    monkeypatch.setattr(times, "now_ms", lambda: now_ms + HOUR_MS)
    desk.note(firing(user="web-2"))
    assert desk.told() == []


def test_scheduled_silences_of_files_are_heeded(control: ControlDatabase) -> None:
    desk = Desk(control, rule())
    desk.notifier.weekly = [parse_silence({"user": "lab-*"})]
    desk.note(firing(user="lab-1"), firing(user="web-1"))
    assert desk.told() == [("busy", "web-1", "firing")]
    desk.notifier.weekly = []
    desk.look()
    assert desk.told() == [("busy", "lab-1", "firing")]


@pytest.mark.parametrize(
    ("moment", "covered"),
    [
        ("2026-03-27T21:30:00Z", True),  # Friday, 22:30 in Berlin
        ("2026-03-28T04:30:00Z", True),  # Saturday, 05:30: it began on Friday
        ("2026-03-28T05:30:00Z", False),
        ("2026-03-29T03:30:00Z", True),  # Sunday, 05:30 of summer time, which began in this night
        ("2026-03-29T04:30:00Z", False),
        ("2026-03-29T21:30:00Z", False),  # Sunday evening
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(moment: str, covered: bool) -> None:
    nights = parse_silence({"days": ["fri", "sat"], "from": "22:00", "to": "06:00", "zone": "Europe/Berlin"})
    assert nights.covers(parse_timestamp(moment)) is covered


def test_a_silence_without_times_takes_the_whole_day() -> None:
    sundays = parse_silence({"days": ["sun"]})
    assert sundays.covers(parse_timestamp("2026-03-29T00:00:00Z"))
    assert sundays.covers(parse_timestamp("2026-03-29T23:59:59Z"))
    assert not sundays.covers(parse_timestamp("2026-03-30T00:00:00Z"))


@pytest.mark.parametrize(
    ("document", "value", "words"),
    [
        ({"kind": "threshold", "metric": "cpuLoadAvg", "stat": "p95", "over": "10m", "above": 0.95}, 0.971,
         "cpuLoadAvg.p95 over 10m is 97.1 %, level 95 %"),
        ({"kind": "threshold", "metric": "diskReadBytes", "above": 100.0}, 250.0,
         "diskReadBytes is 250 B/s, level 100 B/s"),
        ({"kind": "threshold", "metric": "load1m", "above": 8}, 12.25, "load1m is 12.25, level 8"),
        ({"kind": "change", "metric": "cpuLoadAvg", "over": "10m", "above": 0.4}, 0.5,
         "cpuLoadAvg changed by 50 % in 10m, level 40 %"),
        ({"kind": "absence", "after": "2m"}, 125.0, "no report for 2m 5s, level 2m"),
        ({"kind": "anomaly", "metric": "cpuLoadAvg"}, 0.5, "cpuLoadAvg is 50 %, which is unusual for it"),
        ({"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.9, "share": 0.5}, 0.6,
         "cpuLoadAvg is above 90 % on 60 % of the hosts, level 50 %"),
    ],
)  # fmt: skip
def test_messages_say_what_was_seen_beside_the_level(document: dict[str, Any], value: float, words: str) -> None:
    assert wording.summary(parse_rule({"name": "one"} | document), value) == words


def test_who_is_paused_is_not_absent_and_has_its_time_again_afterwards() -> None:
    paused: set[str] = set()
    engine = Engine(is_paused=paused.__contains__)
    engine.use([parse_rule({"name": "silent", "kind": "absence", "after": "2m"})])
    assert [*engine.observe([report("a"), report("b")], 0)] == []
    paused.add("a")
    assert [*engine.tick(0)] == []
    assert [(one.user, one.state) for one in engine.tick(3 * MINUTE_MS)] == [("b", "firing")]
    paused.add("b")
    assert [(one.user, one.state) for one in engine.tick(4 * MINUTE_MS)] == [("b", "resolved")]
    paused.clear()
    assert [*engine.tick(5 * MINUTE_MS)] == []
    assert {(one.user, one.state) for one in engine.tick(7 * MINUTE_MS)} == {("a", "firing"), ("b", "firing")}


def test_a_silence_of_a_label_is_of_the_hosts_that_have_it(control: ControlDatabase) -> None:
    labels = {"web-1": {"role": "web"}, "web-2": {"role": "web", "zone": "eu"}, "db-1": {"role": "db"}}
    desk = Desk(control, rule(), labels=labels)
    desk.repository.add_silence("*", "role=web,zone=e*", times.now_ms() + HOUR_MS, "", ACTOR)
    desk.note(*(firing(user=user) for user in (*labels, "unlabelled")))
    assert {user for _, user, _ in desk.told()} == {"web-1", "db-1", "unlabelled"}
    desk.notifier.weekly = [parse_silence({"user": "role=db"})]
    desk.note(*(Transition("busy", user, "resolved", END_MS, END_MS, 0.1) for user in labels))
    desk.told()
    desk.note(*(firing(user=user) for user in labels))
    assert {user for _, user, _ in desk.told()} == {"web-1"}
