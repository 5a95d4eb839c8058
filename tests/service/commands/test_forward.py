"""Reports go to receivers of remote write: once each, with all of their samples, over whatever comes between."""

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from analytics.sources.live import stream
from analytics.sources.prometheus_messages import V1, V2
from contract import times
from contract.histogram import LINEAR, LOGARITHMIC, count_values, flatten, quantile
from contract.metrics import QUANTITIES, Cpu, Disk, Distribution
from contract.report import Report
from service.commands.forward.command import (
    CheckpointError,
    Forwarder,
    ForwardSettings,
    begin,
)
from service.commands.forward.series import encode, metric_name, native, points_of
from service.commands.forward.target import ForwardTarget
from tests.support import devices
from tests.support.remote_write import Histogram, Value, received, unblock
from tests.support.reports import post
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

CPU = "loadlens_cpu_utilization_ratio"


def report(user: str, end_ms: int, samples: list[float]) -> Report:
    """A window of some samples of the CPU and of a disk."""
    mean = sum(samples) / len(samples)
    cpu = Cpu(
        avg_utilization=mean, min_utilization=min(samples), max_utilization=max(samples),
        histogram=flatten(count_values(samples, LINEAR)), avg_utilization_by_core=[mean, mean],
    )  # fmt: skip
    rates = [1e6 * sample for sample in samples]
    rate = Distribution(sum(rates) / len(rates), histogram=flatten(count_values(rates, LOGARITHMIC)))
    disk = Disk(rate, Distribution(0.0), Distribution(1.0), Distribution(2.0))
    return Report(user, end_ms - 5000, end_ms, len(samples), "Linux", "", [cpu, disk])


@pytest.mark.parametrize("message", [V1, V2])
def test_a_native_histogram_has_all_samples_where_they_were(message: str) -> None:
    dice = random.Random(7)
    samples = [0.0, 0.0, 1.0, 1.0, *(dice.betavariate(2, 5) for _ in range(496))]
    found = received(encode(points_of(report("web-1", 1_700_000_005_000, samples)), message), second=message == V2)
    assert found["loadlens_cpu_utilization_ratio_mean", "web-1"] == {1_700_000_005_000: sum(samples) / 500}
    assert found["loadlens_cpu_utilization_ratio_max", "web-1"] == {1_700_000_005_000: 1.0}
    for name, bins, factor in ((CPU, LINEAR, 1.0), ("loadlens_disk_read_bytes_per_second", LOGARITHMIC, 1e6)):
        histogram = found[name, "web-1"][1_700_000_005_000]
        assert isinstance(histogram, Histogram)
        assert (histogram.count, histogram.zero, histogram.schema) == (500, 2, 8)
        assert histogram.zero + sum(histogram.buckets.values()) == 500
        assert histogram.sum == pytest.approx(factor * sum(samples), rel=1e-12)
        counts = count_values([factor * sample for sample in samples], bins)
        for q in (0.001, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0):
            # A bucket is 0.27 % wide.
            assert histogram.quantile(q) == pytest.approx(quantile(counts, q, bins), rel=0.0028)
    assert native({64: 3}, LINEAR, 1.0).buckets == ((0, 3),)


def test_cores_are_written_where_they_are_asked_for() -> None:
    one = report("web-1", 1_700_000_005_000, [0.25, 0.75])
    assert len({point.labels for point in points_of(one, cores=True)}) == len({*points_of(one)}) + 2
    found = received(encode(points_of(one, cores=True), V2), second=True)
    assert found["loadlens_cpu_utilization_ratio_mean", "web-1" + "1"] == {1_700_000_005_000: 0.5}


def test_disks_and_interfaces_are_written_by_name() -> None:
    found = {point.labels: point.value for point in points_of(devices.report(1, devices.disks(sda=0.25, sdb=0.5)))}
    shared = (("instance", "a"), ("job", "loadlens"))
    for name, busy in (("sda", 0.25), ("sdb", 0.5)):
        labels = (("__name__", "loadlens_disks_busy_ratio_mean"), ("device", name), *shared)
        assert found[labels] == busy
        assert found[("__name__", "loadlens_disks_read_bytes_per_second_mean"), ("device", name), *shared] == 10 * busy
    assert found[("__name__", "loadlens_disks_busy_ratio_mean"), *shared] == 0.5


def test_names_say_the_unit() -> None:
    names = {name: metric_name(quantity) for name, quantity in QUANTITIES.items()}
    assert names["load.1m"] == "loadlens_load_1m"
    assert names["burst.longest"] == "loadlens_burst_longest_seconds"
    assert names["burst.begun"] == "loadlens_burst_begun_per_minute"
    assert names["scheduler.context_switches"] == "loadlens_scheduler_context_switches_per_second"
    assert names["filesystem.used"] == "loadlens_filesystem_used_bytes"
    assert names["memory_bytes.used"] == "loadlens_memory_bytes_used"
    assert names["temperature.cpu"] == "loadlens_temperature_cpu_celsius"
    assert len({*names.values()}) == len(names)


