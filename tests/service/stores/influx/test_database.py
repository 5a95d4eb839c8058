"""What lies in InfluxDB: the original's names, sums that merge on the server, points of the original."""

import asyncio
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from analytics.frames.statistics import approximation_of
from analytics.sources.influx_address import Address, Credentials
from contract.metrics import BUSIEST_CORE, IDLEST_CORE, Cpu, Disk, Memory
from contract.report import Report
from service.stores.base import Key, Question
from service.stores.influx.store import InfluxStore
from tests.contract.test_influx import HOSTILE
from tests.service.stores.influx.conftest import OpenStore
from tests.support.influxd import RunningInflux, need
from tests.support.recordings import CPU, Host, Recording, assert_quantiles, assert_same_moments, times_of

pytestmark = pytest.mark.server

T0 = 1_706_572_800_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
RANGE = T0 - DAY, T0 + 30 * DAY


def fill(store: InfluxStore, recording: Recording, *, flush: bool = True) -> None:
    store.add(store.flushed + len(recording.reports), recording.reports)
    if flush:
        store.flush()


def random_recording(hosts: list[Host], windows: int = 6) -> Recording:
    random, recording = np.random.default_rng(1), Recording()
    for host in hosts:
        for number in range(windows):
            samples = random.random((3, 7 + number))
            recording.cpu(host, T0 + number * 20 * MINUTE + 17, samples[0], samples[1:])
    return recording


def assert_right(store: InfluxStore, recording: Recording, host: Host) -> None:
    for rate in (1000, 5 * MINUTE, 15 * MINUTE, HOUR, DAY):
        expected = recording.buckets(
            CPU, *RANGE, rate, lambda one: "" if one.core is None and one.host.user_id == host.user_id else None
        )
        windows = store.answer(Question(CPU, *RANGE, rate, host.user_id, histograms=True))
        assert_same_moments(windows, expected)
        assert_quantiles(windows, CPU, expected)


def test_the_most_hostile_names_are_users_of_their_own(
    open_store: OpenStore, influx: RunningInflux, database: str
) -> None:
    hosts = [Host(name, "Linux", version) for name, version in zip(HOSTILE, ["", *HOSTILE], strict=False)]
    recording = random_recording(hosts)
    fill(open_store(), recording)
    store = open_store("elsewhere")
    assert store.users()["user_id"].tolist() == sorted(HOSTILE)
    versions = dict(zip(store.users()["user_id"], store.users()["os_version"], strict=True))
    assert versions == {host.user_id: host.os_version for host in hosts}
    for host in hosts:
        assert_right(store, recording, host)
    (names,) = influx.query('SHOW TAG VALUES FROM "measurements_1d" WITH KEY = "userId"', database)
    assert len(names["values"]) == len(HOSTILE)


def test_a_service_on_another_host_knows_all_that_was_flushed_and_goes_on(open_store: OpenStore) -> None:
    host = Host("moved", "MacOS", "14.1")
    recording = random_recording([host])
    store = open_store()
    fill(store, recording)
    users, newest = store.users(), store.newest()
    store.close()
    store = open_store("another")
    assert store.flushed == 0
    assert store.users().equals(users)
    assert store.newest() == newest
    assert store.cores("moved", CPU) == [0, 1]
    key = Key("moved", type(recording.reports[0].metrics[0]), recording.reports[0].end_timestamp)
    assert asyncio.run(store.known({key})) == {key}
    late = Recording(recording.windows)
    late.cpu(host, T0 + 18, np.array([0.25, 0.5]))  # into buckets that the other host wrote
    fill(store, late)
    assert_right(store, recording, host)


