"""One code path for InfluxDB 1.8, 2 and 3, against a server that answers as their documentation says."""

import contextlib

import msgspec
import numpy as np
import pandas as pd
import pytest

from analytics.frames.tiers import RAW
from analytics.sources.influx_address import Address
from analytics.sources.influx_client import BadStatement, InfluxClient
from contract.metrics import Disk, Memory
from deploy.grafana.queries import SYSTEMS
from service.stores.base import Question, StoreError, StoreUnavailable
from service.stores.influx.store import InfluxStore
from tests.service.stores.influx.conftest import OpenStore
from tests.support.influx_proxy import Fault, InfluxProxy, Request
from tests.support.influxd import RunningInflux
from tests.support.recordings import CPU, Host, Recording, assert_quantiles, assert_same_moments

pytestmark = pytest.mark.server

T0 = 1_706_572_800_000
DAY = 86_400_000
TOKEN = "s3cret-t0ken"
WHO = {"token": TOKEN}


def recorded(windows: int = 30) -> Recording:
    random, recording = np.random.default_rng(4), Recording()
    for number in range(windows):
        samples = random.random((2, 9))
        recording.cpu(Host(f"user {number % 2}"), T0 + number * 97_000, samples[0], samples[1:])
    return recording


def fill(store: InfluxStore, recording: Recording) -> None:
    store.add(store.flushed + len(recording.reports), recording.reports)
    store.flush()


def assert_right(store: InfluxStore, recording: Recording) -> None:
    for rate in (1000, 300_000, 900_000, DAY):
        windows = store.answer(Question(CPU, T0, T0 + DAY, rate, by="user", histograms=True))
        expected = recording.buckets(
            CPU, T0, T0 + DAY, rate, lambda one: one.host.user_id if one.core is None else None
        )
        assert_same_moments(windows, expected)
        assert_quantiles(windows, CPU, expected)


def writes(proxy: InfluxProxy) -> list[Request]:
    return [request for request in proxy.requests if "write" in request.path]


def test_points_are_written_by_the_newer_api_and_answered(
    newer: InfluxProxy, open_store: OpenStore, database: str
) -> None:
    recording = recorded()
    store = open_store(url=newer.url, who=WHO)
    fill(store, recording)
    assert_right(store, recording)
    path = "/api/v2/write" if newer.generation == 2 else "/api/v3/write_lp"
    assert {request.path for request in writes(newer)} == {path}
    assert store.description.startswith(f"InfluxDB {newer.generation}.")
    assert database in newer.buckets


def test_another_host_takes_up_what_is_there(newer: InfluxProxy, open_store: OpenStore) -> None:
    recording = recorded()
    fill(open_store(url=newer.url, who=WHO), recording)
    store = open_store("another", url=newer.url, who=WHO)
    assert store.users()["user_id"].tolist() == ["user 0", "user 1"]
    assert max(store.newest().values()) == recording.reports[-1].end_timestamp
    assert_right(store, recording)


def test_influxdb_1_8_is_written_to_as_any_1_x(influx: RunningInflux, open_store: OpenStore) -> None:
    with InfluxProxy(influx, 1) as proxy:
        recording = recorded()
        store = open_store(url=proxy.url)
        fill(store, recording)
        assert_right(store, recording)
        assert {request.path for request in writes(proxy)} == {"/write"}


TROUBLE = [
    b'{"error": "write buffer error: the WAL buffer is full"}',
    b'{"error": "object store error: connection refused"}',
    b'{"code": "invalid", "message": "shutting down"}',
]


@pytest.mark.parametrize("body", TROUBLE)
def test_in_3_x_a_400_that_names_no_line_is_trouble_of_influxdb_and_no_line_is_put_aside(
    influx: RunningInflux, open_store: OpenStore, body: bytes
) -> None:
    with InfluxProxy(influx, 3, TOKEN) as proxy:
        recording = recorded()
        store = open_store(url=proxy.url, who=WHO)
        store.add(30, recording.reports)
        proxy.fault = lambda asked: Fault(400, body) if "write" in asked.path else None
        with pytest.raises(StoreUnavailable, match="cannot take writes"):
            store.flush()
        proxy.fault = lambda _: None
        store.flush()
        assert_right(store, recording)
        assert {name: value for name, _, value in store.sizes()}["lines_refused"] == 0


