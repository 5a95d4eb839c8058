"""Rollups: each row is written once, at its time, and whoever adds up what is there has every window once."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from analytics import connect
from contract.metrics import Cpu
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.commands.copy import main as copy
from service.stores.base import Question, StoreError, StoreUnavailable
from service.stores.influx.lines import bucket_lines
from service.stores.influx.rollups import FINEST, GRACE_MS, late
from service.stores.influx.store import InfluxStore
from service.stores.sorted_windows import rows_of
from tests.service.stores.influx.conftest import OpenStore
from tests.support.influx_proxy import Fault, InfluxProxy, Request
from tests.support.influxd import RunningInflux
from tests.support.recordings import CPU, Host, Recording, assert_quantiles, assert_same_moments

pytestmark = pytest.mark.server

T0 = 1_706_572_800_000  # a midnight
RATES = (1000, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, DAY_MS)


class Clock:
    """A clock that a test sets."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    """It shows an hour past midnight."""
    return Clock(T0 + HOUR_MS)


@pytest.fixture(params=[2, 3], ids=["2.x", "3.x"])
def server(request: pytest.FixtureRequest, influx: RunningInflux, database: str) -> Iterator[InfluxProxy]:
    """An InfluxDB; that of 3.x answers the first of two points of one series and time. No test overwrites any."""
    with InfluxProxy(influx, request.param) as server:
        server.make(database)
        yield server
        assert not server.overwritten


class Feed:
    """Windows of two hosts as time goes by, and what they must add up to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.recording = Recording()
        self._given = 0
        self._random = np.random.default_rng(7)

    def window(self, end_ms: int, name: str = "one") -> None:
        """A window that ends at a moment."""
        samples = self._random.random((3, 5))
        self.recording.cpu(Host(name), end_ms, samples[0], samples[1:])

    def pass_to(self, store: InfluxStore) -> None:
        """What the store was not given yet."""
        reports = self.recording.reports[self._given :]
        if reports:
            store.add(store.last + len(reports), reports)
            self._given += len(reports)

    def assert_answered(self, store: InfluxStore, rates: tuple[int, ...] = RATES) -> None:
        """All windows, once, at each rate."""
        start, end = T0, T0 + 4 * DAY_MS
        for rate in rates:
            expected = self.recording.buckets(
                CPU, start, end, rate, lambda one: one.host.user_id if one.core is None else None
            )
            windows = store.answer(Question(CPU, start, end, rate, by="user", histograms=True))
            assert_same_moments(windows, expected)
            assert_quantiles(windows, CPU, expected)
        for rate in (rates[0], rates[-1]):
            expected = self.recording.buckets(
                CPU, start, end, rate, lambda one: "1" if one.core == 1 and one.host.user_id == "one" else None
            )
            windows = store.answer(Question(CPU, start, end, rate, "one", cores=1))
            assert [len(part) for part in expected.values()] == windows["count"].tolist()


def rows(influx: RunningInflux, database: str, measurement: str) -> list[tuple[str, int, int]]:
    """Part, time and samples of each row of a rollup, of hosts."""
    found = influx.query(f'SELECT "cpuLoadCount" FROM "{measurement}" GROUP BY "userId", "part"', database)
    return sorted((series["tags"]["part"], time, count) for series in found for time, count in series["values"])


def killed(store: InfluxStore) -> None:
    """Its process is killed: it does nothing any more."""
    store._closed = True
    store._checkpoint.close()


def live(feed: Feed, store: InfluxStore, clock: Clock, hours: float, late_one: int = 9) -> None:
    """Time goes by: each host has a window every 100 s; of one of them every ninth comes half an hour late."""
    end = clock.now_ms + int(hours * HOUR_MS)
    number = 0
    while clock.now_ms < end:
        clock.now_ms += 100_000
        number += 1
        feed.window(clock.now_ms - 1000)
        feed.window(clock.now_ms - 2000 - (30 * MINUTE_MS + 1234 if number % late_one == 0 else 0), "two")
        feed.pass_to(store)
        store.flush()


def test_as_time_goes_by_every_window_is_answered_once_and_no_row_is_written_twice(
    server: InfluxProxy, open_store: OpenStore, clock: Clock
) -> None:
    feed = Feed(clock)
    store = open_store(url=server.url, now_ms=clock)
    for _ in range(5):
        live(feed, store, clock, 0.4)
        feed.assert_answered(store)
    clock.now_ms += 22 * HOUR_MS
    live(feed, store, clock, 0.3)
    feed.assert_answered(store)
    store.close()
    feed.assert_answered(open_store(url=server.url, now_ms=clock))
    feed.assert_answered(open_store("another", url=server.url, now_ms=clock))


