"""`loadlens-service demo`: the recorded fleet arrives whole, once, ending now."""

import http.server
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.sources.service_api import Patience, ServiceApi, ServiceError
from contract.histogram import LINEAR
from contract.metrics import Cpu
from contract.report import Report
from contract.times import DAY_MS
from contract.validation import parse
from service.commands.demo.fleet import WINDOW_MS, FleetError, RecordedFleet, batches, read_fleet
from service.commands.demo.loading import PATIENCE_S, plan, post
from service.http.requests import MAX_BODY
from tests.support import preloaded
from tests.support.running import ROOT, RunningService, clean_environment

pytestmark = pytest.mark.server

SAMPLE = ROOT / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
NOW_MS = 1_800_000_123_456
DAYS = pd.to_datetime(["2011-03-03", "2011-03-06", "2011-04-03"]).as_unit("ms")


def write(path: Path, frame: pd.DataFrame) -> Path:
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path)
    return path


def recorded(*hosts: tuple[str, list[int]]) -> pd.DataFrame:
    """A frame of hosts, each on some of the days, with two windows a day."""
    rows = [
        (DAYS[day] + pd.Timedelta(minutes=minutes), user, 10 * day + minutes)
        for user, days in hosts
        for day in days
        for minutes in (0, 5)
    ]
    return pd.DataFrame(rows, columns=["time", "user_id", "utilization_percent"]).sample(frac=1, random_state=0)


@pytest.fixture
def small(tmp_path: Path) -> RecordedFleet:
    return read_fleet(write(tmp_path / "small.parquet", recorded(("b", [0, 2]), ("a", [0, 1, 2]), ("c", [1]))))


def windows(fleet: RecordedFleet) -> dict[str, list[tuple[int, int]]]:
    """The end and percentage of each host's windows."""
    pairs = list(zip(fleet.end_ms.tolist(), fleet.percent.tolist(), strict=True))
    return {user: pairs[fleet.bounds[i] : fleet.bounds[i + 1]] for i, user in enumerate(fleet.users)}


def reports(fleet: RecordedFleet, now_ms: int) -> list[Report]:
    """What a service makes of the batches."""
    return [parse(line, now_ms) for batch in batches(fleet) for line in batch.body.splitlines()]


def test_the_days_of_a_file_follow_each_other(small: RecordedFleet) -> None:
    first = windows(small)["a"][0][0]
    day = [first, first + DAY_MS, first + 2 * DAY_MS]
    on_day = [[(start, 10 * i), (start + WINDOW_MS, 10 * i + 5)] for i, start in enumerate(day)]
    assert windows(small) == {"a": on_day[0] + on_day[1] + on_day[2], "b": on_day[0] + on_day[2], "c": on_day[1]}


def test_a_fleet_ends_with_the_newest_whole_window(small: RecordedFleet) -> None:
    moved = small.ending(NOW_MS)
    assert moved.last_ms <= NOW_MS < moved.last_ms + WINDOW_MS
    assert moved.last_ms % WINDOW_MS == 0
    assert np.array_equal(np.diff(moved.end_ms), np.diff(small.end_ms))


def test_the_longest_histories_are_chosen(small: RecordedFleet) -> None:
    assert windows(small.longest(2)) == {user: windows(small)[user] for user in ("a", "b")}
    assert windows(small.longest(9)) == windows(small)


def test_windows_after_a_moment(small: RecordedFleet) -> None:
    cut = windows(small)["c"][0][0]
    later = {user: [window for window in some if window[0] > cut] for user, some in windows(small).items()}
    assert windows(small.after(cut)) == later
    assert len(small.after(small.last_ms)) == 0
    assert list(batches(small.after(small.last_ms))) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame.drop(columns="time"), "with the columns time, user_id, utilization_percent"),
        (lambda frame: frame[:0], "holds no windows"),
        (lambda frame: frame.assign(user_id=""), "1 to 128 characters in each user_id"),
        (lambda frame: frame.assign(user_id=[None, *["a"] * (len(frame) - 1)]), "without a user_id"),
        (lambda frame: frame.assign(utilization_percent=101), "numbers from 0 to 100 in utilization_percent"),
        (lambda frame: frame.assign(utilization_percent=np.nan), "numbers from 0 to 100 in utilization_percent"),
        (lambda frame: frame.assign(utilization_percent="much"), "numbers from 0 to 100 in utilization_percent"),
        (lambda frame: frame.assign(time="yesterday"), "with the columns time, user_id, utilization_percent"),
    ],
)
def test_a_file_that_holds_no_fleet_is_refused(tmp_path: Path, change: Any, reason: str) -> None:
    path = write(tmp_path / "wrong.parquet", change(recorded(("a", [0]))))
    with pytest.raises(FleetError, match=reason) as error:
        read_fleet(path)
    assert "\n" not in str(error.value)


