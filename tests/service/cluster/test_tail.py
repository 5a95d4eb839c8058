"""A stream is followed in its order, each message once, whatever becomes of the servers that have copies of it."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.js.api import StreamConfig

from service.cluster import tail
from service.cluster.connection import Cluster, ClusterAddress
from service.cluster.delivery import Message, Remembered
from service.cluster.tail import Tail
from tests.support.nats_cluster import RunningNats
from tests.support.running import wait_until

pytestmark = pytest.mark.server


class Reader:
    """What a tail hands out."""

    def __init__(self, cluster: Cluster, stream: str, again: int = 0, linger_s: float = 0.002) -> None:
        self.texts: list[str] = []
        self.sequences: list[int] = []
        self.tail: Tail | None = None
        self._cluster = cluster
        following = self._follow(stream, again, linger_s)
        self._following: Future[None] = asyncio.run_coroutine_threadsafe(following, cluster.loop)

    async def _follow(self, stream: str, again: int, linger_s: float) -> None:
        self.tail = Tail(self._cluster, stream, 0, again, self._anew, linger_s)
        await self.tail.follow(self._take)

    async def _anew(self) -> None:
        self.texts += ["anew"]

    async def _take(self, messages: Sequence[Message]) -> None:
        self.texts += [message.payload.decode() for message in messages]
        self.sequences += [message.sequence for message in messages]

    def close(self) -> None:
        """Follow no more."""
        self._following.cancel()


class Stream:
    """A stream that can be made anew with other content, as another copy of it may have."""

    def __init__(self, cluster: Cluster, name: str, replicas: int = 1) -> None:
        self.cluster, self.name, self.subject = cluster, f"{name}-tail", f"{name}.tail"
        self._count = 0
        self._config = StreamConfig(name=self.name, subjects=[self.subject], num_replicas=replicas)
        cluster.call(cluster.jetstream.add_stream(self._config), 15)

    def put(self, *texts: str) -> None:
        """Put messages, each of which is named by its text."""
        for text in texts:
            wait_until(lambda text=text: self._is_put(text), text)  # type: ignore[misc]

    def put_at_once(self, count: int) -> None:
        """Put so many messages without a name, each the number that it is."""
        number = iter(range(self._count + 1, self._count + count + 1))
        self._count += count

        async def put() -> None:
            for text in number:
                await self.cluster.connection.publish(self.subject, str(text).encode())
            await self.cluster.connection.flush()

        self.cluster.call(put(), 60)

    def _is_put(self, text: str) -> bool:
        headers = {"Nats-Msg-Id": text}
        try:
            self.cluster.call(self.cluster.jetstream.publish(self.subject, text.encode(), headers=headers))
        except (nats.errors.Error, TimeoutError):
            # While another is elected.
            return False
        return True

    def become(self, *texts: str) -> None:
        """Have these messages from now on, from sequence 1."""
        self.cluster.call(self.cluster.jetstream.delete_stream(self.name))
        self.cluster.call(self.cluster.jetstream.add_stream(self._config))
        self.put(*texts)


@pytest.fixture
def stream(cluster: Cluster, name: str) -> Iterator[Stream]:
    """An empty one."""
    stream = Stream(cluster, name)
    yield stream
    cluster.call(cluster.jetstream.delete_stream(stream.name))


@pytest.mark.parametrize(
    ("another", "news"),
    [
        ("abcd", "d"), ("bcd", "d"), ("d", "d"), ("abxcd", "xd"), ("xabcd", "xd"), ("xyzd", "xyzd"), ("acbd", "d"),
        ("abxd", "xd"),
    ],
)  # fmt: skip
def test_of_another_copy_what_was_not_there_before_is_handed_out_once(stream: Stream, another: str, news: str) -> None:
    """Wherever it is, and whatever has its sequence."""
    stream.put(*"abc")
    reader = Reader(stream.cluster, stream.name, again=100)
    wait_until(lambda: reader.texts == [*"abc"], "what was there first")
    stream.become(*another)
    wait_until(lambda: len(reader.texts) >= 3 + len(news), "what is new")
    stream.put("last")
    wait_until(lambda: reader.texts[-1:] == ["last"], "what comes then")
    assert reader.texts == [*"abc", *news, "last"]
    reader.close()


@pytest.mark.parametrize("another", ["ab", "abx", "xabc", "xyzd"])
def test_a_copy_in_which_the_last_message_is_another_one_is_read_from_its_beginning(
    stream: Stream, another: str
) -> None:
    """Where the order counts, and the sequences are somebody's."""
    stream.put(*"abc")
    reader = Reader(stream.cluster, stream.name)
    wait_until(lambda: reader.texts == [*"abc"], "what was there first")
    stream.become(*another)
    stream.put("last")
    wait_until(lambda: reader.texts == [*"abc", "anew", *another, "last"], "all of the other copy")
    reader.close()


def test_a_copy_that_is_the_same_is_gone_on_with(stream: Stream) -> None:
    """Nothing comes twice."""
    stream.put(*"abc")
    reader = Reader(stream.cluster, stream.name)
    wait_until(lambda: reader.texts == [*"abc"], "what was there first")
    stream.become(*"abcd")
    stream.put("last")
    wait_until(lambda: reader.texts == [*"abcd", "last"], "what is new")
    reader.close()