class Receiver:
    """Takes remote write on a port of 127.0.0.1; `statuses` are its next answers, then it takes everything."""

    def __init__(self, *statuses: int, second: bool = True) -> None:
        self.statuses = list(statuses)
        self.found: dict[tuple[str, str], dict[int, Value]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.different: list[tuple[tuple[str, str], int]] = []
        """Moments of which two values of the CPU came."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = unblock(self.rfile.read(int(self.headers["Content-Length"])))
                is_second = "write.v2" in self.headers["Content-Type"]
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                receiver.requests.append((self.headers["Content-Type"], {**self.headers}))
                if status == 204 and is_second <= second:
                    for series, values in received(body, second=is_second).items():
                        known = receiver.found.setdefault(series, {})
                        receiver.different += [(series, at) for at in known.keys() & values.keys()
                                               if series[0].startswith(CPU) and known[at] != values[at]]  # fmt: skip
                        known.update(values)
                self.send_response(status)
                if second:
                    self.send_header("X-Prometheus-Remote-Write-Samples-Written", "1")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v1/write"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def times(self, user: str, name: str = CPU) -> list[int]:
        return sorted(self.found.get((name, user), {}))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("forward") / "data") as service:
        yield service


@contextmanager
def forwarding(settings: ForwardSettings) -> Iterator[Forwarder]:
    """What the command does, in threads; ends as a signal ends it."""
    stopping = threading.Event()
    target = ForwardTarget(settings.to, [("X-Scope-OrgID", "1")], settings.protocol, stopping)
    source = stream(settings.url, user=settings.user or None, after=begin(settings))
    forwarder = Forwarder(settings, target, stopping)
    threads = [threading.Thread(target=forwarder.follow, args=(source,), daemon=True)]
    threads.append(threading.Thread(target=forwarder.run, daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield forwarder
    finally:
        stopping.set()
        threads[1].join(60)
        target.close()


def send(service: RunningService, user: str, *moments: int) -> None:
    with service.client() as client:
        reports: list[Any] = [report(user, at_ms, [0.25, 0.5, 0.75]) for at_ms in moments]
        assert post(client, *reports).status_code == 202


@pytest.mark.server
def test_every_report_is_written_over_failures_and_restarts(service: RunningService, tmp_path: Path) -> None:
    start_ms = times.now_ms() - 600_000
    moments = [start_ms + 5000 * number for number in range(12)]
    send(service, "marks", start_ms)
    with Receiver(503, 429) as receiver:
        settings = ForwardSettings(
            url=service.url, to=receiver.url, user=("again",), checkpoint=tmp_path / "new" / "checkpoint.json"
        )
        # Whoever has no checkpoint begins with what comes next: here behind a report that is there.
        (tmp_path / "new").mkdir()
        settings.checkpoint.write_text(f'{{"url": "{service.url}", "to": "{receiver.url}", "after": 0}}')
        with forwarding(settings) as forwarder:
            send(service, "again", *moments[:4])
            wait_until(lambda: receiver.times("again") == moments[:4], "the first reports")
            assert forwarder.refused == forwarder.lost == 0
        send(service, "again", *moments[4:8])
        receiver.statuses = [400]
        with forwarding(settings) as forwarder:
            wait_until(lambda: forwarder.refused == 4, "the reports that are refused")
            send(service, "again", *moments[8:])
            wait_until(lambda: receiver.times("again") == moments[:4] + moments[8:], "the reports after them")
        assert receiver.times("marks") == []
        assert receiver.requests[0][1]["X-Scope-OrgID"] == "1"
        own = {name: max(values.values()) for (name, _), values in receiver.found.items() if "forward" in name}
        assert own["loadlens_forward_refused_reports_total"] == 4.0
        with pytest.raises(CheckpointError, match="name another --checkpoint"):
            begin(ForwardSettings(url=service.url, to="http://localhost:1/other", checkpoint=settings.checkpoint))


@pytest.mark.server
def test_a_receiver_of_before_gets_the_first_version(service: RunningService, tmp_path: Path) -> None:
    at_ms = times.now_ms() - 5000
    with Receiver(second=False) as receiver:
        checkpoint = tmp_path / "checkpoint.json"
        checkpoint.write_text(f'{{"url": "{service.url}", "to": "{receiver.url}", "after": 0}}')
        settings = ForwardSettings(url=service.url, to=receiver.url, user=("before",), checkpoint=checkpoint)
        with forwarding(settings):
            send(service, "before", at_ms)
            wait_until(lambda: receiver.times("before") == [at_ms], "the report")
        types = [kind for kind, _ in receiver.requests]
        assert types[0].endswith("io.prometheus.write.v2.Request")
        assert {*types[1:]} == {"application/x-protobuf"}


@contextmanager
def forwarding_program(service: RunningService, to: str, checkpoint: Path, user: str) -> Iterator[None]:
    """`loadlens-service forward`, killed at the end."""
    command = [sys.executable, "-m", "service", "forward", "--url", service.url, "--to", to, "--user", user]
    log = checkpoint.with_suffix(".log")
    with log.open("ab") as said:
        program = subprocess.Popen(
            [*command, "--checkpoint", str(checkpoint)], cwd=ROOT, env=clean_environment(), stdout=said, stderr=said
        )
    try:
        yield
        assert program.poll() is None, log.read_text()
    finally:
        program.kill()
        program.wait(60)


@pytest.mark.server
def test_a_program_that_is_killed_before_anything_is_taken_goes_on_with_the_first(
    service: RunningService, tmp_path: Path
) -> None:
    checkpoint, start_ms = tmp_path / "checkpoint.json", times.now_ms() - 600_000
    moments = [start_ms + 5000 * number for number in range(3)]
    with Receiver(*[503] * 1000) as receiver:
        with forwarding_program(service, receiver.url, checkpoint, "first*"):
            # What is sent before it listens is not for it.
            sent = iter(range(10_000))

            def asked() -> bool:
                send(service, "first marks", start_ms + next(sent))
                return bool(receiver.requests)

            wait_until(asked, "a request")
            send(service, "first", *moments)
        receiver.statuses = []
        with forwarding_program(service, receiver.url, checkpoint, "first*"):
            wait_until(lambda: receiver.times("first") == moments, "the reports of before")


@pytest.mark.server
def test_kill_9_in_the_middle_loses_nothing_and_writes_nothing_in_two_ways(
    service: RunningService, tmp_path: Path
) -> None:
    checkpoint, start_ms = tmp_path / "checkpoint.json", times.now_ms() - 6_000_000
    dice = random.Random(17)
    moments: list[int] = []
    with Receiver() as receiver:
        checkpoint.write_text(f'{{"url": "{service.url}", "to": "{receiver.url}", "after": 0}}')
        for _ in range(5):
            with forwarding_program(service, receiver.url, checkpoint, "killed"):
                before = len(receiver.requests)
                for _ in range(dice.randrange(2, 6)):
                    some = [start_ms + 5000 * (len(moments) + number) for number in range(40)]
                    send(service, "killed", *some)
                    moments += some
                wait_until(lambda before=before: len(receiver.requests) > before, "a request")
                # Some are taken, some are under way, some wait.
                until = time.monotonic() + dice.uniform(0.0, 0.3)
                wait_until(lambda until=until: time.monotonic() > until, "a moment")
        with forwarding_program(service, receiver.url, checkpoint, "killed"):
            wait_until(lambda: receiver.times("killed") == moments, "all reports")
        assert receiver.times("killed", f"{CPU}_mean") == moments
        assert receiver.different == []


@contextmanager
def victoria_metrics(folder: Path) -> Iterator[str]:
    """The address of a VictoriaMetrics of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["victoria-metrics", f"-httpListenAddr={address}", f"-storageDataPath={folder}", "-loggerLevel=ERROR"]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _answers(f"http://{address}/health"), "VictoriaMetrics")
        yield f"http://{address}"
    finally:
        program.terminate()
        program.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.server
