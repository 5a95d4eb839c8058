"""`analytics.stream` gives each report once, typed, over restarts of the service."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import analytics
from analytics.sources.live import Event, LostEvent, Parser, ReportEvent, Stream, ValuesEvent
from analytics.sources.service_api import ProblemError, ServiceError, UnreachableError
from tests.support.reports import END_MS, post, small
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    with RunningService(tmp_path / "data") as service:
        yield service


class Following:
    """A thread that follows until it has enough."""

    def __init__(self, stream: Stream, count: int) -> None:
        self.events: list[Event] = []
        self._stream = stream
        self._count = count
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for event in itertools.islice(self._stream, self._count):
            self.events.append(event)

    def wait(self) -> list[Event]:
        self.thread.join(60)
        assert not self.thread.is_alive(), self.events
        return self.events


def test_reports_come_typed(service: RunningService) -> None:
    with service.client() as client:
        post(client, small("a", END_MS, 0.25), small("b", END_MS, 0.75))
    first, second = itertools.islice(analytics.stream(service.url, after=0), 2)
    assert isinstance(first, ReportEvent)
    assert isinstance(second, ReportEvent)
    assert (first.id, first.report.user_id, second.report.metrics[0].avg_utilization) == (1, "a", 0.75)


def test_filters_and_fields_are_the_services(service: RunningService) -> None:
    with service.client() as client:
        post(client, *(small(f"{name}-{number}", END_MS, number / 10) for number in range(10) for name in "ab"))
    chosen = analytics.stream(
        service.url, user=["a-*", "c-*"], os="Linux", type="CPU", metric="cpuLoadAvg", above=0.65, below=0.85,
        fields=["user_id", "cpuLoadAvg.max"], after=0,
    )  # fmt: skip
    events = [*itertools.islice(chosen, 2)]
    assert [event.values for event in events if isinstance(event, ValuesEvent)] == [
        {"user_id": "a-7", "cpuLoadAvg.max": 0.7}, {"user_id": "a-8", "cpuLoadAvg.max": 0.8},
    ]  # fmt: skip


def test_a_second_loop_goes_on_where_the_first_ended(service: RunningService) -> None:
    with service.client() as client:
        post(client, *(small(f"user-{number}", END_MS) for number in range(4)))
    stream = analytics.stream(service.url, after=0)
    assert [event.id for event in itertools.islice(stream, 2)] == [1, 2]
    assert stream.after == 2
    assert [event.id for event in itertools.islice(stream, 2)] == [3, 4]


def test_each_report_comes_once_though_the_service_is_killed(tmp_path: Path) -> None:
    service = RunningService(tmp_path / "data")
    port = str(service.port)
    stream = analytics.stream(service.url)
    following = Following(stream, 60)
    try:
        for place in range(3):
            with service.client() as client:
                if place == 0:
                    wait_until(lambda: "loadlens_stream_consumers 1.0" in client.get("/metrics").text, "the consumer")
                for number in range(20):
                    post(client, small(f"user-{place}-{number}", END_MS))
            if place < 2:
                service.kill()
                service = RunningService(tmp_path / "data", "--port", port)
        events = following.wait()
    finally:
        service.kill()
    assert [event.id for event in events] == [*range(1, 61)]
    assert len({event.report.user_id for event in events if isinstance(event, ReportEvent)}) == 60


def test_an_async_loop_has_the_same_events(service: RunningService) -> None:
    with service.client() as client:
        post(client, *(small(f"user-{number}", END_MS) for number in range(3)))

    async def follow() -> list[int]:
        ids = []
        async for event in analytics.stream(service.url, after=0):
            ids.append(event.id)
            if len(ids) == 3:
                break
        return ids

    assert asyncio.run(follow()) == [1, 2, 3]


def test_what_is_lost_is_an_event(service: RunningService) -> None:
    with service.client() as client:
        post(client, small("a", END_MS))
    lost = next(iter(analytics.stream(service.url, after=7)))
    assert lost == LostEvent(1, 2, 7, was_slow=False)


def test_what_cannot_be_asked_for_is_told(service: RunningService) -> None:
    with pytest.raises(ProblemError, match="did you mean cpuLoadAvg"):
        next(iter(analytics.stream(service.url, metric="cpuLoadAvgg")))


def test_a_service_that_is_not_there_is_told() -> None:
    with pytest.raises(UnreachableError):
        next(iter(analytics.stream("http://127.0.0.1:9")))
    with pytest.raises(ValueError, match="http://localhost:8888"):
        analytics.stream("localhost:8888")


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_events_are_read_however_they_are_cut_and_lines_end(size: int, line_end: str) -> None:
    text = (
        'retry: 1000\n\nid: 1\n\nid: 2\ndata: {"a":1}\n\n'
        'id: 9\nevent: missed\ndata: {"from":3,"to":9}\n\nid: 10\n\nid: 11'
    )
    content = text.replace("\n", line_end).encode()
    parser = Parser(typed=False)
    events = [event for start in range(0, len(content), size) for event in parser.feed(content[start : start + size])]
    assert [event.id for event in events] == [2, 9]
    assert events == [ValuesEvent(2, {"a": 1}), LostEvent(9, 3, 9, was_slow=True)]
    assert parser.last_id == 10


@pytest.mark.parametrize(
    "text", [b"id: x\ndata: {}\n\n", b"data: {}\n\n", b"id: 1\ndata: {\n\n", b"id: 1\nevent: gap\ndata: {}\n\n"]
)
def test_what_is_no_event_is_told(text: bytes) -> None:
    with pytest.raises(ServiceError, match="cannot be read"):
        Parser(typed=False).feed(text)
