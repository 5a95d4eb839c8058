"""InfluxDB goes, comes, stands still or has no room; the service dies: what was acknowledged is answered once."""

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from analytics import connect
from analytics.sources.service_api import CutShortError
from contract.times import DAY_MS
from tests.service.ingest.test_crash import T0, Sender, assert_exactly_once, bulky
from tests.support.influx_proxy import Fault, InfluxProxy, Request
from tests.support.influxd import RunningInflux, need
from tests.support.load import Connection
from tests.support.reports import METRICS, entries, history, post, small
from tests.support.running import RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server

Start = Callable[..., RunningService]
SENDERS = 16


@pytest.fixture
def own_influx(tmp_path: Path) -> Iterator[RunningInflux]:
    """An InfluxDB of the test's own, to be killed."""
    need()
    with RunningInflux(tmp_path / "influxd") as influx:
        yield influx


@pytest.fixture
def start(own_influx: RunningInflux, tmp_path: Path) -> Iterator[Start]:
    """Starts services on it."""
    started: list[RunningService] = []

    def start(*arguments: str, folder: str = "data", **options: object) -> RunningService:
        store = ("--store", own_influx.address(), "--flush-interval", "0.3")
        started.append(RunningService(tmp_path / folder, *store, *arguments, **options))  # type: ignore[arg-type]
        with started[-1].client() as client, contextlib.suppress(httpx.TransportError):
            client.get("/readyz")  # it has asked InfluxDB then, or ended
        return started[-1]

    yield start
    own_influx.resume()
    for service in started:
        service.kill()


class PatientSender(Sender):
    """One that tries again where it is told to."""

    async def _posted(self, connection: Connection, body: bytes) -> None:
        status, answer = await connection.post(METRICS, body)
        while status == 503:
            await asyncio.sleep(0.05)
            status, answer = await connection.post(METRICS, body)
        assert status == 202, answer


def metric(client: httpx.Client, name: str) -> float:
    """One of the service's own numbers."""
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"loadlens_{name} "))


def counted(client: httpx.Client, user: str = "one") -> float:
    """How many samples are answered."""
    return sum(value for _, value in entries(history(client, user, stat="count")))


async def send_meanwhile(service: RunningService, senders: list[Sender], step: Callable[[], None]) -> None:
    """All senders at once, while something happens."""

    async def happen() -> None:
        before = sum(len(sender.acknowledged) for sender in senders)
        await asyncio.to_thread(step)
        deadline = time.monotonic() + 60
        while service.process.poll() is None and sum(len(one.acknowledged) for one in senders) < before + 200:
            assert time.monotonic() < deadline, "the service takes no load"
            await asyncio.sleep(0.01)
        if service.process.poll() is None:
            os.killpg(service.process.pid, signal.SIGKILL)

    await asyncio.gather(happen(), *(sender.run(service.port) for sender in senders))
    service.process.wait()


def test_kills_of_influxdb_and_of_the_service_under_load_lose_nothing_and_double_nothing(
    own_influx: RunningInflux, start: Start
) -> None:
    senders = [PatientSender(number) for number in range(SENDERS)]
    for number in range(2):
        service = start()

        def kill_and_start(service: RunningService = service, number: int = number) -> None:
            with service.client() as client:
                wait_until(lambda: metric(client, "store_lines_written") > 100, "InfluxDB to be written to")
                own_influx.kill()
                if number % 2:  # the service is killed while InfluxDB is away, or soon after it is back
                    wait_until(lambda: metric(client, "store_flush_failures_total") > 0, "a flush to fail")
                else:
                    own_influx.start()

        asyncio.run(send_meanwhile(service, senders, kill_and_start))
        if number % 2:
            own_influx.start()
    service = start()
    for sender in senders:
        asyncio.run(sender.catch_up(service.port))
    with service.client() as client:
        for rate in ("1s", "5m"):
            assert_exactly_once(client, senders, rate)
        wait_until(lambda: metric(client, "journal_behind") == 0, "everything to be in InfluxDB")
        for rate in ("1s", "5m"):
            assert_exactly_once(client, senders, rate)
    assert service.stop() == 0
    # Another host finds all of it in InfluxDB alone.
    with start(folder="elsewhere").client() as client:
        for rate in ("1s", "5m"):
            assert_exactly_once(client, senders, rate)
    assert sum(len(sender.acknowledged) for sender in senders) > 400


ORIGINAL = {
    "cpuLoadAvg": 0.25, "cpuLoadVar": 0.0625, "cpuCoreLoadAvgMax": 0.75, "cpuCoreLoadAvgMin": 0.125,
    "cpuCoreLoadVarMax": 0.03125, "cpuCoreLoadMinMin": 0.015625,
}  # fmt: skip


