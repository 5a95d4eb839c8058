"""Parquet files answer as the service does that they came from, and plain measurements are windows too."""

from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from analytics import connect
from analytics.frames.frame import FrameError, frame_of_values
from contract.metrics import STATISTICS, Statistic
from tests.support.small_fleet import HOUR, SAMPLES, USERS

pytestmark = pytest.mark.server

USER = next(iter(USERS))
PARQUET = {"Accept": "application/vnd.apache.parquet"}


@pytest.fixture(scope="module")
def folder(service_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fleet by user in two files of half an hour each, as the service writes them, and another metric's."""
    folder = tmp_path_factory.mktemp("files")
    for number, (start, end) in enumerate(
        [(HOUR["start"], "2018-07-12T12:30:00Z"), ("2018-07-12T12:30:00Z", HOUR["end"])]
    ):
        query = {"start": start, "end": end, "by": "user", "resample_rate": "raw", "histograms": "true"}
        answer = httpx.get(f"{service_url}/api/v1/windows/fleet", params=query, headers=PARQUET)
        (folder / f"{number}.parquet").write_bytes(answer.raise_for_status().content)
    (folder / "more").mkdir()
    with connect(service_url) as service:
        memory = service.fleet(**HOUR, rate="raw", by="user").assign(mean=0.5, min=0.5, max=0.5)
    memory.attrs["metric"] = "memoryUtilization"
    memory.to_parquet(folder / "more" / "memory.parquet")
    return folder


@pytest.mark.parametrize("rate", ["raw", "1m", "15m"])
def test_files_answer_the_windows_that_the_service_does(service_url: str, folder: Path, rate: str) -> None:
    with connect(service_url) as service, connect(folder) as files:
        for user in USERS:
            expected = service.history(user, **HOUR, rate=rate)
            pd.testing.assert_frame_equal(files.history(user, **HOUR, rate=rate), expected, rtol=1e-12)
        expected = service.fleet(**HOUR, rate=rate, by="user").sort_values(["user", "time"])
        answered = files.fleet(**HOUR, rate=rate, by="user").sort_values(["user", "time"])
        pd.testing.assert_frame_equal(answered, expected, rtol=1e-12, check_categorical=False)
        if rate != "raw":
            pd.testing.assert_frame_equal(files.fleet(**HOUR, rate=rate), service.fleet(**HOUR, rate=rate), rtol=1e-12)


@pytest.mark.parametrize("stat", STATISTICS)
def test_files_answer_the_values_that_the_service_does(service_url: str, folder: Path, stat: Statistic) -> None:
    with connect(service_url) as service, connect(folder) as files:
        for expected, answered in (
            (service.history(USER, **HOUR, stat=stat), files.history(USER, **HOUR, stat=stat)),
            (service.fleet(**HOUR, stat=stat), files.fleet(**HOUR, stat=stat)),
            (
                service.fleet(**HOUR, stat=stat, by="user", top=2),
                files.fleet(**HOUR, stat=stat, by="user", top=2),
            ),
        ):
            pd.testing.assert_frame_equal(answered, expected, rtol=1e-12, check_dtype=False)
            assert answered.attrs == expected.attrs


def test_a_folder_holds_several_metrics_and_says_which(folder: Path) -> None:
    with connect(folder) as files:
        assert set(files.metrics()["metric"]) == {"cpuLoadAvg", "cpuLoadVar", "cpuUtilization", "memoryUtilization"}
        assert set(files.fleet("memoryUtilization", rate="1h")["mean"]) == {0.5}
        with pytest.raises(LookupError, match="cpuUtilization, memoryUtilization"):
            files.fleet("diskReads")
        with pytest.raises(ValueError, match="not a metric"):
            files.fleet("cpuLoad")
        users = files.users()
        assert users["user"].tolist() == sorted(USERS)
        assert users["last_seen"].iloc[0] == pd.Timestamp("2018-07-12T12:59Z")
        with pytest.raises(LookupError, match="nobody"):
            files.history("nobody")


@pytest.mark.parametrize("naive", [True, False])
def test_plain_measurements_are_windows_of_one_sample(tmp_path: Path, naive: bool) -> None:
    times = pd.date_range("2011-03-03", periods=6, freq="5min", tz=None if naive else "UTC")
    percent = np.array([10, 20, 60, 100, 0, 50], np.int8)
    plain = pd.DataFrame({"time": times, "user_id": list("ababab"), "utilization_percent": percent})
    plain.to_parquet(tmp_path / "plain.parquet")
    with connect(tmp_path / "plain.parquet") as files:
        frame = files.fleet(rate="1h", by="user")
        assert frame["user"].tolist() == ["a", "b"]
        np.testing.assert_allclose(frame["mean"], [0.7 / 3, 1.7 / 3])
        assert frame["max"].tolist() == [0.6, 1.0]
        assert files.history("b", start="2011-03-03T00:10:00Z", rate="raw")["mean"].tolist() == [1.0, 0.5]
        assert files.users()["user"].tolist() == ["a", "b"]


def test_a_file_of_one_host_needs_no_users(tmp_path: Path) -> None:
    times = pd.date_range("2011-03-03", periods=6, freq="5min")
    pd.DataFrame({"timestamp": times, "value": 0.5}).to_parquet(tmp_path / "one.parquet")
    with connect(tmp_path / "one.parquet") as files:
        assert files.history("anyone", rate="15m")["count"].tolist() == [3, 3]
        assert files.users().empty
        with pytest.raises(FrameError, match="no users are named"):
            files.fleet(by="user")
        with pytest.raises(LookupError, match="name no cores"):
            files.history("anyone", core=1)


def test_files_that_hold_something_else_are_refused_with_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"\.parquet"):
        connect(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not there"):
        connect(tmp_path / "none.parquet")
    pd.DataFrame({"time": pd.date_range("2011", periods=2), "colour": "red"}).to_parquet(tmp_path / "colours.parquet")
    with pytest.raises(FrameError, match="utilization_percent"):
        connect(tmp_path)
    (tmp_path / "colours.parquet").write_bytes(b"nonsense")
    with pytest.raises(FrameError, match="not a Parquet file"):
        connect(tmp_path)
    times = pd.date_range("2011-03-03", periods=2, freq="5min")
    pd.DataFrame({"time": times, "utilization": [50.0, 1.0]}).to_parquet(tmp_path / "colours.parquet")
    with connect(tmp_path) as files, pytest.raises(FrameError, match=r"colours\.parquet.*divide percent by 100"):
        files.fleet()


@pytest.mark.parametrize("named", [{"metric": "foo"}, {}], ids=["an unknown metric", "percent"])
def test_windows_of_another_metric_or_in_percent_are_no_cpu(tmp_path: Path, named: dict[str, str]) -> None:
    times = pd.date_range("2026-03-01", periods=2, freq="1h", tz="UTC", name="time")
    right = frame_of_values(pd.DataFrame({"value": [0.1, 0.5]}, index=times)).drop(columns=["metric", "histogram"])
    right.attrs = {}
    scale = 1 if named else 100
    right.assign(**{name: scale * right[name] for name in ("mean", "min", "max")}, **named).to_parquet(
        tmp_path / "a.parquet"
    )
    words = (
        "expected a metric of the catalogue, .* got foo" if named else r"expected shares in \[0, 1\] .* got 10 to 50"
    )
    with pytest.raises(FrameError, match=rf"a\.parquet: {words}"):
        connect(tmp_path / "a.parquet").fleet(rate="raw")


@pytest.mark.parametrize("column", ["host", "hostname", "machine", "machine_id", "instance"])
def test_hosts_are_known_by_their_usual_names(tmp_path: Path, column: str) -> None:
    times = pd.date_range("2011-03-03", periods=4, freq="5min")
    pd.DataFrame({"time": times, column: list("abab"), "value": [0.1, 0.9, 0.1, 0.9]}).to_parquet(
        tmp_path / "a.parquet"
    )
    with connect(tmp_path / "a.parquet") as files:
        assert files.fleet(rate="1h", by="user")["mean"].tolist() == [pytest.approx(0.1), pytest.approx(0.9)]


def test_hosts_under_an_unknown_column_do_not_become_one(tmp_path: Path) -> None:
    times = pd.date_range("2011-03-03", periods=4, freq="5min")
    pd.DataFrame({"time": times, "srv": list("abab"), "value": 0.1}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(FrameError, match=r"names of hosts in one of user, .*, got texts in srv"):
        connect(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("scale", "words"),
    [(1, "looks like seconds"), (1_000_000, "micro- or nanoseconds"), (1_000_000_000, "nanoseconds")],
)
def test_numbers_that_are_no_epoch_milliseconds_are_refused(tmp_path: Path, scale: int, words: str) -> None:
    seconds = np.arange(1_531_397_700, 1_531_397_700 + 48 * 3600, 300)
    pd.DataFrame({"time": seconds * scale, "value": 0.1}).to_parquet(tmp_path / "a.parquet")
    with connect(tmp_path / "a.parquet") as files, pytest.raises(FrameError, match=words):
        files.fleet(rate="1h")


def test_epoch_milliseconds_are_taken_as_they_are(tmp_path: Path) -> None:
    pd.DataFrame({"time": [1_531_397_700_000, 1_531_397_760_000], "value": 0.1}).to_parquet(tmp_path / "a.parquet")
    with connect(tmp_path / "a.parquet") as files:
        assert files.fleet(rate="raw").index[0] == pd.Timestamp("2018-07-12T12:15:00Z")


def test_the_folder_of_a_service_says_whom_to_ask(tmp_path: Path) -> None:
    (tmp_path / "loadlens.duckdb").touch()
    with pytest.raises(ValueError, match="ask http"):
        connect(tmp_path)


def test_the_samples_of_the_fleet_are_what_files_count(folder: Path) -> None:
    with connect(folder) as files:
        assert files.fleet(rate="52w")["count"].sum() == sum(len(part) for parts in SAMPLES.values() for part in parts)


def test_hosts_weigh_by_the_cores_of_their_time_in_buckets_of_any_width(tmp_path: Path) -> None:
    """3.2 cores of 4, then of 8, beside a host of 4 at 10 %: 72 of 200 core-days in 20 days."""
    times = pd.date_range("2024-03-04", periods=20 * 24, freq="1h", tz="UTC", name="time")
    load, many = np.repeat([0.8, 0.4], 240), np.repeat([4, 8], 240)
    rows = []
    for core in (None, *range(8)):
        there = np.full(len(times), True) if core is None else many > core
        rows.append(pd.DataFrame({"user": "x", "core": core, "mean": load[there]}, times[there]))
    rows += [pd.DataFrame({"user": "y", "core": core, "mean": 0.1}, times) for core in (None, *range(4))]
    frame = pd.concat(rows).assign(count=60, var=0.0, min=0.0, max=1.0, approximated=0)
    frame["core"] = frame["core"].astype("Int64")
    frame.to_parquet(tmp_path / "fleet.parquet")
    with connect(tmp_path / "fleet.parquet") as source:
        for rate in ("1d", "1w", "52w"):
            together = source.fleet(rate=rate, weight="cores", histograms=False)
            assert np.average(together["mean"], weights=together["count"]) == pytest.approx(72 / 200)
