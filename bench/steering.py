"""What steering costs: memory of each stream that agents keep open, and how long a change for the fleet takes.

    .venv/bin/python bench/steering.py [--streams 10000] [--quiet 30]

The service has core 0; agents are simulated on core 1, each with a state said once and a stream open. Measured are the
service's memory before and after the streams are opened, its CPU time while nothing happens but heartbeats, and the
time from the request that changes the fleet's sampling rate until each agent has heard of it, three times over. Then
a real agent, alone: the time from the request until the agent has the new rate in force and has said so.
"""

import asyncio
import json
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from options import Options, scratch
from output import machine, number, table
from processes import CLIENT_CORE, SERVER_CORE, Program, pin, running
from servers import AnswerError, Server, loadlens

from contract import times

_AT_ONCE = 64
_CHANGES = (0.1, 0.2, 0.3)
_ALL_S, _CHANGE_S = 300.0, 60.0
"""So long all agents may take to do the same, and the real one to do as it is told."""


class SteeredFleet:
    """Simulated agents: what they have heard, and when."""

    def __init__(self, server: Server, streams: int) -> None:
        self.opened = 0
        self.heard: list[float] = []
        self._all_opened, self._all_heard = asyncio.Event(), asyncio.Event()
        self._server = server
        self._streams = streams
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []

    async def introduce(self) -> None:
        """Every agent says its state."""
        async with asyncio.timeout(_ALL_S), asyncio.TaskGroup() as group:
            for place in range(self._streams):
                group.create_task(self._say_state(place))

    async def open(self) -> None:
        """Every agent opens its stream."""
        self._tasks = [asyncio.create_task(self._listen(place)) for place in range(self._streams)]
        await self._until(self._all_opened)

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
        await self._until(self._all_heard)
        return sorted(at - started for at in self.heard)

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for it. Raises what ends a stream meanwhile, TimeoutError where it takes too long."""
        waiting = asyncio.create_task(event.wait())
        ended, _ = await asyncio.wait([waiting, *self._tasks], timeout=_ALL_S, return_when=asyncio.FIRST_COMPLETED)
        if waiting in ended:
            return
        waiting.cancel()
        for task in ended:
            task.result()
        raise (
            ConnectionError("the service ended a stream")
            if ended
            else TimeoutError(
                f"{self.opened} streams opened, {len(self.heard)} agents heard of a change after {_ALL_S:.0f} s"
            )
        )

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
            if self.opened == self._streams:
                self._all_opened.set()
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
    parser = Options(__doc__)
    parser.size("--streams", 10_000, tiny=20, help="that agents keep open")
    parser.size("--quiet", 30.0, tiny=0.2, help="seconds of heartbeats alone")
    parser.size("--changes", 40, tiny=2, help="of the real agent's rate")
    parser.shared("--folder")
    options = parser.parse()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < options.streams + 200:
        sys.exit(f"{options.streams} streams need as many open files; the limit is {most}")
    print(f"{machine()}\n")
    pin(CLIENT_CORE)
    with (
        scratch(options) as folder,
        loadlens(Path(folder), "--agent-streams", str(options.streams + 1), core=SERVER_CORE) as server,
    ):
        rows = asyncio.run(measure(server, options.streams, options.quiet))
        took = applied(server, Path(folder), options.changes)
    name = f"a real agent has it in force after: half, all of {options.changes}, s"
    rows.append((name, f"{took[len(took) // 2]:.3f}, {took[-1]:.3f}"))
    print(table((f"{options.streams:,} streams of agents", ""), rows))


async def measure(server: Server, streams: int, quiet_s: float) -> list[tuple[str, str]]:
    """The rows of the table."""
    fleet = SteeredFleet(server, streams)
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
    return rows


def applied(server: Server, folder: Path, changes: int) -> list[float]:
    """How long a real agent took to have a new rate in force and say so, seconds, ascending."""
    path = "/api/v1/agents/real"
    command = [sys.executable, "-m", "agent", "--url", server.url, "--user-id", "real"]
    with running([*command, "--spool-dir", str(folder / "spool")], folder / "agent.log") as agent:
        agent.wait_until(lambda: shown(server, path).get("connected", False), _CHANGE_S, "connecting the agent")
        return sorted(timed(server, agent, path, (place % 2 + 2) / 100) for place in range(changes))


def timed(server: Server, agent: Program, path: str, interval: float) -> float:
    """Change the agent's interval; how long that took."""
    started = time.perf_counter()
    headers = {"If-Match": "*", "Content-Type": "application/json"}
    server.ask("PUT", f"{path}/settings", json.dumps({"interval": interval}), **headers)
    agent.wait_until(
        lambda: shown(server, path)["reported"]["interval"] == interval, _CHANGE_S, "changing the interval", every=0.002
    )
    return time.perf_counter() - started


def shown(server: Server, path: str) -> dict[str, Any]:
    """What the service says of an agent; nothing while it does not know it."""
    try:
        return dict(json.loads(server.ask("GET", path)))
    except AnswerError:
        return {}


if __name__ == "__main__":
    main()
