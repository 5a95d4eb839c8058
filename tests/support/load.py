"""Load as many agents make it: connections that are kept open, one report a request."""

import asyncio
from typing import Any, Self

import msgspec

__all__ = ["Connection"]


class Connection:
    """One connection that sends requests, as lean as can be: the service shall be what is loaded."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def send(self, path: str, body: bytes) -> None:
        """Send a POST."""
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def receive(self) -> tuple[int, dict[str, Any]]:
        """The status and the JSON of the next answer; raises OSError or EOFError where the connection ends."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.lower().startswith(b"content-length:"))
        return int(lines[0].split()[1]), msgspec.json.decode(await self._reader.readexactly(length))

    async def post(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Send a POST and wait for its answer."""
        await self.send(path, body)
        return await self.receive()