def test_the_originals_fields_are_there_with_both_spellings(
    open_store: OpenStore, influx: RunningInflux, database: str
) -> None:
    recording = Recording()
    report = recording.cpu(Host("6a:d6", "Linux", "18.04 LTS"), T0, np.array([0.1, 0.5]), [np.array([0.1, 0.3]),
                           np.array([0.4, 0.5])])  # fmt: skip
    store = open_store()
    fill(store, recording)
    (series,) = influx.query('SELECT * FROM "measurements"', database)
    (values,) = series["values"]
    point = dict(zip(series["columns"], values, strict=True))
    assert (point["userId"], point["osType"], point["osVersion"]) == ("6a:d6", "Linux", "18.04 LTS")
    assert point["time"] == report.end_timestamp
    assert point["cpuLoadAvg"] == pytest.approx(0.3, abs=1e-15)
    assert point["cpuLoadVar"] == pytest.approx(0.04, abs=1e-15)
    assert point["cpuCoreLoadAvgMax"] == pytest.approx(0.45, abs=1e-15)
    assert point["cpuCoreLoadAvgMin"] == pytest.approx(0.2, abs=1e-15)
    assert point["cpuCoreLoadVarMax"] == pytest.approx(0.01, abs=1e-15)
    assert point["cpuCoreLoadVarMin"] == point["cpuCoreLoadMinMin"] == pytest.approx(0.0025, abs=1e-15)
    assert point["cpuLoadCount"] == 2
    assert point["duration"] == 100


@pytest.mark.parametrize("measurement", ["measurements", "measurements_5m", "measurements_15m", "measurements_1h"])
def test_plain_sums_on_the_server_are_the_mean_and_variance_of_all_samples(
    open_store: OpenStore, influx: RunningInflux, database: str, measurement: str
) -> None:
    recording = random_recording([Host("one"), Host("two")])
    store = open_store()
    fill(store, recording)
    (series,) = influx.query(
        'SELECT SUM("cpuLoadSum") / SUM("cpuLoadCount"), SUM("cpuLoadSquares") / SUM("cpuLoadCount")'
        f' - POW(SUM("cpuLoadSum") / SUM("cpuLoadCount"), 2), MIN("cpuLoadMin"), MAX("cpuLoadMax") FROM "{measurement}"'
        f" WHERE time >= {T0}ms AND time < {T0 + DAY}ms",
        database,
    )
    samples = np.concatenate([window.samples for window in recording.windows if window.core is None])
    ((_, mean, variance, minimum, maximum),) = series["values"]
    assert mean == pytest.approx(samples.mean(), abs=1e-12)
    assert variance == pytest.approx(samples.var(), abs=1e-12)
    assert (minimum, maximum) == (samples.min(), samples.max())


def test_a_host_that_changes_its_system_is_still_one_host(open_store: OpenStore) -> None:
    host, recording = Host("upgraded", "Linux", "12"), Recording()
    half = np.array([0.25, 0.75])
    recording.cpu(host, T0, half)
    # Another metric of the very same moment, said by the newer system.
    recording.other(replace(host, os_version="13"), T0, Memory, {"utilization": half})
    recording.cpu(replace(host, os_version="13"), T0 + 1, half)
    store = open_store()
    fill(store, recording)
    assert_right(store, recording, host)
    assert store.users()["os_version"].tolist() == ["13"]


def test_numbers_of_any_size_are_kept(open_store: OpenStore) -> None:
    recording = Recording()
    for number, value in enumerate((0.0, 5e-324, 1e-300, 1e12, 1e300)):
        rows = {quantity.attribute: np.array([value, value]) for quantity in Disk.quantities}
        recording.other(Host("wide"), T0 + number * DAY, Disk, rows)
    store = open_store()
    fill(store, recording)
    windows = store.answer(Question(Disk.quantities[0], *RANGE, DAY, "wide"))
    assert windows["mean"].tolist() == [0.0, 5e-324, 1e-300, 1e12, 1e300]
    assert windows["count"].tolist() == [2] * 5


# Points that the original wrote

ORIGINAL = (
    "measurements,osType=Linux,osVersion=18.04\\ LTS,userId={user} cpuCoreLoadAvgMax=0.9,cpuCoreLoadAvgMin=0.1,"
    "cpuCoreLoadMinMin=0.01,cpuCoreLoadVarMax=0.02,cpuLoadAvg={mean},cpuLoadVar={var} {time}"
)


