"""Durable single reports: how many a second one core takes from 64 connections, and how long each waits.

    .venv/bin/python bench/ingest.py [--seconds 30]

The server has core 0, wrk (one thread) core 1. Each request is one report, for the next of 1,000 users, 5 s after
that user's last: four cores, simulated (bench/hosts.py). Measured are

- our service, with reports as in the original's example and as our own agent sends them; acknowledged means synced
  to disk and visible to queries. It runs long enough that windows are flushed to the store meanwhile. Afterwards what
  it says it accepted, and what its answers count, is compared with what wrk counted;
- the same with InfluxDB behind it, which has core 1 beside wrk: reports are acknowledged when the journal has them,
  and go into InfluxDB in batches meanwhile and afterwards;
- InfluxDB, one point a request with the original's six fields and three tags, each write synced (its default). Go's
  runtime is given as many threads as the machine has cores (GOMAXPROCS), though it has only one of these: with a single
  thread InfluxDB takes a quarter as many, because nothing else runs while it waits for the disk;
- the HTTP layer alone: the same worker, decoding the report and answering 202.

wrk waits for an answer before it sends the next request on a connection, so the latencies are those of 64 senders.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from hosts import ReplayedFleet, Sampled, samples
from options import Options, scratch
from output import left_out, machine, number, ratio, table
from processes import CLIENT_CORE, SERVER_CORE, run, wait_until
from reports import Shape, bodies, lines, summarised
from servers import Server, http_layer, influxd, installed, loadlens, loadlens_on_influx

from contract import times
from contract.times import DAY_MS

USERS = 1000
_TEMPLATES = 1999
"""A prime, so that each user gets each of them."""
_USER, _START, _END = "@USER___________@", "@START______@", "@END________@"
_SENTINEL = 9_999_999_999_999
_QUIET_S, _SETTLE_S, _WRK_EXTRA_S = 0.5, 60.0, 60.0
_LUA = Path(__file__).with_name("reports.lua")


@dataclass(frozen=True, slots=True)
class IngestContestant:
    """What is measured."""

    name: str
    start: Callable[[Path], AbstractContextManager[Server]]
    path: str
    content_type: str
    templates: Path
    is_ours: bool = False
    needs: tuple[str, ...] = ()
    """Programs that must be installed."""


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """What wrk does."""

    connections: int
    warm_up_s: int
    seconds: int
    most: int = 0
    """Answers after which it sends no more, before its time is over; 0: never."""


@dataclass(frozen=True, slots=True)
class IngestOutcome:
    """What wrk counted."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_us: int
    p99_us: int
    max_us: int
    server_cpu_us: float
    """CPU time of the server for each request."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.size("--seconds", 30, tiny=3, help="how long each is measured")
    parser.size("--warm-up", 3, tiny=0, help="seconds of load before each")
    parser.size("--connections", 64, tiny=8, help="that wrk keeps busy")
    parser.size("--most", 0, tiny=200, help="answers after which it sends no more, before its time is over; 0: never")
    parser.shared("--only", "--folder", "--fleet")
    options = parser.parse()
    if not installed("wrk"):
        sys.exit("wrk measures here; nothing can be said without it")
    print(f"{machine()}\n")
    outcomes: dict[str, IngestOutcome | None] = {}
    notes = []
    with scratch(options) as folder:
        for contestant in contestants(Path(folder), options.fleet):
            if options.only not in contestant.name:
                continue
            outcomes[contestant.name] = None
            if installed(*contestant.needs):
                load = OfferedLoad(options.connections, options.warm_up, options.seconds, options.most)
                outcomes[contestant.name], said = measured(contestant, Path(folder), load)
                notes += said
    print(shown(outcomes), "", *notes, sep="\n")


def shown(outcomes: Mapping[str, IngestOutcome | None]) -> str:
    """The table."""
    headers = (
        "One core, one report a request", "requests/s", "beside InfluxDB", "p50 ms", "p99 ms", "max ms", "CPU us each",
    )  # fmt: skip
    peer = next((one.rate for name, one in outcomes.items() if one and name.startswith("InfluxDB")), None)
    rows = [
        [
            name, number(one.rate), ratio(one.rate, peer), f"{one.p50_us / 1000:.1f}", f"{one.p99_us / 1000:.1f}",
            f"{one.max_us / 1000:.0f}", number(one.server_cpu_us),
        ]
        if one
        else left_out(name, len(headers))
        for name, one in outcomes.items()
    ]  # fmt: skip
    return table(headers, rows)


def contestants(folder: Path, fleet: Path | None) -> Iterator[IngestContestant]:
    """What is measured, with its requests written to files."""
    hosts = [
        samples(load, 4, np.random.default_rng(place)).part(slice(20))
        for place, load in enumerate(loads(fleet, _TEMPLATES // 20 + 1))
    ]
    together = Sampled(*(np.concatenate(values) for values in zip(*hosts, strict=True)))
    windows = summarised(together.part(slice(_TEMPLATES)), "agent")
    ends = [_SENTINEL] * _TEMPLATES
    shapes: dict[Shape, Path] = {}
    for shape in ("original", "agent"):
        shapes[shape] = _written(folder / f"{shape}.templates", bodies(windows, _USER, ends, shape))
    points = _written(folder / "points.templates", (line.encode() for line in lines(windows, _USER, ends)))

    def ours(folder: Path) -> AbstractContextManager[Server]:
        return loadlens(folder, core=SERVER_CORE)

    path, json_type = "/api/v1/metrics", "application/json"
    yield IngestContestant(
        f"Loadlens, the original's report ({_size(shapes['original'])} bytes)",
        ours, path, json_type, shapes["original"], is_ours=True,
    )  # fmt: skip
    yield IngestContestant(
        f"Loadlens, our agent's report ({_size(shapes['agent'])} bytes)",
        ours, path, json_type, shapes["agent"], is_ours=True,
    )  # fmt: skip
    for shape, sender in (("original", "the original's"), ("agent", "our agent's")):
        yield IngestContestant(
            f"Loadlens on InfluxDB, {sender} report ({_size(shapes[shape])} bytes)",
            lambda folder: loadlens_on_influx(folder, core=SERVER_CORE, influx_core=CLIENT_CORE),
            path, json_type, shapes[shape], is_ours=True, needs=("influxd",),
        )  # fmt: skip
    yield IngestContestant(
        f"InfluxDB, the original's point ({_size(points)} bytes)", lambda folder: influxd(folder, core=SERVER_CORE),
        "/write?db=METRICS&precision=ms", "text/plain", points, needs=("influxd",),
    )  # fmt: skip
    yield IngestContestant(
        "HTTP layer alone, the original's report, nothing kept",
        lambda folder: http_layer(folder, core=SERVER_CORE), path, json_type, shapes["original"],
    )  # fmt: skip


def loads(fleet: Path | None, hosts: int) -> Iterator[np.ndarray]:
    """A stretch of each host's load."""
    read = ReplayedFleet.read(fleet, hosts, seed=1)
    for place in range(hosts):
        yield read.at(place, 3600, 20)


