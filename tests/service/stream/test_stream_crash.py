"""Stopped or killed with 10,000 reports in flight, the service owes its followers each of them exactly once."""

import threading
from collections import Counter
from collections.abc import Callable

import httpx
import msgspec
import pytest

from tests.service.conftest import StartService
from tests.support.followers import Follower
from tests.support.reports import END_MS, METRICS, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

REPORTS = 10_000
SENDERS = 4
BATCH = 10


class Sender:
    """Sends its share, some reports at a time, each until it is acknowledged, as agents do."""

    def __init__(self, number: int, url: str) -> None:
        self.number = number
        self.url = url
        self.acknowledged = 0
        self.again = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        share = REPORTS // SENDERS
        with httpx.Client(trust_env=False, timeout=30) as client:
            self.send(client, share)

    def send(self, client: httpx.Client, share: int) -> None:
        while self.acknowledged < share:
            bodies = [
                msgspec.json.encode(small(f"user-{self.number}", END_MS + number))
                for number in range(self.acknowledged, self.acknowledged + BATCH)
            ]
            try:
                answer = client.post(
                    self.url + METRICS,
                    content=b"\n".join(bodies),
                    headers={"Content-Type": "application/x-ndjson"},
                )
                answer.raise_for_status()
                self.acknowledged += BATCH
            except (httpx.TransportError, httpx.HTTPStatusError):
                # It is gone; who started it says where it is now.
                self.again.wait(30)


@pytest.mark.parametrize("end", [RunningService.kill, RunningService.stop])
def test_each_follower_gets_each_report_once(start: StartService, end: Callable[[RunningService], object]) -> None:
    service = start("--flush-interval", "0.5")
    followers = [
        Follower(service.url),
        Follower(service.url, fields="user_id,end_timestamp"),
        Follower(service.url, user="user-*", metric="cpuLoadAvg", above="0.1"),
    ]
    senders = [Sender(number, service.url) for number in range(SENDERS)]
    for share in (0.2, 0.5, 0.8):
        wait_until(
            lambda share=share: sum(one.acknowledged for one in senders) > share * REPORTS,
            "reports",  # type: ignore[misc]
        )
        end(service)
        for follower in followers:
            wait_until(lambda one=follower: one.ended, "the end of the stream")  # type: ignore[misc]
        service = start("--flush-interval", "0.5")
        for follower in followers:
            follower.resume(service.url)
        for sender in senders:
            sender.url = service.url
            sender.again.set()
    for sender in senders:
        sender.thread.join(60)
        assert sender.acknowledged == REPORTS // SENDERS
    for follower in followers:
        follower.wait_for(REPORTS)
        assert [event.name for event in follower.events] == ["message"] * REPORTS
        assert [event.id for event in follower.events] == [*range(1, REPORTS + 1)]
        counted = Counter((event.data["user_id"], event.data["end_timestamp"]) for event in follower.events)
        assert set(counted.values()) == {1}
        assert len(counted) == REPORTS