def test_all_six_metrics_of_the_originals_points_are_answered(own_influx: RunningInflux, start: Start) -> None:
    own_influx.query('CREATE DATABASE "METRICS"')
    fields = ",".join(f"{name}={value}" for name, value in ORIGINAL.items())
    own_influx.write(f"measurements,osType=Linux,osVersion=18.04,userId=old {fields} {T0}")
    with start().client() as client:
        for name, value in (ORIGINAL | {"cpuCoreLoadVarMin": 0.015625}).items():
            asked = {"start": T0 - 1000, "end": T0 + 1000}
            answer = client.get(f"/api/v1/metrics/{name}/byUser/old", params=asked).json()
            assert [entry["value"] for entry in answer["entries"]] == [value]
            assert ("name no cores" in answer.get("approximation", "")) == ("Core" in name)


def test_while_influxdb_is_away_reports_are_taken_and_queries_are_told_to_wait(
    own_influx: RunningInflux, start: Start
) -> None:
    service = start()
    with service.client() as client:
        assert post(client, small("one", T0)).status_code == 202
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        own_influx.kill()
        assert post(client, *(small("one", T0 + number * 1000) for number in range(1, 10))).status_code == 202
        answer = history(client, "one")
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "InfluxDB cannot be asked now" in answer.json()["detail"]
        # Whether a late report is known is not known either.
        assert post(client, small("one", T0 - 1000)).status_code == 503
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert "cannot be reached" in ready.json()["problem"]
        assert metric(client, "store_up") == 0
        own_influx.start()
        wait_until(lambda: history(client, "one").status_code == 200, "InfluxDB")
        assert counted(client) == 10
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        assert counted(client) == 10
        wait_until(lambda: "problem" not in client.get("/readyz").json(), "the end of the flush")
    assert "Traceback" not in service.log


def test_a_service_starts_without_influxdb_if_it_knows_it_and_says_so_if_it_does_not(
    own_influx: RunningInflux, start: Start, tmp_path: Path
) -> None:
    service = start()
    with service.client() as client:
        post(client, *(small("one", T0 + number * 1000) for number in range(5)))
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
    service.stop()
    own_influx.kill()
    service = start()
    with service.client() as client:
        assert post(client, small("one", T0 + 5000)).json() == {"accepted": 1, "duplicates": 0}
        assert history(client, "one").status_code == 503
        assert client.get("/api/v1/users").json()["users"][0]["user_id"] == "one"
        own_influx.start()
        wait_until(lambda: history(client, "one").status_code == 200, "InfluxDB")
        assert counted(client) == 6
    service.stop()
    own_influx.kill()
    stranger = start(folder="elsewhere")
    assert stranger.process.wait(60) == 1
    began, said = stranger.log.splitlines()
    assert "Loadlens service on http://" in began
    assert said.startswith("loadlens-service: error: influx://127.0.0.1")


@pytest.mark.parametrize("path", ["windows/byUser/one", "windows/fleet"])
def test_windows_are_refused_with_the_reason_while_influxdb_is_away(
    own_influx: RunningInflux, start: Start, path: str
) -> None:
    service = start()
    with service.client() as client:
        assert post(client, small("one", T0)).status_code == 202
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        own_influx.kill()
        answer = client.get(f"/api/v1/{path}", params={"start": T0 - 3_600_000, "end": T0 + 3_600_000})
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) > 0
        assert "InfluxDB cannot be asked now" in answer.json()["detail"]
    assert "Traceback" not in service.log


def test_reports_are_refused_with_the_reason_while_influxdb_is_away(own_influx: RunningInflux, start: Start) -> None:
    service = start()
    with service.client() as client:
        assert post(client, small("one", T0)).status_code == 202
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        own_influx.kill()
        answer = client.get("/reports/users/one")
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) > 0
        assert "InfluxDB cannot be asked now" in answer.json()["detail"]
    assert "Traceback" not in service.log


def test_windows_that_are_cut_when_influxdb_goes_away_are_not_taken_for_the_whole(
    own_influx: RunningInflux, tmp_path: Path
) -> None:
    days = 3 * DAY_MS  # in windows of 1 s more than one piece
    with (
        InfluxProxy(own_influx, 2) as proxy,
        RunningService(tmp_path / "data", "--store", proxy.address("METRICS"), "--flush-interval", "0.3") as service,
        service.client() as client,
        connect(service.url) as source,
    ):
        assert post(client, small("one", T0), small("one", T0 + days)).status_code == 202
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        asked = {"start": T0 - 1000, "end": T0 + days + 1000, "rate": "1s"}
        assert len(source.history("one", **asked)) == 2

        def away_for_the_second_piece(request: Request) -> Fault | None:
            query = request.parameters.get("q", "")
            return Fault(503, b"busy") if "SELECT" in query and f"time >= {T0 - 1000}ms" not in query else None

        proxy.fault = away_for_the_second_piece
        with pytest.raises(CutShortError, match="the answer ended early"):
            source.history("one", **asked)
        wait_until(lambda: "an answer was cut short" in service.log, "the log")
        assert service.log.count("cut short") == 1
        assert "Traceback" not in service.log


