"""What was acknowledged is answered exactly once, however the service ends."""

import asyncio
import itertools
import os
import resource
import signal
import time
from pathlib import Path

import httpx
import pytest

from service.journal.journal import Journal
from tests.service.conftest import StartService
from tests.support.load import Connection
from tests.support.reports import METRICS, as_json, entries, history, original, post, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

CONNECTIONS = 64
ROUNDS = 10
LOAD_S = 0.8
T0 = 1_704_067_200_000
OBSERVATIONS = 7


class Sender:
    """One agent: its reports in order, each sent again until it is acknowledged."""

    def __init__(self, number: int) -> None:
        self.user = f"sender-{number}"
        # Some send late reports, which are looked up instead of known by their time.
        self._late = number % 4 == 0
        self._sent = itertools.count()
        self._waiting: list[int] = []
        self.acknowledged: set[int] = set()

    def _next(self) -> int:
        if not self._waiting:
            number = next(self._sent)
            self._waiting.append(number ^ 7 if self._late else number)
        return self._waiting[0]

    async def run(self, port: int) -> None:
        """Send until the connection breaks."""
        try:
            async with Connection(port) as connection:
                while True:
                    await self._send_next(connection)
        except (OSError, EOFError):
            return

    async def catch_up(self, port: int) -> None:
        """Send again what may or may not have arrived."""
        async with Connection(port) as connection:
            while self._waiting:
                await self._send_next(connection)

    async def _send_next(self, connection: Connection) -> None:
        number = self._next()
        report = original(
            self.user,
            start_timestamp=T0 + number * 1000,
            end_timestamp=T0 + number * 1000 + 999,
            observations_per_metric=OBSERVATIONS,
        )
        await self._posted(connection, as_json(report))
        self.acknowledged.add(number)
        self._waiting.clear()

    async def _posted(self, connection: Connection, body: bytes) -> None:
        status, answer = await connection.post(METRICS, body)
        assert status == 202, answer


async def load_until(service: RunningService, senders: list[Sender], end: signal.Signals) -> None:
    """All senders at once; after a while the whole service gets the signal."""

    async def stop() -> None:
        acknowledged = sum(len(sender.acknowledged) for sender in senders)
        deadline = time.monotonic() + 60
        since = time.monotonic()
        while time.monotonic() < since + LOAD_S or sum(len(one.acknowledged) for one in senders) < acknowledged + 100:
            assert time.monotonic() < deadline, "the service takes no load"
            await asyncio.sleep(0.01)
        if end is signal.SIGKILL:
            os.killpg(service.process.pid, end)
        else:
            service.process.send_signal(end)

    await asyncio.gather(stop(), *(sender.run(service.port) for sender in senders))


