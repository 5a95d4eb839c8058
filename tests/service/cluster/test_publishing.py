"""Reports on their way into the stream: sent again where they were lost, and only there."""

from collections.abc import Iterator, Sequence

import pytest

from service.cluster import publishing
from service.cluster.client import Outgoing
from service.cluster.connection import Cluster
from service.cluster.log import ReplicatedLog
from tests.service.cluster.test_log import LIMIT, reports, texts_of
from tests.support.nats_cluster import RunningNats
from tests.support.running import wait_until

pytestmark = pytest.mark.server


@pytest.fixture
def log(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplicatedLog]:
    """One in which nothing is sent again for want of an answer alone."""
    monkeypatch.setattr(publishing, "_RESEND_S", 60.0)
    monkeypatch.setattr(publishing, "_ACKNOWLEDGED_S", 120.0)
    log = ReplicatedLog(cluster, LIMIT, 0)
    yield log
    log.close()


def test_what_was_lost_is_sent_again_as_soon_as_it_is_taken(
    log: ReplicatedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the time in which nobody leads the stream."""
    connection = log.cluster.connection
    send = connection.send
    lost: list[int] = []

    async def lose(messages: Sequence[Outgoing]) -> None:
        if len(lost) < 3:
            lost.append(len(messages))
        else:
            await send(messages)

    monkeypatch.setattr(connection, "send", lose)
    texts, decoded = reports(100)
    assert log.append(texts, decoded) == 100
    assert lost == [100, 1, 1]
    assert sorted(texts_of(log)) == sorted(texts)


def test_what_is_only_slow_is_not_sent_again(
    log: ReplicatedLog, one_node: RunningNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stood still takes what came meanwhile."""
    connection = log.cluster.connection
    # It does not go to another server, however long this machine makes it wait.
    connection.options["max_outstanding_pings"] = 1000
    send = connection.send
    sent: list[int] = []

    async def counted(messages: Sequence[Outgoing]) -> None:
        if not sent:
            one_node.nodes[0].pause()
        sent.append(len(messages))
        await send(messages)
        if len(sent) == 4:
            one_node.nodes[0].resume()

    monkeypatch.setattr(connection, "send", counted)
    texts, decoded = reports(100)
    try:
        assert log.append(texts, decoded) == 100
    finally:
        one_node.nodes[0].resume()
    assert sent[0] == 100
    # It may have answered before it stood still.
    assert set(sent[1:]) <= {1}
    assert texts_of(log) == texts


def test_while_no_server_is_connected_nothing_is_sent(log: ReplicatedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client would keep it for whenever it comes back, beside what is sent again by then."""
    monkeypatch.setattr(publishing, "_ACKNOWLEDGED_S", 0.2)
    monkeypatch.setattr(type(log.cluster), "is_connected", False)
    with pytest.raises(OSError, match="were not acknowledged"):
        log.append(*reports(3))
    monkeypatch.undo()
    wait_until(lambda: log.append(*reports(1)) == 1, "the first report to be the first of the log")