@pytest.mark.parametrize("linger_s", [0.002, 0.05])
def test_all_come_once_in_order_however_many_come_at_once(stream: Stream, linger_s: float) -> None:
    """To a reader that takes what comes, and to one that waits for more of it."""
    stream.put_at_once(2500)
    reader = Reader(stream.cluster, stream.name, linger_s=linger_s)
    for count in (1, 1, 3000, 10, 1):
        stream.put_at_once(count)
        wait_until(lambda: len(reader.sequences) >= stream._count, "all of them")
    assert reader.sequences == [*range(1, stream._count + 1)]
    assert reader.texts == [str(number) for number in reader.sequences]
    assert reader.tail is not None and reader.tail.restarts == 0
    reader.close()


def test_messages_without_a_name_are_told_apart_by_when_they_were_put(stream: Stream) -> None:
    """The same text, twice, are two."""
    reader = Reader(stream.cluster, stream.name, again=100)
    for _ in range(3):
        stream.cluster.call(stream.cluster.jetstream.publish(stream.subject, b"same"))
    wait_until(lambda: reader.sequences == [1, 2, 3], "all of them")
    reader.close()


def test_the_newest_are_remembered() -> None:
    """As many as it was told."""
    remembered = Remembered(3)
    assert [remembered.add(number) for number in (1, 2, 1, 3, 4)] == [True, True, False, True, True]
    assert [number in remembered for number in (1, 2, 3, 4)] == [False, True, True, True]


def test_the_copy_of_whoever_leads_is_read(three_nodes: RunningNats, name: str) -> None:
    """Also when another does."""
    cluster = Cluster(ClusterAddress.parse(three_nodes.address(name)))
    stream = Stream(cluster, name, replicas=3)
    reader = Reader(cluster, stream.name, again=100)
    put: list[str] = []

    def leader() -> str | None:
        try:
            info = cluster.call(cluster.jetstream.stream_info(stream.name)).cluster
        except (nats.errors.Error, TimeoutError):
            return None
        return info.leader if info else None

    for number in range(3):
        put.append(f"{number}")
        stream.put(put[-1])
        wait_until(lambda: reader.texts == put, "the message")
        wait_until(lambda: reader.tail is not None and reader.tail.server == leader(), "the leader's copy")
        asked = cluster.connection.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream.name}", b"", timeout=5)
        cluster.call(asked, 10)
        wait_until(lambda: leader() is not None, "another leader")
    reader.close()
    cluster.call(cluster.jetstream.delete_stream(stream.name))
    cluster.close()


@pytest.mark.parametrize("linger_s", [0.002, 0.05])
def test_a_consumer_that_is_forgotten_is_made_anew(stream: Stream, linger_s: float) -> None:
    """As of a process that stood still for long; it is not asked again and again, though nothing comes."""
    stream.put(*"abc")
    reader = Reader(stream.cluster, stream.name, linger_s=linger_s)
    wait_until(lambda: reader.texts == [*"abc"], "what was there first")
    api = stream.cluster.jetstream

    async def forget() -> int:
        for one in await api.consumers_info(stream.name):
            await api.delete_consumer(stream.name, one.name)
        return stream.cluster.connection.stats["out_msgs"]

    before = stream.cluster.call(forget())
    wait_until(lambda: reader.tail is not None and reader.tail.restarts == 1, "another consumer")
    stream.put("d")
    wait_until(lambda: reader.texts == [*"abcd"], "the next message")
    assert reader.tail is not None and reader.tail.restarts == 1
    assert stream.cluster.connection.stats["out_msgs"] - before < 60
    reader.close()


@pytest.mark.parametrize("linger_s", [0.002, 0.05])
def test_requests_that_end_for_their_time_are_made_again(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, linger_s: float
) -> None:
    """With the same consumer, and nothing is missed between two."""
    for name, batch in (("_ONE", 1), ("_MANY", 1000)):
        request = {"batch": batch, "expires": 300_000_000, "idle_heartbeat": 100_000_000}
        monkeypatch.setattr(tail, name, msgspec.json.encode(request))
    asked: list[bytes] = []
    publish = stream.cluster.connection.publish

    async def counted(subject: str, payload: bytes = b"", *arguments: Any, **named: Any) -> None:
        asked.extend([payload] * ("MSG.NEXT" in subject))
        await publish(subject, payload, *arguments, **named)

    monkeypatch.setattr(stream.cluster.connection, "publish", counted)
    stream.put("first")
    reader = Reader(stream.cluster, stream.name, linger_s=linger_s)
    wait_until(lambda: reader.texts == ["first"], "the first")
    for number in range(5):
        before = len(asked)
        wait_until(lambda before=before: len(asked) > before, "another request")  # type: ignore[misc]
        stream.put(f"{number}")
    wait_until(lambda: reader.texts == ["first", *"01234"], "all of them")
    assert reader.tail is not None and reader.tail.restarts == 0
    reader.close()
