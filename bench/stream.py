"""The live stream and rules: how late a report reaches who follows, and what consumers and rules cost ingest.

    .venv/bin/python bench/stream.py [--seconds 10] [--consumers 1000]

The service has core 0; what sends and what follows share core 1. Reports are those of our agent for four cores, of
1,000 users, sent in batches of 100 on two connections. Each says when it was sent, so a delay is all that lies between
sending and reading: the request, the sync to disk, and the stream. Each way to follow is measured twice: at a steady
rate of reports (--rate) for the delay, and as fast as they are taken for the rate of ingest. Afterwards what consumers
got is compared with what was sent.

A second table has the processor time that each kind of rule takes for a report, in this process.
"""

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
from machines import FLEET, WINDOW_MS, Fleet, samples
from output import machine, number, ratio, table
from reports import Windows, bodies, summarised, user_name
from servers import Server, answer, loadlens

from contract import times
from contract.report import decode_report
from contract.times import DAY_MS
from service.alerts.engine import Engine
from service.alerts.rules import parse_rule

USERS = 1000
_BATCH, _CONNECTIONS = 100, 2
_SERVER_CORE, _CLIENT_CORE = 0, 1
_TURNS = 120
"""Windows of each user: ten minutes."""
_MARK = b'"report_id":"'
_DIGITS = 20
_RULES = """
[[rules]]
name = "rule-{number}"
kind = "threshold"
metric = "cpuLoadAvg"
above = 0.{number:02d}
for = "1m"
"""
KINDS: dict[str, dict[str, object]] = {
    "threshold on the mean of a window": {"kind": "threshold", "above": 0.9},
    "threshold on the p95 of a window": {"kind": "threshold", "above": 0.9, "stat": "p95"},
    "threshold on the mean over 5 min": {"kind": "threshold", "above": 0.9, "over": "5m"},
    "threshold on the p95 over 5 min": {"kind": "threshold", "above": 0.9, "over": "5m", "stat": "p95"},
    "change in 5 min": {"kind": "change", "above": 0.5, "over": "5m"},
    "absence": {"kind": "absence", "after": "1m"},
    "share of the fleet": {"kind": "fleet", "above": 0.9, "share": 0.5},
    "anomaly, every 5 min": {"kind": "anomaly"},
}


