"""What steering costs: memory of each stream that agents keep open, and how long a change for the fleet takes.

    .venv/bin/python bench/steering.py [--streams 10000] [--quiet 30]

The service has core 0; agents are simulated on core 1, each with a state said once and a stream open. Measured are the
service's memory before and after the streams are opened, its CPU time while nothing happens but heartbeats, and the
time from the request that changes the fleet's sampling rate until each agent has heard of it, three times over. Then
a real agent, alone: the time from the request until the agent has the new rate in force and has said so.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from output import machine, number, table
from servers import ROOT, AnswerError, Server, loadlens

from contract import times

_AT_ONCE = 64
_CHANGES = (0.1, 0.2, 0.3)


class Fleet:
    """Simulated agents: what they have heard, and when."""

    def __init__(self, server: Server, streams: int) -> None:
        self.opened = 0
        self.heard: list[float] = []
        self._all_heard = asyncio.Event()
        self._server = server
        self._streams = streams
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []

    async def introduce(self) -> None:
        """Every agent says its state."""
        await asyncio.gather(*(self._say_state(place) for place in range(self._streams)))

    async def open(self) -> None:
        """Every agent opens its stream."""
        self._tasks = [asyncio.create_task(self._listen(place)) for place in range(self._streams)]
        while self.opened < self._streams:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Hang up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def change(self, interval: float) -> list[float]:
        """Set the fleet's interval; how long each agent took to hear of it, seconds, ascending."""
        self.heard.clear()
        self._all_heard.clear()
        started = time.perf_counter()
        body = json.dumps({"interval": interval})
        headers = {"If-Match": "*", "Content-Type": "application/json"}
        await asyncio.to_thread(self._server.ask, "PUT", "/api/v1/settings?selector=all", body, **headers)
        await self._all_heard.wait()
        return sorted(at - started for at in self.heard)

    async def _say_state(self, place: int) -> None:
        state = {
            "at": times.now_ms(), "os_type": "Linux", "os_version": "Debian GNU/Linux 12",
            "agent_version": "0.1.0", "settings": {"interval": 0.05, "samples": 100, "metrics": ["cpu"]},
        }  # fmt: skip
        body = json.dumps(state)
        async with self._turns:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
            writer.write(
                f"POST /api/v1/agents/agent-{place}/state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            answer = await reader.read()
            writer.close()
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())

    async def _listen(self, place: int) -> None:
        async with self._turns:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port, limit=4096)
            writer.write(
                f"GET /api/v1/agents/agent-{place}/commands HTTP/1.1\r\nHost: localhost\r\n"
                "Accept: text/event-stream\r\n\r\n".encode()
            )
            status = await reader.readline()
            if b" 200 " not in status:
                raise RuntimeError(status.decode())
            await reader.readuntil(b"retry:")
            self.opened += 1
        with suppress(asyncio.CancelledError):
            while line := await reader.readline():
                if line.startswith(b"data:"):
                    self.heard.append(time.perf_counter())
                    if len(self.heard) == self._streams:
                        self._all_heard.set()
        writer.close()


def resident_bytes(server: Server) -> int:
    """Memory of the process that answers."""
    return max(process.memory_info().rss for process in server.process.children(recursive=True))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000, help="(default: %(default)s)")
    parser.add_argument("--quiet", type=float, default=30.0, help="seconds of heartbeats alone (default: %(default)s)")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < options.streams + 200:
        sys.exit(f"{options.streams} streams need as many open files; the limit is {most}")
    print(machine(), "\n")
    os.sched_setaffinity(0, {1})
    with (
        tempfile.TemporaryDirectory(prefix="loadlens-bench-") as folder,
        loadlens(Path(folder), "--agent-streams", str(options.streams + 1), core=0) as server,
    ):
        rows = asyncio.run(measure(server, options.streams, options.quiet))
    print(table((f"{options.streams:,} streams of agents", ""), rows))


async def measure(server: Server, streams: int, quiet_s: float) -> list[tuple[str, str]]:
    """The rows of the table."""
    fleet = Fleet(server, streams)
    await fleet.introduce()
    before = resident_bytes(server)
    started = time.perf_counter()
    await fleet.open()
    opening_s = time.perf_counter() - started
    after = resident_bytes(server)
    used = server.cpu_seconds()
    await asyncio.sleep(quiet_s)
    used = server.cpu_seconds() - used
    rows = [
        ("service's memory with all agents known, none listening, MB", f"{before / 1e6:.0f}"),
        ("memory of each stream, KB", f"{(after - before) / streams / 1e3:.1f}"),
        ("streams opened each second", number(streams / opening_s)),
        ("CPU for heartbeats alone, % of a core", f"{used / quiet_s * 100:.2f}"),
    ]
    for interval in _CHANGES:
        took = await fleet.change(interval)
        half, most = took[len(took) // 2], took[int(len(took) * 0.99)]
        rows.append(
            ("fleet's rate changed: half, 99 %, all have heard after, s", f"{half:.2f}, {most:.2f}, {took[-1]:.2f}")
        )
    await fleet.close()
    took = await asyncio.to_thread(applied, server)
    rows.append(
        ("a real agent has it in force after: half, all of 40, s", f"{took[len(took) // 2]:.3f}, {took[-1]:.3f}")
    )
    return rows


def applied(server: Server) -> list[float]:
    """How long a real agent took to have a new rate in force and say so, seconds, ascending."""
    path = "/api/v1/agents/real"
    command = [sys.executable, "-m", "agent", "--url", server.url, "--user-id", "real", "--spool-dir"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([*command, folder], cwd=ROOT, stderr=subprocess.DEVNULL) as process,
    ):
        until(lambda: shown(server, path).get("connected", False))
        took = [timed(server, path, (place % 2 + 2) / 100) for place in range(40)]
        process.terminate()
    return sorted(took)


def timed(server: Server, path: str, interval: float) -> float:
    """Change the agent's interval; how long that took."""
    started = time.perf_counter()
    headers = {"If-Match": "*", "Content-Type": "application/json"}
    server.ask("PUT", f"{path}/settings", json.dumps({"interval": interval}), **headers)
    until(lambda: shown(server, path)["reported"]["interval"] == interval)
    return time.perf_counter() - started


def shown(server: Server, path: str) -> dict[str, Any]:
    """What the service says of an agent; nothing while it does not know it."""
    try:
        return dict(json.loads(server.ask("GET", path)))
    except AnswerError:
        return {}


def until(condition: Callable[[], bool]) -> None:
    """Look until it holds."""
    while not condition():
        time.sleep(0.002)


if __name__ == "__main__":
    main()
