"""A stream is followed in its order, each message once, whatever becomes of the servers that deliver it."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.api import StreamConfig

from service.cluster.connection import Cluster
from service.cluster.tail import Handed, Message, Tail
from tests.support.running import wait_until


def news(handed: Handed, texts: Sequence[str], first: int = 1) -> list[str]:
    """Which of messages that follow each other are handed out."""
    numbers = count(first)
    return [text for text in texts if handed.is_news(Message(next(numbers), text.encode()))]


@pytest.mark.parametrize(
    ("before", "after", "handed_out"),
    [
        ("abc", "abc", ""), ("abc", "abcd", "d"), ("abc", "abx", "x"), ("abc", "abxc", "x"), ("abc", "axbc", "x"),
        ("abc", "xabc", "x"), ("abc", "acb", ""), ("abc", "xyz", "xyz"), ("abc", "axyzbcd", "xyzd"),
    ],
)  # fmt: skip
def test_messages_that_take_the_place_of_others_are_handed_out_and_none_twice(
    before: str, after: str, handed_out: str
) -> None:
    """The messages as they were delivered first, and as another server has them."""
    handed = Handed()
    assert news(handed, before) == [*before]
    assert news(handed, after) == [*handed_out]


@given(st.permutations("abcdefgh"), st.integers(0, 8))
def test_whatever_the_order_each_is_handed_out_once(order: list[str], delivered: int) -> None:
    """Where a server had delivered some of them in another order."""
    handed = Handed()
    found = news(handed, "abcdefgh"[:delivered]) + news(handed, order)
    assert sorted(found) == [*"abcdefgh"]


def test_only_the_newest_are_read_again() -> None:
    handed = Handed()
    assert handed.again(7) == 8
    news(handed, [str(number) for number in range(1000)])
    assert 500 < handed.again(1000) < 900


@pytest.fixture
def stream(cluster: Cluster, name: str) -> Iterator[str]:
    """A stream of its own."""
    config = StreamConfig(name=f"{name}-tail", subjects=[f"{name}.tail"])
    cluster.call(cluster.jetstream.add_stream(config))
    yield f"{name}-tail"
    cluster.call(cluster.jetstream.delete_stream(f"{name}-tail"))


@pytest.mark.server
def test_a_stream_that_is_others_than_was_delivered_is_read_again(cluster: Cluster, stream: str, name: str) -> None:
    """As after a server that was cut off delivered what the others had not agreed on."""
    found: list[str] = []

    async def take(messages: Sequence[Message]) -> None:
        found.extend(message.payload.decode() for message in messages)

    def publish(*texts: str) -> None:
        for text in texts:
            cluster.call(cluster.jetstream.publish(f"{name}.tail", text.encode()))

    following = asyncio.run_coroutine_threadsafe(Tail(cluster, stream, 0).follow(take), cluster.loop)
    publish("a", "b", "lost")
    wait_until(lambda: found == ["a", "b", "lost"], "what was there first")
    cluster.call(cluster.jetstream.delete_stream(stream))
    cluster.call(cluster.jetstream.add_stream(StreamConfig(name=stream, subjects=[f"{name}.tail"])))
    publish("a", "b", "kept", "lost", "next")
    wait_until(lambda: found[3:] == ["kept", "next"], "what took its place")
    following.cancel()
