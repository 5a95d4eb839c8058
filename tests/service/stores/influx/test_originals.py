"""Points of the original that come into the database while the service has it: they count, whenever they come."""

import numpy as np
import pytest

from contract.metrics import BUSIEST_CORE, IDLEST_CORE
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.stores.base import Question
from service.stores.influx import originals
from service.stores.influx.store import InfluxStore
from tests.service.stores.influx.conftest import OpenStore
from tests.service.stores.influx.test_rollups import Clock, killed
from tests.support.influx_proxy import InfluxProxy
from tests.support.influxd import RunningInflux
from tests.support.recordings import CPU, Host, Recording

pytestmark = pytest.mark.server

T0 = 1_706_572_800_000  # a midnight
RATES = (1000, 5 * MINUTE_MS, 15 * MINUTE_MS, HOUR_MS, DAY_MS)
MEANS = {"whole": 0.3, BUSIEST_CORE: 0.9, IDLEST_CORE: 0.1}
LINE = (
    "measurements,osType=Linux,osVersion=18.04\\ LTS,userId={user} cpuCoreLoadAvgMax=0.9,cpuCoreLoadAvgMin=0.1,"
    "cpuCoreLoadMinMin=0.01,cpuCoreLoadVarMax=0.02,cpuLoadAvg={mean},cpuLoadVar=0.04 {time}"
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked for whenever there is time."""
    monkeypatch.setattr(originals, "_LEAST_S", 0.0)
    monkeypatch.setattr(originals, "_SHARE", 0)


def write(influx: RunningInflux, database: str, user: str, ends: list[int], mean: float = 0.3) -> None:
    """As the original's server does."""
    influx.write("\n".join(LINE.format(user=user, mean=mean, time=end) for end in ends), database)


def work(store: InfluxStore, days: int = 5) -> None:
    """What is done in the background, for as long as it takes to look at each of some days."""
    store.flush()
    for _ in range(2 * days):
        store.compact()


def assert_counted(store: InfluxStore, user: str, points: int, ours: int = 0) -> None:
    for rate in RATES:
        windows = store.answer(Question(CPU, T0 - 9 * DAY_MS, T0 + 9 * DAY_MS, rate, user, histograms=True))
        assert windows["count"].sum() == 100 * points + ours, rate
        assert windows["approximated"].sum() == 100 * points, rate
        if not ours:
            assert np.allclose(windows["mean"], 0.3, rtol=1e-12)
        for core in (BUSIEST_CORE, IDLEST_CORE):
            windows = store.answer(Question(CPU, T0 - 9 * DAY_MS, T0 + 9 * DAY_MS, rate, user, cores=core))
            assert windows["count"].sum() == 100 * points, rate
            assert np.allclose(windows["mean"], MEANS[core], rtol=1e-12)


ENDS = [T0 - 3 * DAY_MS + 17, *(T0 + number * 10 * MINUTE_MS + 5 for number in range(12))]


def test_points_that_come_after_the_start_are_answered_at_all_rates(
    open_store: OpenStore, influx: RunningInflux, database: str
) -> None:
    clock = Clock(T0 + 2 * HOUR_MS)
    store = open_store(now_ms=clock)
    work(store)
    written: list[int] = []
    # Some of long ago, some of buckets that are over, one of now; later others between them, and the same again.
    now = clock.now_ms - MINUTE_MS
    for some in (ENDS[::2], [now], ENDS[1::2], ENDS[::3], [end + 2500 for end in ENDS]):
        write(influx, database, "old", some)
        written = sorted({*written, *some})
        work(store)
        assert_counted(store, "old", len(written))
    assert store.users()["user_id"].tolist() == ["old"]
    assert store.users()["os_version"].tolist() == ["18.04 LTS"]
    clock.now_ms += 2 * DAY_MS
    work(store)
    assert_counted(store, "old", len(written))
    assert_counted(open_store("another", now_ms=clock), "old", len(written))


def test_a_day_with_points_of_both_counts_both(open_store: OpenStore, influx: RunningInflux, database: str) -> None:
    clock = Clock(T0 + 3 * HOUR_MS)
    store = open_store(now_ms=clock)
    recording = Recording()
    for number in range(10):
        recording.cpu(Host("both", "Linux", "22.04"), T0 + number * 10 * MINUTE_MS, np.full(50, 0.5))
    store.add(10, recording.reports)
    work(store)
    write(influx, database, "both", ENDS)
    work(store)
    assert_counted(store, "both", len(ENDS), 500)
    windows = store.answer(Question(CPU, T0, T0 + DAY_MS, DAY_MS, by="user"))
    assert windows["mean"].tolist() == pytest.approx([(1200 * 0.3 + 500 * 0.5) / 1700], rel=1e-12)
    write(influx, database, "both", [clock.now_ms - 1000])
    recording.cpu(Host("both", "Linux", "22.04"), clock.now_ms - 2000, np.full(50, 0.5))
    store.add(11, recording.reports[-1:])
    work(store)
    assert_counted(store, "both", len(ENDS) + 1, 550)
    clock.now_ms += DAY_MS
    work(store)
    assert_counted(store, "both", len(ENDS) + 1, 550)


def test_in_newer_generations_they_are_found_too_and_no_row_is_written_twice(
    newer: InfluxProxy, open_store: OpenStore, influx: RunningInflux, database: str
) -> None:
    newer.make(database)
    clock = Clock(T0 + 2 * HOUR_MS)
    store = open_store(url=newer.url, who={"token": "s3cret-t0ken"}, now_ms=clock)
    for some in (ENDS[1::2], ENDS[2::2]):
        write(influx, database, "old", some)
        work(store)
    assert_counted(store, "old", len(ENDS) - 1)


def test_a_crash_while_they_are_added_counts_none_twice(
    newer: InfluxProxy, open_store: OpenStore, influx: RunningInflux, database: str
) -> None:
    newer.make(database)
    clock = Clock(T0 + 2 * HOUR_MS)
    options = {"url": newer.url, "who": {"token": "s3cret-t0ken"}, "now_ms": clock}
    work(open_store(**options), 1)
    expected = 0
    for number in range(1, 5):
        write(influx, database, "old", ENDS[2 * number - 1 : 2 * number + 1])
        expected += 2
        clock.now_ms += 1000
        store = open_store(**options)
        left = [number]

        def cut_short(store: InfluxStore = store, left: list[int] = left) -> None:
            post = store._writer._post

            def posted(body: bytes) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt
                post(body)

            store._writer._post = posted  # type: ignore[method-assign]

        cut_short()
        try:
            work(store, 1)
        except KeyboardInterrupt:
            killed(store)
        clock.now_ms += 1000
        store = open_store(**options)
        work(store, 1)
        assert_counted(store, "old", expected)
        store.close()
