"""The client asks a running service and gets frames, or an exception that says what is wrong."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from analytics.frames.frame import from_frame
from analytics.sources import service as client_module
from analytics.sources.base import Moment
from analytics.sources.connecting import connect
from analytics.sources.service import Client
from analytics.sources.service_api import CutShortError, ProblemError, ServiceError, UnreachableError
from contract.metrics import NAMES
from contract.selectors import labels_text
from contract.times import HOUR_MS
from tests.support.small_fleet import HOUR, OLD, SAMPLES, START_MS, USERS

pytestmark = pytest.mark.server

USER = next(iter(USERS))


@pytest.fixture
def service(service_url: str) -> Iterator[Client]:
    with Client(service_url) as client:
        yield client


@pytest.mark.parametrize("user", [user for user in USERS if "/" not in user])
def test_a_history_is_that_of_the_raw_samples(service: Client, user: str) -> None:
    frame = service.history(user, **HOUR, stat="mean")
    expected = [np.concatenate(SAMPLES[user][first : first + 15]).mean() for first in range(0, 60, 15)]
    assert frame.index.equals(pd.date_range("2018-07-12T12:00Z", periods=4, freq="15min", unit="ms", name="time"))
    np.testing.assert_allclose(frame["value"], expected, rtol=1e-12)
    assert frame.attrs == {"metric": "cpuLoadAvg", "unit": "1", "stat": "mean"}


def test_a_statistic_of_a_core_says_that_it_is_approximate(service: Client) -> None:
    frame = service.history(USER, "cpuLoadAvg", **HOUR, rate="1h", stat="max", core=1)
    assert frame["value"].tolist() == [max(part.mean() for part in SAMPLES[USER])]
    exact = service.history(USER, **HOUR, rate="1h", stat="max")
    assert exact["value"].tolist() == [max(part.max() for part in SAMPLES[USER])]
    assert "approximation" not in exact.attrs


def test_quantiles_are_within_half_a_bin(service: Client) -> None:
    frame = service.history(USER, "cpuLoadAvg", **HOUR, rate="1h", stat="p95")
    exact = np.quantile(np.concatenate(SAMPLES[USER]), 0.95, method="inverted_cdf")
    assert abs(frame["value"].iloc[0] - exact) <= 1 / 128
    assert frame.attrs["stat"] == "p95"


@pytest.mark.parametrize(
    "start",
    [
        START_MS,
        str(START_MS),
        "2018-07-12T14:00:00+02:00",
        datetime(2018, 7, 12, 12, tzinfo=UTC),
        datetime(2018, 7, 12, 14, tzinfo=timezone(timedelta(hours=2))),
        datetime(2018, 7, 12, 12),  # noqa: DTZ001
        pd.Timestamp("2018-07-12T11:59:59.999999500Z"),
    ],
)
def test_a_moment_may_be_said_in_any_way(service: Client, start: Moment) -> None:
    frame = service.history(USER, start=start, end=START_MS + 60_000, rate="1s", stat="count")
    assert frame.index.tolist() == [pd.Timestamp("2018-07-12T12:00Z")]
    assert frame["value"].tolist() == [len(SAMPLES[USER][0])]


def test_a_range_without_data_is_an_empty_frame(service: Client) -> None:
    frame = service.history(USER, stat="mean")
    assert len(frame) == 0
    assert frame.index.name == "time"
    assert str(frame.dtypes["value"]) == "float64"


def test_the_fleet_is_one_set_of_samples(service: Client) -> None:
    frame = service.fleet(**HOUR, rate="1h", stat="mean")
    assert list(frame) == ["value"]
    everything = np.concatenate([part for parts in SAMPLES.values() for part in parts])
    np.testing.assert_allclose(frame["value"], [everything.mean()], rtol=1e-12)


def test_groups_of_the_fleet_are_named(service: Client) -> None:
    frame = service.fleet("cpuLoadVar", **HOUR, rate="1h", by="os_type", stat="var")
    by_os = {
        os_type: np.concatenate([part for user in USERS if USERS[user] == os_type for part in SAMPLES[user]])
        for os_type in ("Linux", "Windows")
    }
    assert frame["os_type"].tolist() == list(by_os)
    np.testing.assert_allclose(frame["value"], [samples.var() for samples in by_os.values()], rtol=1e-12)


def test_the_highest_groups_can_be_asked_for(service: Client) -> None:
    frame = service.fleet(**HOUR, by="user", top=1, stat="mean")
    assert set(frame["user"]) == {".."}


@pytest.mark.parametrize("user", USERS)
def test_windows_are_those_that_were_reported(service: Client, user: str) -> None:
    frame = service.history(user, **HOUR, rate="raw")
    parts = SAMPLES[user]
    assert frame.index.asi8.tolist() == [START_MS + minute * 60_000 for minute in range(60)]
    assert frame.attrs == {"metric": "cpuLoadAvg", "unit": "1"}
    assert frame["count"].tolist() == [len(part) for part in parts]
    np.testing.assert_allclose(frame["mean"], [part.mean() for part in parts], rtol=1e-12)
    np.testing.assert_allclose(frame["var"], [part.var() for part in parts], rtol=1e-12)
    windows, _ = from_frame(frame)
    assert windows.histograms is not None
    assert windows.histograms.count.sum() == sum(map(len, parts))
    assert "histogram" not in service.history(user, **HOUR, histograms=False)


def test_windows_of_the_fleet_and_of_cores_are_named(service: Client) -> None:
    by_user = service.fleet(**HOUR, rate="1h", by="user")
    assert by_user["user"].dtype == "category"
    assert by_user["user"].tolist() == sorted(USERS)
    assert service.fleet(**HOUR, rate="1h")["count"].tolist() == [by_user["count"].sum()]
    cores = service.history(USER, **HOUR, rate="1h", core="each")
    assert cores["core"].tolist() == [pd.NA, 0, 1]
    assert service.history(USER, **HOUR, rate="1h", core=1)["mean"].tolist() == [cores["mean"].iloc[2]]
    assert service.fleet(start="2001-01-01", end="2001-01-02", by="user").empty


def test_what_has_no_windows_is_answered_as_values_or_refused(service: Client) -> None:
    assert list(service.history(USER, "cpuCoreLoadAvgMax", **HOUR)) == ["value"]
    for question in (
        lambda: service.fleet(**HOUR, by="os_type"),
        lambda: service.fleet(**HOUR, by="user", top=3),
        lambda: service.history(USER, **HOUR, rate="raw", stat="mean"),
    ):
        with pytest.raises(ValueError, match="stat"):
            question()


def test_users_are_listed(service: Client) -> None:
    frame = service.users()
    assert frame["user"].tolist() == sorted([*USERS, OLD])
    row = frame.set_index("user").loc[USER]
    assert (row["os_type"], row["cores"]) == ("Linux", 2)
    assert row["first_seen"] == pd.Timestamp("2018-07-12T11:59Z")
    assert row["last_seen"] == pd.Timestamp("2018-07-12T12:59Z")
    assert str(frame.dtypes["last_seen"]) == "datetime64[ms, UTC]"


def test_hosts_are_listed_page_by_page_with_exact_statistics(service: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_PAGE", 2)
    of_range: dict[str, Any] = {"start": START_MS, "end": START_MS + HOUR_MS}
    frame = service.hosts(**of_range)
    body = service.call("GET", "/api/v1/fleet/machines", params=of_range).body
    listed = msgspec.json.decode(body)["machines"]
    assert frame["user"].tolist() == [one["user_id"] for one in listed]
    assert len(listed) > 2
    for name in ("mean", "p95", "max", "change"):
        assert frame[name].dtype == np.float64
        np.testing.assert_allclose(frame[name], [np.nan if one[name] is None else one[name] for one in listed], 1e-6)
    of_all = service.fleet(stat="mean", rate="1h", by="user", **of_range)
    values = frame.set_index("user")["mean"]
    np.testing.assert_allclose(values[of_all["user"].astype("str")], of_all["value"], 1e-13)
    assert frame["states"].tolist() == [" ".join(one["states"]) for one in listed]
    assert frame["cores"].fillna(0).tolist() == [one["cores"] for one in listed]
    assert frame["os_type"].tolist() == [one["os_type"] for one in listed]
    assert frame["last_seen"].tolist() == [pd.Timestamp(one["last_seen"]) for one in listed]
    assert frame["labels"].tolist() == [labels_text(one["labels"]) for one in listed]
    assert [str(frame.dtypes[name]) for name in ("user", "states", "cores", "os_type", "last_seen", "labels")] == [
        "str", "str", "Int64", "str", "datetime64[ms, UTC]", "str",
    ]  # fmt: skip
    assert service.hosts(hosts={"q": "nobody is called so"}).empty


def test_metrics_are_listed(service: Client) -> None:
    frame = service.metrics()
    assert frame["metric"].tolist() == list(NAMES)
    assert frame.set_index("metric").loc["cpuLoadVar", "statistic"] == "var"


def test_a_refusal_says_what_is_wrong(service: Client) -> None:
    with pytest.raises(ProblemError, match="cpuLoadAvg") as refusal:
        service.history(USER, "cpuLoadAvgg")
    assert refusal.value.status == 404
    with pytest.raises(ProblemError, match=r"\n  resample_rate: .*15s") as refusal:
        service.history(USER, **HOUR, rate="15")
    assert [problem.pointer for problem in refusal.value.problems] == ["resample_rate"]
    with pytest.raises(ProblemError, match="nobody"):
        service.history("nobody")


def test_a_token_is_sent(guarded_url: str) -> None:
    with connect(guarded_url, "secret") as client:
        assert client.users().empty
        assert list(client.users()) == [
            "user", "os_type", "os_version", "cores", "first_seen", "last_seen", "shared_windows", "shared_at",
            "labels",
        ]  # fmt: skip
    with connect(guarded_url) as client, pytest.raises(ProblemError, match="token") as refusal:
        client.users()
    assert refusal.value.status == 401


def test_nobody_there_is_an_error_of_its_own() -> None:
    with connect("http://127.0.0.1:9") as client, pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        client.users()


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"<p>Welcome!")

    def log_message(self, *_: object) -> None:
        pass


def test_another_server_is_told_from_a_service() -> None:
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with connect(f"http://127.0.0.1:{server.server_port}") as client:
            for question in (client.users, client.metrics, lambda: client.history(USER)):
                with pytest.raises(ServiceError, match="text/html"):
                    question()
        server.shutdown()


@pytest.mark.parametrize("url", ["localhost:8888", "", "ftp://localhost", "http://"])
def test_what_is_not_an_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected an address"):
        connect(url)


def test_what_is_not_a_moment_is_refused_before_it_is_sent() -> None:
    with connect("http://127.0.0.1:9") as client:
        with pytest.raises(ValueError, match="looks like seconds"):
            client.history(USER, start=1531396800)
        with pytest.raises(ValueError, match="NaT"):
            client.history(USER, start=pd.NaT)  # type: ignore[arg-type]


def test_an_answer_that_is_cut_is_not_taken_for_a_service_that_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_half() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n" + b'{"users"'
                )

        server = threading.Thread(target=answer_half)
        server.start()
        with (
            connect(f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
            pytest.raises(CutShortError, match="the answer ended early"),
        ):
            client.users()
        server.join()


def test_hosts_are_found_by_their_deprecated_name_too(service: Client) -> None:
    hosts, state = service.hosts(**HOUR), {"state": "hot"}
    assert set(hosts["user"]) <= set(USERS)
    with pytest.deprecated_call(match="expected hosts"):
        pd.testing.assert_frame_equal(service.machines(**HOUR), hosts)
    with pytest.deprecated_call(match="expected hosts, got machines"):
        named = service.fleet(**HOUR, by="user", machines=state)  # type: ignore[call-arg]
    pd.testing.assert_frame_equal(named, service.fleet(**HOUR, by="user", hosts=state))
