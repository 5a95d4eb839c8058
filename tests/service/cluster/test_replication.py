"""What the process that evaluates the rules has come to, in all processes: alarms, alerts, notifications."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from contract import times
from service.alerts.alarms import SavedAlarm, Transition
from service.alerts.repository import RuleRepository
from service.alerts.rules import parse_rule
from service.cluster.connection import Cluster, ClusterAddress
from service.cluster.control_stream import ChangeStream
from service.control.audit import Audit
from service.control.database import ControlDatabase, ControlError, ControlSuperseded
from service.control.replication import Replication
from service.notifications.queue import NotificationQueue
from tests.support.nats_cluster import RunningNats
from tests.support.nats_copies import renumber
from tests.support.running import wait_until

pytestmark = pytest.mark.server

RULE = parse_rule(
    {"name": "busy", "kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9, "targets": ["chat"], "group": "0s"}
)
MINUTE_MS = 60_000


def saved(value: float) -> SavedAlarm:
    return SavedAlarm(MINUTE_MS, 2, MINUTE_MS, -1, value, None)


class Process:
    """What a process keeps of rules and notifications."""

    def __init__(self, folder: Path, address: str) -> None:
        self.cluster = Cluster(ClusterAddress.parse(address))
        self.control = ControlDatabase(folder / "control.db")
        self.repository = RuleRepository(self.control, Audit(self.control), "log")
        self.queue = NotificationQueue(self.control)
        self.stream = ChangeStream(self.cluster)
        self.replication = Replication(self.control, self.stream)

    def close(self) -> None:
        self.replication.close()
        self.control.close()
        self.cluster.close()

    def keep(self, offset: int, users: dict[str, float]) -> None:
        """As the rules do: alarms, alerts, notifications and the offset in one transaction."""

        def change() -> None:
            with self.control.transaction():
                for user, value in users.items():
                    transition = Transition("busy", user, "firing", MINUTE_MS, MINUTE_MS, value)
                    self.repository.fire(transition, "info", notified=True)
                    self.queue.add(RULE, [_change(user)], times.now_ms())
                self.repository.put_alarms(RULE, {user: saved(value) for user, value in users.items()})
                self.repository.put_progress(offset)

        self.control.attempt(change)

    @property
    def state(self) -> tuple[int | None, dict[str, SavedAlarm], list[object], list[object]]:
        """How far the rules are, their alarms, alerts and notifications."""
        return (
            self.repository.progress(), self.repository.alarms(RULE), [*self.repository.alerts()],
            [*self.queue.messages(None, 1000)],
        )  # fmt: skip

    def hears_of(self, other: "Process") -> None:
        """Wait until this process has what the other has."""
        wait_until(lambda: self.state == other.state, "what the other has")


def _change(user: str) -> dict[str, object]:
    return {"user": user, "state": "firing", "since": "", "at": "", "value": 1.0}


@pytest.fixture
def new_process(one_node: RunningNats, name: str, tmp_path: Path) -> Iterator[Callable[[str], Process]]:
    """Makes processes of one cluster, each with a folder and a connection of its own."""
    made: dict[str, Process] = {}

    def new(folder: str) -> Process:
        if folder in made:
            made.pop(folder).close()
        made[folder] = Process(tmp_path / folder, one_node.address(name))
        return made[folder]

    yield new
    for process in made.values():
        process.close()


def test_all_processes_have_the_alerts_of_the_one_that_evaluates(new_process: Callable[[str], Process]) -> None:
    """And one that joins later, and one that was away."""
    first, second = new_process("a"), new_process("b")
    first.replication.take_over()
    first.keep(7, {"web-1": 0.95, "web-2": 0.99})
    second.hears_of(first)
    assert [message.target for message in second.queue.messages("gathering", 10)] == ["chat"]
    second.replication.close()
    with first.control.transaction():
        first.repository.forget_alarms(RULE, ["web-1"])
        first.repository.resolve(Transition("busy", "web-1", "resolved", 2 * MINUTE_MS, MINUTE_MS, 0.1))
        first.repository.put_progress(8)
    new_process("b").hears_of(first)
    new_process("c").hears_of(first)


def test_who_takes_over_goes_on_from_there_and_the_one_before_changes_nothing_more(
    new_process: Callable[[str], Process],
) -> None:
    """However late it wakes up, and whether or not it has heard of it."""
    first, second = new_process("a"), new_process("b")
    first.replication.take_over()
    first.keep(7, {"web-1": 0.95})
    second.replication.take_over()
    assert second.state == first.state
    with pytest.raises(ControlSuperseded):
        first.keep(9, {"web-2": 0.95})
    second.keep(8, {"web-3": 0.95})
    with pytest.raises(ControlSuperseded):
        first.keep(9, {"web-2": 0.95})
    first.hears_of(second)
    assert second.repository.progress() == 8
    first.replication.take_over()
    first.keep(9, {"web-2": 0.95})
    second.hears_of(first)


def test_who_never_took_over_changes_nothing(new_process: Callable[[str], Process]) -> None:
    process = new_process("a")
    with pytest.raises(ControlSuperseded):
        process.keep(1, {"web-1": 0.95})
    assert process.state == (None, {}, [], [])


def test_a_notification_is_sent_again_whichever_process_is_asked(new_process: Callable[[str], Process]) -> None:
    """While the other goes on; it keeps its place and its id."""
    first, second = new_process("a"), new_process("b")
    first.replication.take_over()
    first.keep(1, {"web-1": 0.95})
    (message,) = first.queue.due(times.now_ms() + 1000, set())
    first.queue.finish(message, "delivered")
    second.hears_of(first)
    assert second.queue.redeliver(message.id, 0)
    test = second.queue.add_test("chat", times.now_ms())
    first.keep(2, {"web-2": 0.95})
    second.hears_of(first)
    wait_until(lambda: {test, message.id} <= {one.id for one in first.queue.messages("waiting", 10)}, "both")
    assert [one.id for one in first.queue.due(times.now_ms() + 1000, set())] == [message.id]


def test_a_log_that_grows_long_is_summed_up(
    new_process: Callable[[str], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In as many messages as it takes."""
    monkeypatch.setattr("service.control.replication._ENTRIES", 20)
    monkeypatch.setattr("service.control.replication._PIECE_BYTES", 2000)
    chosen = random.Random(13)
    first, second = new_process("a"), new_process("b")
    first.replication.take_over()
    for offset in range(60):
        first.keep(offset, {f"web-{chosen.randrange(50)}": chosen.random() for _ in range(3)})
    second.hears_of(first)
    state = first.cluster.call(first.cluster.jetstream.stream_info(f"{first.cluster.address.name}-rules")).state
    assert state.first_seq > 100
    assert state.messages < 150
    new_process("c").hears_of(first)


