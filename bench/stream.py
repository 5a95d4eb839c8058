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
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from followers import DIGITS
from hosts import WINDOW_MS, ReplayedFleet, samples
from options import Options, scratch
from output import machine, number, ratio, table
from processes import CLIENT_CORE, SERVER_CORE, pin, running
from reports import ReportedWindows, bodies, summarised, user_name
from servers import Server, answer, loadlens

from contract import times
from contract.report import decode_report
from contract.times import DAY_MS
from service.alerts.engine import Engine
from service.alerts.rules import parse_rule

_BATCH, _CONNECTIONS = 100, 2
_HOSTS, _WINDOWS = 50, 20
"""Whose reports are sent, over and over."""
_WARM_UP_S, _ANSWER_S = 1.0, 120.0
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
class StreamCase:
    """A way to follow."""

    name: str
    queries: tuple[str, ...] = ()
    """The query of each consumer."""
    copies: int = 0
    """How often each report is read, by all consumers together; 0 where nobody knows."""
    rules: int = 0


@dataclass(frozen=True, slots=True)
class StreamOutcome:
    """What was measured."""

    rate: float
    """Reports a second, most."""
    steady: float
    """Reports a second while delays were measured."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    received: int
    expected: int
    cpu_us: float
    """Of the service, for each report at the steady rate."""


def main() -> None:
    """Measure and print tables."""
    parser = Options(__doc__)
    parser.size("--seconds", 10.0, tiny=0.2, help="how long each is measured")
    parser.size("--rate", 10_000, tiny=10_000, help="reports a second")
    parser.size("--users", 1000, tiny=20, help="hosts that report")
    parser.size("--consumers", 1000, tiny=20, help="connections that follow")
    parser.size("--hot", 0.004, tiny=0.5, help="share of the reports that are of the hottest hosts")
    parser.size("--turns", 120, tiny=3, help="windows of each user that rules see (120 are ten minutes)")
    parser.shared("--only", "--folder", "--fleet")
    options = parser.parse()
    print(f"{machine()}\n", flush=True)
    templates = [*_templates(options.fleet)]
    outcomes = {}
    for case in cases(options.consumers, options.users, _high(templates, options.hot)):
        if options.only in case.name:
            print(case.name, "...", file=sys.stderr, flush=True)
            outcomes[case.name] = measured(case, templates, options)
    base = next(iter(outcomes.values())).rate if outcomes else None
    rows = []
    for name, one in outcomes.items():
        delays = [_delay(value) for value in (one.p50_ms, one.p99_ms, one.max_ms)]
        events = f"{one.received:,} of {one.expected:,}" if one.expected else f"{one.received:,}"
        rates = (number(one.steady), *delays, number(one.cpu_us), number(one.rate), ratio(one.rate, base))
        rows.append((name, *rates, events))
    headers = (
        "Who follows", "steady reports/s", "p50 ms", "p99 ms", "max ms", "CPU us each",
        "most reports/s", "beside nobody", "events read",
    )  # fmt: skip
    print(f"{table(headers, rows)}\n", flush=True)
    spent = costs(templates, options.users, options.turns)
    cost = [(name, f"{us:.1f}") for name, us in spent if not options.only or options.only in name]
    print(table(("A rule of this kind", "us a report"), cost))


def _delay(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.0f}"


def _high(templates: Sequence[bytes], share: float) -> float:
    """A load that so many of the reports exceed."""
    loads = [metric.avg_utilization for body in templates for metric in decode_report(body).metrics]  # type: ignore[attr-defined]
    return round(float(np.quantile(loads, 1 - share)), 6)


def cases(consumers: int, users: int, high: float) -> Iterator[StreamCase]:
    """What is measured; `high` is a load that few reports exceed."""
    yield StreamCase("Nobody follows, no rules")
    yield StreamCase("10 threshold rules", rules=10)
    yield StreamCase("1 consumer of everything", ("",), 1)
    each = tuple(f"?user={user_name(place % users)}" for place in range(consumers))
    # Only whole copies of everything can be counted.
    copies = consumers // users if consumers % users == 0 else 0
    yield StreamCase(f"{consumers:,} consumers, each of one user", each, copies)
    hot = (f"?metric=cpuLoadAvg&above={high}&fields=user_id,end_timestamp,report_id,cpuLoadAvg",) * consumers
    yield StreamCase(f"{consumers:,} consumers, all of the hottest hosts", hot)
    yield StreamCase(f"{consumers:,} consumers, each of one user, and 10 rules", each, copies, 10)


def _templates(path: Path | None) -> Iterator[bytes]:
    """A report of each of some hosts: user, times and mark are put in when it is sent."""
    fleet = ReplayedFleet.read(path, _HOSTS, seed=1)
    for place in range(_HOSTS):
        sampled = samples(fleet.at(place, 3600, _WINDOWS), 4, np.random.default_rng(place))
        windows: ReportedWindows = summarised(sampled, "agent")
        yield from bodies(windows, "@USER@", [9_999_999_999_999] * len(windows), "agent")


class Sender:
    """Makes and sends batches."""

    def __init__(self, server: Server, templates: Sequence[bytes], users: int) -> None:
        self._server = server
        self._users = users
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
        mark = b"%0*d" % (DIGITS, time.monotonic_ns())
        for _ in range(_BATCH):
            user, turn = self.sent % self._users, self.sent // self._users
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


def measured(case: StreamCase, templates: Sequence[bytes], options: argparse.Namespace) -> StreamOutcome:
    """Measure one case."""
    with scratch(options) as name:
        folder = Path(name)
        rules = folder / "rules.toml"
        rules.write_text("".join(_RULES.format(number=place + 90) for place in range(case.rules)))
        settings = ("--rules", str(rules), "--stream-consumers", "10000")
        with (
            loadlens(folder / "data", *settings, core=SERVER_CORE) as server,
            _followers(server, folder) as followers,
        ):
            followers.send((case.queries, min(_WARM_UP_S, options.seconds)))
            _told(followers)
            pin(CLIENT_CORE)
            sender = Sender(server, templates, options.users)
            sender.run(min(_WARM_UP_S, options.seconds), options.rate)
            followers.send("begin")
            before, used = sender.sent, server.cpu_seconds()
            steady = sender.run(options.seconds, options.rate)
            paced, used = sender.sent - before, server.cpu_seconds() - used
            followers.send("end")
            delays, _ = _told(followers)
            rate = sender.run(options.seconds, None)
            expected = sender.sent * case.copies
            followers.send(expected)
            received = _told(followers)
            pin(None)
    shown = np.percentile(np.array(delays) / 1e6, (50, 99, 100)).tolist() if delays else [float("nan")] * 3
    return StreamOutcome(rate, steady, *shown, received, expected, used / max(paced, 1) * 1e6)


@contextmanager
def _followers(server: Server, folder: Path) -> Iterator[Connection]:
    """The process of the consumers; the pipe that leads to it, which ends where the process does."""
    ours, theirs = Pipe()
    command = [sys.executable, str(Path(__file__).with_name("followers.py")), str(server.port), str(theirs.fileno())]
    with ours, running(command, folder / "followers.log", pass_fds=[theirs.fileno()]):
        theirs.close()
        yield ours


def _told(followers: Connection) -> Any:
    """What the followers say. Raises TimeoutError where they say nothing, EOFError where they have ended."""
    if not followers.poll(_ANSWER_S):
        raise TimeoutError(f"the followers said nothing for {_ANSWER_S:.0f} s")
    return followers.recv()


def costs(templates: Sequence[bytes], users: int, turns: int) -> Iterator[tuple[str, float]]:
    """What each kind of rule takes for a report of so many users, in microseconds of the processor."""
    reports = [decode_report(body) for body in templates]
    for name, members in KINDS.items():
        rule = {"name": "it"} | ({} if members["kind"] == "absence" else {"metric": "cpuLoadAvg"}) | members
        engine = Engine()
        engine.use([parse_rule(rule)])
        spent = 0.0
        for turn in range(turns):
            end_ms = 1_600_000_000_000 + turn * WINDOW_MS
            some = [
                msgspec.structs.replace(
                    reports[(turn * users + place) % len(reports)], user_id=user_name(place), end_timestamp=end_ms
                )
                for place in range(users)
            ]
            began = time.process_time()
            for _ in engine.observe(some, end_ms):
                pass
            spent += time.process_time() - began
        yield name, spent / (turns * users) * 1e6


if __name__ == "__main__":
    main()