@dataclass(frozen=True, slots=True)
class Case:
    """A way to follow."""

    name: str
    queries: tuple[str, ...] = ()
    """The query of each consumer."""
    copies: int = 0
    """How often each report is read, by all consumers together; 0 where nobody knows."""
    rules: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured."""

    rate: float
    """Reports a second, most."""
    steady: float
    """Reports a second while delays were measured."""
    p50_ms: float
    p99_ms: float
    most_ms: float
    received: int
    expected: int
    cpu_us: float
    """Of the service, for each report at the steady rate."""


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each is measured (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=10_000, help="reports a second (default: %(default)s)")
    parser.add_argument("--consumers", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--only", metavar="TEXT", default="", help="measure only those whose name contains this")
    parser.add_argument("--folder", type=Path, help="where data is kept meanwhile (default: the temporary folder)")
    options = parser.parse_args()
    print(machine(), "\n", flush=True)
    templates = [*_templates()]
    outcomes = {}
    for case in cases(options.consumers, _high(templates)):
        if options.only in case.name:
            print(case.name, "...", file=sys.stderr, flush=True)
            outcomes[case.name] = measured(case, templates, options)
    base = next(iter(outcomes.values())).rate if outcomes else None
    rows = []
    for name, one in outcomes.items():
        delays = [_delay(value) for value in (one.p50_ms, one.p99_ms, one.most_ms)]
        events = f"{one.received:,} of {one.expected:,}" if one.expected else f"{one.received:,}"
        rates = (number(one.steady), *delays, number(one.cpu_us), number(one.rate), ratio(one.rate, base))
        rows.append((name, *rates, events))
    headers = (
        "Who follows", "steady reports/s", "p50 ms", "p99 ms", "max ms", "CPU us each",
        "most reports/s", "beside nobody", "events read",
    )  # fmt: skip
    print(table(headers, rows), "\n", flush=True)
    cost = [(name, f"{us:.1f}") for name, us in costs(templates) if not options.only or options.only in name]
    print(table(("A rule of this kind", "us a report"), cost))


def _delay(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.0f}"


def _high(templates: Sequence[bytes]) -> float:
    """A load that some four in a thousand reports exceed."""
    loads = [metric.avg_utilization for body in templates for metric in decode_report(body).metrics]  # type: ignore[attr-defined]
    return round(float(np.quantile(loads, 0.996)), 6)


def cases(consumers: int, high: float) -> Iterator[Case]:
    """What is measured; `high` is a load that few reports exceed."""
    yield Case("Nobody follows, no rules")
    yield Case("10 threshold rules", rules=10)
    yield Case("1 consumer of everything", ("",), 1)
    users = tuple(f"?user={user_name(place % USERS)}" for place in range(consumers))
    # Only whole copies of everything can be counted.
    copies = consumers // USERS if consumers % USERS == 0 else 0
    yield Case(f"{consumers:,} consumers, each of one user", users, copies)
    hot = (f"?metric=cpuLoadAvg&above={high}&fields=user_id,end_timestamp,report_id,cpuLoadAvg",) * consumers
    yield Case(f"{consumers:,} consumers, all of the hottest machines", hot)
    yield Case(f"{consumers:,} consumers, each of one user, and 10 rules", users, copies, 10)


def _templates() -> Iterator[bytes]:
    """A report of each of some machines: user, times and mark are put in when it is sent."""
    fleet = Fleet.read(FLEET, 50, seed=1)
    for place in range(50):
        sampled = samples(fleet.at(place, 3600, 20), 4, np.random.default_rng(place))
        windows: Windows = summarised(sampled)
        yield from bodies(windows, "@USER@", [9_999_999_999_999] * len(windows), "agent")


class Sender:
    """Makes and sends batches."""

    def __init__(self, server: Server, templates: Sequence[bytes]) -> None:
        self._server = server
        self._parts = [
            body.replace(b"@USER@@9999999999999", b"@MARK@")
            .replace(b"9999999994999", b"@START@")
            .replace(b"9999999999999", b"@END@")
            for body in templates
        ]
        self._end_ms = times.now_ms() - DAY_MS
        self.sent = 0
        self._lock = threading.Lock()

    def batch(self) -> bytes:
        """The next batch, marked with the time now."""
        lines = []
        mark = b"%0*d" % (_DIGITS, time.monotonic_ns())
        for _ in range(_BATCH):
            user, turn = self.sent % USERS, self.sent // USERS
            end = self._end_ms + turn * WINDOW_MS
            body = self._parts[self.sent % 997]
            body = body.replace(b"@MARK@", mark).replace(b"@USER@", user_name(user).encode())
            lines.append(body.replace(b"@START@", b"%d" % (end - WINDOW_MS)).replace(b"@END@", b"%d" % end))
            self.sent += 1
        return b"\n".join(lines)

    def run(self, seconds: float, rate: float | None) -> float:
        """Send for so long, at a rate or as fast as can be; the reports a second that were taken."""
        began, before = time.monotonic(), self.sent

        def work() -> None:
            with closing(self._server.connect()) as connection:
                while (now := time.monotonic()) < began + seconds:
                    with self._lock:
                        is_due = rate is None or self.sent - before < (now - began) * rate
                        batch = self.batch() if is_due else b""
                    if is_due:
                        answer(connection, "POST", "/api/v1/metrics", batch, {"Content-Type": "application/x-ndjson"})
                    else:
                        time.sleep(0.001)

        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for done in [pool.submit(work) for _ in range(_CONNECTIONS)]:
                done.result()
        return (self.sent - before) / (time.monotonic() - began)


def measured(case: Case, templates: Sequence[bytes], options: argparse.Namespace) -> Outcome:
    """Measure one case."""
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="loadlens-bench-") as name:
        folder = Path(name)
        rules = folder / "rules.toml"
        rules.write_text("".join(_RULES.format(number=place + 90) for place in range(case.rules)))
        with loadlens(
            folder / "data", "--rules", str(rules), "--stream-consumers", "10000", core=_SERVER_CORE
        ) as server:
            ours, theirs = multiprocessing.Pipe()
            following = multiprocessing.get_context("spawn").Process(
                target=follow, args=(server.port, case.queries, theirs), daemon=True
            )
            following.start()
            ours.recv()
            os.sched_setaffinity(0, {_CLIENT_CORE})
            sender = Sender(server, templates)
            sender.run(1.0, options.rate)
            ours.send("begin")
            before, used = sender.sent, server.cpu_seconds()
            steady = sender.run(options.seconds, options.rate)
            paced, used = sender.sent - before, server.cpu_seconds() - used
            ours.send("end")
            delays, _ = ours.recv()
            rate = sender.run(options.seconds, None)
            ours.send(sender.sent * case.copies if case.copies > 0 else 0)
            _, received = ours.recv()
            following.join(10)
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
    shown = [float(value) for value in np.percentile(delays, (50, 99, 100))] if len(delays) else [float("nan")] * 3
    return Outcome(rate, steady, *shown, received, max(sender.sent * case.copies, 0), used / max(paced, 1) * 1e6)


class Reader(asyncio.Protocol):
    """One consumer: takes the delay of each event."""

    def __init__(self, query: str, everybody: "Everybody") -> None:
        self._query = query
        self._everybody = everybody
        self._rest = b""
        self._is_present = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(f"GET /api/v1/stream{self._query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Look at the events."""
        now = time.monotonic_ns()
        whole, separator, self._rest = (self._rest + data).rpartition(b"\n\n")
        if not separator:
            return
        for part in whole.split(_MARK)[1:]:
            self._everybody.take(now - int(part[:_DIGITS]))
        if not self._is_present:
            self._is_present = True
            self._everybody.arrive()


