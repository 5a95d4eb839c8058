"""What is done to a database behind the service's back: it is dropped, or keeps its points for a shorter time."""

import contextlib
from pathlib import Path

import pytest

from contract import times
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.stores.base import Question, StoreUnavailable
from service.stores.influx import keeping, writing
from service.stores.influx.store import InfluxStore
from tests.service.stores.influx.conftest import OpenStore
from tests.service.stores.influx.test_rollups import Clock, Feed, live
from tests.support.influx_proxy import InfluxProxy
from tests.support.influxd import RunningInflux
from tests.support.recordings import CPU, Host, Recording
from tests.support.running import wait_until

pytestmark = pytest.mark.server


@pytest.fixture
def now_ms() -> int:
    """The moment at which the test began: InfluxDB compares the points with its own clock."""
    return times.now_ms() // 1000 * 1000


@pytest.fixture
def midnight(now_ms: int) -> int:
    """The last but one before it."""
    return now_ms // DAY_MS * DAY_MS - DAY_MS


def size(store: InfluxStore, name: str) -> float:
    return {name: value for name, _, value in store.sizes()}[name]


def flushed(store: InfluxStore) -> bool:
    """Whether it could be flushed now."""
    with contextlib.suppress(StoreUnavailable):
        store.flush()
        return True
    return False


def counted(store: InfluxStore, rate_ms: int, midnight: int) -> int:
    windows = store.answer(Question(CPU, midnight, midnight + 3 * DAY_MS, rate_ms))
    return int(windows["count"].sum())


def test_after_a_drop_all_rates_count_what_came_since_and_nothing_else(
    open_store: OpenStore, influx: RunningInflux, database: str, midnight: int
) -> None:
    clock = Clock(midnight + HOUR_MS)
    store = open_store(now_ms=clock)
    live(Feed(clock), store, clock, 1.5)
    for number in range(2):  # it may happen more than once
        feed = Feed(clock)
        influx.query(f'DROP DATABASE "{database}"')
        feed.window(clock.now_ms - 1000)
        feed.pass_to(store)
        wait_until(lambda: flushed(store), "the database to be made again")
        assert "dropped or emptied" in (store.problem or "")
        live(feed, store, clock, 1.5 + number)
        clock.now_ms += 2 * MINUTE_MS
        store.flush()
        samples = 5 * len(feed.recording.reports)
        assert {
            rate: counted(store, rate, midnight) for rate in (1000, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, DAY_MS)
        } == (dict.fromkeys((1000, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, DAY_MS), samples))
    clock.now_ms += 2 * DAY_MS
    store.flush()
    store.expire(clock.now_ms)
    assert counted(store, DAY_MS, midnight) == samples
    store.close()
    assert counted(open_store("another", now_ms=clock), DAY_MS, midnight) == samples


def test_refused_rows_of_rollups_are_said_and_can_be_written_later(
    open_store: OpenStore, influx: RunningInflux, database: str, midnight: int, tmp_path: Path
) -> None:
    influx.query(f'CREATE DATABASE "{database}"')
    influx.write(f"measurements_5m,userId=other cpuLoadCount=1.5 {midnight}", database)
    clock = Clock(midnight + HOUR_MS)
    store = open_store(now_ms=clock)
    feed = Feed(clock)
    live(feed, store, clock, 0.5)
    samples = 5 * len(feed.recording.reports)
    assert counted(store, 1000, midnight) == samples
    assert counted(store, 5 * MINUTE_MS, midnight) < samples
    assert "rows of rollups: answers of 5 minutes and coarser are too low" in (store.problem or "")
    influx.query('DROP MEASUREMENT "measurements_5m"', database)
    (aside,) = tmp_path.rglob("refused.lines")
    influx.write("\n".join(line for line in aside.read_text().splitlines() if line[:1] != "#"), database)
    assert counted(store, 5 * MINUTE_MS, midnight) == samples


def windows(ends: list[int]) -> Recording:
    recording = Recording()
    for end in ends:
        recording.cpu(Host("one"), end, CPU_SAMPLES)
    return recording


CPU_SAMPLES = Feed(Clock(0))._random.random(4)


def fill(store: InfluxStore, ends: list[int]) -> None:
    store.add(store.last + len(ends), windows(ends).reports)
    store.flush()


