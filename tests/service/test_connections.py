"""Connections whose client says nothing more are let go, by deadlines that do not get into each other's way."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from service import connections
from service.connections import CertifiedWebSocket, LimitedProtocol

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


class Following:
    """An application that answers for ever, until its client is gone."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        headers = [(b"content-length", b"1000000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        self.ended.set()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("behind", [b"", REQUEST, UPGRADE], ids=["alone", "a request behind", "an upgrade behind"])
def test_an_answer_under_way_learns_that_its_client_is_gone_whatever_that_asked_behind(behind: bytes) -> None:
    following = Following()

    async def asked() -> None:
        async with connected(following, ws=CertifiedWebSocket) as (reader, writer, protocol):
            writer.write(REQUEST)
            await asyncio.wait_for(reader.readuntil(b"begun"), DEADLINE_S)
            if behind:
                writer.write(behind)
                async with asyncio.timeout(DEADLINE_S):
                    while not (protocol.pipeline or following.asked > 1 or protocol.is_refused):  # noqa: ASYNC110
                        await asyncio.sleep(0)
            protocol.transport.abort()
            await asyncio.wait_for(following.ended.wait(), DEADLINE_S)

    asyncio.run(asked())
    assert following.asked == 1


@pytest.mark.parametrize("behind", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: loc", b"what is this\r\n", UPGRADE])
def test_what_is_wrong_behind_a_request_does_not_get_into_its_answer(
    behind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    may_end = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await may_end.wait()
        await send({"type": "http.response.body", "body": b"ok"})

    async def asked() -> bytes:
        async with connected(slow, ws=CertifiedWebSocket) as (reader, writer, protocol):
            writer.write(REQUEST + behind)
            async with asyncio.timeout(DEADLINE_S):
                while not protocol.is_refused:  # noqa: ASYNC110 - what nothing tells of
                    await asyncio.sleep(0)
            may_end.set()
            return await asyncio.wait_for(reader.read(), DEADLINE_S)

    answer = asyncio.run(asked())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"0\r\n", b"name: " + 1000 * b"x" + b"\r\n"),
        (b"0\r\nname: ", 100_000 * b"x"),
        (b"1;", 100_000 * b"x"),
    ],
    ids=["headers behind the body", "one header behind the body", "what a piece says of itself"],
)
@pytest.mark.parametrize("application", [answering_at_once, reading])
def test_what_is_in_a_body_and_is_none_has_a_limit(application: Any, begin: bytes, more: bytes) -> None:
    """It would be kept as long as it comes, before anybody is asked who it is."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"

    async def asked() -> bytes:
        async with connected(application) as (reader, writer, _):
            writer.write(head + begin)
            sent = 0
            with contextlib.suppress(ConnectionError):
                while not writer.transport.is_closing() and not reader.at_eof():
                    writer.write(more)
                    sent += len(more)
                    assert sent < 30_000_000
                    await writer.drain()
                    await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError):
                return await asyncio.wait_for(reader.read(), DEADLINE_S)
            return b""

    answer = asyncio.run(asked())
    assert not answer or answer.startswith(b"HTTP/1.1 431 " if application is reading else b"HTTP/1.1 200 ")


def test_headers_behind_a_body_are_none_of_the_request() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def listing(scope: Any, receive: Any, send: Any) -> None:
        await reading(scope, receive, send)
        seen.extend(scope["headers"])

    request = (
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\nAuthorization: Bearer another\r\n\r\n"
    )

    async def asked() -> None:
        async with connected(listing) as (reader, writer, _):
            writer.write(request)
            assert (await asyncio.wait_for(reader.readuntil(b"ok"), DEADLINE_S)).startswith(b"HTTP/1.1 200 ")

    asyncio.run(asked())
    assert [name for name, _ in seen] == [b"host", b"transfer-encoding"]


def test_only_so_many_requests_wait_for_the_one_before() -> None:
    """A kilobyte asks for forty, each of which takes two of ours."""
    may_answer = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await may_answer.wait()
        await answering(scope, receive, send)

    async def asked() -> bytes:
        async with connected(slow) as (reader, writer, protocol):
            writer.write(5000 * b"GET / HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(DEADLINE_S):
                while not protocol.is_refused:  # noqa: ASYNC110 - what nothing tells of
                    await asyncio.sleep(0)
            assert len(protocol.pipeline) == connections.MAX_WAITING
            may_answer.set()
            return await asyncio.wait_for(reader.read(), DEADLINE_S)

    answer = asyncio.run(asked())
    assert answer.count(b"HTTP/1.1 200 ") == connections.MAX_WAITING + 1, "they are answered, and no others"
    assert answer.count(b"connection: close") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no process of its can be stopped")
def test_what_came_while_the_service_stood_still_came_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a machine that is shared gives it no turn: then deadlines are looked at before what has come."""
    monkeypatch.setattr(connections, "HEAD_S", 2.0)
    monkeypatch.setattr(connections, "STOOD_STILL_S", 0.1)
    stopping = f"kill -STOP {os.getpid()}; printf 'GET / HTTP/1.1\\r\\n\\r\\n'; sleep 3; kill -CONT {os.getpid()}"

    async def asked() -> bytes:
        async with connected(answering) as (reader, writer, _):
            stopped = subprocess.Popen(  # noqa: ASYNC220 - it stops all that is here
                ["sh", "-c", stopping], stdout=writer.get_extra_info("socket").fileno()
            )
            answer = await asyncio.wait_for(reader.readuntil(b"ok"), DEADLINE_S)
            stopped.wait(DEADLINE_S)
            return answer

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(asked()).startswith(b"HTTP/1.1 200 ")