@pytest.fixture
def original(influx: RunningInflux, database: str) -> str:
    """A database as the original left it."""
    influx.query(f'CREATE DATABASE "{database}"')
    lines = [
        ORIGINAL.format(user=user, mean=mean, var=0.01, time=T0 + number * 10 * MINUTE)
        for user in ("6a:d6", "7b:e7")
        for number, mean in enumerate((0.2, 0.4, 0.6))
    ]
    influx.write("\n".join(lines), database)
    return database


def test_points_of_the_original_are_answered_as_a_hundred_samples_each(original: str, open_store: OpenStore) -> None:
    store = open_store()
    assert store.users()["user_id"].tolist() == ["6a:d6", "7b:e7"]
    assert store.users()["os_version"].tolist() == ["18.04 LTS"] * 2
    for rate in (1000, HOUR, DAY):
        windows = store.answer(Question(CPU, *RANGE, rate, "6a:d6", histograms=True))
        assert windows["count"].sum() == windows["approximated"].sum() == 300
    assert windows["mean"].tolist() == pytest.approx([0.4])
    assert windows["var"].tolist() == pytest.approx([0.01 + 0.08 / 3])
    assert asyncio.run(store.known({Key("6a:d6", TYPE, T0), Key("6a:d6", TYPE, T0 + 1)})) == {Key("6a:d6", TYPE, T0)}


def test_what_points_of_the_original_say_of_cores_is_answered_as_the_busiest_and_the_idlest_core(
    original: str, open_store: OpenStore
) -> None:
    for _ in range(2):
        store = open_store(now_ms=lambda: T0 + 5 * DAY)
        assert store.cores("6a:d6", CPU) == [IDLEST_CORE, BUSIEST_CORE]
        assert store.users()["cores"].tolist() == [0, 0]
        for rate in (1000, HOUR, DAY):
            windows = store.answer(Question(CPU, *RANGE, rate, "6a:d6", cores="each", histograms=True))
            assert windows.groupby("core")["count"].sum().to_dict() == {IDLEST_CORE: 300, BUSIEST_CORE: 300}
            assert windows["approximated"].sum() == 600
            means = windows.groupby("core")["mean"].max().to_dict()
            assert means == {IDLEST_CORE: pytest.approx(0.1), BUSIEST_CORE: pytest.approx(0.9)}
            assert "name no cores" in (approximation_of(windows, "mean") or "")
            one = store.answer(Question(CPU, *RANGE, rate, "6a:d6", cores=BUSIEST_CORE))
            assert one["count"].sum() == 300
        windows = store.answer(Question(CPU, *RANGE, DAY, by="user", cores="each"))
        assert windows["var"].tolist() == [pytest.approx(0.01), pytest.approx(0.02)] * 2
        while store.compact():
            pass
        store.close()


def test_points_of_the_original_count_with_the_system_of_their_time(
    influx: RunningInflux, database: str, open_store: OpenStore
) -> None:
    influx.query(f'CREATE DATABASE "{database}"')
    lines = [ORIGINAL.format(user="6a:d6", mean=mean, var=0.01, time=T0 + place * 10 * MINUTE)
             for place, mean in enumerate((0.2, 0.2, 0.6, 0.6, 0.6))]  # fmt: skip
    newer = [line.replace("18.04", "20.04") if place > 1 else line for place, line in enumerate(lines)]
    influx.write("\n".join(newer), database)
    recording = Recording()
    recording.cpu(Host("6a:d6", "Linux", "22.04 LTS"), T0 + 90 * MINUTE, np.full(50, 0.9))
    store = open_store()
    fill(store, recording)
    for again in (store, open_store("another")):
        windows = again.answer(Question(CPU, *RANGE, DAY, by="os_version"))
        assert windows["os_version"].tolist() == ["18.04 LTS", "20.04 LTS", "22.04 LTS"]
        assert windows["count"].tolist() == [200, 300, 50]
        assert windows["mean"].tolist() == pytest.approx([0.2, 0.6, 0.9])


def test_a_state_of_fractions_that_somebody_else_wrote_keeps_no_service_from_its_work(
    influx: RunningInflux, database: str, open_store: OpenStore
) -> None:
    influx.query(f'CREATE DATABASE "{database}"')
    influx.write(f"state since=0.5,through5m=1e3 {T0}", database)
    recording = Recording()
    recording.cpu(Host("6a:d6"), T0 + 15 * MINUTE, np.full(300, 0.9))
    store = open_store()
    fill(store, recording)
    for again in (store, open_store("another")):
        assert again.answer(Question(CPU, *RANGE, DAY, "6a:d6"))["count"].tolist() == [300]
        assert again.problem is None


