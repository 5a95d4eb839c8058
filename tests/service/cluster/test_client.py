"""NATS's client by its shorter way: what comes and what is sent is the same as by its own."""

import asyncio
import itertools
from collections.abc import Iterable, Sequence

import nats.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.protocol.parser import Parser

from service.cluster import client as client_module
from service.cluster.client import Arrived, Outgoing, ShortClient
from service.cluster.connection import Cluster

OURS, OTHERS = 7, 8
"""Subscriptions: with a taker, and without."""
_HEADERS = b"NATS/1.0\r\nNats-Msg-Id: a\r\n\r\n"


class Client(ShortClient):
    """A client without a server, that notes what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.ours: list[Arrived] = []
        self.others: list[object] = []
        self.takers[b"%d" % OURS] = self.ours.extend

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        if sid == OURS:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            self.others.append((sid, subject, reply, data, headers))

    async def _process_ping(self) -> None:
        self.others.append("ping")

    async def _process_info(self, info: dict[str, object], initial_connection: bool = False) -> None:
        self.others.append(info)

    async def _process_err(self, err_msg: str) -> None:
        self.others.append(err_msg)

    def parsed(self, pieces: Iterable[bytes], parser: Parser) -> tuple[list[Arrived], list[object]]:
        """What comes of pieces that are read one after the other."""

        async def parse() -> None:
            for piece in pieces:
                await parser.parse(piece)

        asyncio.run(parse())
        return self.ours, self.others


def _message(sid: int, payload: bytes, reply: bytes, headers: bytes) -> bytes:
    words = [b"subject.1", b"%d" % sid, *([reply] if reply else [])]
    if headers:
        return b"HMSG %b %d %d\r\n%b%b\r\n" % (
            b" ".join(words), len(headers), len(headers) + len(payload), headers, payload,
        )  # fmt: skip
    return b"MSG %b %d\r\n%b\r\n" % (b" ".join(words), len(payload), payload)


_PAYLOADS = st.one_of(st.binary(max_size=40), st.just(b"\r\nMSG a 7 3\r\nabc\r\n"), st.just(b"x" * 70_000))
_COMMANDS = st.one_of(
    st.builds(
        _message, st.sampled_from((OURS, OTHERS, 77)), _PAYLOADS, st.sampled_from((b"", b"reply.1")),
        st.sampled_from((b"", _HEADERS, b"NATS/1.0 503\r\n\r\n")),
    ),
    st.sampled_from((b"PING\r\n", b"+OK\r\n", b"-ERR 'Slow'\r\n", b'INFO {"port":1}\r\n')),
)  # fmt: skip


@given(st.lists(_COMMANDS, max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_what_comes_is_the_same_as_by_the_clients_own_parser(commands: Sequence[bytes], cuts: Sequence[int]) -> None:
    """In whichever pieces it is read, and whatever stands between."""
    text = b"".join(commands)
    ends = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(ends)]
    short, own = Client(), Client()
    assert short.parsed(pieces, short._ps) == own.parsed(pieces, Parser(own))
    assert type(short._ps) is not Parser


def test_what_is_no_command_is_an_error_as_by_the_clients_own_parser() -> None:
    """Which ends the connection, and makes another."""
    for text in (b"MSG\r\n", b"\r\n", b"MSG a 7 x\r\n\r\n", b"HMSG a 7 1\r\n\r\n", b"What?\r\n"):
        short, own = Client(), Client()
        with pytest.raises(nats.errors.ProtocolError):
            own.parsed([text], Parser(own))
        with pytest.raises(nats.errors.ProtocolError):
            short.parsed([text], short._ps)


def test_a_taker_that_fails_does_not_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """It is a fault of ours."""
    client = Client()

    def fail(messages: Sequence[Arrived]) -> None:
        raise ValueError("a fault")

    client.takers[b"%d" % OURS] = fail
    client.parsed([_message(OURS, b"a", b"", b""), b"PING\r\n"], client._ps)
    assert client.others == ["ping"]
    assert "a fault" in caplog.text


@pytest.mark.server
@pytest.mark.parametrize("is_short", [True, False])
def test_what_is_sent_is_the_same_as_by_the_clients_own_way(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, is_short: bool
) -> None:
    """However much it is."""
    monkeypatch.setattr(client_module, "_SENDS", is_short)
    connection = cluster.connection
    sent = [
        Outgoing(b"inbox.%d" % number, b"answer.%d" % number, b"web-1:CPU:%d" % number, bytes([number]) * 9000 * number)
        for number in range(100)
    ]

    async def came() -> list[Arrived]:
        came: list[Arrived] = []
        subscription = await connection.receive("inbox.*", came.extend)
        await connection.send(sent)
        while len(came) < len(sent):
            await connection.flush()
        await connection.cease(subscription)
        return came

    arrived = cluster.call(came(), 30)
    assert [(one.subject, one.reply, one.payload) for one in arrived] == [
        (one.subject, one.reply, one.payload) for one in sent
    ]
    assert [one.headers for one in arrived] == [b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n" % one.id for one in sent]


@pytest.mark.server
@pytest.mark.parametrize("is_short", [True, False])
def test_what_is_larger_than_the_server_takes_is_not_sent(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, is_short: bool
) -> None:
    """It would end the connection."""
    monkeypatch.setattr(client_module, "_SENDS", is_short)
    too_large = bytes(cluster.connection.max_payload + 1)
    with pytest.raises(nats.errors.MaxPayloadError):
        cluster.call(cluster.connection.send([Outgoing(b"inbox.1", b"answer.1", b"1", too_large)]))
    assert cluster.is_connected
