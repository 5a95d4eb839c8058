"""Delivery: in order, in batches, again and again, past what the service refuses."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from agent.connection import Connection
from agent.sender import MAX_BYTES, MAX_REPORTS, DeadLetters, ReportSender
from agent.spool import Spool
from contract.metrics import Distribution, Memory
from contract.report import Report, encode
from contract.retry import Backoff
from tests.support.agents import Answering, FakeService, serving, wait_until

T = 1_800_000_000_000


def report(number: int) -> bytes:
    memory = Memory(utilization=Distribution(mean=0.5))
    return encode(Report("u", T + number, T + number + 1, 1, "Linux", "12", [memory]))


class Delivery:
    """A spool and the thread that empties it."""

    def __init__(self, directory: Path, service: FakeService, reports: int) -> None:
        self.spool = Spool(directory, 10**9, 10**9)
        self.directory = directory
        # Quick attempts: what is tested is what happens, not how long it takes.
        backoff = Backoff(uniform=lambda _least, _most: 0.001)
        self.sender = ReportSender(
            self.spool, Connection(service.url, None), DeadLetters(directory), backoff, misconfigured_wait_s=0.0
        )
        self.put(*(report(number) for number in range(reports)))
        self._thread = Thread(target=self.sender.run)
        self._thread.start()

    def put(self, *bodies: bytes) -> None:
        for body in bodies:
            self.spool.put(body, T + 1)

    def refused(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.directory / "refused.ndjson").read_text().splitlines()]

    def wait_until_empty(self) -> None:
        wait_until(lambda: self.spool.waiting == 0, "an empty spool")

    def close(self) -> None:
        self.sender.close(5.0)
        self._thread.join()
        self.spool.close()


@contextlib.contextmanager
def delivering(directory: Path, service: FakeService, reports: int) -> Iterator[Delivery]:
    with serving(service):
        delivery = Delivery(directory, service, reports)
        try:
            yield delivery
        finally:
            delivery.close()


def numbers(service: FakeService) -> list[int]:
    return [end - T - 1 for end in service.ends()]


def test_one_report_goes_as_it_is(tmp_path: Path) -> None:
    service = FakeService()
    with delivering(tmp_path, service, 1) as delivery:
        delivery.wait_until_empty()
    [request] = service.requests
    assert request.headers["Content-Type"] == "application/json"
    assert "Content-Encoding" not in request.headers


def test_many_go_in_order_compressed_and_in_few_requests(tmp_path: Path) -> None:
    service = FakeService()
    with delivering(tmp_path, service, MAX_REPORTS + 100) as delivery:
        delivery.wait_until_empty()
    assert numbers(service) == list(range(MAX_REPORTS + 100))
    assert [len(request.reports) for request in service.requests] == [MAX_REPORTS, 100]
    assert service.requests[0].headers["Content-Encoding"] == "gzip"


def test_a_request_is_bounded_in_bytes(tmp_path: Path) -> None:
    service = FakeService()
    large = {"note": "x" * (MAX_BYTES // 3)}
    with delivering(tmp_path, service, 0) as delivery:
        delivery.put(*(report(number)[:-1] + b"," + json.dumps(large).encode()[1:] for number in range(7)))
        delivery.sender.wake()
        delivery.wait_until_empty()
    assert numbers(service) == list(range(7))
    assert max(len(request.reports) for request in service.requests) == 2


def test_reports_that_come_later_are_sent_when_the_sender_is_woken(tmp_path: Path) -> None:
    service = FakeService()
    with delivering(tmp_path, service, 0) as delivery:
        for number in range(3):
            delivery.put(report(number))
            delivery.sender.wake()
            delivery.wait_until_empty()
    assert numbers(service) == [0, 1, 2]


@pytest.mark.parametrize("status", [302, 401, 403, 404, 408, 429, 500, 502, 503, 200])
def test_an_answer_that_is_no_acceptance_costs_nothing(status: int, tmp_path: Path) -> None:
    service = FakeService()
    service.answers = [Answering(status, b"<html>not the service</html>")] * 3
    with delivering(tmp_path, service, 5) as delivery:
        delivery.wait_until_empty()
    assert numbers(service) == [0, 1, 2, 3, 4]
    assert [request.answered for request in service.requests] == [status] * 3 + [202]
    assert delivery.sender.refused == 0


def test_bad_reports_of_a_batch_are_put_aside_and_the_others_stored(tmp_path: Path) -> None:
    service = FakeService()
    service.refuses = lambda one: "bad" if one.end_timestamp - T - 1 in (2, 5) else None
    with delivering(tmp_path, service, 8) as delivery:
        delivery.wait_until_empty()
    assert numbers(service) == [0, 1, 3, 4, 6, 7]
    assert delivery.sender.refused == 2
    first, second = delivery.refused()
    assert first["report"] == json.loads(report(2))
    assert second["report"] == json.loads(report(5))
    assert first["problems"] == [{"pointer": "/metrics", "detail": "bad"}]


def test_a_batch_of_only_bad_reports_blocks_nothing(tmp_path: Path) -> None:
    service = FakeService()
    service.refuses = lambda one: "bad" if one.end_timestamp - T - 1 < 3 else None
    with delivering(tmp_path, service, 3) as delivery:
        delivery.wait_until_empty()
        delivery.put(report(3))
        delivery.sender.wake()
        delivery.wait_until_empty()
    assert numbers(service) == [3]
    assert len(delivery.refused()) == 3


def test_many_bad_reports_are_said_in_few_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService()
    service.refuses = lambda one: "bad"
    with delivering(tmp_path, service, 200) as delivery:
        delivery.wait_until_empty()
    assert len(delivery.refused()) == delivery.sender.refused == 200
    said = [line for line in caplog.messages if "put aside" in line]
    # Ten in ten seconds; on a host that takes longer there may be some more.
    assert 0 < len(said) < 100


def test_a_single_bad_report_is_put_aside_with_the_services_reasons(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = FakeService()
    service.refuses = lambda _: "is above 1"
    with delivering(tmp_path, service, 1) as delivery:
        delivery.wait_until_empty()
    [line] = delivery.refused()
    assert (line["status"], line["problems"]) == (422, [{"pointer": "/metrics", "detail": "is above 1"}])
    assert "is above 1" in caplog.text


@pytest.mark.parametrize(
    "body", ['{"detail":"zu groß"}'.encode("latin-1"), b'{"rejected":' + b"[" * 20_000 + b"]" * 20_000 + b"}"]
)
@pytest.mark.parametrize("status", [413, 202])
def test_an_answer_that_cannot_be_decoded_is_no_reason_to_end(tmp_path: Path, status: int, body: bytes) -> None:
    service = FakeService()
    service.answers = [Answering(status, body)]
    with delivering(tmp_path, service, 1) as delivery:
        delivery.wait_until_empty()
        delivery.put(report(1))
        delivery.sender.wake()
        delivery.wait_until_empty()
    assert numbers(service) == [0, 1]
    assert delivery.sender.refused == 0


SIGN_IN = b"<html>Please sign in</html>"


@pytest.mark.parametrize("status", [200, 202, 400, 413, 415, 422])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (SIGN_IN, {"Content-Type": "text/html"}),
        (b"", {}),
        (b"{}", {}),
        (b'{"detail":"of another"}', {"Content-Type": "application/json"}),
        (b'{"status":500,"detail":"of another"}', {"Content-Type": "application/problem+json"}),
    ],
)
def test_what_the_service_has_not_said_decides_nothing(
    status: int, body: bytes, headers: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = FakeService()
    service.answers = [Answering(status, body, headers)] * 5
    with delivering(tmp_path, service, 1) as delivery:
        delivery.wait_until_empty()
    assert numbers(service) == [0]
    assert delivery.sender.refused == 0
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


class SinglesOnly(FakeService):
    """A service, as the original, that knows no arrays."""

    def _store(self, reports: list[Report], *, batch: bool) -> Answering:
        return Answering(400, b"no object") if batch else super()._store(reports, batch=batch)


class SmallOnly(FakeService):
    """A service behind a proxy that lets only small bodies pass, and one report not at all."""

    def _store(self, reports: list[Report], *, batch: bool) -> Answering:
        if len(reports) > 3 or any(one.end_timestamp == T + 6 for one in reports):
            return Answering(413, b"<html>Request Entity Too Large</html>")
        return super()._store(reports, batch=batch)


def test_a_service_that_takes_no_batches_gets_single_reports(tmp_path: Path) -> None:
    service = SinglesOnly()
    with delivering(tmp_path, service, 20) as delivery:
        delivery.wait_until_empty()
    assert numbers(service) == list(range(20))


def test_a_body_that_is_too_large_is_halved_until_the_culprit_is_alone(tmp_path: Path) -> None:
    service = SmallOnly()
    with delivering(tmp_path, service, 20) as delivery:
        delivery.wait_until_empty()
    assert numbers(service) == [number for number in range(20) if number != 5]
    [line] = delivery.refused()
    assert line["status"] == 413
    assert line["problems"] == "<html>Request Entity Too Large</html>"


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    service = FakeService()
    service.answers = [Answering(503, headers={"Retry-After": "1"}), Answering(429, headers={"Retry-After": "1"})]
    with delivering(tmp_path, service, 1) as delivery:
        delivery.wait_until_empty()
    first, second, third = (request.at for request in service.requests)
    assert second - first >= 1.0
    assert third - second >= 1.0


def test_an_outage_is_said_once_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    service = FakeService()
    service.answers = [Answering(500)] * 10
    with delivering(tmp_path, service, 3) as delivery:
        delivery.wait_until_empty()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "takes no reports: it answered 500; 3 wait, next attempt in 0.0 s" in said[0]
    assert "takes reports again" in said[1]


def test_closing_makes_one_last_attempt(tmp_path: Path) -> None:
    service = FakeService()
    service.always = Answering(503, headers={"Retry-After": "600"})
    with delivering(tmp_path, service, 3):
        wait_until(lambda: service.requests, "the first attempt")
        service.always = None
    assert numbers(service) == [0, 1, 2]


def test_closing_gives_up_after_a_failure(tmp_path: Path) -> None:
    service = FakeService()
    service.always = Answering(503)
    with delivering(tmp_path, service, 3):
        pass
    again = Spool(tmp_path, 10**9, 10**9)
    assert again.waiting == 3
    again.close()


def test_the_file_of_dead_letters_is_bounded(tmp_path: Path) -> None:
    refused = DeadLetters(tmp_path, max_bytes=2000)
    for number in range(50):
        refused.add(report(number), 422, "bad")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["refused.ndjson", "refused.ndjson.1"]
    assert all(file.stat().st_size <= 2000 for file in files)
    last = json.loads(files[0].read_text().splitlines()[-1])
    assert last["report"] == json.loads(report(49))
