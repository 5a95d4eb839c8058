"""A real InfluxDB 1.x as a process of its own, on free ports."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import urllib3

from tests.support.leaving_out import leave_out

__all__ = ["RunningInflux", "free_ports", "missing", "need"]

_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc_port}"
[meta]
  dir = "{folder}/meta"
  logging-enabled = false
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[coordinator]
  write-timeout = "60s"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
  auth-enabled = {auth}
[logging]
  level = "error"
"""
_DEADLINE_S = 60.0


def missing() -> str | None:
    """Why there is no InfluxDB here, and how to get it; None where there is one."""
    if shutil.which("influxd"):
        return None
    return "influxd is not installed, so nothing was tested with InfluxDB (on Debian: apt-get install influxdb)"


def need() -> None:
    """Leave the test out where there is no InfluxDB; in CI that is a failure."""
    reason = missing()
    if reason:
        leave_out(reason)


def free_ports(number: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [listener.getsockname()[1] for listener in listeners]


class RunningInflux:
    """influxd with its data in a folder; it can be killed and started again on the same port."""

    def __init__(self, folder: Path, *, auth: bool = False, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self.port, rpc_port = free_ports(2)
        self._config = folder / "influxdb.toml"
        self._config.write_text(
            _CONFIG.format(folder=folder, port=self.port, rpc_port=rpc_port, auth=str(auth).lower()).lstrip()
        )
        self.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def address(self, database: str = "METRICS") -> str:
        """The address of a database, for `--store`."""
        return f"influx://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "influxd.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["influxd", "-config", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env=self._environment,
            )  # fmt: skip
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            try:
                urllib3.request("GET", f"{self.url}/ping", timeout=5, retries=False)
            except urllib3.exceptions.HTTPError:
                assert self.process.poll() is None, (self.folder / "influxd.log").read_text()
                assert time.monotonic() < deadline, "influxd does not answer"
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(_DEADLINE_S)

    def pause(self) -> None:
        """It stands still, as a host that swaps: connections are taken, and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def query(self, text: str, database: str = "METRICS") -> list[dict[str, Any]]:
        """The series of an InfluxQL statement."""
        parameters = urlencode({"db": database, "epoch": "ms", "q": text})
        answer = urllib3.request("POST", f"{self.url}/query?{parameters}").json()
        assert "error" not in answer, answer
        assert not [result for result in answer["results"] if "error" in result], answer
        return [series for result in answer["results"] for series in result.get("series", [])]

    def write(self, lines: str, database: str = "METRICS") -> None:
        """Write points, times in ms."""
        path = f"{self.url}/write?{urlencode({'db': database, 'precision': 'ms'})}"
        answer = urllib3.request("POST", path, body=lines.encode())
        assert answer.status == 204, answer.data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.kill()
