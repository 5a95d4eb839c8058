"""Disks and interfaces by name, over HTTP: history and windows of one or of each, and what is refused."""

import csv
import io
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from analytics.sources.service import Client
from contract.devices import LISTED
from tests.support.devices import START_MS, disks, interfaces, report
from tests.support.reports import post

pytestmark = pytest.mark.server

USER, OTHER = "devices a", "devices b"
RANGE = {"start": START_MS, "end": START_MS + 60_000, "resample_rate": "1m"}
HOSTILE = '=cmd|"/c calc"!A0 & <b>'


@pytest.fixture(scope="module", autouse=True)
def _reported(client: httpx.Client) -> None:
    sent = [
        report(1, disks(sdb=0.5, sda=0.25), interfaces(eth0=100.0), user=USER),
        report(2, disks(sda=0.75), interfaces(**{"eth0": 300.0, HOSTILE: 9.0}), user=USER),
        report(1, user=OTHER),
    ]
    assert post(client, *sent).json()["accepted"] == 3


def windows(client: httpx.Client, user: str = USER, accept: str = "application/json", **query: Any) -> httpx.Response:
    path = f"/api/v1/windows/byUser/{quote(user, safe='')}"
    return client.get(path, params=RANGE | query, headers={"Accept": accept})


def values(client: httpx.Client, metric: str, user: str = USER, **query: Any) -> httpx.Response:
    return client.get(f"/api/v1/metrics/{metric}/byUser/{quote(user, safe='')}", params=RANGE | query)


def test_history_is_of_the_host_or_of_one_device(client: httpx.Client) -> None:
    def one(**query: Any) -> float:
        (entry,) = values(client, "disksBusy", **query).json()["entries"]
        return entry["value"]

    assert one() == pytest.approx(0.625)
    assert one(device="sda") == pytest.approx(0.5)
    assert one(device="sdb") == pytest.approx(0.5)
    assert one(device="sda", stat="max") == pytest.approx(0.75)
    assert one(device="sda", stat="count") == 200
    (entry,) = values(client, "interfacesReceivedBytes", device=HOSTILE).json()["entries"]
    assert entry["value"] == pytest.approx(9.0)


def test_windows_of_each_are_named_and_in_order(client: httpx.Client) -> None:
    found = windows(client, metric="disksReadBytes", device="each", resample_rate="raw").json()["windows"]
    told = [(one["device"], one["time"][-6:-1], one["mean"]) for one in found]
    assert [name for name, _, _ in told] == [None, None, "sda", "sda", "sdb"]
    assert [mean for _, _, mean in told] == pytest.approx([7.5, 7.5, 2.5, 7.5, 5.0])
    assert "core" not in found[0]
    (one,) = windows(client, metric="disksReadBytes", device="sda").json()["windows"]
    assert (one["device"], one["count"]) == ("sda", 200)
    assert "device" not in windows(client, metric="disksReadBytes").json()["windows"][0]


def test_names_are_no_formulas_in_csv(client: httpx.Client) -> None:
    text = windows(client, accept="text/csv", metric="interfacesSentBytes", device="each").text
    names = {row["device"] for row in csv.DictReader(io.StringIO(text))}
    assert names == {"", "eth0", f"'{HOSTILE}"}


def table(client: httpx.Client, accept: str = "application/json", **query: Any) -> httpx.Response:
    asked = RANGE | {"user": [USER, OTHER], "by": "device"} | query
    return client.get("/api/v1/query", params=asked, headers={"Accept": accept})


def test_a_table_by_device_has_a_series_for_each_of_each_host(client: httpx.Client) -> None:
    answer = table(client, metric="disksBusy,disksReadBytes", stat="mean,max").json()
    told = {(one["group"], one["device"], one["metric"], one["stat"]): one["values"] for one in answer["series"]}
    assert len(answer["dates"]) == 1
    assert {key[:2] for key in told} == {(USER, "sda"), (USER, "sdb")}
    assert told[USER, "sda", "disksBusy", "mean"] == pytest.approx([0.5])
    assert told[USER, "sda", "disksBusy", "max"] == pytest.approx([0.75])
    assert told[USER, "sdb", "disksReadBytes", "mean"] == pytest.approx([5.0])
    assert "core" not in answer["series"][0]


