"""The servers that are measured, each started on a free port of 127.0.0.1 and stopped by its process id."""

import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
from data import ROOT
from processes import Program, running, wait_until

STEADY_S = 20.0
"""So long InfluxDB's files must not change before they count as compacted."""
_START_S, _ANSWER_S, _READY_S, _SETTLE_S = 120.0, 120.0, 2.0, 900.0
_LOG_BYTES = 200_000
_INFLUXD = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc_port}"
[meta]
  dir = "{folder}/meta"
  logging-enabled = false
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  wal-fsync-delay = "0s"
  query-log-enabled = false
  {data}
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[logging]
  level = "error"
"""
_COLD = 'cache-snapshot-write-cold-duration = "5s"\n  compact-full-write-cold-duration = "5s"'


class AnswerError(RuntimeError):
    """An answer that is no 2xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    program: Program
    folder: Path

    @property
    def process(self) -> psutil.Process:
        """Its process."""
        return psutil.Process(self.program.pid)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout: float = _ANSWER_S) -> HTTPConnection:
        """A connection that is kept alive, and waits so many seconds for an answer."""
        return HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> bytes:
        """The body of an answer. Raises AnswerError for any status but a 2xx."""
        with contextlib.closing(self.connect()) as connection:
            return answer(connection, method, path, body, headers)

    def metrics(self) -> dict[str, float]:
        """The values of `GET /metrics` that have no labels, by name."""
        rows = (line.rpartition(" ") for line in self.ask("GET", "/metrics").decode().splitlines())
        return {name: float(value) for name, _, value in rows if name and name[0] != "#" and "{" not in name}

    def cpu_seconds(self) -> float:
        """CPU time used so far, by the process and its children."""
        times = [process.cpu_times() for process in (self.process, *self.process.children(recursive=True))]
        return sum(time.user + time.system for time in times)


def answer(
    connection: HTTPConnection, method: str, path: str, body: bytes | str | None, headers: Mapping[str, str]
) -> bytes:
    """The body of an answer on a connection that is kept alive. Raises AnswerError for any status but a 2xx."""
    connection.request(method, path, body, dict(headers))
    response = connection.getresponse()
    content = response.read()
    if response.status // 100 != 2:
        message = f"{method} {path}: {response.status} {content[:300].decode(errors='replace')}"
        raise AnswerError(response.status, message)
    return content


def installed(*programs: str) -> bool:
    """Whether what a contestant needs can be started; says where to get it otherwise."""
    missing = [program for program in programs if not shutil.which(program)]
    for program in missing:
        package = {"influxd": "influxdb", "collectd": "collectd-core"}.get(program, program)
        print(f"{program} is not installed (on Debian: apt-get install {package})", file=sys.stderr)
    return not missing


def loadlens(
    folder: Path, *options: str, core: int | None = None, tree: Path = ROOT
) -> contextlib.AbstractContextManager[Server]:
    """Our service, as it is in a work tree, with its own settings but for `options`."""
    port = _free_port()
    place = ["--port", str(port), "--data-dir", str(folder), "--log-level", "warning"]
    return _running([sys.executable, "-m", "service", *place, *options], port, "/healthz", folder, core, tree)


def http_layer(folder: Path, *, core: int | None = None) -> contextlib.AbstractContextManager[Server]:
    """Nothing but HTTP and decoding, under the worker of our service (bench/http_layer.py)."""
    port = _free_port()
    command = [sys.executable, str(ROOT / "bench" / "http_layer.py"), str(port)]
    return _running(command, port, "/healthz", folder, core)


@contextlib.contextmanager
def influxd(folder: Path, *, core: int | None = None, eager: bool = False) -> Iterator[Server]:
    """InfluxDB 1.x, with an empty database METRICS where there is none yet.

    It is configured as it is by default, but without its logs, telemetry and metrics of itself. With `eager` it
    compacts what was written as soon as writes pause, instead of hours later.
    """
    with _influxd(folder, core, eager=eager) as server:
        server.ask("POST", "/query?q=CREATE+DATABASE+METRICS")
        yield server


def _influxd(folder: Path, core: int | None, *, eager: bool) -> contextlib.AbstractContextManager[Server]:
    port = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "influxdb.conf"
    config.write_text(
        _INFLUXD.format(folder=folder, port=port, rpc_port=_free_port(), data=_COLD if eager else "").lstrip()
    )
    return _running(["influxd", "-config", str(config)], port, "/ping", folder, core)


