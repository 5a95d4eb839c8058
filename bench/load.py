"""Reports in bulk: how many a second are taken in batches, one report a line (NDJSON).

    .venv/bin/python bench/load.py [--reports 400000]

The server has core 0. A client on core 1 sends batches that it made beforehand on two connections, each report for the
next of 1,000 users, in order of time. `make demo` loads 2,035,584 windows in this way; each has the mean of the whole
host alone, and five times as many of these are sent, which makes as many windows. InfluxDB and VictoriaMetrics get
the points that the original writes, in batches as large. InfluxDB and
our service sync each batch to disk before they answer, VictoriaMetrics does not.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from hosts import WINDOW_MS, ReplayedFleet, samples
from options import Options, scratch
from output import left_out, machine, number, ratio, table
from processes import CLIENT_CORE, SERVER_CORE, pin
from reports import ReportedWindows, bodies, lines, ndjson, summarised, user_name
from servers import Server, answer, influxd, installed, loadlens, victoria_metrics

from contract import times
from contract.times import DAY_MS

USERS = 1000
_DEMO_WINDOWS = 2_035_584
_VARIETY = 2000
_NDJSON = "application/x-ndjson"


Reports = Iterator[tuple[ReportedWindows, str, list[int]]]
"""Window, user and end of each."""


@dataclass(frozen=True, slots=True)
class LoadContestant:
    """What is measured."""

    name: str
    start: Callable[[Path], AbstractContextManager[Server]]
    path: str
    content_type: str
    batch: Callable[[Reports], bytes]
    """The body of a batch."""
    is_ours: bool = False
    needs: tuple[str, ...] = ()
    """Programs that must be installed."""
    times: int = 1
    """How many times as many reports are sent."""


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """What came of it."""

    reports: int
    seconds: float
    cpu_seconds: float
    bytes: int
    flushes: int | None

    @property
    def rate(self) -> float:
        """Reports a second."""
        return self.reports / self.seconds


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--reports", 400_000, tiny=1000, help="of four cores, for each")
    parser.size("--batch", 1000, tiny=100, help="reports in one")
    parser.size("--connections", 2, tiny=2, help="on which batches are sent")
    parser.shared("--only", "--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n")
    windows = varied(options.fleet)
    outcomes: dict[str, LoadOutcome | None] = {}
    with scratch(options) as folder:
        for place, contestant in enumerate(contestants()):
            if options.only in contestant.name:
                print(contestant.name, "...", file=sys.stderr)
                outcomes[contestant.name] = None
                if installed(*contestant.needs):
                    outcomes[contestant.name] = measured(contestant, Path(folder) / str(place), windows, options)
    print(shown(outcomes, options.batch))
    demo = next((one for name, one in outcomes.items() if one and "demo" in name), None)
    if demo:
        print(f"\nAt this rate {_DEMO_WINDOWS:,} windows, as of `make demo`, take {_DEMO_WINDOWS / demo.rate:.0f} s.")


def shown(outcomes: Mapping[str, LoadOutcome | None], batch: int) -> str:
    """The table."""
    headers = (f"Batches of {batch}", "reports/s", "beside InfluxDB", "CPU us each", "bytes each", "flushes")
    peer = next((one.rate for name, one in outcomes.items() if one and name.startswith("InfluxDB")), None)
    rows = [
        [
            name, number(one.rate), ratio(one.rate, peer), number(one.cpu_seconds / one.reports * 1e6),
            str(one.bytes // one.reports), "-" if one.flushes is None else str(one.flushes),
        ]
        if one
        else left_out(name, len(headers))
        for name, one in outcomes.items()
    ]  # fmt: skip
    return table(headers, rows)


def contestants() -> Iterator[LoadContestant]:
    """What is measured."""
    path = "/api/v1/metrics"
    yield LoadContestant(
        "Loadlens, mean alone, as in the demo", _loadlens, path, _NDJSON, _demo_batch, is_ours=True, times=5
    )
    yield LoadContestant("Loadlens, the original's report", _loadlens, path, _NDJSON, _original_batch, is_ours=True)
    yield LoadContestant("Loadlens, our agent's report", _loadlens, path, _NDJSON, _agent_batch, is_ours=True)
    points = "/write?db=METRICS&precision=ms"
    yield LoadContestant(
        "InfluxDB, the original's points", _influxdb, points, "text/plain", _points, needs=("influxd",)
    )
    yield LoadContestant(
        "VictoriaMetrics, the original's points", _victoria, points, "text/plain", _points,
        needs=("victoria-metrics",),
    )  # fmt: skip


def _loadlens(folder: Path) -> AbstractContextManager[Server]:
    return loadlens(folder, core=SERVER_CORE)


def _influxdb(folder: Path) -> AbstractContextManager[Server]:
    return influxd(folder, core=SERVER_CORE)


def _victoria(folder: Path) -> AbstractContextManager[Server]:
    return victoria_metrics(folder, core=SERVER_CORE)


def varied(fleet: Path | None) -> list[ReportedWindows]:
    """So many windows of hosts with four cores, each by itself."""
    read = ReplayedFleet.read(fleet, _VARIETY // 20, seed=1)
    made = []
    for place in range(_VARIETY // 20):
        sampled = samples(read.at(place, 3600, 20), 4, np.random.default_rng(place))
        made += [summarised(sampled.part(slice(number, number + 1)), "agent") for number in range(20)]
    return made


def _reports(windows: list[ReportedWindows], first: int, last: int, start_ms: int) -> Reports:
    """The reports from number `first` up to `last`, where the first window ends at `start_ms`."""
    for report in range(first, last):
        yield windows[report % 1999], user_name(report % USERS), [start_ms + report // USERS * WINDOW_MS]


def _agent_batch(reports: Reports) -> bytes:
    return ndjson(next(bodies(*one, "agent")) for one in reports)


def _original_batch(reports: Reports) -> bytes:
    return ndjson(next(bodies(*one, "original")) for one in reports)


def _points(reports: Reports) -> bytes:
    return "\n".join(next(lines(*one)) for one in reports).encode()


def _demo_batch(reports: Reports) -> bytes:
    return b"\n".join(
        msgspec.json.encode(
            {
                "user_id": user,
                "start_timestamp": end - WINDOW_MS,
                "end_timestamp": end,
                "observations_per_metric": windows.count,
                "os_type": "Linux",
                "os_version": "PlanetLab",
                "metrics": [{"type": "CPU", "avg_utilization": windows.mean[0][0]}],
            }
        )
        for windows, user, (end,) in reports
    )


def measured(
    contestant: LoadContestant, folder: Path, windows: list[ReportedWindows], options: argparse.Namespace
) -> LoadOutcome:
    """Measure one."""
    start_ms = times.now_ms() - DAY_MS
    places = range(0, options.reports * contestant.times, options.batch)
    batches = [contestant.batch(_reports(windows, place, place + options.batch, start_ms)) for place in places]
    with contestant.start(folder) as server:
        before = server.metrics() if contestant.is_ours else {}
        used, seconds = server.cpu_seconds(), _sent(contestant, server, batches, options.connections)
        used = server.cpu_seconds() - used
        flushes = None
        if contestant.is_ours:
            after = server.metrics()
            accepted = after["loadlens_reports_accepted_total"]
            if accepted != len(places) * options.batch:
                raise RuntimeError(
                    f"{contestant.name}: {accepted:.0f} of {len(places) * options.batch} reports were accepted"
                )
            flushes = round(after["loadlens_store_flushes_total"] - before["loadlens_store_flushes_total"])
    return LoadOutcome(len(places) * options.batch, seconds, used, sum(map(len, batches)), flushes)


def _sent(contestant: LoadContestant, server: Server, batches: list[bytes], connections: int) -> float:
    """Send batches on so many connections, in turn; the seconds until the last is answered."""
    todo = iter(batches)

    def work() -> None:
        pin(CLIENT_CORE)
        with closing(server.connect()) as connection:
            while batch := next(todo, None):
                answer(connection, "POST", contestant.path, batch, {"Content-Type": contestant.content_type})

    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        for done in [pool.submit(work) for _ in range(connections)]:
            done.result()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