def test_new_reports_of_an_old_user_join_its_old_points(original: str, open_store: OpenStore) -> None:
    recording = Recording()
    recording.cpu(Host("6a:d6"), T0 + 15 * MINUTE, np.full(300, 0.9))  # late, between two points of the original
    fill(open_store(), recording)
    store = open_store("another")
    for rate in (HOUR, DAY):
        windows = store.answer(Question(CPU, *RANGE, rate, "6a:d6", histograms=True))
        assert windows["count"].tolist() == [600]
        assert windows["mean"].tolist() == pytest.approx([(0.4 + 0.9) / 2])
        # Who has not reported since is there, too.
        assert store.answer(Question(CPU, *RANGE, rate, "7b:e7"))["count"].tolist() == [300]


def test_rollups_of_old_points_are_made_day_by_day_and_change_no_answer(
    original: str, open_store: OpenStore, influx: RunningInflux
) -> None:
    line = ORIGINAL.format(user="6a:d6", mean=0.5, var=0.02, time=T0 - 3 * DAY)
    influx.write(line, original)
    recording = Recording()
    recording.cpu(Host("6a:d6"), T0 + 15 * MINUTE, np.full(300, 0.9))
    # The database is far older than now: as if the original had ended five days after its last point.
    now = [T0 + 4 * DAY + 1234]
    store = open_store(now_ms=lambda: now[0])
    fill(store, recording)
    now[0] += DAY + HOUR
    questions = [Question(CPU, T0 - 9 * DAY, T0 + 9 * DAY, rate, user, histograms=True)
                 for rate in (1000, 15 * MINUTE, DAY) for user in ("6a:d6", "7b:e7")]  # fmt: skip
    before = [store.answer(question) for question in questions]
    steps = 0
    while store.compact():
        steps += 1
    assert steps == 7
    assert not influx.query(f'SELECT * FROM "measurements_1d" WHERE time >= {T0 + DAY}ms', original)
    # Points of the original have rows of their own.
    (series,) = influx.query('SELECT "cpuLoadCount" FROM "measurements_1d"', original)
    assert sorted(count for _, count in series["values"]) == [100, 300, 300, 300]
    for again in (store, open_store("another")):
        assert not again.compact()
        for question, windows in zip(questions, before, strict=True):
            found = again.answer(question)
            assert times_of(found) == times_of(windows)
            assert found["count"].tolist() == windows["count"].tolist()
            assert found["approximated"].tolist() == windows["approximated"].tolist()
            assert found["mean"].tolist() == pytest.approx(windows["mean"].tolist(), rel=1e-12)
            assert found["var"].tolist() == pytest.approx(windows["var"].tolist(), rel=1e-12)


TYPE = type(Recording().cpu(Host("any"), T0, np.array([0.5])).metrics[0])


# Lines that InfluxDB refuses


def test_where_all_is_refused_all_is_put_aside_and_the_journal_is_free(
    open_store: OpenStore, influx: RunningInflux, database: str
) -> None:
    store = open_store()
    influx.write(f'measurements,userId=strange cpuLoadAvg="text" {T0}', database)
    recording = random_recording([Host("one")])
    for number, report in enumerate(recording.reports, 1):
        whole = replace_cores(report)
        store.add(number, [whole])
    store.flush()
    assert store.flushed == len(recording.reports)
    windows = store.answer(Question(CPU, *RANGE, DAY, "one"))
    assert len(windows) == 0
    assert {name: value for name, _, value in store.sizes()}["lines_refused"] == len(recording.reports)


def replace_cores(report: Report) -> Report:
    """The report without its cores."""
    (cpu,) = report.metrics
    whole = Cpu(cpu.avg_utilization, cpu.var_utilization)  # type: ignore[attr-defined]
    return msgspec.structs.replace(report, metrics=[whole])