def _written(path: Path, contents: Iterator[bytes]) -> Path:
    """Templates for reports.lua."""
    marks = ((str(_SENTINEL), _END), (str(_SENTINEL - 5000), _START))
    texts = []
    for content in contents:
        text = content.decode()
        for sentinel, mark in marks:
            text = text.replace(sentinel, mark)
        texts.append(text)
    path.write_text("\1".join(texts))
    return path


def _size(templates: Path) -> int:
    return round(templates.stat().st_size / _TEMPLATES) - 1


def measured(contestant: IngestContestant, folder: Path, load: OfferedLoad) -> tuple[IngestOutcome, list[str]]:
    """Measure one; what it says of itself afterwards, as notes."""
    print(contestant.name, "...", file=sys.stderr, flush=True)
    name = contestant.name.split(",")[0].replace(" ", "-") + contestant.templates.stem
    with contestant.start(folder / name) as server:
        day_ago = times.now_ms() - DAY_MS
        if load.warm_up_s:
            wrk(contestant, server, replace(load, seconds=load.warm_up_s), day_ago)
        # Requests under way when wrk hangs up are of the warm-up still.
        before = {} if not contestant.is_ours else _settled(server) if load.warm_up_s else server.metrics()
        outcome = wrk(contestant, server, load, day_ago + 6 * 3_600_000)
        if not outcome.requests:
            raise RuntimeError(f"{contestant.name}: no answer in {load.seconds} s")
        if outcome.refused or outcome.broken:
            raise RuntimeError(f"{contestant.name}: {outcome.refused} refused, {outcome.broken} connections broken")
        if not contestant.is_ours:
            return outcome, []
        return outcome, [_checked(contestant, server, before, outcome, load.connections)]