def test_victoria_metrics_answers_what_was_written(service: RunningService, tmp_path: Path) -> None:
    start_ms = (times.now_ms() // 1000 - 600) * 1000
    moments = [start_ms + 5000 * number for number in range(5)]
    checkpoint = tmp_path / "checkpoint.json"
    with victoria_metrics(tmp_path / "victoria") as address:
        checkpoint.write_text(f'{{"url": "{service.url}", "to": "{address}/api/v1/write", "after": 0}}')
        settings = ForwardSettings(
            url=service.url, to=f"{address}/api/v1/write", user=("victoria",), checkpoint=checkpoint
        )
        with forwarding(settings):
            send(service, "victoria", *moments)

            def exported() -> list[tuple[int, float]]:
                httpx.get(f"{address}/internal/force_flush", timeout=60)
                asked = {"match[]": f'{CPU}_mean{{instance="victoria"}}'}
                answer = httpx.get(f"{address}/api/v1/export", params=asked, timeout=60)
                rows = [line for line in answer.text.splitlines() if line]
                found = [httpx.Response(200, content=row).json() for row in rows]
                return [pair for one in found for pair in zip(one["timestamps"], one["values"], strict=True)]

            wait_until(lambda: exported() == [(at_ms, 0.5) for at_ms in moments], "the samples in VictoriaMetrics")


def test_what_cannot_be_an_address_or_a_header_is_refused() -> None:
    for wrong in ({"to": "localhost:9090"}, {"to": "http://a/b", "to_header": ("X-Scope",)}):
        with pytest.raises(ValueError, match="--to"):
            ForwardSettings(**wrong)  # type: ignore[arg-type]
