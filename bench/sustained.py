"""Reports at a steady rate, for as long as one likes: whether the store keeps up, or the journal grows.

    .venv/bin/python bench/sustained.py [--rate 10000 --seconds 600] [--only "on InfluxDB"]

Hosts with four cores send our agent's report, each every 5 s and for the time that it is sent at, in batches of
100 on two connections: at 10,000 reports a second these are 50,000 hosts. The service has core 0; the sender
core 1, and with it InfluxDB, where that is behind the service. Each second the service is asked how many reports wait
in its journal that the store has not. A store writes what waits together, so that number goes up and down; a store
that keeps up has no more in the last third of the time than before, one that does not takes as many as "stored" says.
Then it is waited until the store has all; CPU is counted until then.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil
from hosts import WINDOW_MS
from load import varied
from options import Options, scratch
from output import left_out, machine, number, table
from processes import CLIENT_CORE, SERVER_CORE, pin
from reports import ReportedWindows, bodies, user_name
from servers import AnswerError, Server, answer, installed, loadlens, loadlens_on_influx

from contract import times

_BATCH, _CONNECTIONS, _LOOK_S, _FLUSHED_S = 100, 2, 1.0, 900.0
_USER, _END = "@USER", 9_999_999_999_999
_HEADERS = {"Content-Type": "application/x-ndjson"}
_FULL = 503
STARTERS: dict[str, Callable[[Path, str], AbstractContextManager[Server]]] = {
    "Loadlens": lambda folder, often: loadlens(folder, "--flush-interval", often, core=SERVER_CORE),
    "Loadlens on InfluxDB": lambda folder, often: loadlens_on_influx(
        folder, "--flush-interval", often, core=SERVER_CORE, influx_core=CLIENT_CORE
    ),
}
"""How to start what is measured, in a folder, with how often it flushes."""


@dataclass(frozen=True, slots=True)
class SustainedOutcome:
    """What came of it."""

    seconds: float
    taken: int
    """Reports that were acknowledged."""
    refused: int
    """Reports that were not, because the journal was full."""
    waiting: list[int]
    """How many reports the store had not, each second."""
    behind_s: float
    """How much later it had all."""
    service_cpu_s: float
    """Until it had all."""
    influx_cpu_s: float


class Sender:
    """Sends reports at a rate; any number of threads may work."""

    def __init__(self, server: Server, windows: list[ReportedWindows], rate: float, seconds: float) -> None:
        self._server = server
        self._templates = [next(bodies(one, _USER, [_END], "agent")) for one in windows]
        self._rate = rate
        self._hosts = max(round(rate * WINDOW_MS / 1000), 1)
        self._batches = iter(range(round(rate * seconds / _BATCH)))
        self._turn = threading.Lock()
        self._began, self._began_ms = time.monotonic(), times.now_ms()
        self.taken, self.refused = count(), count()
        """The batches that were acknowledged, and those that were not."""

    def work(self) -> None:
        """Send one batch after the other, each when it is due, until all are sent."""
        pin(CLIENT_CORE)
        with closing(self._server.connect()) as connection:
            while True:
                with self._turn:
                    batch = next(self._batches, None)
                if batch is None:
                    return
                body = b"\n".join(self._reports(batch * _BATCH))
                time.sleep(max(self._began + batch * _BATCH / self._rate - time.monotonic(), 0.0))
                try:
                    answer(connection, "POST", "/api/v1/metrics", body, _HEADERS)
                    next(self.taken)
                except AnswerError as error:
                    if error.status != _FULL:
                        raise
                    next(self.refused)

    def _reports(self, first: int) -> Iterator[bytes]:
        for place in range(first, first + _BATCH):
            end_ms = self._began_ms + int(place * 1000 / self._rate)
            report = self._templates[place % len(self._templates)]
            report = report.replace(_USER.encode(), user_name(place % self._hosts).encode())
            report = report.replace(str(_END).encode(), str(end_ms).encode())
            yield report.replace(str(_END - WINDOW_MS).encode(), str(end_ms - WINDOW_MS).encode())


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--rate", 10_000.0, tiny=200.0, help="reports a second")
    parser.size("--seconds", 120, tiny=2, help="how long they come")
    parser.data("--flush-interval", "10s", tiny="300ms", help="of both; 10 s is InfluxDB's by default")
    parser.shared("--only", "--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n")
    outcomes: dict[str, SustainedOutcome | None] = {}
    with scratch(options) as folder:
        windows = varied(options.fleet)
        for name, start in STARTERS.items():
            if options.only in name:
                print(name, "...", file=sys.stderr)
                outcomes[name] = None
                if "InfluxDB" not in name or installed("influxd"):
                    with start(Path(folder) / name.replace(" ", "-"), options.flush_interval) as server:
                        outcomes[name] = measured(server, windows, options)
    print(shown(outcomes, options))


def measured(server: Server, windows: list[ReportedWindows], options: argparse.Namespace) -> SustainedOutcome:
    """Send at the rate, and look at what waits meanwhile."""
    sender = Sender(server, windows, options.rate, options.seconds)
    began, used = time.monotonic(), (server.cpu_seconds(), _influx_cpu_s())
    waiting: list[int] = []
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        working = [pool.submit(sender.work) for _ in range(_CONNECTIONS)]
        while any(one.running() for one in working):
            time.sleep(_LOOK_S)
            waiting.append(round(server.metrics()["loadlens_journal_behind"]))
            print(f"{time.monotonic() - began:.0f} s: {waiting[-1]:,} wait", file=sys.stderr)
        for one in working:
            one.result()
    seconds = time.monotonic() - began
    taken, refused = next(sender.taken) * _BATCH, next(sender.refused) * _BATCH
    accepted = round(server.metrics()["loadlens_reports_accepted_total"])
    if accepted != taken:
        raise RuntimeError(f"expected {taken} reports to be accepted, got {accepted}")
    server.program.wait_until(
        lambda: server.metrics()["loadlens_journal_behind"] == 0, _FLUSHED_S, "writing the rest", every=_LOOK_S
    )
    behind_s = time.monotonic() - began - seconds
    return SustainedOutcome(
        seconds, taken, refused, waiting, behind_s, server.cpu_seconds() - used[0], _influx_cpu_s() - used[1]
    )


def _influx_cpu_s() -> float:
    """CPU time of the InfluxDB that was started here; 0 where none was."""
    used = [one.cpu_times() for one in psutil.Process().children(recursive=True) if one.name() == "influxd"]
    return sum(one.user + one.system for one in used)


def shown(outcomes: Mapping[str, SustainedOutcome | None], options: argparse.Namespace) -> str:
    """The table."""
    headers = (
        f"{options.rate:,.0f} reports/s for {options.seconds:.0f} s", "taken/s", "refused", "stored/s",
        "most waiting, by thirds", "all after s", "CPU us each",
        "InfluxDB's",
    )  # fmt: skip
    return table(headers, [_row(name, one) if one else left_out(name, len(headers)) for name, one in outcomes.items()])


def _row(name: str, one: SustainedOutcome) -> list[str]:
    third = max(len(one.waiting) // 3, 1)
    most = [max(one.waiting[place : place + third], default=0) for place in (0, third, 2 * third)]
    return [
        name, number(one.taken / one.seconds), f"{one.refused:,}",
        number((one.taken - one.waiting[-1]) / one.seconds), ", ".join(f"{some:,}" for some in most),
        number(one.behind_s),
        number(one.service_cpu_s / one.taken * 1e6),
        number(one.influx_cpu_s / one.taken * 1e6) if one.influx_cpu_s else "-",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