def wrk(contestant: IngestContestant, server: Server, load: OfferedLoad, first_end: int) -> IngestOutcome:
    """Send a contestant's reports for `seconds`; the first window ends at `first_end`, epoch ms."""
    command = [
        "taskset", "--cpu-list", str(CLIENT_CORE), "wrk", "--threads", "1", "--connections", str(load.connections),
        "--duration", f"{load.seconds}s", "--timeout", "30s", "--script", str(_LUA), server.url, "--",
        contestant.path, contestant.content_type, str(contestant.templates), str(USERS), str(first_end),
        str(load.most),
    ]  # fmt: skip
    used = server.cpu_seconds()
    text = run(command, load.seconds + _WRK_EXTRA_S)
    used = server.cpu_seconds() - used
    counted = json.loads(text.splitlines()[-1])
    return IngestOutcome(**counted, server_cpu_us=used / max(counted["requests"], 1) * 1e6)


def _checked(
    contestant: IngestContestant, server: Server, before: dict[str, float], outcome: IngestOutcome, connections: int
) -> str:
    """What the service counted beside what wrk counted. Raises RuntimeError where they do not agree."""
    after = _settled(server)
    since = {name: round(value - before.get(name, 0.0)) for name, value in after.items()}
    accepted = since["loadlens_reports_accepted_total"]
    # wrk hangs up with a request under way on each connection, and does not count these.
    under_way = accepted - outcome.requests
    total = round(after["loadlens_reports_accepted_total"])
    answered = _answered(server)
    if not 0 <= under_way <= connections or since["loadlens_reports_duplicate_total"] or answered != total:
        raise RuntimeError(
            f"{contestant.name}: wrk counted {outcome.requests}, accepted {accepted} "
            f"({since['loadlens_reports_duplicate_total']} duplicates), of {total} in all {answered} are answered"
        )
    commits, flushes = since["loadlens_journal_commits_total"], since["loadlens_store_flushes_total"]
    flush_s = after["loadlens_store_flush_seconds_total"] - before["loadlens_store_flush_seconds_total"]
    if "loadlens_store_lines_written" in since:
        put = f"wrote {since['loadlens_store_lines_written']:,} lines to InfluxDB"
    else:
        put = f"put {since['loadlens_store_segment_windows']:,} windows (of hosts and cores) into the store"
    behind = after["loadlens_journal_behind"]
    return (
        f"- {contestant.name}: accepted {accepted:,} = {outcome.requests:,} answered to wrk + {under_way} under way "
        f"when it hung up; all {total:,} since the start are in the answers. {commits:,} commits; {flushes} flushes "
        f"{put}, in {flush_s:.1f} s; {behind:,.0f} reports waited in the journal at the end."
    )


def _settled(server: Server) -> dict[str, float]:
    """The service's metrics, once it is done with what was under way when wrk hung up."""
    seen = [server.metrics()]

    def is_settled() -> bool:
        seen.append(server.metrics())
        now, before = (one["loadlens_reports_accepted_total"] for one in (seen[-1], seen[-2]))
        return now == before > 0

    wait_until(is_settled, _SETTLE_S, "taking the last reports", every=_QUIET_S)
    return seen[-1]


def _answered(server: Server) -> int:
    """How many reports of 100 samples the service's answers count."""
    now = times.now_ms()
    query = f"start={now - 2 * DAY_MS}&end={now}&resample_rate=1d&stat=count"
    entries = json.loads(server.ask("GET", f"/api/v1/metrics/cpuLoadAvg/fleet?{query}"))["entries"]
    return round(sum(entry["value"] for entry in entries) / 100)


if __name__ == "__main__":
    main()
