"""What the tests run for real: agents as processes, and a small HTTP server that behaves like the service."""

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Self

from contract.report import Report, decode_report

__all__ = ["Answering", "FakeService", "RunningAgent", "serving", "wait_until"]

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as the condition holds; fails with `what` where it does not in time."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.005)


@dataclass
class Answering:
    """An answer other than the service's usual one."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """One POST as it came."""

    at: float
    reports: list[Report]
    headers: Mapping[str, str]
    answered: int


class FakeService:
    """Accepts reports like the service: each (user, end) once, bad ones of a batch named by index.

    `answers` are given first, one a request; `refuses` says what is wrong with a report, or None.
    `hang` makes requests wait until it is cleared. `dates_ahead_s` is how far the clock of its answers is ahead, and
    `pointer` what it says is wrong with what it refuses.
    """

    pointer = "/metrics"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.stored: dict[tuple[str, int], Report] = {}
        self.duplicates = 0
        self.arrived = 0
        self.answers: list[Answering] = []
        self.always: Answering | None = None
        self.refuses: Callable[[Report], str | None] = lambda _: None
        self.hang: Event | None = None
        self.dates_ahead_s: Callable[[], float] = lambda: 0.0
        self.url = ""
        self._lock = Lock()

    def ends(self) -> list[int]:
        """The ends of the reports in the order of their coming."""
        with self._lock:
            return [end for _, end in self.stored]

    def reports(self) -> list[Report]:
        """The reports in the order of their coming."""
        with self._lock:
            return list(self.stored.values())

    def take(self, body: bytes, headers: Mapping[str, str]) -> Answering:
        """The answer to one POST."""
        self.arrived += 1
        if self.hang is not None:
            self.hang.wait(10 * DEADLINE_S)
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        document = json.loads(body)
        if document == []:
            # Asked for the time, and refused as any other request is.
            if self.always is None:
                return Answering(202, {"accepted": 0, "duplicates": 0})
            self.requests.append(Request(time.monotonic(), [], headers, self.always.status))
            return self.always
        batch = isinstance(document, list)
        reports = [decode_report(json.dumps(one).encode()) for one in (document if batch else [document])]
        with self._lock:
            answer = self.answers.pop(0) if self.answers else self.always or self._store(reports, batch=batch)
            self.requests.append(Request(time.monotonic(), reports, headers, answer.status))
        return answer

    def _store(self, reports: list[Report], *, batch: bool) -> Answering:
        counts = {"accepted": 0, "duplicates": 0}
        rejected: list[dict[str, object]] = []
        for index, report in enumerate(reports):
            if reason := self.refuses(report):
                rejected.append({"index": index, "problems": [{"pointer": self.pointer, "detail": reason}]})
                continue
            key = (report.user_id, report.end_timestamp)
            counts["duplicates" if key in self.stored else "accepted"] += 1
            self.stored.setdefault(key, report)
        self.duplicates += counts["duplicates"]
        if rejected and not batch:
            problem = {"title": "Invalid report", "status": 422, "errors": rejected[0]["problems"]}
            return Answering(422, problem, {"Content-Type": "application/problem+json"})
        none = len(rejected) == len(reports)
        if rejected:
            # As the service: the first are listed, all are counted.
            counts |= {"rejected": rejected[:100], "rejected_count": len(rejected)}
        return Answering(422 if none else 202, counts)


@contextlib.contextmanager
def serving(service: FakeService, port: int = 0) -> Iterator[FakeService]:
    """Serve on 127.0.0.1, on a free port where `port` is 0."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one segment, as real services send them.
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != "/api/v1/metrics":
                # As a service of an earlier version, which knows of no remote control.
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            answer = service.take(body, dict(self.headers.items()))
            payload = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            with contextlib.suppress(ConnectionError):
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate((timestamp or time.time()) + service.dates_ahead_s(), usegmt=True)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True
        open_sockets: set[Any] = set()

        def process_request(self, request: Any, client_address: Any) -> None:
            self.open_sockets.add(request)
            super().process_request(request, client_address)

        def shutdown_request(self, request: Any) -> None:
            self.open_sockets.discard(request)
            super().shutdown_request(request)

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", port), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        # A service that ends closes its connections too.
        for request in list(server.open_sockets):
            server.shutdown_request(request)


class RunningAgent:
    """`python -m agent` on a quick schedule, its messages at hand."""

    def __init__(
        self, *argv: str, python: str = sys.executable, environment: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        """`environment` has variables beside those of the tests."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")}
        environ |= environment or {}
        self.process = subprocess.Popen(
            [python, "-m", "agent", "--interval", "10ms", "--samples", "10", "--user-id", "test", *argv],
            cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        self.lines: list[str] = []
        self.log: list[str] = []
        self._readers = [
            Thread(target=self._read, args=(self.process.stdout, self.lines)),
            Thread(target=self._read, args=(self.process.stderr, self.log)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        # Line by line: a test looks on while the process runs.
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401
        stream.close()

    def says(self, words: str) -> bool:
        """Whether the log has a line with these words."""
        return any(words in line for line in self.log)

    def ended(self) -> int:
        """The exit code, once the process has ended and all it said was read."""
        code = self.process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join()
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit code."""
        self.process.send_signal(number)
        return self.ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()