def test_a_bucket_is_one_row_when_it_is_over_and_what_comes_later_is_another(
    influx: RunningInflux, open_store: OpenStore, clock: Clock, database: str
) -> None:
    feed = Feed(clock)
    store = open_store(now_ms=clock)
    begin = clock.now_ms
    for number in range(5):
        clock.now_ms = begin + (number + 1) * MINUTE_MS
        feed.window(clock.now_ms - 1)
        feed.pass_to(store)
        store.flush()
    assert not rows(influx, database, "measurements_5m")
    clock.now_ms = begin + FINEST + GRACE_MS
    feed.window(begin + 1)  # late, but within the grace
    feed.pass_to(store)
    store.flush()
    assert rows(influx, database, "measurements_5m") == [("0", begin, 30)]
    for number in (1, 2):
        feed.window(begin + 1 + number)
        feed.pass_to(store)
        store.flush()
        store.flush()
    assert rows(influx, database, "measurements_5m") == [("0", begin, 30), ("1", begin, 5), ("2", begin, 5)]
    assert not rows(influx, database, "measurements_15m")
    clock.now_ms = T0 + DAY_MS + GRACE_MS
    store.flush()
    for tier in ("15m", "1h"):
        assert rows(influx, database, f"measurements_{tier}") == [("0", begin, 40)]
    assert rows(influx, database, "measurements_1d") == [("0", T0, 40)]
    feed.window(begin + 4)
    feed.pass_to(store)
    store.flush()
    assert rows(influx, database, "measurements_1d") == [("0", T0, 40), ("1", T0, 5)]
    feed.assert_answered(store)
    # Sums on the server need to know nothing of it.
    (series,) = influx.query('SELECT SUM("cpuLoadCount") FROM "measurements_1d"', database)
    assert series["values"][0][1] == 45


def test_numbers_of_parts_stay_small_however_much_comes_late(
    influx: RunningInflux, open_store: OpenStore, clock: Clock, database: str
) -> None:
    feed = Feed(clock)
    store = open_store(now_ms=clock)
    for place in range(40):
        for number in range(2):
            feed.window(T0 - 10 * DAY_MS + place * 6 * HOUR_MS + number * 3 * HOUR_MS)
        feed.pass_to(store)
        store.flush()
    assert max(int(part) for part, _, _ in rows(influx, database, "measurements_1d")) <= 5
    assert {part for part, _, _ in rows(influx, database, "measurements_5m")} == {"1"}


@pytest.mark.parametrize("writes_before", [0, 2, 5, 9, 14, 20])
def test_a_crash_between_any_two_writes_writes_the_very_same_rows_again(
    server: InfluxProxy, open_store: OpenStore, clock: Clock, writes_before: int
) -> None:
    feed = Feed(clock)
    store = open_store(url=server.url, now_ms=clock)
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
    killed(store)
    again = open_store(url=server.url, now_ms=clock)
    for last in range(again.flushed + 1, len(feed.recording.reports) + 1):
        again.add(last, feed.recording.reports[last - 1 : last])
    feed.assert_answered(again)
    clock.now_ms += 10 * MINUTE_MS
    again.flush()
    feed.assert_answered(again)
    feed.assert_answered(open_store("another", url=server.url, now_ms=clock))


def test_another_service_completes_what_one_had_begun_to_write(
    server: InfluxProxy, open_store: OpenStore, clock: Clock, database: str
) -> None:
    feed = Feed(clock)
    store = open_store(url=server.url, now_ms=clock)
    live(feed, store, clock, 1)
    clock.now_ms += FINEST
    rollups: list[Request] = []

    def half(asked: Request) -> Fault | None:
        if "write" in asked.path and b"measurements_" in asked.body:
            rollups.append(asked)
        return Fault(503) if "write" in asked.path and rollups else None

    server.fault = half
    with pytest.raises(StoreUnavailable):
        store.flush()
    # One of the lines got there, and then the host burned down.
    server.influx.write(rollups[0].body.decode().splitlines()[0], database)
    server.fault = lambda _: None
    killed(store)
    another = open_store("another", url=server.url, now_ms=clock)
    feed.assert_answered(another)
    live(feed, another, clock, 0.5)
    feed.assert_answered(another)


def test_a_folder_that_is_restored_from_before_is_refused(open_store: OpenStore, clock: Clock, tmp_path: Path) -> None:
    feed = Feed(clock)
    store = open_store(now_ms=clock)
    live(feed, store, clock, 0.1)
    store.snapshot(tmp_path / "restored")
    live(feed, store, clock, 0.3)
    killed(store)
    with pytest.raises(StoreError, match=r"is older than what influx://.* has from it"):
        open_store("restored", now_ms=clock)
    feed.assert_answered(open_store("empty", now_ms=clock))


def test_the_library_reads_a_database_that_is_written_to(
    influx: RunningInflux, open_store: OpenStore, clock: Clock, database: str
) -> None:
    feed = Feed(clock)
    store = open_store(now_ms=clock)
    live(feed, store, clock, 2)
    with connect(f"{influx.address()[: -len('METRICS')]}{database}") as source:
        for rate in ("raw", "5m", "1h", "1d"):
            frame = source.fleet(start=T0, end=T0 + DAY_MS, rate=rate)
            assert frame["count"].sum() == sum(len(one.samples) for one in feed.recording.windows if one.core is None)


