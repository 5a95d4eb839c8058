"""Reports that are refused because a clock is off are not lost, and none of them counts twice."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread

import pytest

from agent.clock import ServiceTime, Timeline, steady_s
from agent.connection import Connection
from agent.mistimed import HOLD_S, Mistimed
from agent.sender import DeadLetters, ReportSender
from agent.spool import Spool
from contract.metrics import Distribution, Memory
from contract.report import FUTURE_MS, Report, encode, report_id
from contract.retry import Backoff
from contract.times import DAY_MS, DAY_S, now_ms
from tests.support.agents import Answering, FakeService, serving, wait_until

MINUTE_S = 60
NEAR_MS = 60_000
"""So far apart clocks are that are believed; a slow host is no wrong clock either."""


class ClockedService(FakeService):
    """A service that refuses windows too far ahead of its clock, and those older than it keeps."""

    pointer = "/end_timestamp"

    def __init__(self, keeps_ms: int = 30 * DAY_MS) -> None:
        super().__init__()
        self.ahead_s = 0.0
        self.stale: list[float] = []
        """What the next answers say instead of `ahead_s`, as a Date that is renewed once a second."""
        self.breaks_down: float | None = None
        """The next answer to reports is lost, and its clock so far ahead afterwards."""
        self.dates_ahead_s = lambda: self.stale.pop(0) if self.stale else self.ahead_s
        self.refuses = lambda one: (
            None if -keeps_ms <= one.end_timestamp - now_ms() - self.ahead_s * 1000 <= FUTURE_MS else "wrong time"
        )

    def take(self, body: bytes, headers: Mapping[str, str]) -> Answering:
        answer = super().take(body, headers)
        if self.breaks_down is not None and json.loads(body) != []:
            self.ahead_s, self.breaks_down = self.breaks_down, None
            return Answering(502, b"a proxy on the way")
        return answer


class Sending:
    """A spool, and the thread that empties it and knows the service's time."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.spool = Spool(directory, 10**9, 10**9)
        self.time = ServiceTime()
        # Quick attempts: what is tested is what happens, not how long it takes.
        backoff = Backoff(uniform=lambda _least, _most: 0.001, retry_after_cap_s=0.05)
        self.sender = ReportSender(
            self.spool, Connection(url, None), DeadLetters(directory), backoff, service_time=self.time
        )
        self._thread = Thread(target=self.sender.run)
        self._thread.start()
        self._last_ms = 0

    def put(self, count: int = 1) -> None:
        """Windows that have just ended, as an agent makes them whose clock agrees with what was heard so far."""
        for _ in range(count):
            self._last_ms = end_ms = max(now_ms(), self._last_ms + 1)
            memory = Memory(utilization=Distribution(mean=0.5))
            report = Report("u", end_ms - 1, end_ms, 1, "Linux", "12", [memory], report_id=report_id("u", end_ms))
            self.spool.put(encode(report), end_ms, is_placed=self.time.is_known)
        self.sender.wake()

    def wait_until_empty(self) -> None:
        wait_until(lambda: self.spool.waiting == 0, "an empty spool")

    @property
    def aside(self) -> int:
        """How many reports were put aside."""
        path = self.directory / "refused.ndjson"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def close(self) -> None:
        self.sender.close(5.0)
        self._thread.join()
        self.spool.close()


@contextlib.contextmanager
def sending(directory: Path, url: str) -> Iterator[Sending]:
    one = Sending(directory, url)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture
def service() -> Iterator[ClockedService]:
    with serving(ClockedService()) as service:
        assert isinstance(service, ClockedService)
        yield service


def assert_near(service: ClockedService, ends: list[int], ahead_s: float) -> None:
    assert all(abs(end - now_ms() - ahead_s * 1000) < NEAR_MS for end in ends), (now_ms(), ends, ahead_s)


@pytest.mark.parametrize("ahead_s", [-10 * MINUTE_S, -3 * DAY_S, -1000 * DAY_S, 400 * DAY_S])
@pytest.mark.parametrize("count", [1, 250])
def test_windows_that_are_refused_since_the_services_clock_was_set_get_its_time(
    ahead_s: float, count: int, service: ClockedService, tmp_path: Path
) -> None:
    with sending(tmp_path, service.url) as one:
        one.put()
        one.wait_until_empty()
        service.ahead_s = ahead_s
        one.put(count)
        one.wait_until_empty()
    first, *later = service.ends()
    assert len(later) == count
    assert one.aside == one.sender.refused == 0
    assert_near(service, [first], 0.0)
    assert_near(service, later, ahead_s)
    assert all(report.report_id == report_id("u", report.end_timestamp) for report in service.reports())


