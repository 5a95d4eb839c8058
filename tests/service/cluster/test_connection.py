"""What is asked of servers while none of them leads."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from nats.aio.client import Client
from nats.protocol.parser import Parser

from service.cluster.client import Arrived
from service.cluster.connection import Cluster, ClusterAddress, asked_again
from tests.support.nats_cluster import RunningNats
from tests.support.running import wait_until

EVERY_S = 0.05


class Server:
    """Answers each question as it is told to: never (`None`), with a failure, or with a text."""

    def __init__(self, *answers: str | Exception | None) -> None:
        self.answers = [*answers]
        self.asked = 0
        self.under_way = 0

    async def ask(self) -> str:
        """One question."""
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        self.under_way += 1
        try:
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, Exception):
                raise answer
            return str(answer)
        finally:
            self.under_way -= 1


def asked(ask: Callable[[], Awaitable[str]], within_s: float = 5.0, every_s: float = EVERY_S, at_once: int = 1) -> str:
    """What `asked_again` answers."""

    async def ask_all() -> str:
        return await asked_again(ask, every_s, within_s, at_once=at_once)

    return asyncio.run(ask_all())


@pytest.mark.parametrize("answers", [("x",), (None, "x"), (OSError(), "x"), (None, OSError(), None, "x")])
def test_a_question_that_is_lost_or_refused_is_asked_again(answers: tuple[str | Exception | None, ...]) -> None:
    server = Server(*answers)
    assert asked(server.ask) == "x"
    assert server.asked == len(answers)
    assert server.under_way == 0


def test_an_answer_to_the_first_question_counts_while_others_are_under_way() -> None:
    asked_times = 0

    async def ask() -> str:
        nonlocal asked_times
        asked_times += 1
        number = asked_times
        await asyncio.sleep(4 * EVERY_S if number == 1 else 60)
        return f"answer {number}"

    assert asked(ask) == "answer 1"
    assert asked_times > 1


def test_of_several_at_once_one_that_is_right_is_enough() -> None:
    server = Server(None, OSError(), "x", None)
    assert asked(server.ask, every_s=60, at_once=4) == "x"
    assert server.asked == 4


def test_what_came_last_is_raised_when_the_time_is_over() -> None:
    with pytest.raises(OSError, match="refused"):
        asked(Server(OSError("refused")).ask, within_s=0.2)
    with pytest.raises(TimeoutError):
        asked(Server(None).ask, within_s=0.2)


@pytest.mark.server
@pytest.mark.parametrize("waits", [0, 40])
def test_from_a_server_that_stands_still_the_connection_goes_to_another(
    three_nodes: RunningNats, name: str, waits: int
) -> None:
    """However many megabytes wait to be sent to it, and never are."""
    cluster = Cluster(ClusterAddress.parse(three_nodes.address(name)))
    connection = cluster.connection
    before = connection.connected_url
    assert before is not None
    node = next(one for one in three_nodes.nodes if one.port == before.port)
    lost: list[str] = []
    cluster.on_lost.add(lambda: lost.append("lost"))
    node.pause()
    try:

        async def send() -> None:
            for _ in range(waits):
                await connection.publish("nobody", bytes(1_000_000))

        sending = asyncio.run_coroutine_threadsafe(send(), cluster.loop)
        wait_until(lambda: connection.connected_url not in (None, before), "another server", 30)
        assert lost == ["lost"]
        sending.result(30)
        cluster.call(connection.flush())
    finally:
        node.resume()
        cluster.close()


@pytest.mark.server
def test_what_nobody_expects_does_not_end_the_way_back_to_a_server(
    three_nodes: RunningNats, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as uvloop's error of a server that dies while it is connected to."""
    cluster = Cluster(ClusterAddress.parse(three_nodes.address(name)))
    connection = cluster.connection
    begin = connection._process_connect_init
    tries: list[int] = []

    async def fail_twice() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("the handler is closed")
        await begin()

    monkeypatch.setattr(connection, "_process_connect_init", fail_twice)
    cluster.call(connection._process_op_err(ConnectionResetError()))
    wait_until(lambda: cluster.is_connected, "a server", 30)
    assert len(tries) == 3
    cluster.call(connection.flush())
    cluster.close()


@pytest.mark.server
def test_messages_come_the_same_by_the_client_s_own_way(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is gone where a release of the client has another inside."""

    async def received() -> list[Arrived]:
        connection, came = cluster.connection, []
        subscription = await connection.receive("inbox.*", came.extend)
        await connection.publish("inbox.a", b"plain")
        await connection.publish("inbox.b", b"named", "answer", {"Nats-Msg-Id": "host:cpu:1", "More": "1"})
        await connection.publish("inbox.c", b"")
        await connection.publish("nobody.listens", b"?", "inbox.d")
        while len(came) < 4:
            await connection.flush()
        await connection.cease(subscription)
        await connection.publish("inbox.a", b"later")
        await connection.flush()
        return came

    short = cluster.call(received())
    monkeypatch.setattr(type(cluster.connection), "_process_msg", Client._process_msg)
    monkeypatch.setattr(cluster.connection, "_ps", Parser(cluster.connection))
    own = cluster.call(received())
    assert [(one.subject, one.reply, one.payload) for one in own] == [
        (one.subject, one.reply, one.payload) for one in short
    ]
    assert [one.payload for one in short] == [b"plain", b"named", b"", b""]
    for came in (short, own):
        assert [b"\r\nNats-Msg-Id: host:cpu:1\r\n" in one.headers for one in came] == [False, True, False, False]
        assert [one.headers.startswith(b"NATS/1.0 503") for one in came] == [False, False, False, True]