def test_a_window_becomes_a_report_of_one_observation(small: RecordedFleet) -> None:
    made = reports(small.ending(NOW_MS), NOW_MS)
    assert len(made) == len(small)
    for report, percent in zip(made, small.percent.tolist(), strict=True):
        share = percent / 100
        assert report == Report(
            user_id=report.user_id,
            start_timestamp=report.end_timestamp - WINDOW_MS,
            end_timestamp=report.end_timestamp,
            observations_per_metric=1,
            os_type="Linux",
            os_version="recorded",
            metrics=[
                Cpu(
                    avg_utilization=share,
                    min_utilization=share,
                    max_utilization=share,
                    histogram=[LINEAR.index(share), 1],
                )
            ],
        )


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ['quo"te', "back\\slash", "ünï", "a b"]
    fleet = read_fleet(write(tmp_path / "names.parquet", recorded(*((name, [0]) for name in names))))
    assert {report.user_id for report in reports(fleet.ending(NOW_MS), NOW_MS)} == set(names)


def test_batches_keep_hosts_together_and_small(small: RecordedFleet) -> None:
    fleet = read_fleet(SAMPLE).ending(NOW_MS)
    seen: dict[str, int] = {}
    for number, batch in enumerate(batches(fleet)):
        lines = [json.loads(line) for line in batch.body.splitlines()]
        assert len(lines) == batch.reports
        assert len(batch.body) < MAX_BODY / 2
        for line in lines:
            assert seen.setdefault(line["user_id"], number) == number
    assert len(seen) == 60


def test_a_host_with_very_many_windows_takes_several_batches(tmp_path: Path) -> None:
    times = pd.date_range("2020-01-01", periods=50_000, freq="5min", unit="ms")
    frame = pd.DataFrame({"time": times, "user_id": "a", "utilization_percent": 1})
    made = list(batches(read_fleet(write(tmp_path / "long.parquet", frame))))
    assert sum(batch.reports for batch in made) == 50_000
    assert all(len(batch.body) < MAX_BODY / 2 for batch in made)


def test_a_new_fleet_ends_now(small: RecordedFleet) -> None:
    todo = plan(small, {"somebody else": NOW_MS}, NOW_MS)
    assert windows(todo.fleet) == windows(small.ending(NOW_MS))
    assert not todo.complete


def test_a_fleet_that_is_there_keeps_its_times(small: RecordedFleet) -> None:
    loaded = small.ending(NOW_MS)
    todo = plan(small, loaded.last_of_each(), NOW_MS + DAY_MS // 2)
    assert windows(todo.fleet) == windows(loaded)
    assert todo.complete


def test_a_load_that_was_broken_off_is_finished(small: RecordedFleet) -> None:
    loaded = small.ending(NOW_MS)
    todo = plan(small, {"a": loaded.last_of_each()["a"]}, NOW_MS + 3 * WINDOW_MS)
    assert windows(todo.fleet) == windows(loaded)
    assert not todo.complete


def test_a_fleet_that_ended_days_ago_goes_on(small: RecordedFleet) -> None:
    loaded = small.ending(NOW_MS)
    later_ms = NOW_MS + 2 * DAY_MS
    todo = plan(small, loaded.last_of_each(), later_ms)
    assert todo.continues_after_ms == loaded.last_ms
    assert todo.fleet.last_ms == small.ending(later_ms).last_ms
    assert todo.fleet.end_ms.min() > loaded.last_ms


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("demo") / "data") as running:
        yield running


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run("service", "demo", *arguments, environment=clean_environment(**environment))


def fleet_values(service: RunningService, fleet: RecordedFleet, **query: Any) -> list[float]:
    start_ms, end_ms = int(fleet.end_ms.min()), fleet.last_ms + 1
    with service.client() as client:
        answer = client.get(
            "/api/v1/metrics/cpuLoadAvg/fleet",
            params={"start": start_ms, "end": end_ms, "resample_rate": "52w"} | query,
        )
    return [entry["value"] for entry in answer.raise_for_status().json()["entries"]]