class Everybody:
    """All consumers."""

    def __init__(self) -> None:
        self.delays: list[int] = []
        self.received = 0
        self.is_measuring = False
        self._present = asyncio.Semaphore(0)

    def arrive(self) -> None:
        """A consumer has the beginning of its stream."""
        self._present.release()

    async def gathered(self, count: int) -> None:
        """Wait for so many consumers."""
        for _ in range(count):
            await self._present.acquire()

    def take(self, delay_ns: int) -> None:
        """An event was read so long after it was sent."""
        self.received += 1
        if self.is_measuring:
            self.delays.append(delay_ns)


def follow(port: int, queries: Sequence[str], orders: Connection) -> None:
    """The process of the consumers."""
    os.sched_setaffinity(0, {_CLIENT_CORE})
    asyncio.run(_follow(port, queries, orders))


async def _follow(port: int, queries: Sequence[str], orders: Connection) -> None:
    everybody = Everybody()
    loop = asyncio.get_running_loop()
    for query in queries:
        await loop.create_connection(lambda query=query: Reader(query, everybody), "127.0.0.1", port)  # type: ignore[misc]
    await everybody.gathered(len(queries))
    orders.send("ready")
    await loop.run_in_executor(None, orders.recv)
    everybody.is_measuring = True
    await loop.run_in_executor(None, orders.recv)
    await asyncio.sleep(1.0 if queries else 0)
    everybody.is_measuring = False
    orders.send((np.array(everybody.delays) / 1e6, everybody.received))
    expected = await loop.run_in_executor(None, orders.recv)
    deadline = time.monotonic() + 60
    last = -1
    while time.monotonic() < deadline and (everybody.received < expected or everybody.received != last):
        last = everybody.received
        await asyncio.sleep(0.5)
    orders.send(([], everybody.received))


def costs(templates: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    """What each kind of rule takes for a report of 1,000 users, in microseconds of the processor."""
    reports = [decode_report(body) for body in templates]
    for name, members in KINDS.items():
        rule = {"name": "it"} | ({} if members["kind"] == "absence" else {"metric": "cpuLoadAvg"}) | members
        engine = Engine()
        engine.use([parse_rule(rule)])
        spent = 0.0
        for turn in range(_TURNS):
            end_ms = 1_600_000_000_000 + turn * WINDOW_MS
            some = [
                msgspec.structs.replace(
                    reports[(turn * USERS + place) % len(reports)], user_id=user_name(place), end_timestamp=end_ms
                )
                for place in range(USERS)
            ]
            began = time.process_time()
            for _ in engine.observe(some, end_ms):
                pass
            spent += time.process_time() - began
        yield name, spent / (_TURNS * USERS) * 1e6


if __name__ == "__main__":
    main()
