"""Notifications are delivered in order, once where that can be, and none takes the others' time."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.alerts.rules import Rule, parse_rule
from service.control.database import ControlDatabase
from service.notifications.delivery import DeliveryFailed, check_answer, deliver
from service.notifications.queue import NotificationQueue, QueuedNotification
from service.notifications.sender import NotificationSender
from service.notifications.targets import Target, parse_target
from tests.support.running import wait_until
from tests.support.webhooks import KEY, Receiver


@pytest.fixture
def queue(control: ControlDatabase) -> NotificationQueue:
    return NotificationQueue(control)


RULE = {"name": "busy", "kind": "threshold", "metric": "cpuLoadAvg", "above": 0.8, "group": "0s"}


def rule(name: str = "busy", target: str = "ops") -> Rule:
    return parse_rule({**RULE, "name": name, "targets": [target]})


def change(state: str) -> list[dict[str, Any]]:
    return [{"user": "web-1", "state": state, "since": "x", "at": "y", "value": 0.9}]


def target(url: str, monkeypatch: pytest.MonkeyPatch, timeout: float = 5.0) -> Target:
    monkeypatch.setenv("KEY", KEY)
    return parse_target("ops", {"webhook": url, "secret": "env:KEY", "timeout": timeout}, Path())


def test_a_message_waits_for_the_older_ones_of_its_target(queue: NotificationQueue) -> None:
    queue.add(rule(), change("firing"), 1000)
    (first,) = queue.due(1000, set())
    queue.postpone(first, 60_000, "503")
    queue.add(rule(), change("resolved"), 2000)
    queue.add(rule(target="others"), change("firing"), 2000)
    assert [message.target for message in queue.due(3000, set())] == ["others"]
    assert [message.id for message in queue.due(60_000, {"others"})] == [first.id]
    queue.finish(first, "delivered")
    (second,) = queue.due(60_000, {"others"})
    assert second.changes[0]["state"] == "resolved"


def test_no_message_waits_for_a_time_from_which_the_clock_was_set_back(queue: NotificationQueue) -> None:
    ahead_ms = 2 * 86_400_000
    queue.add(rule(), change("firing"), ahead_ms)
    (first,) = queue.due(ahead_ms, set())
    queue.postpone(first, ahead_ms + 60_000, "503")
    queue.add(parse_rule({**RULE, "name": "other", "targets": ["others"], "group": "2h"}), change("firing"), ahead_ms)
    assert not queue.due(ahead_ms, set())
    assert queue.has_due(1000)
    assert {message.target for message in queue.due(1000, set())} == {"ops", "others"}
    queue.add(parse_rule({**RULE, "name": "third", "targets": ["third"], "group": "2h"}), change("firing"), 1000)
    assert "third" not in {message.target for message in queue.due(1000, set())}, "it was to collect, and does"


def test_for_a_message_that_its_receiver_rejects_none_waits(queue: NotificationQueue) -> None:
    queue.add(rule(), change("firing"), 1000)
    (first,) = queue.due(1000, set())
    queue.postpone(first, 4000, "422", rejected=True)
    queue.add(rule(), change("resolved"), 2000)
    (second,) = queue.due(3000, set())
    assert second.id != first.id
    queue.finish(second, "delivered")
    assert [message.id for message in queue.due(4000, set())] == [first.id], "it is tried again"


def test_a_target_is_tried_with_a_message_of_its_own(queue: NotificationQueue) -> None:
    identity = queue.add_test("ops", 1000)
    (message,) = queue.due(1000, set())
    assert (message.id, message.target) == (identity, "ops")
    assert "test" in message.body() and "nothing is wrong" in message.text()[1]
    queue.finish(message, "delivered")
    found = queue.message(identity)
    assert found is not None and found.state == "delivered"
    assert queue.message("none") is None


def test_a_text_tells_what_was_seen_and_where_to_look(queue: NotificationQueue) -> None:
    seen = change("firing")[0] | {
        "summary": "cpuLoadAvg is 90 %, level 80 %",
        "link": "https://example.org/host?id=web-1",
    }
    queue.add(rule(), [seen], 1000)
    (message,) = queue.due(1000, set())
    title, text = message.text()
    assert title == "[warning] busy: web-1 firing"
    assert text.splitlines() == [
        "web-1: firing since x: cpuLoadAvg is 90 %, level 80 %", "  https://example.org/host?id=web-1",
    ]  # fmt: skip
    queue.finish(message, "delivered")
    queue.add(rule(), [{**seen, "user": f"web-{number}"} for number in range(60)], 2000)
    (message,) = queue.due(2000, set())
    title, text = message.text()
    assert title == "[warning] busy: 60 firing, 0 resolved"
    assert text.endswith("and 10 others")


def test_what_is_delivered_while_the_queue_is_read_is_not_handed_out_again(queue: NotificationQueue) -> None:
    queue.add(rule(), change("firing"), 1000)
    (message,) = queue.due(1000, set())

    class Ending(set[str]):
        """Targets that are busy, of which one is done as soon as somebody asks for it."""

        def __contains__(self, name: object) -> bool:
            queue.finish(message, "delivered")
            return False

    assert queue.due(1000, Ending({"ops"})) == []


Deliver = Callable[[Target, QueuedNotification], None]
StartSender = Callable[..., NotificationSender]
TO_PRIVATE: Deliver = partial(deliver, private=True)


@pytest.fixture
def start_sender(queue: NotificationQueue) -> Iterator[StartSender]:
    """Starts senders to one target, and ends them."""
    started: list[NotificationSender] = []

    def start(target: Target, deliver: Deliver = TO_PRIVATE) -> NotificationSender:
        started.append(NotificationSender(queue, lambda: {"ops": target}, deliver))
        started[-1].start()
        return started[-1]

    yield start
    for sender in started:
        sender.stop()


def test_a_receiver_gets_what_happened_in_order_over_its_failures(
    queue: NotificationQueue, start_sender: StartSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(lambda place: 503 if place == 0 else 204) as receiver:
        queue.add(rule(), change("firing"), 1000)
        start_sender(target(receiver.url, monkeypatch))
        wait_until(lambda: bool(receiver.requests), "an attempt")
        queue.add(rule(), change("resolved"), 2000)
        wait_until(lambda: queue.counts()["delivered"] == 2, "delivery")
        states = [received.body["data"]["alerts"][0]["state"] for received in receiver.accepted]
        assert states == ["firing", "resolved"]


def test_later_messages_get_past_one_that_is_always_rejected(
    queue: NotificationQueue, start_sender: StartSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejected: list[str] = []

    def refuse(target: Target, message: QueuedNotification) -> None:
        if message.changes[0]["state"] == "firing":
            rejected.append(message.id)
            raise DeliveryFailed("the receiver answered 422", rejected=True)

    queue.add(rule(), change("firing"), 1000)
    queue.add(rule("other"), change("resolved"), 2000)
    sender = start_sender(target("https://example.org/hook", monkeypatch), refuse)
    wait_until(lambda: queue.counts()["delivered"] == 1, "the later one")
    assert rejected and sender.failures_of["ops"] >= 1
    (waiting,) = queue.messages("waiting", 10)
    assert waiting.rejected


@pytest.mark.parametrize(("status", "rejected"), [(400, True), (404, True), (422, True), (429, False), (503, False)])
def test_only_statuses_against_the_message_reject_it(status: int, rejected: bool) -> None:
    with pytest.raises(DeliveryFailed) as failed:
        check_answer(httpx.Response(status))
    assert failed.value.rejected is rejected


def test_whatever_goes_wrong_is_tried_again_later_and_told_once_without_the_address(
    queue: NotificationQueue,
    start_sender: StartSender,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried = []

    def fail(target: Target, message: QueuedNotification) -> None:
        tried.append(message)
        raise RuntimeError(target.url)

    queue.add(rule(), change("firing"), 1000)
    start_sender(target("https://example.org/secret-path", monkeypatch), fail)
    wait_until(lambda: len(tried) == 2, "two attempts")
    wait_until(lambda: queue.messages("waiting", 1)[0].attempts == 2, "the second one's note")
    (message,) = queue.messages("waiting", 1)
    assert "RuntimeError" in message.error
    assert caplog.text.count("in fail") == 1
    assert "secret-path" not in caplog.text + message.error


def test_the_end_does_not_wait_for_a_receiver_that_hangs(
    queue: NotificationQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(lambda _: None) as receiver:
        ops = target(receiver.url, monkeypatch, 10.0)
        sender = NotificationSender(queue, lambda: {"ops": ops}, TO_PRIVATE, grace_s=0.1)
        queue.add(rule(), change("firing"), 1000)
        sender.start()
        wait_until(lambda: bool(receiver.requests), "an attempt")
        sender.stop()
        (message,) = queue.messages("waiting", 1)
        assert message.attempts == 0, "the attempt came to its end first"
