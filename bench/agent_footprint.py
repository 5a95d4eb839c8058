"""What the agent costs: CPU time and memory at 20 samples a second, beside collectd and glances.

    .venv/bin/python bench/agent_footprint.py [--seconds 60]

Each runs by itself for the given time, after a time to settle. The agent samples every core, spools with a sync
to disk and sends to a sink that answers 202 and keeps the agent's stream open; once more without remote control.
collectd (Debian: collectd-core) samples every core with its cpu plugin,
once without a write plugin and once writing CSV; glances, where it is installed, runs at its own pace of once a
second, its screen switched off. The first row is what 20 wake-ups a second alone cost.

CPU time is what the kernel's scheduler has given to all threads of the process (/proc/<pid>/task/*/schedstat), in
nanoseconds; memory is in millions of bytes. The last rows are taken while 500 more processes sleep, for what it costs
to say who uses the CPU. Linux only.
"""

import contextlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from options import Options, scratch
from output import left_out, machine, number, table
from processes import running
from servers import installed

from contract.agent_protocol import METRIC_NAMES

HEARTBEAT_S = 15.0
WAKE_UPS = "import time\nwhile True: time.sleep(0.05)"
COLLECTD = """
Interval 0.05
BaseDir "{directory}"
PIDFile "{directory}/pid"
LoadPlugin cpu
<Plugin cpu>
  ReportByCpu true
  ReportByState false
  ValuesPercentage true
</Plugin>
"""
COLLECTD_CSV = """
LoadPlugin csv
<Plugin csv>
  DataDir "{directory}/csv"
</Plugin>
"""


class Sink(BaseHTTPRequestHandler):
    """Takes everything, asks nothing, and keeps streams open as the service does."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_POST(self) -> None:
        """Read the body and accept it."""
        self.rfile.read(int(self.headers["Content-Length"]))
        state = self.path.endswith("/state")
        body = b'{"settings":{}}' if state else b'{"accepted":1,"duplicates":0}'
        self.send_response(200 if state else 202)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """A stream with nothing but heartbeats."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b": still here\n\n")
                time.sleep(HEARTBEAT_S)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """A service that accepts every report; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def memory_mb(pid: int, name: str) -> float:
    """A line of /proc/<pid>/status, in units of a million bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024 / 1e6


def measure(command: list[str], log: Path, settle_s: float, seconds: float) -> list[str]:
    """CPU in percent of one core, resident memory at the end, and at its highest, in MB."""
    with running(command, log) as program:
        time.sleep(settle_s)
        program.check()
        before, began = cpu_ns(program.pid), time.monotonic()
        time.sleep(seconds)
        program.check()
        used, elapsed = cpu_ns(program.pid) - before, time.monotonic() - began
        resident, highest = memory_mb(program.pid, "VmRSS"), memory_mb(program.pid, "VmHWM")
    return [f"{used / elapsed / 1e7:.2f}", number(resident), number(highest)]


PROCESSES = 500


@contextlib.contextmanager
def sleeping(number: int) -> Iterator[None]:
    """So many processes that do nothing."""
    pids = []
    try:
        for _ in range(number):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            pids.append(pid)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def collectd(directory: Path, *, csv: bool) -> list[str]:
    """The command that runs collectd in the foreground."""
    config = directory / f"collectd-{csv}.conf"
    config.write_text((COLLECTD + (COLLECTD_CSV if csv else "")).format(directory=directory))
    return ["collectd", "-f", "-C", str(config)]


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--seconds", 60.0, tiny=0.3, help="how long each is measured")
    parser.size("--settle", 12.0, tiny=0.7, help="seconds each runs before")
    parser.shared("--folder")
    options = parser.parse()
    print(machine() + "\n")
    headers = ["", "% of a core", "MB resident", "MB highest"]
    with scratch(options) as scratched, sink() as url:
        folder = Path(scratched)
        rows = []
        for name, command in contestants(folder, url).items():
            print(f"{name} ...", file=sys.stderr)
            log = folder / f"{len(rows)}.log"
            with sleeping(PROCESSES if "processes" in name else 0):
                rows.append(
                    [name, *measure(command, log, options.settle, options.seconds)]
                    if command
                    else left_out(name, len(headers))
                )
    print(table(headers, rows))


def contestants(folder: Path, url: str) -> dict[str, list[str] | None]:
    """The command of each; None where it is not installed."""
    agent = [sys.executable, "-m", "agent", "--url", url, "--spool-dir", str(folder), "--user-id", "bench"]
    has_collectd, has_glances = installed("collectd"), importlib.util.find_spec("glances")
    return {
        "20 wake-ups a second in Python, nothing else": [sys.executable, "-c", WAKE_UPS],
        "loadlens-agent, 20 Hz": agent,
        "loadlens-agent, 20 Hz, without remote control": [*agent, "--no-remote"],
        "loadlens-agent, 20 Hz, all metrics": [*agent, "--metrics", ",".join(METRIC_NAMES)],
        "collectd, 20 Hz, no output": collectd(folder, csv=False) if has_collectd else None,
        "collectd, 20 Hz, to CSV": collectd(folder, csv=True) if has_collectd else None,
        f"loadlens-agent, 20 Hz, {PROCESSES} processes": agent,
        f"loadlens-agent, 20 Hz, {PROCESSES} processes, their names": [*agent, "--processes", "names"],
        f"loadlens-agent, 20 Hz, {PROCESSES} processes, command lines too": [*agent, "--processes", "full"],
        "glances, 1 Hz": [sys.executable, "-m", "glances", "--quiet", "--time", "1"] if has_glances else None,
    }


if __name__ == "__main__":
    main()
