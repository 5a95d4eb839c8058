"""What the tests of steering run for real: agents on a service, and a proxy between them that keeps what it saw."""

import contextlib
import gzip
import http.client
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self

import httpx
import msgspec

from contract.report import Report, decode_report
from contract.summary import Summary
from tests.support.agent_states import agent as path_of
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

__all__ = ["FORCE", "Proxy", "SteeredAgent", "merged_cpu", "proxy"]

FORCE = {"If-Match": "*"}


class Proxy:
    """Between agents and a service, on a port of its own. Streams are passed on unless it `refuses_streams`."""

    def __init__(self, target: RunningService) -> None:
        self.target = target
        self.refuses_streams = False
        self.streams = 0
        self.url = ""
        self.answers: list[dict[str, Any]] = []
        """To reports, in order."""
        self._reports: list[Report] = []
        self._lock = Lock()

    def reports(self) -> list[Report]:
        """Those that were acknowledged, in order; one that an agent had to send again stands there once."""
        with self._lock:
            return list({(report.user_id, report.end_timestamp): report for report in self._reports}.values())

    def newest_ms(self) -> int:
        """When the newest window began; 0 without any."""
        with self._lock:
            return max((report.start_timestamp for report in self._reports), default=0)

    def saw(self, body: bytes, answer: bytes) -> None:
        """Keep reports that were acknowledged."""
        document = msgspec.json.decode(body)
        reports = [
            decode_report(msgspec.json.encode(one)) for one in ([document] if isinstance(document, dict) else document)
        ]
        with self._lock:
            self._reports += reports
            self.answers.append(msgspec.json.decode(answer))


class _Handler(BaseHTTPRequestHandler):
    """Passes requests on."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    between: Proxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self._forward(body)
        if status == 202 and self.path.endswith("/metrics"):
            packed = self.headers.get("Content-Encoding") == "gzip"
            self.between.saw(gzip.decompress(body) if packed else body, answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def do_GET(self) -> None:
        self.close_connection = True
        if self.between.refuses_streams:
            self.send_error(502)
            return
        self.between.streams += 1
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(self._connect()) as connection:
            self._relay(connection)

    def _forward(self, body: bytes) -> tuple[int, bytes]:
        try:
            with contextlib.closing(self._connect()) as connection:
                connection.request("POST", self.path, body, self._passed_on())
                response = connection.getresponse()
                return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 502, b"{}"

    def _relay(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", self.path, headers=self._passed_on())
        response = connection.getresponse()
        self.send_response(response.status)
        self.send_header("Content-Type", response.getheader("Content-Type") or "")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        while content := response.read1(65536):
            self.wfile.write(content)
            self.wfile.flush()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.between.target.port, timeout=60.0)

    def _passed_on(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.lower() not in ("host", "content-length")}

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextlib.contextmanager
def proxy(target: RunningService) -> Iterator[Proxy]:
    """A proxy in front of a service."""
    between = Proxy(target)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"between": between}))
    between.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield between
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class SteeredAgent:
    """`python -m agent`, and what the service says of it."""

    def __init__(self, url: str, user_id: str, folder: Path, client: httpx.Client, *arguments: str) -> None:
        self.user_id = user_id
        self.client = client
        self._log = folder / "agent.log"
        folder.mkdir(exist_ok=True)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "--url", url, "--user-id", user_id,
                 "--spool-dir", str(folder / "spool"), *arguments],
                cwd=ROOT, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()

    @property
    def path(self) -> str:
        """Of the agent, at the service."""
        return path_of(self.user_id)

    def shown(self) -> dict[str, Any]:
        """What the service says of it; nothing while it does not know it."""
        answer = self.client.get(self.path)
        return dict(answer.json()) if answer.status_code == 200 else {}

    def set(self, **settings: Any) -> None:
        """Ask for settings, in the place of those before."""
        answer = self.client.put(f"{self.path}/settings", json=settings, headers=FORCE)
        assert answer.status_code == 200, answer.text

    def command(self, name: str, **members: Any) -> str:
        """Have it do something once; the command's id."""
        answer = self.client.post(f"{self.path}/commands", json={"command": name} | members)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def outcome(self, id_: str) -> dict[str, Any]:
        """What has become of a command."""
        return dict(self.client.get(f"/api/v1/commands/{id_}").json())

    def wait(
        self, condition: Callable[[dict[str, Any]], object], what: str, deadline_s: float = 60.0
    ) -> dict[str, Any]:
        """What the service says of it as soon as a condition holds."""
        found: list[dict[str, Any]] = []

        def holds() -> bool:
            shown = self.shown()
            if shown and condition(shown):
                found.append(shown)
            return bool(found)

        try:
            wait_until(holds, what, deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {self.shown()} and logged {self.log[-2000:]}") from None
        return found[0]

    def wait_connected(self) -> None:
        """Until it listens."""
        self.wait(lambda shown: shown["connected"], "the agent's stream")

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(30.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30.0)


def merged_cpu(reports: list[Report]) -> Summary:
    """What all windows of the whole host make together."""
    summary = Summary.empty()
    for report in reports:
        (cpu,) = report.metrics
        minimum, maximum = cpu.min_utilization, cpu.max_utilization  # type: ignore[attr-defined]
        summary = summary.merge(
            Summary(
                report.observations_per_metric,
                cpu.avg_utilization,
                cpu.var_utilization,
                minimum,
                maximum,  # type: ignore[attr-defined]
            )
        )
    return summary