def assert_exactly_once(client: httpx.Client, senders: list[Sender], rate: str = "1s") -> None:
    rate_s = {"1s": 1, "5m": 300}[rate]
    for sender in senders:
        query = {"start": T0, "end": T0 + 99_000_000, "resample_rate": rate, "stat": "count"}
        found = entries(history(client, sender.user, **query))
        expected: dict[int, int] = {}
        for number in sender.acknowledged:
            expected[number // rate_s] = expected.get(number // rate_s, 0) + OBSERVATIONS
        assert [value for _, value in found] == [expected[bucket] for bucket in sorted(expected)]


def test_what_was_acknowledged_under_load_is_answered_exactly_once_after_each_of_ten_kills(start: StartService) -> None:
    senders = [Sender(number) for number in range(CONNECTIONS)]
    for number in range(ROUNDS):
        # Flushed often, so that kills fall into flushes and compactions as well, and now and then seldom.
        service = start("--flush-interval", "3600" if number % 5 == 4 else "0.15")
        asyncio.run(load_until(service, senders, signal.SIGKILL))
        assert service.process.wait() == -signal.SIGKILL
    service = start()
    for sender in senders:
        asyncio.run(sender.catch_up(service.port))
    with service.client() as client:
        for rate in ("1s", "5m"):
            assert_exactly_once(client, senders, rate)
    assert sum(len(sender.acknowledged) for sender in senders) > ROUNDS * 100


def test_what_was_acknowledged_under_load_is_answered_exactly_once_after_a_stop(
    start: StartService, data_dir: Path
) -> None:
    senders = [Sender(number) for number in range(CONNECTIONS)]
    service = start()
    asyncio.run(load_until(service, senders, signal.SIGTERM))
    assert service.process.wait(60) == 0
    assert "Traceback" not in service.log
    service = start()
    for sender in senders:
        asyncio.run(sender.catch_up(service.port))
    with service.client() as client:
        for rate in ("1s", "5m"):
            assert_exactly_once(client, senders, rate)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_told_to_end_puts_everything_on_the_stores_disk(
    start: StartService, data_dir: Path, end: signal.Signals
) -> None:
    service = start("--flush-interval", "3600", "--stream-keep", "0")
    with service.client() as client:
        post(client, *(small("one", T0 + number * 60_000, number / 100) for number in range(100)))
        answers = {stat: entries(history(client, "one", stat=stat)) for stat in ("mean", "var", "p95", "count")}
        users = client.get("/api/v1/users").json()
    service.process.send_signal(end)
    assert service.process.wait(60) == 0
    assert "Traceback" not in service.log
    journal = Journal(data_dir / "journal", 1 << 30)
    assert journal.size == 0
    assert [*journal.read(0)] == []
    journal.close()
    service = start("--flush-interval", "3600")
    with service.client() as client:
        for stat, before in answers.items():
            after = entries(history(client, "one", stat=stat))
            assert [date for date, _ in after] == [date for date, _ in before]
            # The same to rounding: from the rollups the sums are taken in another order than from memory.
            assert [value for _, value in after] == pytest.approx([value for _, value in before], rel=1e-12)
        assert client.get("/api/v1/users").json() == users
        assert "loadlens_journal_behind 0.0" in client.get("/metrics").text
        assert "loadlens_store_head_windows 0.0" in client.get("/metrics").text
    assert "replayed" not in service.log.rpartition("Loadlens service on")[2]


def test_after_a_kill_the_journal_is_replayed_and_said_so(start: StartService) -> None:
    service = start("--flush-interval", "3600")
    with service.client() as client:
        post(client, *(small("one", T0 + number * 1000) for number in range(30)))
    service.kill()
    service = start("--flush-interval", "3600")
    with service.client() as client:
        assert [value for _, value in entries(history(client, "one", stat="count"))] == [30]
        assert post(client, small("one", T0 + 29_000)).json() == {"accepted": 0, "duplicates": 1}
        assert post(client, small("one", T0 + 30_000)).json() == {"accepted": 1, "duplicates": 0}
    assert "30 reports replayed" in service.log


# No room


def bulky(user: str, number: int) -> bytes:
    """A report of a megabyte, most of it in a member that the service does not know."""
    return as_json(small(user, T0 + number * 1000, padding="x" * (1 << 20)))


def test_at_the_journals_limit_reports_are_turned_away_and_taken_again_later(start: StartService) -> None:
    service = start("--journal-bytes", str(16 << 20), "--flush-interval", "3600")
    accepted = 0
    with service.client() as client:
        for number in range(100):
            body = bulky("one", number)
            answer = client.post(METRICS, content=body)
            if answer.status_code == 503:
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert int(answer.headers["Retry-After"]) > 0
                wait_until(lambda: client.post(METRICS, content=body).status_code == 202, "room in the journal")  # noqa: B023
            accepted += 1
        assert [value for _, value in entries(history(client, "one", stat="count"))] == [accepted]
        assert client.get("/readyz").status_code in (200, 503)


def test_a_disk_without_room_refuses_reports_until_there_is_room_and_loses_none(start: StartService) -> None:
    """The kernel refuses writes of the running service, as it does on a full disk."""
    service = start("--flush-interval", "0.2")
    acknowledged = []
    with service.client() as client:

        def send(number: int) -> bool:
            answer = client.post(METRICS, content=bulky("one", number))
            if answer.status_code == 503:
                assert answer.headers["Content-Type"] == "application/problem+json"
                assert "disk" in answer.json()["detail"]
                return False
            assert answer.status_code == 202
            if answer.json()["accepted"]:
                acknowledged.append(number)
            return True

        assert all(send(number) for number in range(5))
        worker = service.worker().pid
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))
        assert not all(send(number) for number in range(5, 40))
        assert client.get("/healthz").status_code == 200
        assert_once(client, acknowledged)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for number in range(40):
            wait_until(lambda number=number: send(number), "room")  # type: ignore[misc]
        assert sorted(acknowledged) == [*range(40)]
        assert_once(client, acknowledged)
        wait_until(lambda: "loadlens_journal_behind 0.0" in client.get("/metrics").text, "a flush")
    service.kill()
    service = start()
    with service.client() as client:
        assert_once(client, acknowledged)


def assert_once(client: httpx.Client, numbers: list[int]) -> None:
    query = {"start": T0, "end": T0 + 100_000, "resample_rate": "1s", "stat": "count"}
    assert [value for _, value in entries(history(client, "one", **query))] == [1] * len(numbers)