def test_in_3_x_an_answer_that_ends_midway_is_not_taken_for_the_whole(
    influx: RunningInflux, open_store: OpenStore
) -> None:
    with InfluxProxy(influx, 3, TOKEN) as proxy:
        recording = recorded()
        store = open_store(url=proxy.url, who=WHO)
        fill(store, recording)
        question = Question(CPU, T0, T0 + DAY, 1000, "user 0")
        right = store.answer(question)

        def cut(asked: Request) -> Fault | None:
            if asked.path != "/query":
                return None
            whole = proxy._query(asked).body
            end = whole.rfind(b"\n", 0, len(whole) // 2) + 1 if "csv" in asked.accept else len(whole) // 2
            return Fault(200, whole[:end])

        proxy.fault = cut
        with pytest.raises(StoreUnavailable, match="ended its answer before it was whole"):
            store.answer(question)
        proxy.fault = lambda _: None
        assert store.answer(question).equals(right)


@pytest.mark.parametrize("generation", [1, 2])
def test_a_select_that_fails_once_is_not_taken_for_no_data(
    influx: RunningInflux, open_store: OpenStore, generation: int
) -> None:
    """InfluxDB 1 and 2 leave the error of a statement out of CSV; asked again for it, they have the answer."""
    with InfluxProxy(influx, generation, TOKEN) as proxy:
        recording = recorded()
        store = open_store(url=proxy.url, who=WHO)
        fill(store, recording)
        question = Question(CPU, T0, T0 + DAY, 1000, "user 0")
        right = store.answer(question)
        kept = store.kept(RAW, ["user 0"], T0, T0 + DAY)
        assert len(right)
        assert kept
        proxy.fault = lambda asked: Fault(200) if asked.path == "/query" and "csv" in asked.accept else None
        pd.testing.assert_frame_equal(store.answer(question), right)
        assert store.kept(RAW, ["user 0"], T0, T0 + DAY) == kept


def test_in_3_x_only_the_report_of_the_line_that_is_named_is_put_aside(
    influx: RunningInflux, open_store: OpenStore, database: str
) -> None:
    with InfluxProxy(influx, 3, TOKEN) as proxy:
        store = open_store(url=proxy.url, who=WHO)
        recording = recorded()
        fill(store, recording)
        proxy._columns[database, "measurements", "memoryUtilizationAvg"] = "string"
        strange = Recording()
        strange.other(Host("user 0"), T0 + 1, Memory, {"utilization": np.array([0.5])})
        more = recorded_later()
        fill(store, Recording(reports=[*more.reports[:3], *strange.reports, *more.reports[3:]]))
        assert {name: value for name, _, value in store.sizes()}["lines_refused"] == 1
        assert_right(store, Recording([*recording.windows, *more.windows]))


def recorded_later() -> Recording:
    recording = Recording()
    for number in range(8):
        samples = np.array([0.25, 0.75])
        recording.cpu(Host(f"user {number % 2}"), T0 + DAY // 2 + number, samples, [samples])
    return recording


def test_a_mapping_that_is_missing_is_said_in_influxdbs_own_words(proxy: InfluxProxy, open_store: OpenStore) -> None:
    store = open_store(url=proxy.url)
    fill(store, recorded())
    proxy.buckets.clear()
    with pytest.raises(StoreUnavailable, match="404: no dbrp mapping found"):
        store.answer(Question(CPU, T0, T0 + DAY, DAY, "user 0"))
    assert store.problem


def test_a_bucket_that_vanishes_is_made_again_and_nothing_of_the_flush_is_lost(
    proxy: InfluxProxy, open_store: OpenStore
) -> None:
    recording = recorded()
    store = open_store(url=proxy.url)
    store.add(30, recording.reports)
    proxy.buckets.clear()
    with pytest.raises(StoreUnavailable, match=r"lets nobody write: .*404.*not found"):
        store.flush()
    assert store.flushed == 0
    store.flush()
    assert store.flushed == 30
    assert_right(store, recording)


BUSY = [
    Fault(503, b'{"code": "unavailable", "message": "engine is down"}', {"Retry-After": "17"}),
    Fault(500, b'{"error": "engine: write /wal/_00001.wal: no space left on device"}'),
    Fault(429, b'{"code": "too many requests", "message": "slow down"}', {"Retry-After": "17"}),
    Fault(401, b'{"code": "unauthorized", "message": "token expired"}'),
]


@pytest.mark.parametrize("fault", BUSY, ids=lambda fault: str(fault.status))
def test_an_influxdb_that_cannot_take_a_batch_gets_it_again_and_counts_it_once(
    proxy: InfluxProxy, open_store: OpenStore, fault: Fault
) -> None:
    recording = recorded()
    store = open_store(url=proxy.url)
    for number in range(1, 9):
        # Each time it breaks a little later: between users, windows and each of the rollups.
        left = [number]

        def break_later(asked: Request, left: list[int] = left) -> Fault | None:
            left[0] -= "write" in asked.path
            return fault if left[0] < 0 else None

        part = recording.reports[(number - 1) * 4 : number * 4] if number < 8 else recording.reports[28:]
        store.add(min(number * 4, 30), part)
        proxy.fault = break_later
        try:
            store.flush()
        except StoreUnavailable as error:
            assert error.retry_after_s == (17 if "Retry-After" in fault.headers else None)  # noqa: PT017
        proxy.fault = lambda _: None
        # Whatever was written of it, the answers are right now,
        windows = store.answer(Question(CPU, T0, T0 + DAY, DAY))
        assert windows["count"].tolist() == [9 * min(number * 4, 30)]
    store.flush()
    # and when all of it is.
    assert_right(store, recording)
    assert_right(open_store("another", url=proxy.url), recording)


def test_a_batch_that_is_too_large_is_sent_in_halves(proxy: InfluxProxy, open_store: OpenStore) -> None:
    proxy.fault = lambda asked: Fault(413, b"too large") if len(asked.body) > 2000 else None
    recording = recorded()
    store = open_store(url=proxy.url)
    fill(store, recording)
    assert {name: value for name, _, value in store.sizes()}["lines_refused"] == 0
    assert_right(store, recording)


def test_a_statement_that_fails_is_an_error_though_csv_says_nothing(
    influx: RunningInflux, open_store: OpenStore, database: str
) -> None:
    store = open_store()
    fill(store, recorded())
    influx.query(f'DROP DATABASE "{database}"')
    with pytest.raises(StoreUnavailable, match="database not found"):
        store.answer(Question(CPU, T0, T0 + DAY, DAY, "user 0"))


@pytest.mark.parametrize("status", [400, 422])
def test_a_statement_that_influxdb_finds_wrong_is_our_defect_and_not_its_problem(
    proxy: InfluxProxy, open_store: OpenStore, status: int
) -> None:
    store = open_store(url=proxy.url, who={"token": TOKEN})
    fill(store, recorded())
    proxy.fault = lambda asked: Fault(status, b'{"error": "error parsing query"}') if asked.path == "/query" else None
    with pytest.raises(BadStatement, match=rf'SELECT .* FROM "measurements.*": .*{status}: error parsing') as error:
        store.answer(Question(CPU, T0, T0 + DAY, DAY, "user 0"))
    assert "user 0" not in str(error.value)
    assert TOKEN not in str(error.value)
    assert store.problem is None


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_an_influxdb_that_answers_nobody_now_is_away(proxy: InfluxProxy, open_store: OpenStore, status: int) -> None:
    store = open_store(url=proxy.url)
    fill(store, recorded())
    proxy.fault = lambda asked: Fault(status, b'{"error": "not now"}') if asked.path == "/query" else None
    with pytest.raises(StoreUnavailable, match=f"{status}: not now"):
        store.answer(Question(CPU, T0, T0 + DAY, DAY, "user 0"))
    assert store.problem


@pytest.mark.parametrize("asked_s", ["86400", "9" * 400])
def test_influxdb_is_tried_again_within_ten_minutes_whatever_it_says(
    proxy: InfluxProxy, open_store: OpenStore, asked_s: str
) -> None:
    store = open_store(url=proxy.url)
    proxy.fault = lambda asked: Fault(503, b"{}", {"Retry-After": asked_s}) if "write" in asked.path else None
    store.add(30, recorded().reports)
    with pytest.raises(StoreUnavailable) as error:
        store.flush()
    assert error.value.retry_after_s == 600
    proxy.fault = lambda _: None


@pytest.mark.parametrize("writes_before", range(9))
def test_a_crash_between_any_two_writes_of_a_flush_leaves_nothing_doubled(
    proxy: InfluxProxy, open_store: OpenStore, writes_before: int
) -> None:
    recording = recorded()
    store = open_store(url=proxy.url)
    store.add(10, recording.reports[:10])
    store.flush()
    store.add(20, recording.reports[10:20])
    left = [writes_before]

    def die(asked: Request) -> Fault | None:
        left[0] -= "write" in asked.path
        return Fault(503) if left[0] < 0 else None

    proxy.fault = die
    with contextlib.suppress(StoreUnavailable):
        store.flush()
    proxy.fault = lambda _: None
    # What the next process finds: InfluxDB as it is, and the journal behind what was flushed.
    again = open_store(url=proxy.url)
    for last in range(again.flushed + 1, 31):
        again.add(last, recording.reports[last - 1 : last])
    assert_right(again, recording)
    again.flush()
    assert_right(again, recording)
    assert_right(open_store("another", url=proxy.url), recording)


def test_in_3_x_no_statement_touches_many_files_and_a_fresh_service_starts(
    influx: RunningInflux, open_store: OpenStore, database: str
) -> None:
    with InfluxProxy(influx, 3) as proxy:
        proxy.make(database)
        recording = Recording()
        # Ten days with a window in each ten minutes: 1,440 files. Neither has cores.
        for number in range(10 * 144):
            recording.cpu(Host("one"), T0 + number * 600_000 + 17, np.array([0.25, 0.5]))
        rows = {quantity.attribute: np.array([0.5, 1.0]) for quantity in Memory.quantities}
        recording.other(Host("one"), T0 + 17, Memory, rows)
        now = [T0 + 10 * DAY]
        store = open_store(url=proxy.url, now_ms=lambda: now[0])
        fill(store, recording)
        for again in (store, open_store("another", url=proxy.url, now_ms=lambda: now[0])):
            for rate in (1000, 5 * 60_000, 15 * 60_000, DAY):
                windows = again.answer(Question(CPU, T0 - DAY, T0 + 30 * DAY, rate, "one"))
                assert windows["count"].sum() == 2 * 1440
        assert store.kept(0, ["one"], T0, T0 + 10 * DAY) == 2 * 1440 + 2
        reports = [report for page in store.reports(["one"], T0, T0 + 10 * DAY) for report in page]
        assert len(reports) == 1440
        assert not proxy.overwritten


def test_rollups_are_made_anew_but_in_3_x_which_cannot_delete_them(newer: InfluxProxy, open_store: OpenStore) -> None:
    recording = recorded()
    store = open_store(url=newer.url, who=WHO)
    fill(store, recording)
    if newer.generation > 2:
        with pytest.raises(StoreError, match="rollups of InfluxDB 3 cannot be made anew: copy into a database that is"):
            store.rebuild(["user 0", "user 1"], T0, T0 + DAY)
        assert_right(store, recording)
    else:
        store.rebuild(["user 0"], T0, T0 + DAY)
        assert_right(store, recording)
        newer.overwritten.clear()  # 2.x promises that a row that is written again is replaced


def test_each_report_is_one_line_of_the_host_and_one_of_each_core(
    proxy: InfluxProxy, open_store: OpenStore, database: str
) -> None:
    recording = Recording()
    samples = np.array([0.25, 0.5])
    for number in range(3):
        host = Host(f"user {number}")
        for end in (T0, T0 + 5000):
            report = recording.cpu(host, end, samples, [samples, samples])
            others = [
                recording.other(host, end, kind, {one.attribute: samples for one in kind.quantities})
                for kind in (Memory, Disk)
            ]
            metrics = [metric for one in (report, *others) for metric in one.metrics]
            recording.reports[-3:] = [msgspec.structs.replace(report, metrics=metrics)]
    fill(open_store(url=proxy.url), recording)
    lines = [key for key in proxy.written if key[1].startswith(("measurements,", "cores,"))]
    assert len(lines) == 6 * (1 + 2)
    assert not proxy.overwritten
    store = open_store("another", url=proxy.url)
    for quantity in (CPU, *Memory.quantities, *Disk.quantities):
        windows = store.answer(Question(quantity, T0 - DAY, T0 + DAY, 1000, by="user"))
        assert windows["count"].tolist() == [2] * 6
        assert windows["mean"].tolist() == [0.375] * 6


def test_grafana_finds_hosts_of_the_time_that_is_looked_at_in_3_x_too(
    influx: RunningInflux, open_store: OpenStore, database: str
) -> None:
    with InfluxProxy(influx, 3) as proxy:
        proxy.make(database)
        fill(open_store(url=proxy.url), recorded())
        client = InfluxClient(Address(proxy.url, database))
        looked_at = f"time >= {T0 - DAY}ms and time <= {T0 + DAY}ms"
        found = client.execute(SYSTEMS.replace("$timeFilter", looked_at))
        assert [row[1] for series in found for row in series["values"]] == ["Linux"]
        # InfluxDB 3 looks back a day where no time is named.
        assert client.execute(SYSTEMS.partition(" WHERE ")[0]) == []