def test_a_log_that_was_lost_is_begun_with_what_a_process_has(new_process: Callable[[str], Process]) -> None:
    first = new_process("a")
    first.replication.take_over()
    first.keep(7, {"web-1": 0.95})
    before = first.state
    first.replication.close()
    first.cluster.call(first.cluster.jetstream.delete_stream(f"{first.cluster.address.name}-rules"))
    again = new_process("a")
    assert again.state == before
    other = new_process("b")
    assert other.state == before
    other.replication.take_over()
    other.keep(8, {"web-2": 0.95})
    again.hears_of(other)


def test_another_copy_of_the_log_with_other_sequences_is_gone_on_with(new_process: Callable[[str], Process]) -> None:
    """Whoever evaluates goes on, and all others hear of it."""
    first, second = new_process("a"), new_process("b")
    first.replication.take_over()
    first.keep(7, {"web-1": 0.95})
    second.hears_of(first)
    for offset, sequence in ((8, 5), (9, 1)):
        renumber(first.cluster, f"{first.cluster.address.name}-rules", sequence)
        before = first.state
        first.replication.catch_up()
        wait_until(partial(kept, first, offset), "the log to take something")
        assert first.state[1:] != before[1:]
        second.hears_of(first)
    new_process("c").hears_of(first)


def kept(process: Process, offset: int) -> bool:
    """Whether something more could be kept."""
    try:
        process.keep(offset, {f"web-{offset}": 0.95})
    except ControlError:
        return False
    return True