def test_an_influxdb_that_stands_still_holds_up_no_report(own_influx: RunningInflux, start: Start) -> None:
    service = start()
    with service.client() as client:
        own_influx.pause()
        for number in range(50):
            assert post(client, small("one", T0 + number * 1000)).status_code == 202
        own_influx.resume()
        assert counted(client) == 50
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        assert counted(client) == 50


def test_while_influxdb_hangs_questions_end_and_nothing_else_waits_for_it(
    own_influx: RunningInflux, start: Start
) -> None:
    service = start()
    with service.client() as client, ThreadPoolExecutor(60) as threads:
        assert post(client, small("one", T0)).status_code == 202
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        own_influx.pause()

        def ask() -> httpx.Response:
            asked = {"start": T0 - 1000, "end": T0 + 1000}
            return httpx.get(f"{service.url}/api/v1/metrics/cpuLoadAvg/byUser/one", params=asked, timeout=300)

        questions = [threads.submit(ask) for _ in range(60)]
        for number in range(1, 10):
            for path in ("/metrics", "/healthz", "/readyz", "/api/v1/rules", "/api/v1/users"):
                assert client.get(path).status_code == 200
            assert post(client, small("one", T0 + number * 1000)).status_code == 202
        # It stands still all the while, and yet each question ends.
        for question in questions:
            answer = question.result()
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        assert "problem" in client.get("/readyz").json()
        own_influx.resume()
        wait_until(lambda: history(client, "one").status_code == 200, "InfluxDB")
        assert counted(client) == 10
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        assert counted(client) == 10


def test_an_influxdb_without_room_gets_everything_when_there_is_room(own_influx: RunningInflux, start: Start) -> None:
    service = start()
    with service.client() as client:
        assert post(client, small("one", T0)).status_code == 202
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        # The kernel refuses longer files, as it does on a full disk.
        resource.prlimit(own_influx.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        for number in range(1, 200):
            assert post(client, small("one", T0 + number * 1000)).status_code == 202
        wait_until(lambda: metric(client, "store_flush_failures_total") > 0, "a flush to fail")
        assert metric(client, "store_lines_refused") == 0
        # There is room again. InfluxDB 1.6 goes on to refuse writes, as long as it is not started anew.
        own_influx.kill()
        own_influx.start()
        wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
        assert counted(client) == 200


def test_at_the_journals_limit_reports_are_turned_away_until_influxdb_is_back(
    own_influx: RunningInflux, start: Start
) -> None:
    service = start("--journal-bytes", str(16 << 20))
    own_influx.kill()
    with service.client() as client:
        accepted = 0
        while (answer := client.post(METRICS, content=bulky("one", accepted))).status_code == 202:
            accepted += 1
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert 8 < accepted < 20
        own_influx.start()
        wait_until(lambda: client.post(METRICS, content=bulky("one", accepted)).status_code == 202, "room")
        wait_until(lambda: history(client, "one").status_code == 200, "InfluxDB")
        assert counted(client) == accepted + 1


@pytest.mark.parametrize("secret", ["s3cret-passw0rd", "ä", "日本 + Leerzeichen"])
def test_a_user_and_its_password_are_sent_and_never_shown(tmp_path: Path, secret: str) -> None:
    need()
    with RunningInflux(tmp_path / "influxd", auth=True) as influx:
        influx.query(f"CREATE USER me WITH PASSWORD '{secret}' WITH ALL PRIVILEGES")
        environment = clean_environment(LOADLENS_STORE_USER="me", LOADLENS_STORE_PASSWORD=secret)
        arguments = ("--store", influx.address(), "--flush-interval", "300ms", "--log-level", "debug")
        with RunningService(tmp_path / "data", *arguments, environment=environment) as service:
            with service.client() as client:
                assert post(client, small("one", T0)).status_code == 202
                wait_until(lambda: metric(client, "journal_behind") == 0, "a flush")
                assert counted(client) == 1
                shown = client.get("/metrics").text + client.get("/readyz").text
            assert service.stop() == 0
            assert secret not in service.log + shown
        environment |= {"LOADLENS_STORE_PASSWORD": "wr0ng-passw0rd"}
        with RunningService(tmp_path / "other", *arguments, environment=environment) as service:
            assert service.process.wait(60) == 1
            assert "authorization failed" in service.log
            assert "wr0ng-passw0rd" not in service.log


@pytest.mark.parametrize(
    ("address", "is_told"),
    [
        ("influx://elsewhere.invalid/x", True),
        ("influxs://elsewhere.invalid/x", False),
        ("influx://127.0.0.1:1/x", False),
    ],
)
def test_a_token_that_goes_unencrypted_to_another_host_is_warned_of(
    tmp_path: Path, address: str, is_told: bool
) -> None:
    environment = clean_environment(LOADLENS_STORE_TOKEN="s3cret-t0ken")
    with RunningService(tmp_path / "data", "--store", address, environment=environment) as service:
        assert service.process.wait(60) == 1
        assert service.log.count("sends the token unencrypted to another host: use influxs://") == is_told
        assert "s3cret-t0ken" not in service.log