@contextlib.contextmanager
def loadlens_on_influx(
    folder: Path, *options: str, core: int | None = None, influx_core: int | None = None, eager: bool = False
) -> Iterator[Server]:
    """Our service with an InfluxDB of its own behind it, each on the core that is named, if any."""
    with _influxd(folder / "influxd", influx_core, eager=eager) as database:
        store = f"influx://127.0.0.1:{database.port}/METRICS"
        with loadlens(folder / "service", "--store", store, *options, core=core) as server:
            yield server


def victoria_metrics(folder: Path, *, core: int | None = None) -> contextlib.AbstractContextManager[Server]:
    """VictoriaMetrics as it is configured by default, but for a retention that keeps old samples."""
    port = _free_port()
    command = [
        "victoria-metrics", f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder}",
        "-retentionPeriod=100y", "-loggerLevel=ERROR",
    ]  # fmt: skip
    return _running(command, port, "/health", folder, core)


def settle_loadlens(folder: Path, tree: Path = ROOT) -> None:
    """Start the service on a folder, wait until everything is flushed and nothing is left to compact, and stop it."""
    with loadlens(folder, "--flush-interval", "0.2", tree=tree) as server:
        ahead = server.metrics()["loadlens_store_flushes_total"]

        def is_settled() -> bool:
            numbers = server.metrics()
            # The next turn begins when there was nothing left to compact.
            return numbers["loadlens_journal_behind"] == 0 and numbers["loadlens_store_flushes_total"] >= ahead + 3

        server.program.wait_until(is_settled, _SETTLE_S, "flushing and compacting")


def settle_loadlens_on_influx(folder: Path, server: Server, steady_s: float = STEADY_S) -> None:
    """Wait until InfluxDB has everything that the service took; it was started with `eager` and compacts no more."""
    server.program.wait_until(
        lambda: server.metrics()["loadlens_journal_behind"] == 0, _SETTLE_S, "writing to InfluxDB"
    )
    settle_influxd(folder / "influxd", steady_s)


def settle_influxd(folder: Path, steady_s: float = STEADY_S) -> None:
    """Wait until InfluxDB, started with `eager`, has nothing left in its log and has compacted nothing for so long.

    Changes that are as small as what a service writes to say that it has the database do not count.
    """
    seen: list[tuple[int, float]] = []

    def is_settled() -> bool:
        size, now = folder_bytes(folder / "data"), time.monotonic()
        if not seen or abs(seen[-1][0] - size) > _LOG_BYTES or folder_bytes(folder / "wal") > _LOG_BYTES:
            seen.append((size, now))
        return now - seen[-1][1] > steady_s

    wait_until(is_settled, _SETTLE_S, "compacting InfluxDB", every=0.1)


def loadlens_bytes(folder: Path) -> dict[str, int]:
    """The bytes on disk of the raw windows, the rollups with the catalogue, and the journal's files."""
    rollups = (path.stat().st_blocks * 512 for path in folder.glob("loadlens.duckdb*"))
    return {
        "raw": folder_bytes(folder / "raw"), "rollups": sum(rollups), "journal": folder_bytes(folder / "journal")
    }  # fmt: skip


def folder_bytes(folder: Path) -> int:
    """The bytes that all files in a folder take on disk; holes in files take none."""
    sizes = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_blocks * 512)
    return sum(sizes)


@contextlib.contextmanager
def _running(
    command: Sequence[str], port: int, ready: str, folder: Path, core: int | None, tree: Path = ROOT
) -> Iterator[Server]:
    """A server, once it answers. Raises TimeoutError where it does not, RuntimeError where it ends instead."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOADLENS_")}
    # Go takes the cores it may use for the number of its threads; with one it would stand still at every sync.
    environment["GOMAXPROCS"] = str(max(2, os.cpu_count() or 2))
    environment["PYTHONPATH"] = str(tree)
    with running(command, folder / "bench.log", core=core, environment=environment, tree=tree) as program:
        server = Server(port, program, folder)

        def is_ready() -> bool:
            try:
                with contextlib.closing(server.connect(_READY_S)) as connection:
                    answer(connection, "GET", ready, None, {})
            except (OSError, HTTPException, AnswerError):
                return False
            return True

        program.wait_until(is_ready, _START_S, f"starting {program.name}")
        yield server


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
