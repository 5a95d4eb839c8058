"""A changed bit of the control database, which SQLite has no checksums against, ends no start with a traceback."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract import times
from contract.agent_protocol import AgentState, DesiredSettings, SettingsInForce
from service.agents.remote_configuration import RemoteConfiguration
from service.alerts.alarms import Transition
from service.alerts.repository import RuleRepository
from service.alerts.rules import parse_rule
from service.annotations import AnnotationFilter, Annotations
from service.control.audit import Actor, Audit
from service.control.data_lock import FORMAT_FILE, DataFolderError, check_format
from service.control.database import ControlDatabase, ControlError
from service.reporting.schedules import Schedules, Timing

TEST = Actor("none", "127.0.0.1")


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """A control database with states and settings of agents."""
    control = ControlDatabase(tmp_path / "control.db")
    remote = RemoteConfiguration(control, Audit(control), 10)
    state = AgentState(
        at=times.now_ms(), os_type="Linux", os_version="12", agent_version="1", labels={"role": "web"},
        settings=SettingsInForce(interval=0.05, samples=100, metrics=["cpu"]),
    )  # fmt: skip
    for number in range(50):
        agent = remote.registry.add(f"web-{number}", "Linux", "12")
        assert agent is not None
        remote.registry.heard_state(agent, state)
        remote._states.note(agent)
    remote._states.write()
    for target in ("all", "os:Linux", "user:web-*", *(f"agent:web-{number}" for number in range(20))):
        remote.layers.change(target, TEST, lambda layer: layer.__class__(layer.target, 1, DesiredSettings(samples=50)))
    control.close()
    (tmp_path / "control.db.sha256").unlink()
    return (tmp_path / "control.db").read_bytes()


def test_what_a_changed_bit_makes_unreadable_is_left_out_and_said(content: bytes, tmp_path: Path) -> None:
    dice = random.Random(1)
    used = [place for place, byte in enumerate(content) if byte]
    told = 0
    for number, place in enumerate(dice.sample(used, 150)):
        path = tmp_path / f"{number}.db"
        flipped = bytearray(content)
        flipped[place] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        try:
            control = ControlDatabase(path)
            remote = RemoteConfiguration(control, Audit(control), 10)
        except ControlError:
            told += 1
            continue
        if control.problem is not None:
            assert path.name in control.problem
            assert len(remote.registry) < 50 or len([*remote.layers.selections()]) < 3
            told += 1
        control.close()
    assert told > 10


def test_rules_annotations_and_schedules_that_cannot_be_read_are_left_out_and_said(tmp_path: Path) -> None:
    control = ControlDatabase(tmp_path / "control.db")
    audit = Audit(control)
    rules, annotations, schedules = (
        RuleRepository(control, audit, "journal"), Annotations(control, audit), Schedules(control, audit),
    )  # fmt: skip
    for name in ("a", "b"):
        rule = parse_rule({"name": name, "kind": "threshold", "metric": "cpuLoadAvg", "above": 0.5})
        rules.change_rule(name, rule, TEST, lambda version: None)
        rules.fire(Transition(name, "web-1", "firing", 1, 1, 0.9), "warning", notified=True)
        annotations.add(1, 1, name, ["x"], "*", TEST)
        schedules.add(Timing(), TEST)
    with control.transaction() as db:
        db.execute("UPDATE rules_rule SET document = '{' WHERE name = 'a'")
        db.execute("UPDATE rules_alert SET who = '[' WHERE rule = 'a'")
        db.execute("UPDATE annotations_annotation SET tags = '[' WHERE text = 'a'")
        db.execute("UPDATE reporting_schedule SET definition = '{' WHERE id = 1")
    assert [*rules.rules()] == ["b"]
    assert {alert.rule for alert in rules.alerts()} == {"a", "b"}
    found = annotations.page(AnnotationFilter(), after=None, limit=10, newest_first=False)
    assert [(one.text, one.tags) for one in found] == [("a", ()), ("b", ("x",))]
    assert [one.id for one in schedules.all()] == [one.id for one in schedules.due(1 << 50)] == [2]
    assert schedules.get(1) is None
    assert "a rule cannot be read" in str(control.problem)
    control.close()


def test_an_empty_database_is_refused_as_its_tokens_would_be_gone(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    ControlDatabase(path).close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["control.db", "control.db.sha256"]
    for sealed in (True, False):
        path.write_bytes(b"")
        if not sealed:
            path.with_name("control.db.sha256").unlink()
        with pytest.raises(ControlError, match="it is empty, and was not when it was made"):
            ControlDatabase(path)
    # Put aside, as the sentence says, it is made anew.
    path.unlink()
    ControlDatabase(path).close()


def test_two_processes_that_make_the_database_at_once_share_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        databases = list(pool.map(lambda _: ControlDatabase(tmp_path / "control.db"), range(8)))
    with databases[0].transaction() as db:
        db.execute("INSERT INTO control_schema VALUES ('one', 1)")
    for database in databases:
        assert database.read("SELECT version FROM control_schema WHERE room = 'one'") == [(1,)]
        database.close()


@pytest.mark.parametrize("content", ["2\n", "abc", "0", "\u00b2", "9" * 5000, "\0"])
def test_a_format_that_is_not_known_is_refused_in_few_words(tmp_path: Path, content: str) -> None:
    (tmp_path / FORMAT_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(DataFolderError, match="has format") as refused:
        check_format(tmp_path)
    assert len(str(refused.value)) < 500
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("content", ["", "1\n", "1"])
def test_a_format_that_a_crash_left_empty_is_no_other(tmp_path: Path, content: str) -> None:
    (tmp_path / FORMAT_FILE).write_text(content, encoding="ascii")
    check_format(tmp_path)