def refused_lines(folder: Path) -> list[str]:
    """The lines that were put aside, without the reasons."""
    text = "".join(path.read_text() for path in folder.rglob("refused.lines"))
    return [line for line in text.splitlines() if not line.startswith("#")]


# A field of another type, as somebody else's program may have written it: which value then cannot be stored there.
STRANGE = {
    "a core": f'cores,userId=strange cpuLoadMin="text" {T0}',
    "the host": f"measurements,userId=strange cpuLoadMin=true {T0}",
}


@pytest.mark.parametrize("line", STRANGE.values(), ids=STRANGE)
def test_a_report_with_a_line_that_influxdb_refuses_is_put_aside_whole_and_named_and_the_others_are_kept(
    open_store: OpenStore,
    influx: RunningInflux,
    database: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    line: str,
) -> None:
    store = open_store()
    influx.write(line, database)
    recording = Recording()
    for number in range(50):
        samples = np.array([0.25, 0.5])
        recording.cpu(Host(f"user-{number % 3}"), T0 + number, samples, [samples, samples], detailed=number % 20 == 0)
    fill(store, recording)
    assert store.flushed == 50
    refused = refused_lines(tmp_path)
    assert len(refused) == 3 * 3
    assert len([line for line in refused if line.startswith("measurements,")]) == 3
    assert {name: value for name, _, value in store.sizes()}["lines_refused"] == 9
    assert "InfluxDB refused 9 lines since the start, put aside in" in (store.problem or "")
    assert "field type conflict" in caplog.text
    assert "another line of this report was refused" in caplog.text
    for again in (store, open_store("another")):
        for rate in (1000, 5 * MINUTE, DAY):
            windows = again.answer(Question(CPU, *RANGE, rate, by="user"))
            assert windows["count"].sum() == (50 - 3) * 2
            for core in (0, 1):
                windows = again.answer(Question(CPU, *RANGE, rate, "user-2", cores=core))
                assert windows["count"].sum() == (16 - 1) * 2


def test_where_every_host_is_refused_reports_with_cores_are_put_aside_and_flushes_go_on(
    open_store: OpenStore, influx: RunningInflux, database: str, tmp_path: Path
) -> None:
    store = open_store()
    influx.write(f"measurements cpuLoadAvg=1i {T0}", database)
    recording = random_recording([Host("one"), Host("two")])
    fill(store, recording)
    fill(store, random_recording([Host("three")]))
    assert store.flushed == len(recording.reports) + 6
    assert len(refused_lines(tmp_path)) == 3 * (len(recording.reports) + 6)
    assert not influx.query('SELECT * FROM "cores"', database)
    for cores in ("whole", "each"):
        assert len(store.answer(Question(CPU, *RANGE, DAY, "one", cores=cores))) == 0


def test_no_core_is_counted_to_a_host_that_influxdb_has_no_room_for(tmp_path: Path) -> None:
    need()
    with RunningInflux(tmp_path / "influxd", environment={"INFLUXDB_DATA_MAX_SERIES_PER_DATABASE": "30"}) as influx:
        store = InfluxStore(Address(influx.url, "FULL"), Credentials(), tmp_path / "store")
        recording = Recording()
        for number in range(12):
            low = np.full(4, number / 20)
            recording.cpu(Host(f"user-{number:02}"), T0 + number, low + 0.1, [low, low + 0.3])
        fill(store, recording)
        refused = refused_lines(tmp_path / "store")
        assert refused
        (series,) = influx.query('SELECT * FROM "measurements"', "FULL")
        points = [dict(zip(series["columns"], values, strict=True)) for values in series["values"]]
        assert 0 < len(points) < 12
        for point in points:
            place = int(str(point["userId"])[-2:])
            assert point["cpuCoreLoadAvgMin"] == pytest.approx(place / 20)
            assert point["cpuCoreLoadAvgMax"] == pytest.approx(place / 20 + 0.3)
        for series in influx.query('SELECT COUNT("cpuLoadAvg") FROM "cores" GROUP BY "userId"', "FULL"):
            assert series["values"][0][1] == 2
            assert series["tags"]["userId"] in {point["userId"] for point in points}
        store.close()