def test_a_table_may_have_disks_and_interfaces_and_hosts_in_one(client: httpx.Client) -> None:
    answer = table(client, metric="disksBusy,interfacesSentBytes", by="user,device", resample_rate="all").json()
    told = {(one["group"], one.get("device"), one["metric"]): one["values"] for one in answer["series"]}
    assert told[USER, "sda", "disksBusy"] == pytest.approx([0.5])
    assert told[USER, "sda", "interfacesSentBytes"] == [None]
    assert told[USER, HOSTILE, "interfacesSentBytes"] == pytest.approx([27.0])
    assert told[USER, None, "disksBusy"] == pytest.approx([0.625])
    rows = list(
        csv.DictReader(io.StringIO(table(client, "text/csv", metric="interfacesSentBytes", by="user,device").text))
    )
    assert [(row["by"], row["group"], row["device"]) for row in rows] == [
        ("user", USER, ""), ("device", USER, f"'{HOSTILE}"), ("device", USER, "eth0"),
    ]  # fmt: skip


def test_the_busiest_devices_of_all_hosts_are_kept(client: httpx.Client) -> None:
    answer = table(client, metric="disksReadBytes", stat="max", top=1).json()
    assert [(one["group"], one["device"], one["values"]) for one in answer["series"]] == [(USER, "sda", [7.5])]


def test_the_library_has_devices_in_tables(client: httpx.Client) -> None:
    with Client(str(client.base_url)) as asking:
        found = asking.query(
            "disksBusy", stats=["mean"], by="device", users=[USER], start=START_MS, end=START_MS + 60_000, rate="1m"
        )
    assert found["device"].tolist() == ["sda", "sdb"]
    assert found["disksBusy.mean"].tolist() == pytest.approx([0.5, 0.5])


def test_a_table_by_device_is_of_metrics_that_name_them(client: httpx.Client) -> None:
    answer = table(client, metric="cpuLoadAvg")
    assert answer.status_code == 422
    assert "cpuLoadAvg names no devices; disksBusy, disksReadBytes" in answer.text


@pytest.mark.parametrize(
    ("metric", "query", "status", "words"),
    [
        ("disksBusy", {"device": "sdz"}, 404, "no device 'sdz'; its devices are sda, sdb"),
        ("interfacesSentBytes", {"device": "sda"}, 404, "no device 'sda'; its devices are "),
        ("cpuLoadAvg", {"device": "sda"}, 422, "does not go with cpuLoadAvg; it goes with disksBusy"),
        ("diskReadBytes", {"device": "sda"}, 422, "does not go with diskReadBytes"),
        ("disksBusy", {"core": "0"}, 422, "does not go with disksBusy"),
        ("disksBusy", {"device": "x" * 65}, 422, "expected the name of a device"),
        ("disksBusy", {"device": "sda", "core": "0"}, 422, "does not go with disksBusy"),
    ],
)
def test_what_is_not_there_is_said(
    client: httpx.Client, metric: str, query: dict[str, str], status: int, words: str
) -> None:
    for answer in (values(client, metric, **query), windows(client, metric=metric, **query)):
        assert answer.status_code == status, answer.text
        assert words in answer.text.replace("\\u0027", "'")


def test_a_host_without_devices_says_so_and_each_of_none_is_the_host(client: httpx.Client) -> None:
    assert "its devices are none" in values(client, "disksBusy", OTHER, device="sda").text
    assert windows(client, OTHER, metric="disksBusy", device="each").json() == {"windows": []}


def test_the_catalogue_says_what_has_devices(client: httpx.Client) -> None:
    named = {one["name"] for one in client.get("/api/v1/metrics").json()["metrics"] if one["by_device"]}
    assert named == {
        "disksBusy", "disksReadBytes", "disksWrittenBytes", "interfacesReceivedBytes", "interfacesSentBytes",
    }  # fmt: skip


def test_more_devices_than_an_agent_names_are_refused(client: httpx.Client) -> None:
    many = report(3, disks(**{f"d{place}": 0.5 for place in range(LISTED + 1)}), user=USER)
    answer = post(client, many)
    assert answer.status_code == 400 or answer.status_code == 422, answer.text
    assert "/metrics/1/devices" in answer.text
