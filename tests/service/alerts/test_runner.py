"""What rules remember over restarts: of each journal by itself, and without what cannot be read any more."""

from pathlib import Path

import pytest

from contract.report import decode_report
from service.alerts.alarms import AlarmState, SavedAlarm
from service.alerts.engine import Engine
from service.alerts.repository import RuleRepository
from service.alerts.rules import parse_rule
from service.alerts.runner import Runner
from service.control.audit import Audit
from service.control.database import ControlDatabase
from service.journal.journal import Journal
from service.notifications.queue import NotificationQueue
from tests.service.alerts.test_rules import BUSY, Kit, wait_for_alerts
from tests.service.conftest import StartService
from tests.support.evaluating import evaluating
from tests.support.reports import END_MS, as_json, post, small
from tests.support.running import wait_until
from tests.support.webhooks import Receiver

pytestmark = pytest.mark.server

ANOMALY = parse_rule({"name": "odd", "kind": "anomaly", "metric": "cpuLoadAvg", "every": "1m"})
SAVED = SavedAlarm(END_MS, int(AlarmState.FIRING), END_MS, -1, 0.9, None)


def test_a_detector_of_another_version_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    engine.use([ANOMALY])
    engine.restore("odd", {"a": SAVED._replace(memory={"version": -1}), "b": SAVED})
    alarms = engine.evaluations["odd"].alarms
    assert {user: alarm.state for user, alarm in alarms.items()} == {"a": AlarmState.FIRING, "b": AlarmState.FIRING}
    assert alarms["a"].memory is None
    assert "begins anew" in caplog.text


def test_an_alarm_that_cannot_be_read_is_left_out_and_the_others_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    engine.use([ANOMALY])
    engine.restore("odd", {"a\0": SAVED._replace(memory=[["nonsense"]]), "b": SAVED._replace(state=77), "c": SAVED})
    assert set(engine.evaluations["odd"].alarms) == {"c"}
    assert "left out" in caplog.text


def test_an_alarm_that_is_no_alarm_does_not_stop_the_rules(tmp_path: Path) -> None:
    control = ControlDatabase(tmp_path / "control.db")
    repository = RuleRepository(control, Audit(control), ".")
    repository.put_alarms(ANOMALY, {"a": SAVED, "b": SAVED})
    with control.transaction() as db:
        db.execute("UPDATE rules_alarm SET saved = ? WHERE user = 'a'", (b"\xc1",))
    assert set(repository.alarms(ANOMALY)) == {"b"}
    control.close()


def test_each_store_has_its_own_progress(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rules]]\nname = "busy"\nkind = "threshold"\nmetric = "cpuLoadAvg"\nabove = 0.8\n')
    control = ControlDatabase(tmp_path / "control.db")

    def evaluated(name: str, count: int) -> int:
        """How many reports rules look at, at the start of a service, where `count` came while they were not at work."""
        journal = Journal(tmp_path / name, 1 << 24, 1 << 24)
        if count:
            journal.append([as_json(small("a", END_MS + journal.last + place)) for place in range(count)])
        runner = Runner(journal, RuleRepository(control, Audit(control), name), NotificationQueue(control), path)
        runner.start()
        wait_until(lambda: bool(runner.engine.evaluations) and runner.behind == 0, "the rules")
        runner.stop()
        journal.close()
        return runner.evaluated

    assert evaluated("embedded", 3) == 0, "rules begin with what comes"
    assert evaluated("influx", 7) == 0, "rules begin with what comes"
    assert evaluated("embedded", 2) == 2
    assert evaluated("influx", 1) == 1
    control.close()


def test_a_process_that_does_not_evaluate_rules_is_not_behind(tmp_path: Path) -> None:
    """Another of the cluster does; how far that one is, it says itself."""
    journal = Journal(tmp_path / "journal", 1 << 24, 1 << 24)
    with evaluating(journal, tmp_path, is_mine=lambda: False) as runner:
        journal.append([as_json(small("a", END_MS + place)) for place in range(3)])
        assert runner.behind == 0
    journal.close()


def test_reports_of_another_copy_of_the_log_are_evaluated(tmp_path: Path) -> None:
    """There they have offsets at which this process has seen others before."""
    journal = Journal(tmp_path / "journal", 1 << 24, 1 << 24)
    with evaluating(journal, tmp_path) as runner:
        wait_until(lambda: bool(runner.engine.evaluations), "the rules")
        texts = [as_json(small("a", END_MS + place)) for place in range(4)]
        reports = [decode_report(text) for text in texts]
        last = journal.append(texts[:3])
        runner.publish(last, reports[:3])
        wait_until(lambda: runner.behind == 0, "the first three")
        runner.publish(last, reports[3:])
        runner.stop()
        assert (runner.evaluated, runner.behind) == (4, 0)
    journal.close()


def test_what_is_too_much_to_be_held_is_read_from_the_journal(tmp_path: Path) -> None:
    """Every report is looked at once, though more came than are kept in memory while the rules had no turn."""
    journal = Journal(tmp_path / "journal", 1 << 26, 1 << 26)
    with evaluating(journal, tmp_path) as runner:
        wait_until(lambda: bool(runner.engine.evaluations), "the rules")
        texts = [as_json(small("a", END_MS + place)) for place in range(20_003)]
        reports = [decode_report(text) for text in texts]
        with runner.lock:
            for some in (slice(0, 1), slice(1, 20_002), slice(20_002, None)):
                runner.publish(journal.append(texts[some]), reports[some])
        wait_until(lambda: runner.behind == 0, "all of them")
        runner.stop()
        assert (runner.evaluated, runner.skipped) == (20_003, 0)
    journal.close()


def test_targets_hear_of_the_end_of_a_rule_that_changed_while_the_service_was_down(
    start: StartService, tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(BUSY)
    with Receiver() as receiver:
        kit = Kit(start, path, receiver)
        service = kit.start()
        with service.client() as client:
            post(client, small("a", END_MS, 0.9))
            wait_for_alerts(client, 1, state="firing")
            wait_until(lambda: len(receiver.accepted) == 1, "the webhook")
        service.stop()
        path.write_text(BUSY.replace("0.8", "0.95"))
        service = kit.start()
        with service.client() as client:
            wait_for_alerts(client, 1, state="resolved")
            wait_until(lambda: len(receiver.accepted) == 2, "the webhook")
    assert "resolved" in str(receiver.accepted[1])