def test_users_are_told_once_a_day_and_when_they_change(
    influx: RunningInflux, open_store: OpenStore, clock: Clock, database: str
) -> None:
    feed = Feed(clock)
    store = open_store(now_ms=clock)
    live(feed, store, clock, 1, late_one=1000)
    told = 'SELECT COUNT("lastSeen") FROM "users" GROUP BY "userId"'
    assert [series["values"][0][1] for series in influx.query(told, database)] == [1, 1]
    feed.recording.cpu(Host("one", os_version="13"), clock.now_ms, np.array([0.5]), [np.array([0.5])] * 5)
    feed.pass_to(store)
    store.flush()
    assert [series["values"][0][1] for series in influx.query(told, database)] == [2, 1]
    clock.now_ms += DAY_MS
    store.expire(clock.now_ms)
    assert [series["values"][0][1] for series in influx.query(told, database)] == [3, 2]
    again = open_store("another", now_ms=clock)
    assert again.users().equals(store.users())
    assert again.newest() == store.newest()
    assert again.cores("one", CPU) == [0, 1, 2, 3, 4]


@pytest.fixture
def former(influx: RunningInflux, database: str, open_store: OpenStore, clock: Clock) -> Callable[[Feed], None]:
    """Writes a feed as the version before wrote it: every bucket whole, also those that are not over."""

    def write(feed: Feed) -> None:
        store = open_store("former", now_ms=clock)
        feed.pass_to(store)
        store._views.seal()
        windows = store._views.now().memories[0]
        table = windows.windows  # type: ignore[attr-defined]
        store._windows.write(table)
        whole = rows_of(table, store._index.bounded(), histograms=True).windows()
        everything = late(whole, store._views.rolled._replace(through_ms=dict.fromkeys(store.tiers, 1 << 60)))
        for tier, buckets in everything.items():
            store._writer.write(bucket_lines(tier, buckets, store._index))
        for user in store._catalog.users_of(table):
            numbers = " ".join(map(str, user.core_numbers))
            influx.write(
                f'users,userId={user.user_id} user="{user.user_id}",osType="Linux",osVersion="12",'
                f'coreNumbers="{numbers}",systems="[]",cores={user.cores}i,firstSeen={user.first_seen}i,'
                f"lastSeen={user.last_seen}i,newestCpu={user.newest['CPU']}i {T0}",
                database,
            )
        influx.write(f"state schema=1i,since=0i {T0}", database)
        store._closed = True

    return write


def test_a_database_of_the_version_before_goes_on_being_read_and_written(
    influx: RunningInflux, open_store: OpenStore, clock: Clock, database: str, former: Callable[[Feed], None]
) -> None:
    feed = Feed(clock)
    for number in range(40):
        clock.now_ms += 100_000
        feed.window(clock.now_ms, "two" if number % 2 else "one")
    former(feed)
    assert {part for part, _, _ in rows(influx, database, "measurements_1d")} == {""}
    store = open_store(now_ms=clock)
    assert store.newest() == {("one", Cpu): clock.now_ms - 100_000, ("two", Cpu): clock.now_ms}
    feed.assert_answered(store)

    def go_on(hours: float) -> None:
        end = clock.now_ms + int(hours * HOUR_MS)
        while clock.now_ms < end:
            clock.now_ms += 100_000
            feed.window(clock.now_ms - 500)
            feed.pass_to(store)
            store.flush()

    for _ in range(4):
        go_on(0.4)
        feed.assert_answered(store)
    clock.now_ms = T0 + DAY_MS + 12 * MINUTE_MS
    go_on(0.2)
    feed.assert_answered(store)
    feed.assert_answered(open_store("another", now_ms=clock))


def test_a_database_of_the_version_before_is_converted_by_a_copy(
    influx: RunningInflux,
    open_store: OpenStore,
    clock: Clock,
    database: str,
    former: Callable[[Feed], None],
) -> None:
    feed = Feed(clock)
    for number in range(20):
        clock.now_ms += 100_000
        feed.window(clock.now_ms, "two" if number % 2 else "one")
    former(feed)
    new = f"{database}_new"
    assert copy(["--from", influx.address(database), "--to", influx.address(new), "--data-dir", "nowhere"]) == 0
    feed.assert_answered(open_store("another", name=new, now_ms=clock))
    assert {part for part, _, _ in rows(influx, new, "measurements_5m")} == {"1"}


def test_the_folder_may_be_lost(tmp_path: Path, server: InfluxProxy, open_store: OpenStore, clock: Clock) -> None:
    feed = Feed(clock)
    store = open_store(url=server.url, now_ms=clock)
    live(feed, store, clock, 0.6)
    for number in range(3):
        killed(store)
        store = open_store(f"host {number}", url=server.url, now_ms=clock)
        feed.window(T0 + HOUR_MS + number)
        feed.window(clock.now_ms)
        feed.pass_to(store)
        store.flush()
        feed.assert_answered(store)
        clock.now_ms += FINEST
