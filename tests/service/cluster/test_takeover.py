"""The writer of a cluster is killed or paused, and another goes on from the ledger: every row is written once."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analytics.sources.influx_address import Address, Credentials
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.cluster import ClusterError
from service.cluster.connection import Cluster
from service.cluster.ledger import WriterLedger
from service.ingest.takeover import Takeover
from service.stores.base import StoreUnavailable
from service.stores.influx.shared_checkpoint import Batch, SharedCheckpoint
from service.stores.influx.store import InfluxStore
from tests.service.stores.influx.test_rollups import T0, Clock, Feed, live
from tests.support.influx_proxy import Fault, InfluxProxy, Request
from tests.support.influxd import RunningInflux

pytestmark = pytest.mark.server
TakeOver = Callable[[], InfluxStore]


@pytest.fixture
def clock() -> Clock:
    """It shows an hour past midnight."""
    return Clock(T0 + HOUR_MS)


@pytest.fixture(params=[2, 3], ids=["2.x", "3.x"])
def server(request: pytest.FixtureRequest, influx: RunningInflux, name: str) -> Iterator[InfluxProxy]:
    """An InfluxDB; nobody writes another value over one that is there."""
    with InfluxProxy(influx, request.param) as server:
        server.make(name)
        yield server
        assert not server.overwritten


@pytest.fixture
def take_over(server: InfluxProxy, cluster: Cluster, name: str, clock: Clock, tmp_path: Path) -> Iterator[TakeOver]:
    """Each time another process goes on, on a host that has nothing but the ledger."""
    opened: list[InfluxStore] = []

    def take_over() -> InfluxStore:
        ledger = SharedCheckpoint(WriterLedger(cluster))
        folder = tmp_path / f"machine-{len(opened)}"
        opened.append(InfluxStore(Address(server.url, name), Credentials(), folder, now_ms=clock, checkpoint=ledger))
        return opened[-1]

    yield take_over
    for store in opened:
        store.abandon()


def give(store: InfluxStore, feed: Feed) -> None:
    """What the log has behind what the store has."""
    for last in range(store.flushed + 1, len(feed.recording.reports) + 1):
        store.add(last, feed.recording.reports[last - 1 : last])


def give_anew(store: InfluxStore, feed: Feed, shift: int, behind: int = 0) -> None:
    """The log, from its beginning and in pieces, as a copy has it in which offsets are others by `shift`.

    The process has heard of all of it but the newest reports, as many as it is `behind`.
    """
    reports = feed.recording.reports
    ledger = store._checkpoint._ledger  # type: ignore[union-attr]
    takeover = Takeover(store, Batch(ledger.batch), ledger.value("begun") or 0, len(reports) + shift - behind, 50)
    for start in range(0, len(reports), 7):
        some = reports[start : start + 7]
        asyncio.run(takeover.take(start + len(some) + shift, [b""] * len(some), some))


@pytest.mark.parametrize(
    ("writes_before", "shift", "behind"),
    [(0, 20, 0), (1, -20, 0), (2, 3, 0), (3, -3, 0), (0, 0, 200), (3, 20, 200), (2, -20, 30)],
)
def test_a_copy_of_the_log_with_other_offsets_is_gone_on_from(
    server: InfluxProxy, take_over: TakeOver, clock: Clock, writes_before: int, shift: int, behind: int
) -> None:
    """What was written is not written again, what was begun is, and nothing is left out; late windows as others.

    Also where the process that begins has not heard yet of the newest reports, though the one before wrote them.
    """
    feed = Feed(clock)
    store = take_over()
    live(feed, store, clock, 0.5)
    left = [writes_before]

    def die(asked: Request) -> Fault | None:
        left[0] -= "write" in asked.path
        return Fault(503) if left[0] < 0 else None

    for number in range(10):
        feed.window(clock.now_ms - 20 * MINUTE_MS - 50_000 - number * 1000)
    feed.pass_to(store)
    server.fault = die
    with contextlib.suppress(StoreUnavailable):
        store.flush()
    server.fault = lambda _: None
    store.abandon()
    for number in range(10):
        feed.window(clock.now_ms - 25 * MINUTE_MS - 50_000 - number * 1000)
    again = take_over()
    give_anew(again, feed, shift, behind)
    again.flush()
    feed.assert_answered(again)
    clock.now_ms += 10 * MINUTE_MS
    again.flush()
    feed.assert_answered(again)


def test_a_writer_that_begins_waits_for_an_influxdb_that_is_away(
    server: InfluxProxy, take_over: TakeOver, clock: Clock
) -> None:
    feed = Feed(clock)
    store = take_over()
    live(feed, store, clock, 0.5)
    store.flush()
    store.abandon()
    again = take_over()
    left = [3]

    def away(_: Request) -> Fault | None:
        left[0] -= 1
        return Fault(503) if left[0] >= 0 else None

    server.fault = away
    give_anew(again, feed, 0)
    assert left[0] < 0
    again.flush()
    feed.assert_answered(again)


@pytest.mark.parametrize("writes_before", [0, 1, 3, 6, 10, 15])
def test_a_writer_that_dies_between_any_two_writes_is_gone_on_from(
    server: InfluxProxy, take_over: TakeOver, clock: Clock, writes_before: int
) -> None:
    feed = Feed(clock)
    store = take_over()
    live(feed, store, clock, 0.5)
    clock.now_ms = T0 + DAY_MS - 30_000
    live(feed, store, clock, 0.02)
    left = [writes_before]

    def die(asked: Request) -> Fault | None:
        left[0] -= "write" in asked.path
        return Fault(503) if left[0] < 0 else None

    server.fault = die
    with contextlib.suppress(StoreUnavailable):
        live(feed, store, clock, 0.5)  # over midnight, when every tier is written
    server.fault = lambda _: None
    store.abandon()
    again = take_over()
    give(again, feed)
    feed.assert_answered(again)
    clock.now_ms += 10 * MINUTE_MS
    again.flush()
    feed.assert_answered(again)


def test_a_writer_that_was_paused_writes_nothing_that_counts(take_over: TakeOver, clock: Clock) -> None:
    """Whatever it had in memory: the other has it from the log."""
    feed = Feed(clock)
    paused = take_over()
    live(feed, paused, clock, 0.5)
    for number in range(5):
        feed.window(clock.now_ms - 40 * MINUTE_MS - number * 1000)
    feed.pass_to(paused)
    other = take_over()
    give(other, feed)
    other.flush()
    for _ in range(2):
        with pytest.raises((ClusterError, StoreUnavailable)):
            paused.flush()
    feed.assert_answered(other)
    clock.now_ms += 10 * MINUTE_MS
    other.flush()
    feed.assert_answered(other)