def test_a_retention_period_that_is_made_shorter_is_said_and_what_is_older_is_not_written(
    open_store: OpenStore,
    influx: RunningInflux,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    now_ms: int,
) -> None:
    monkeypatch.setattr(keeping, "_LOOK_EVERY_S", 0.0)
    store = open_store()
    fill(store, [now_ms - 3 * HOUR_MS, now_ms - MINUTE_MS])
    assert store.problem is None
    influx.query(f'ALTER RETENTION POLICY "autogen" ON "{database}" DURATION 1h SHARD DURATION 1h')
    for number in range(1, 20):
        fill(store, [now_ms - 5 * HOUR_MS - number * 1000, now_ms - MINUTE_MS + number * 1000])
    assert "keeps points for 1h now, before for ever" in (store.problem or "")
    assert size(store, "lines_expired") >= 19
    assert size(store, "lines_refused") == 0
    assert not [*tmp_path.rglob("refused.lines")]
    assert store.oldest_ms(now_ms) == now_ms - HOUR_MS
    found = store.answer(Question(CPU, now_ms - HOUR_MS, now_ms + HOUR_MS, 1000, "one"))
    assert found["count"].sum() == 4 * 20
    influx.query(f'ALTER RETENTION POLICY "autogen" ON "{database}" DURATION INF')
    store.flush()
    assert store.problem is None


def test_lines_that_influxdb_finds_too_old_fill_no_file_before_it_is_known_why(
    open_store: OpenStore, influx: RunningInflux, database: str, tmp_path: Path, now_ms: int
) -> None:
    store = open_store()
    fill(store, [now_ms - MINUTE_MS])
    influx.query(f'ALTER RETENTION POLICY "autogen" ON "{database}" DURATION 1h SHARD DURATION 1h')
    fill(store, [now_ms - 5 * HOUR_MS, now_ms - 4 * HOUR_MS, now_ms])
    assert size(store, "lines_expired") >= 2
    store.flush()
    assert "keeps points for 1h now" in (store.problem or "")
    assert not [*tmp_path.rglob("refused.lines")]


def test_a_retention_period_of_newer_generations_is_known(
    newer: InfluxProxy, open_store: OpenStore, influx: RunningInflux, database: str, now_ms: int
) -> None:
    newer.make(database)
    newer.keep(database, HOUR_MS)
    store = open_store(url=newer.url, who={"token": "s3cret-t0ken"})
    fill(store, [now_ms - 5 * HOUR_MS, now_ms - MINUTE_MS])
    assert size(store, "lines_expired") == 1
    assert store.oldest_ms(now_ms) == now_ms - HOUR_MS
    assert store.problem is None


def test_points_that_influxdb_finds_too_old_by_its_own_clock_are_no_trouble(
    newer: InfluxProxy, open_store: OpenStore, database: str, now_ms: int
) -> None:
    newer.make(database)
    newer.keep(database, HOUR_MS)
    store = open_store(url=newer.url, who={"token": "s3cret-t0ken"}, now_ms=Clock(now_ms - 2 * HOUR_MS))
    fill(store, [now_ms - 2 * HOUR_MS, now_ms - MINUTE_MS])
    assert store.problem is None
    assert size(store, "lines_refused") == 0
    assert store.flushed == 2


def test_the_file_of_refused_lines_is_bounded_and_what_it_had_no_room_for_is_counted(
    open_store: OpenStore,
    influx: RunningInflux,
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    now_ms: int,
    midnight: int,
) -> None:
    monkeypatch.setattr(writing, "_LONGEST_FILE", 2000)
    influx.query(f'CREATE DATABASE "{database}"')
    influx.write(f'measurements,userId=strange cpuLoadMin="text" {now_ms}', database)
    store = open_store()
    for number in range(20):
        fill(store, [now_ms + number * 1000])
    assert size(store, "lines_refused") == 20
    (file,) = tmp_path.rglob("refused.lines")
    assert 1000 < file.stat().st_size <= 2000
    kept = file.read_text().count("\nmeasurements,")
    assert size(store, "lines_dropped") == 20 - kept > 0
    assert counted(store, DAY_MS, midnight) == 0
    assert f"but for {20 - kept} that it had no room for" in (store.problem or "")
