"""The consumers of bench/stream.py, in a process of their own: they follow, and tell how late each event came.

    python bench/followers.py PORT FD

FD is one end of a pipe of multiprocessing: it brings the queries, then says when to measure and what to expect.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from processes import CLIENT_CORE, pin

MARK = b'"report_id":"'
"""What stands in an event before the time it was sent: monotonic, in ns, with so many digits."""
DIGITS = 20
_CONNECT_S, _READ_S = 120.0, 60.0


class FollowingReader(asyncio.Protocol):
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
        for part in whole.split(MARK)[1:]:
            self._everybody.take(now - int(part[:DIGITS]))
        if not self._is_present:
            self._is_present = True
            self._everybody.arrive()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so."""
        self._everybody.leave(exc)


class Everybody:
    """All consumers."""

    def __init__(self) -> None:
        self.delays: list[int] = []
        self.received = 0
        self.is_measuring = False
        self._present = asyncio.Semaphore(0)
        self._left: Exception | None = None

    def arrive(self) -> None:
        """A consumer has the beginning of its stream."""
        self._present.release()

    async def present(self, count: int) -> None:
        """Wait until so many consumers have arrived."""
        for _ in range(count):
            await self._present.acquire()
            self.check()

    def leave(self, error: Exception | None) -> None:
        """A stream has ended, which none should."""
        self._left = error or ConnectionError("a stream has ended")
        self._present.release()

    def check(self) -> None:
        """Raises ConnectionError where a stream has ended."""
        if self._left:
            raise ConnectionError("a consumer lost its stream") from self._left

    def take(self, delay_ns: int) -> None:
        """An event was read so long after it was sent."""
        self.received += 1
        if self.is_measuring:
            self.delays.append(delay_ns)


async def follow(port: int, orders: Connection) -> None:
    """Follow with each query, and answer what is asked over the pipe. Raises ConnectionError where a stream ends."""
    queries: Sequence[str]
    queries, grace_s = orders.recv()
    everybody = Everybody()
    loop = asyncio.get_running_loop()
    for query in queries:
        await loop.create_connection(lambda query=query: FollowingReader(query, everybody), "127.0.0.1", port)  # type: ignore[misc]
    async with asyncio.timeout(_CONNECT_S):
        await everybody.present(len(queries))
    orders.send("ready")
    await loop.run_in_executor(None, orders.recv)
    everybody.is_measuring = True
    await loop.run_in_executor(None, orders.recv)
    await asyncio.sleep(grace_s if queries else 0)
    everybody.is_measuring = False
    orders.send((everybody.delays, everybody.received))
    expected = await loop.run_in_executor(None, orders.recv)
    deadline = time.monotonic() + _READ_S
    last = -1
    while time.monotonic() < deadline and (everybody.received < expected or everybody.received != last):
        everybody.check()
        last = everybody.received
        await asyncio.sleep(0.5 if queries else 0)
    orders.send(everybody.received)


if __name__ == "__main__":
    pin(CLIENT_CORE)
    asyncio.run(follow(int(sys.argv[1]), Connection(int(sys.argv[2]))))
