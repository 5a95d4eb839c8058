"""A process that does not write answers what the one that writes does, however far it has heard of that."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from analytics.sources.influx_address import Address, Credentials
from contract.influx import SINCE, TIERS, through_field
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.stores.base import Question, StoreUnavailable
from service.stores.influx.replica import InfluxReplica
from service.stores.influx.store import InfluxStore
from tests.service.stores.influx.conftest import OpenStore
from tests.service.stores.influx.test_rollups import T0, Clock, Feed
from tests.support.influxd import RunningInflux
from tests.support.recordings import CPU

pytestmark = pytest.mark.server


class Told:
    """What a writer has told of itself by now."""

    def __init__(self, store: InfluxStore) -> None:
        names = ("flushed", "begun", SINCE, *map(through_field, TIERS))
        told = {name: store._checkpoint.value(name) for name in names}
        self.values = {name: value for name, value in told.items() if value is not None}
        self.noted: dict[int, bytes] = {}
        self.notes = 0


@pytest.fixture
def clock() -> Clock:
    """It shows an hour past midnight."""
    return Clock(T0 + HOUR_MS)


@pytest.fixture
def replica(influx: RunningInflux, database: str, tmp_path: Path, clock: Clock) -> Iterator[InfluxReplica]:
    """A process that reads; what the writer tells it, a test says."""
    store = InfluxReplica(
        Address(influx.url, database), Credentials(), tmp_path / "replica", lambda: None, now_ms=clock
    )
    yield store
    store.close()


def counts(store: InfluxStore, rate_ms: int) -> list[tuple[object, int]]:
    """How many samples of all hosts there are in each bucket."""
    windows = store.answer(Question(CPU, T0 - DAY_MS, T0 + 4 * DAY_MS, rate_ms))
    return list(zip(windows.index, windows["count"], strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_every_window_is_answered_once_whatever_was_told_when(
    open_store: OpenStore, replica: InfluxReplica, clock: Clock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows come to both in one order, but not at one time; some are late, some come before the writer tells.

    Also where nobody has asked for a while.
    """
    if seed % 2:
        monkeypatch.setattr("service.stores.influx.replica_views._IDLE_S", 0.0)
    writer, feed = open_store(now_ms=clock), Feed(clock)
    random = np.random.default_rng(seed)
    given = 0
    for step in range(120):
        clock.now_ms += 47_000
        feed.window(clock.now_ms - 1000)
        feed.window(clock.now_ms - 2000 - (30 * MINUTE_MS + 1234 + step if step % 7 == 0 else 0), "two")
        feed.pass_to(writer)
        action = random.integers(4)
        if action == 0:
            writer.flush()
            replica.apply(Told(writer))
        if action < 3:
            # Also what the writer has told of before.
            reports = feed.recording.reports[given:]
            if reports:
                replica.add(given + len(reports), reports)
                given += len(reports)
        if action == 2:
            replica.flush()
        if step % 10 == 9:
            replica.add(given + len(feed.recording.reports[given:]), feed.recording.reports[given:])
            given = len(feed.recording.reports)
            for rate_ms in (1000, 5 * MINUTE_MS, HOUR_MS, DAY_MS):
                assert counts(replica, rate_ms) == counts(writer, rate_ms)
    writer.flush()
    replica.apply(Told(writer))
    feed.assert_answered(replica)


def test_what_is_noted_and_not_written_is_waited_for(
    open_store: OpenStore, replica: InfluxReplica, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where that never ends, it is said."""
    monkeypatch.setattr("service.stores.influx.replica_views._WAIT_S", 0.2)
    told = Told(open_store(now_ms=clock))
    told.noted = {1: b"rows"}
    replica.add(1, [])
    feed = Feed(clock)
    feed.window(clock.now_ms)
    replica.add(1, feed.recording.reports)
    replica.apply(told)
    with pytest.raises(StoreUnavailable, match="has not written yet"):
        counts(replica, DAY_MS)
    told.noted = {}
    replica.apply(told)
    assert [number for _, number in counts(replica, DAY_MS)] == [5]


def test_a_process_that_only_reads_starts_while_influxdb_is_away_if_it_knows_the_users(
    open_store: OpenStore, influx: RunningInflux, database: str, tmp_path: Path, clock: Clock
) -> None:
    """It takes reports then; answers wait."""
    writer, feed = open_store(now_ms=clock), Feed(clock)
    feed.window(clock.now_ms)
    feed.pass_to(writer)
    writer.flush()
    folder = tmp_path / "reader"
    InfluxReplica(Address(influx.url, database), Credentials(), folder, lambda: None, now_ms=clock).close()
    away = InfluxReplica(Address("http://127.0.0.1:1", database), Credentials(), folder, lambda: None, now_ms=clock)
    assert away.has_user("one")
    with pytest.raises(StoreUnavailable):
        counts(away, DAY_MS)
    away.close()
