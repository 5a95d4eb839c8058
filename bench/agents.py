"""Agents on kept connections, each of which sends a report every five seconds: how long acknowledgements take.

    .venv/bin/python bench/agents.py [--agents 10000 30000] [--seconds 240] [--beside TREE]

The service has core 0, all agents share core 1. Each has a connection of its own, and its turn within the five seconds.
A report is that of our agent for a host of four cores; its time is from when it was due to when its acknowledgement
was read, so what waits behind others, at the agents' side too, counts. Memory is the most
that the service's process held that answers, looked at each second.
"""

import argparse
import asyncio
import heapq
import resource
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import uvloop
from hosts import WINDOW_MS
from load import varied
from options import Options, scratch, trees
from output import machine, number, table
from processes import CLIENT_CORE, SERVER_CORE, pin
from reports import ReportedWindows, bodies, user_name
from servers import Server, answer, loadlens

_USER, _END = b"@USER", 9_999_999_999_999
_CONNECT_AT_ONCE, _LOOK_S, _REST_S = 200, 1.0, 15.0


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    waits_s: list[float] = field(default_factory=list)
    refused: int = 0
    """Answers that were no 202, and connections that were lost."""


class _Agent(asyncio.Protocol):
    """A connection; reports that are due while one is under way wait for it, as an agent's do in its spool."""

    def __init__(self, head: bytes, template: bytes, outcome: Outcome) -> None:
        self._head, self._template, self._outcome = head, template, outcome
        self._transport: asyncio.Transport | None = None
        self._due: list[float] = []
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._outcome.refused += len(self._due)
        self._transport = None

    @property
    def waits(self) -> int:
        """How many of its reports are not acknowledged."""
        return len(self._due)

    def send(self, due: float) -> None:
        self._due.append(due)
        if len(self._due) == 1:
            self._write()

    def _write(self) -> None:
        if self._transport is None:
            self._outcome.refused += len(self._due)
            self._due.clear()
            return
        end = time.time_ns() // 1_000_000
        moments = ((b"%d" % (_END - WINDOW_MS), b"%d" % (end - WINDOW_MS)), (b"%d" % _END, b"%d" % end))
        body = self._template
        for old, new in moments:
            body = body.replace(old, new)
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body))

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, body = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._read = b""
        self._outcome.waits_s.append(time.perf_counter() - self._due.pop(0))
        self._outcome.refused += not head.startswith(b"HTTP/1.1 202")
        if self._due:
            self._write()


class _Watch(threading.Thread):
    """Looks at the service each second."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._ends = threading.Event()
        self.peak_mb = 0.0

    def run(self) -> None:
        processes = [self._server.process, *self._server.process.children(recursive=True)]
        while not self._ends.wait(_LOOK_S):
            self.peak_mb = max(self.peak_mb, *(one.memory_info().rss / 1e6 for one in processes))

    def end(self) -> None:
        self._ends.set()
        self.join()


def main() -> None:
    """Measure and print a table."""
    parser = Options(__doc__)
    parser.data("--agents", [10_000], tiny=[50], type=int, nargs="+", help="how many")
    parser.size("--seconds", 240, tiny=6, help="for which they report")
    parser.data("--flush-interval", "30", tiny="2", help="the service's, so that there are flushes and compactions")
    parser.shared("--beside", "--folder", "--fleet")
    options = parser.parse()
    files = max(options.agents) + 1024
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(files, hard)))
    print(f"{machine()}\n")
    windows, rows = varied(options.fleet), []
    with scratch(options) as folder:
        for agents in options.agents:
            for name, tree in trees(options).items():
                place = Path(folder) / f"{name}-{agents}"
                rows.append((f"{agents:,} agents, {name}", *measured(place, tree, agents, windows, options)))
    head = f"A report each {WINDOW_MS // 1000} s, for {options.seconds:g} s", "reports/s", "refused"
    print(table((*head, "p50 ms", "p99 ms", "p99.9 ms", "max ms", "CPU us each", "flushes", "peak MB"), rows))


def measured(
    folder: Path, tree: Path, agents: int, windows: Sequence[ReportedWindows], options: argparse.Namespace
) -> Sequence[str]:
    """A row."""
    seconds = options.seconds
    flags = "--flush-interval", options.flush_interval
    with loadlens(folder, *flags, core=SERVER_CORE, tree=tree) as server:
        with closing(server.connect()) as connection:
            # What questions need is imported before.
            answer(connection, "GET", "/api/v1/users", None, {})
        watch = _Watch(server)
        watch.start()
        pin(CLIENT_CORE)
        cpu_s = server.cpu_seconds()
        outcome = uvloop.run(_reporting(server.port, agents, windows, seconds))
        cpu_s = server.cpu_seconds() - cpu_s
        watch.end()
        flushes = server.metrics()["loadlens_store_flushes_total"]
    waits_ms = 1000 * np.percentile(outcome.waits_s, (50, 99, 99.9, 100))
    count = len(outcome.waits_s)
    return (
        f"{count / seconds:,.0f}", str(outcome.refused), *map(number, waits_ms), number(1e6 * cpu_s / count),
        f"{flushes:.0f}", f"{watch.peak_mb:.0f}",
    )  # fmt: skip


async def _reporting(port: int, agents: int, windows: Sequence[ReportedWindows], seconds: float) -> Outcome:
    loop = asyncio.get_running_loop()
    templates = [next(bodies(one, _USER.decode(), [_END], "agent")) for one in windows[:64]]
    outcome = Outcome()
    head = f"POST /api/v1/metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n".encode()
    connected = []
    for first in range(0, agents, _CONNECT_AT_ONCE):
        made = [
            _Agent(head, templates[place % len(templates)].replace(_USER, user_name(place).encode()), outcome)
            for place in range(first, min(first + _CONNECT_AT_ONCE, agents))
        ]
        await asyncio.gather(*(loop.create_connection(lambda one=one: one, "127.0.0.1", port) for one in made))
        connected += made
    began = time.perf_counter()
    turns = [(began + place * WINDOW_MS / 1000 / agents, place) for place in range(agents)]
    while turns[0][0] < began + seconds:
        due, place = turns[0]
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        connected[place].send(due)
        heapq.heapreplace(turns, (due + WINDOW_MS / 1000, place))
    until = time.perf_counter() + _REST_S
    while any(one.waits for one in connected) and time.perf_counter() < until:  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(0.05)
    outcome.refused += sum(one.waits for one in connected)
    return outcome


if __name__ == "__main__":
    main()
