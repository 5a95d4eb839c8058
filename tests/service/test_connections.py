"""Connections whose client says nothing more are let go, by deadlines that do not get into each other's way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from service import connections
from service.connections import LimitedProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
DEADLINE_S = 60.0


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers everything with two letters."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def connected(
    application: Any, **settings: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, LimitedProtocol]]:
    """A connection to a server of an application, and the server's side of it."""
    config = Config(application, http=LimitedProtocol, lifespan="off", log_config=None, **settings)
    config.load()
    protocols: asyncio.Queue[LimitedProtocol] = asyncio.Queue()

    def made() -> LimitedProtocol:
        protocol = LimitedProtocol(config, ServerState(), {})
        protocols.put_nowait(protocol)
        return protocol

    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer, await asyncio.wait_for(protocols.get(), DEADLINE_S)
        finally:
            writer.close()


def test_an_idle_connection_is_closed_once_it_was_idle_for_long_and_not_before() -> None:
    async def asked_twice() -> bytes:
        async with connected(answering, timeout_keep_alive=1) as (reader, writer, _):
            for _turn in range(2):
                writer.write(REQUEST)
                answer = await asyncio.wait_for(reader.readuntil(b"ok"), DEADLINE_S)
                assert answer.startswith(b"HTTP/1.1 200 ")
            return await asyncio.wait_for(reader.read(), DEADLINE_S)

    assert asyncio.run(asked_twice()) == b"", "closed without a word: no request is under way"


async def answering_at_once(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers before it has read the body."""
    await answering(scope, receive, send)


async def reading(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers when it has read the body."""
    while (await receive()).get("more_body"):
        pass
    await answering(scope, receive, send)


@pytest.mark.parametrize("application", [answering_at_once, reading])
@pytest.mark.parametrize("at_once", [True, False], ids=["pipelined", "one after the other"])
def test_a_connection_that_waits_keeps_nothing_of_the_requests_before(application: Any, at_once: bool) -> None:
    """There may be ten thousand that wait."""
    head, body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b"x" * 100_000

    async def asked() -> None:
        async with connected(application) as (reader, writer, protocol):
            if at_once:
                writer.write(3 * (head + body))
            for _ in range(3):
                if not at_once:
                    writer.write(head)
                    await writer.drain()
                    writer.write(body)
                answer = await asyncio.wait_for(reader.readuntil(b"ok"), DEADLINE_S)
                assert answer.startswith(b"HTTP/1.1 200 ")
            async with asyncio.timeout(DEADLINE_S):
                while protocol.cycle is not None:  # noqa: ASYNC110 - the end of a body, which nothing tells of
                    await asyncio.sleep(0)
            assert protocol.scope is None
            assert protocol.headers is None

    asyncio.run(asked())


def test_a_request_whose_head_comes_in_pieces_while_the_one_before_is_answered_is_answered_too() -> None:
    answers = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await answers.wait()
        await answering(scope, receive, send)

    async def asked() -> None:
        async with connected(slow) as (reader, writer, protocol):
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: loc")
            async with asyncio.timeout(DEADLINE_S):
                while protocol.headers is None:  # noqa: ASYNC110 - what nothing tells of
                    await asyncio.sleep(0)
                answers.set()
                await reader.readuntil(b"ok")
                writer.write(b"alhost\r\n\r\n")
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")

    asyncio.run(asked())


@pytest.mark.parametrize("before", [b"", REQUEST], ids=["first", "second"])
def test_a_head_that_stays_unfinished_is_told_so(before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)

    async def asked() -> bytes:
        async with connected(answering) as (reader, writer, _):
            writer.write(before)
            if before:
                await asyncio.wait_for(reader.readuntil(b"ok"), DEADLINE_S)
            writer.write(b"POST /api")
            return await asyncio.wait_for(reader.read(), DEADLINE_S)

    assert asyncio.run(asked()).startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_is_larger_than_what_waits_to_be_sent_comes_whole() -> None:
    """Its application is held up until there is room again."""
    chunk, chunks = b"x" * 500_000, 40
    waited: list[bool] = []

    async def much(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % (chunks * len(chunk)))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(chunks):
            waited.append(protocols[0].flow.write_paused)
            await send({"type": "http.response.body", "body": chunk, "more_body": number < chunks - 1})

    protocols: list[LimitedProtocol] = []

    async def asked() -> int:
        async with connected(much) as (reader, writer, protocol):
            protocols.append(protocol)
            writer.write(REQUEST)
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
            return len(await asyncio.wait_for(reader.readexactly(chunks * len(chunk)), DEADLINE_S))

    assert asyncio.run(asked()) == chunks * len(chunk)
    assert any(waited)