def test_a_refusal_whose_date_is_of_before_the_clock_was_set_is_asked_about_once_more(
    service: ClockedService, tmp_path: Path
) -> None:
    with sending(tmp_path, service.url) as one:
        one.put()
        one.wait_until_empty()
        service.ahead_s, service.stale = -3 * DAY_S, [0.0]
        one.put(3)
        one.wait_until_empty()
    assert len(service.ends()) == 4
    assert one.aside == 0


def test_a_window_that_may_have_been_taken_waits_for_the_services_clock_and_counts_once(
    service: ClockedService, tmp_path: Path
) -> None:
    with sending(tmp_path, service.url) as one:
        one.put()
        one.wait_until_empty()
        service.breaks_down = -HOLD_S
        one.put()
        wait_until(lambda: one.sender.problem is not None and "clock" in one.sender.problem, "it to be said")
        one.put()
        assert len(service.ends()) == 2
        service.ahead_s = 0.0
        one.wait_until_empty()
        wait_until(lambda: one.sender.problem is None, "the end of it")
    assert len(service.ends()) == 3
    assert one.aside == 0


def test_a_window_that_may_have_been_taken_holds_back_no_others_for_days(
    service: ClockedService, tmp_path: Path
) -> None:
    with sending(tmp_path, service.url) as one:
        one.put()
        one.wait_until_empty()
        service.breaks_down = -3 * DAY_S
        one.put()
        wait_until(lambda: one.aside == 1, "it to be put aside")
        one.put(2)
        one.wait_until_empty()
    # What was put aside is there already.
    assert len(service.ends()) == 4
    assert one.aside == 1


def test_windows_of_an_earlier_run_wait_for_a_service_that_starts_with_an_old_time(tmp_path: Path) -> None:
    service = ClockedService()
    with serving(service), sending(tmp_path, service.url) as one:
        one.put()
        one.wait_until_empty()
        service.always = Answering(503)
        one.put(3)
        wait_until(lambda: one.sender.problem, "an outage")
    service.always = None
    service.ahead_s = -30 * MINUTE_S
    with serving(service), sending(tmp_path, service.url) as one:
        wait_until(lambda: one.sender.problem is not None and "clock" in one.sender.problem, "it to be said")
        service.ahead_s = 0.0
        one.wait_until_empty()
    assert len(service.ends()) == 4
    assert_near(service, service.ends(), 0.0)
    assert one.aside == 0


def test_an_outage_in_which_nothing_could_be_sent_leaves_nothing_in_doubt(tmp_path: Path) -> None:
    service = ClockedService()
    with serving(service):
        port = int(service.url.rpartition(":")[2])
        one = Sending(tmp_path, service.url)
        one.put()
        one.wait_until_empty()
    try:
        one.put(3)
        wait_until(lambda: one.sender.problem, "an outage")
        service.ahead_s = -3 * DAY_S
        with serving(service, port):
            one.wait_until_empty()
    finally:
        one.close()
    assert len(service.ends()) == 4
    assert one.aside == 0
    assert_near(service, service.ends()[1:], -3 * DAY_S)


def test_a_window_that_gets_the_services_time_gets_no_end_of_another(tmp_path: Path) -> None:
    known, timeline, spool = ServiceTime(), Timeline(), Spool(tmp_path, 10**9, 10**9)
    ended_ms = now_ms()
    memory = Memory(utilization=Distribution(mean=0.5))
    report = Report("u", ended_ms - 1, ended_ms, 1, "Linux", "12", [memory], report_id=report_id("u", ended_ms))
    spool.put(encode(report), ended_ms, is_placed=False)
    # The service is three days behind; what was made since then has its time already, every millisecond of it.
    moment = steady_s()
    known.heard(ended_ms / 1000 - 3 * DAY_S, moment, moment)
    made = {timeline.place(ended_ms - 3 * DAY_MS + place, 0.001)[1] for place in range(-4000, 4000)}
    (placed,) = Mistimed(spool, known, timeline).place(spool.peek(1, 1 << 20))
    spool.close()
    assert abs(placed.end_ms - ended_ms + 3 * DAY_MS) < 10_000
    assert placed.end_ms not in made
    assert timeline.place(placed.end_ms - 1, 0.001)[1] != placed.end_ms