def test_the_sample_is_loaded_whole_and_once(service: RunningService) -> None:
    first = demo("--url", service.url, "--data", str(SAMPLE))
    assert first.returncode == 0, first.stderr
    assert "60 hosts, 93,024 windows" in first.stdout
    assert "Loaded 93,024 windows" in first.stdout
    assert "were there already" not in first.stdout
    again = demo("--url", service.url, "--data", str(SAMPLE))
    assert again.returncode == 0, again.stderr
    assert "Loaded 0 windows" in again.stdout
    assert "93,024 were there already" in again.stdout

    with service.client() as client:
        users = client.get("/api/v1/users").json()["users"]
    fleet = read_fleet(SAMPLE)
    assert [user["user_id"] for user in users] == sorted(fleet.users)
    last_ms = max(pd.Timestamp(user["last_seen"]).value // 1_000_000 for user in users)
    assert 0 <= time.time() * 1000 - last_ms < 2 * WINDOW_MS
    fleet = fleet.shifted(last_ms - fleet.last_ms)
    shares = fleet.percent / 100
    assert sum(fleet_values(service, fleet, stat="count")) == len(fleet)
    counts, means = (np.array(fleet_values(service, fleet, stat=stat)) for stat in ("count", "mean"))
    assert np.average(means, weights=counts) == pytest.approx(shares.mean(), abs=1e-12)
    assert max(fleet_values(service, fleet, stat="max")) == shares.max()


def test_fewer_hosts_can_be_loaded(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data") as service, service.client() as client:
        done = demo("--data", str(SAMPLE), "--users", "3", LOADLENS_URL=service.url)
        assert done.returncode == 0, done.stderr
        assert "3 hosts, 5,184 windows" in done.stdout
        assert len(client.get("/api/v1/users").json()["users"]) == 3


def test_a_service_that_asks_for_a_token(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data", environment=clean_environment(LOADLENS_TOKEN="s3cret")) as service:
        without = demo("--url", service.url, "--data", str(SAMPLE), "--users", "1")
        assert without.returncode == 1
        assert without.stderr.count("\n") == 1
        assert "Give --token" in without.stderr
        given = demo("--url", service.url, "--data", str(SAMPLE), "--users", "1", LOADLENS_TOKEN="s3cret")
        assert given.returncode == 0, given.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--url", "http://127.0.0.1:9"], 1, "http://127.0.0.1:9 cannot be reached: [Errno 111] Connection refused"),
        (["--url", "localhost:8888"], 2, "--url: expected an address"),
        (["--data", "nowhere.parquet"], 2, "nowhere.parquet: cannot be read"),
        (["--data", "README.md"], 2, "README.md: expected a Parquet file"),
        (["--users", "0"], 2, "--users: expected a whole number of at least 1"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(arguments: list[str], code: int, said: str) -> None:
    done = demo(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


class Busy(http.server.BaseHTTPRequestHandler):
    """Has no room at first, then takes all but what is later than it likes."""

    protocol_version = "HTTP/1.1"
    # Head and body in one segment: a second one would wait 40 ms for the acknowledgement of the first.
    wbufsize = -1
    refusals = 2
    calls: list[float] = []

    def do_POST(self) -> None:
        lines = self.rfile.read(int(self.headers["Content-Length"])).count(b"\n")
        self.calls.append(time.monotonic())
        if len(self.calls) <= self.refusals:
            self._answer(503, {"detail": "full"}, {"Retry-After": "1"})
        else:
            problem = {"pointer": "/end_timestamp", "detail": "is in the future"}
            rejected = [{"index": 0, "problems": [problem]}]
            self._answer(202, {"accepted": lines - 1, "duplicates": 0, "rejected": rejected}, {})

    def _answer(self, status: int, document: Any, headers: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def busy() -> Iterator[str]:
    Busy.calls = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_batch_waits_until_a_busy_service_takes_it(busy: str, small: RecordedFleet) -> None:
    (batch,) = batches(small)
    with ServiceApi(busy) as api:
        receipt = post(api, batch, Patience(PATIENCE_S))
    assert receipt == (len(small) - 1, 0, 1, "/end_timestamp: is in the future")
    assert np.diff(Busy.calls).min() >= 0.99


def test_patience_ends(busy: str, small: RecordedFleet) -> None:
    (batch,) = batches(small)
    with ServiceApi(busy) as api, pytest.raises(ServiceError, match="503"):
        post(api, batch, Patience(0.0))


def test_the_sample_is_small_and_says_where_it_comes_from() -> None:
    assert SAMPLE.stat().st_size < 300_000
    source = SAMPLE.with_name("SOURCE.md").read_text()
    for word in ("CoMon", "Beloglazov", "Licence"):
        assert word in source
