"""The writer's ledger and the leases, on a real server of NATS."""

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import pytest

from service.cluster.connection import Cluster
from service.cluster.lease import Lease
from service.cluster.ledger import Ledger, LedgerReader, LedgerStep, Superseded, WriterLedger
from tests.support.running import wait_until

pytestmark = pytest.mark.server


def test_the_next_writer_goes_on_where_the_one_before_was(cluster: Cluster) -> None:
    """With all numbers, lines and parts."""
    first = WriterLedger(cluster)
    first.put({"flushed": 7, "begun": 9}, [["a 1\n", "b 2\n"], ["c 3\n"]], [(300_000, 5, 1)])
    second = WriterLedger(cluster)
    assert (second.value("flushed"), second.value("begun"), second.value("other")) == (7, 9, None)
    assert next(second.noted())[1] == ["a 1\n", "b 2\n"]
    assert second.next_parts(300_000, [5, 6]) == {5: 2, 6: 1}
    second.done(next(second.noted())[0])
    assert next(second.noted())[1] == ["c 3\n"]


def test_who_was_superseded_can_note_nothing_any_more(cluster: Cluster) -> None:
    """However late it wakes up."""
    first = WriterLedger(cluster)
    first.put({"flushed": 1})
    second = WriterLedger(cluster)
    with pytest.raises(Superseded):
        first.put({"flushed": 2})
    assert second.value("flushed") == 1
    second.put({"flushed": 3})
    assert WriterLedger(cluster).value("flushed") == 3


def test_a_step_that_was_cut_short_does_not_count() -> None:
    """Neither by itself nor together with the next."""
    ledger = Ledger()
    assert ledger.take(1, LedgerStep(begins=True, values={"flushed": 1}))
    assert not ledger.take(2, LedgerStep(begins=True, goes_on=True, noted=[(1, b"half")]))
    assert ledger.take(3, LedgerStep(begins=True, values={"takeovers": 2}))
    assert (ledger.values, ledger.noted) == ({"flushed": 1, "takeovers": 2}, {})


def test_a_ledger_that_grows_long_is_summed_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that taking over stays quick."""
    monkeypatch.setattr("service.cluster.ledger._ENTRIES", 10)
    ledger = WriterLedger(cluster)
    ledger.put({"begun": 5}, [["late 1\n"]], [(1, 2, 3)])
    for number in range(40):
        ledger.put({"flushed": number})
    state = cluster.call(cluster.jetstream.stream_info(ledger.name)).state
    assert state.messages < 20
    after = WriterLedger(cluster)
    assert (after.value("flushed"), after.value("begun")) == (39, 5)
    assert next(after.noted())[1] == ["late 1\n"]
    assert after.next_parts(1, [2]) == {2: 4}


def test_lines_of_many_megabytes_are_one_step(cluster: Cluster) -> None:
    """A message of NATS has one."""
    lines = [f"rollup,userId=host-{number} Avg={number * 0.37} {number}\n" for number in range(60_000)]
    WriterLedger(cluster).put({"flushed": 1}, [lines])
    found: list[str] = []
    ledger = WriterLedger(cluster)
    for number, some in ledger.noted():
        found += some
        ledger.done(number)
    assert found == lines


def test_a_reader_knows_what_was_noted_before_it_asks(cluster: Cluster) -> None:
    """By the word of JetStream, not by the time that has passed."""
    told: list[tuple[int, bool, int]] = []
    changed = threading.Event()

    def take(ledger: Ledger) -> None:
        told.append((ledger.values.get("flushed", 0), bool(ledger.noted), ledger.notes))
        changed.set()

    reader = LedgerReader(cluster, take)
    writer = WriterLedger(cluster)
    writer.put({"flushed": 4}, [["x 1\n"]])
    reader.refresh()
    assert told[-1] == (4, True, 1)
    writer.done(next(writer.noted())[0])
    reader.refresh()
    assert told[-1] == (4, False, 1)
    reader.close()


def test_one_at_a_time_has_a_lease_and_the_next_gets_it(cluster: Cluster) -> None:
    """When it is let go of, and when its holder is gone."""
    first, second, third = (Lease(cluster, "work", f"process {number}") for number in range(3))
    first.start()
    wait_until(lambda: first.is_held, "the first")
    second.start()
    first.stop()
    wait_until(lambda: second.is_held, "the second")
    assert not first.is_held
    third.start()
    # As if the process were killed: nothing renews it, and nobody lets go of it.
    second._stopping.set()
    wait_until(lambda: third.is_held, "the third")
    wait_until(lambda: not second.is_held, "the second to notice")
    third.stop()


def test_a_lease_whose_answer_was_lost_is_kept(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is got, and when it is renewed: nobody else has it for a moment, nor is there none who has it."""
    lease = Lease(cluster, "work", "process 1")
    bucket = lease._bucket

    def losing(ask: Callable[..., Awaitable[int]]) -> Callable[..., Awaitable[int]]:
        async def lost(*arguments: Any, **named: Any) -> int:
            await ask(*arguments, **named)
            raise nats.errors.TimeoutError

        return lost

    for name in ("create", "update"):
        with monkeypatch.context() as once:
            once.setattr(bucket, name, losing(getattr(bucket, name)))
            lease._ask()
        lease._ask()
        assert lease.is_held, name
    other = Lease(cluster, "work", "process 2")
    other._ask()
    assert not other.is_held
    lease.stop()
    other._ask()
    assert other.is_held
    lease._ask()
    assert not lease.is_held
    other.stop()


def test_a_lease_that_another_has_by_now_is_lost_though_an_answer_was(cluster: Cluster) -> None:
    first, second = (Lease(cluster, "work", "process") for _ in range(2))
    first._ask()
    cluster.call(first._bucket.delete("work"))
    second._ask()
    assert second.is_held
    first._is_unsure = True
    first._ask()
    assert not first.is_held
    second.stop()


def test_a_reader_goes_on_where_a_step_could_not_be_taken(cluster: Cluster) -> None:
    """The next one tells all anew."""
    told: list[int] = []

    def take(ledger: Ledger) -> None:
        told.append(ledger.values.get("flushed", 0))
        if told[-1] == 1:
            raise ValueError("a fault")

    reader = LedgerReader(cluster, take)
    writer = WriterLedger(cluster)
    for number in range(3):
        writer.put({"flushed": number})
    reader.refresh()
    assert told[-1] == 2
    assert reader.problem is None
    reader.close()
    wait_until(lambda: reader.problem is not None, "word of it")
