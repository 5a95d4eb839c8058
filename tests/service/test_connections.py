"""Connections whose client says nothing more are let go, by deadlines that do not get into each other's way."""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from service.connections import LimitedProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
DEADLINE_S = 60.0


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers everything with two letters."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def test_an_idle_connection_is_closed_once_it_was_idle_for_long_and_not_before() -> None:
    async def asked_twice() -> bytes:
        config = Config(answering, http=LimitedProtocol, timeout_keep_alive=1, lifespan="off", log_config=None)
        config.load()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: LimitedProtocol(config, ServerState(), {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(2):
                writer.write(REQUEST)
                answer = await asyncio.wait_for(reader.readuntil(b"ok"), DEADLINE_S)
                assert answer.startswith(b"HTTP/1.1 200 ")
            rest = await asyncio.wait_for(reader.read(), DEADLINE_S)
            writer.close()
            return rest

    assert asyncio.run(asked_twice()) == b"", "closed without a word: no request is under way"
