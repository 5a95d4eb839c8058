"""An InfluxDB answers as the service does that writes to it, and the original's points are windows too."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pandas as pd
import pytest
import urllib3

from analytics import connect
from analytics.sources.influx_client import InfluxError
from contract.metrics import Statistic
from tests.support.influxd import RunningInflux, need
from tests.support.serving import running
from tests.support.small_fleet import HOUR, OLD, OLD_REPORT, REPORTS, USERS

pytestmark = pytest.mark.server

USER = next(iter(USERS))


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInflux]:
    need()
    with RunningInflux(tmp_path_factory.mktemp("influxd")) as influx:
        yield influx


@pytest.fixture(scope="module")
def address(influx: RunningInflux, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database to which a service has written the fleet, and put all of it there as it ended."""
    address = f"influx://127.0.0.1:{influx.port}/METRICS"
    with running(tmp_path_factory.mktemp("behind"), "--store", address) as url:
        httpx.post(f"{url}/api/v1/metrics", json=[*REPORTS, OLD_REPORT]).raise_for_status()
    return address


def same(answered: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(answered, expected, rtol=1e-9, check_categorical=False)


@pytest.mark.parametrize("rate", ["raw", "1m", "15m", "1h"])
def test_windows_are_those_of_the_service(service_url: str, address: str, rate: str) -> None:
    with connect(service_url) as service, connect(address) as influx:
        for user in USERS:
            same(influx.history(user, **HOUR, rate=rate), service.history(user, **HOUR, rate=rate))
        expected = service.history(USER, **HOUR, rate=rate, core="each").sort_values(["core", "time"])
        same(influx.history(USER, **HOUR, rate=rate, core="each").sort_values(["core", "time"]), expected)
        same(influx.history(USER, **HOUR, rate=rate, core=1), service.history(USER, **HOUR, rate=rate, core=1))
        expected = service.fleet(**HOUR, rate=rate, by="user").sort_values(["user", "time"])
        same(influx.fleet(**HOUR, rate=rate, by="user").sort_values(["user", "time"]), expected)


@pytest.mark.parametrize("stat", ["mean", "p95", "max", "count"])
def test_values_are_those_of_the_service(service_url: str, address: str, stat: Statistic) -> None:
    with connect(service_url) as service, connect(address) as influx:
        same(influx.history(USER, **HOUR, stat=stat), service.history(USER, **HOUR, stat=stat))
        same(influx.fleet(**HOUR, stat=stat, rate="1h"), service.fleet(**HOUR, stat=stat, rate="1h"))
        old = {"start": "2018-07-12", "end": "2018-07-13", "stat": stat}
        same(influx.history(OLD, **old), service.history(OLD, **old))


def test_edges_within_buckets_are_read_from_windows(service_url: str, address: str) -> None:
    cut = {"start": "2018-07-12T12:03:30Z", "end": "2018-07-12T12:56:30Z"}
    with connect(service_url) as service, connect(address) as influx:
        for rate in ("5m", "15m", "1h"):
            same(influx.history(USER, **cut, rate=rate), service.history(USER, **cut, rate=rate))


def test_users_are_listed_and_without_a_range_everything_is_answered(address: str) -> None:
    with connect(address) as influx:
        users = influx.users()
        assert users["user"].tolist() == sorted([*USERS, OLD])
        assert users.set_index("user").loc[USER, "last_seen"] == pd.Timestamp("2018-07-12T12:59Z")
        assert (
            influx.fleet(rate="52w")["count"].sum()
            == sum(report["observations_per_metric"] for report in REPORTS) + 100
        )
        assert "cpuUtilization" in influx.metrics()["metric"].tolist()
        with pytest.raises(LookupError, match="nobody"):
            influx.history("nobody")


def test_points_of_the_original_are_windows_of_a_hundred_samples(influx: RunningInflux) -> None:
    point = "measurements,userId=old,osType=Linux,osVersion=18 cpuLoadAvg=0.{digit},cpuLoadVar=0.01 {time}"
    lines = "\n".join(point.format(digit=digit, time=1531402660605 + 5000 * digit) for digit in range(1, 5))
    root = f"http://127.0.0.1:{influx.port}"
    urllib3.request("POST", f"{root}/query?q=CREATE+DATABASE+ORIGINAL")
    assert urllib3.request("POST", f"{root}/write?db=ORIGINAL&precision=ms", body=lines).status == 204
    with connect(f"influx://127.0.0.1:{influx.port}/ORIGINAL") as original:
        [row] = original.history("old", rate="1h").to_dict("records")
        assert (row["count"], row["approximated"]) == (400, 400)
        assert row["mean"] == pytest.approx(0.25)
        assert row["var"] == pytest.approx(0.01 + 0.0125)
        assert original.history("old", rate="1h", stat="p95").attrs["approximation"].startswith("100 %")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with connect("influx://127.0.0.1:9/METRICS") as nobody, pytest.raises(InfluxError, match="cannot be reached"):
        nobody.users()
    with pytest.raises(ValueError, match="do not belong into the address"):
        connect("influx://me:secret@localhost:8086/METRICS")
