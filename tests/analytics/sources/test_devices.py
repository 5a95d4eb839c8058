"""Every source answers disks and interfaces by name alike, and no analysis counts them beside their host."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

import analytics
from analytics import connect
from analytics.frames.aggregation import of_hosts
from analytics.frames.exchange import schema_of, table_of
from analytics.frames.frame import FrameError
from contract.report import encode
from tests.support.devices import START_MS, disks, interfaces, report
from tests.support.influxd import RunningInflux, need
from tests.support.serving import running

REPORTS = [
    report(1, disks(sdb=0.5, sda=0.25), interfaces(eth0=100.0)),
    report(2, disks(sda=0.75), interfaces(eth0=300.0, wlan0=5.0)),
    report(3, disks(sda=0.5, sdb=0.25, nvme0n1=1.0), interfaces(eth0=200.0)),
]
NAMES = {"disksBusy": ["sda", "sdb", "nvme0n1"], "interfacesReceivedBytes": ["eth0", "wlan0"]}
MEANS = {"sda": 0.5, "eth0": 200.0}
RANGE = {"start": START_MS, "end": START_MS + 60_000}
BODY = b"[" + b",".join(map(encode, REPORTS)) + b"]"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the reports."""
    with running(tmp_path_factory.mktemp("devices")) as url:
        httpx.post(f"{url}/api/v1/metrics", content=BODY, headers={"Content-Type": "application/json"})
        yield url


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An InfluxDB to which a service has written them."""
    need()
    with RunningInflux(tmp_path_factory.mktemp("influxd")) as influx:
        address = f"influx://127.0.0.1:{influx.port}/METRICS"
        with running(tmp_path_factory.mktemp("behind"), "--store", address) as url:
            httpx.post(f"{url}/api/v1/metrics", content=BODY, headers={"Content-Type": "application/json"})
        yield address


def sorted_rows(frame: pd.DataFrame) -> pd.DataFrame:
    texts = frame["device"].astype(object).where(frame["device"].notna(), "")
    return frame.assign(device=texts.astype(str)).sort_values(["device", "time"]).drop(columns="histogram")


@pytest.mark.server
@pytest.mark.parametrize("rate", ["raw", "1m"])
@pytest.mark.parametrize("metric", NAMES)
def test_influx_answers_what_the_service_does(kept: str, address: str, metric: str, rate: str) -> None:
    asked = RANGE | {"rate": rate}
    with connect(kept) as service, connect(address) as influx:
        expected, found = (sorted_rows(one.history("a", metric, device="each", **asked)) for one in (service, influx))
        assert {*expected["device"]} == {"", *NAMES[metric]}
        pd.testing.assert_frame_equal(found[[*expected]], expected, rtol=1e-12, check_categorical=False)
        name = NAMES[metric][0]
        one = service.history("a", metric, device=name, **asked)
        assert one["device"].unique().tolist() == [name]
        assert np.average(one["mean"], weights=one["count"]) == pytest.approx(MEANS[name], rel=1e-12)
        same = influx.history("a", metric, device=name, **asked)
        np.testing.assert_allclose(same["mean"], one["mean"], rtol=1e-12)
        stat = influx.history("a", metric, device=name, stat="mean", **asked)
        np.testing.assert_allclose(stat["value"], one["mean"], rtol=1e-12)


@pytest.mark.server
@pytest.mark.parametrize("metric", NAMES)
def test_a_file_that_was_made_of_the_answer_is_asked_alike(kept: str, metric: str, tmp_path: Path) -> None:
    file = tmp_path / f"{metric}.parquet"
    answer = httpx.get(
        f"{kept}/api/v1/windows/byUser/a", headers={"Accept": "application/vnd.apache.parquet"},
        params=RANGE | {"metric": metric, "device": "each", "resample_rate": "raw", "histograms": "true"},
    )  # fmt: skip
    file.write_bytes(answer.content)
    with connect(kept) as service, connect(str(file)) as files:
        for device in (NAMES[metric][0], None):
            one, read = (source.history("a", metric, device=device, rate="1m", **RANGE) for source in (service, files))
            np.testing.assert_allclose(read["mean"], one["mean"], rtol=1e-12)
            assert ("device" in read) == (device is not None)
        with pytest.raises(LookupError, match="name no cores"):
            files.history("a", metric, core=0, **RANGE)


@pytest.mark.server
def test_what_is_not_there_is_said_by_every_source(kept: str, address: str) -> None:
    for where in (kept, address):
        with connect(where) as source:
            with pytest.raises((LookupError, analytics.ServiceError), match=r"no device 'sdz'; its devices"):
                source.history("a", "disksBusy", device="sdz", **RANGE)
            with pytest.raises((ValueError, analytics.ServiceError), match="does not go with"):
                source.history("a", "cpuUtilization", device="sda", **RANGE)


def frame() -> pd.DataFrame:
    index = pd.DatetimeIndex(pd.to_datetime([START_MS] * 3, unit="ms", utc=True), name="time")
    means = np.array([0.75, 0.25, 0.5])
    return pd.DataFrame(
        {"device": pd.Categorical([None, "sda", "sdb"]), "count": [10] * 3, "mean": means, "var": np.zeros(3),
         "min": means, "max": means, "approximated": [0] * 3},
        index=index,
    )  # fmt: skip


def test_devices_are_told_apart_and_only_the_host_is_analysed() -> None:
    devices = frame()
    merged = analytics.resample(devices, "1h")
    assert [None if pd.isna(name) else name for name in merged["device"]] == ["sda", "sdb", None]
    assert merged["mean"].tolist() == [0.25, 0.5, 0.75]
    assert of_hosts(devices)["mean"].tolist() == [0.75]
    with pytest.raises(FrameError, match=r"several devices and no whole host; frame\[frame\['device'\] == 'sda'\]"):
        of_hosts(devices.iloc[1:])
    with pytest.raises(FrameError, match="rows of single devices"):
        analytics.to_nixtla(devices)


def test_tables_keep_the_names() -> None:
    schema = schema_of(users=False, cores=False, devices=True, histograms=False)
    assert table_of(frame(), schema)["device"].to_pylist() == [None, "sda", "sdb"]
