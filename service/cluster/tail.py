"""The messages of a stream in their order, each once, from a sequence on: read through, or followed.

A consumer of JetStream lives in one server's memory and asks for no acknowledgement: how far a reader is, it knows
itself, and keeps it with what it made of the messages. So a consumer that is lost is made again behind the last
message.

It reads the copy of the server that leads the stream, which has all that it acknowledges, and changes to another copy
with the leader. Copies of NATS 2.9 are not always the same: a server that led and stood still puts what came to it
meanwhile into its own copy when it goes on, and has from then on other messages at a sequence than the others have, or
the same ones at others. So what was read last is read again from the other copy, and known by what it is, not by its
sequence.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

import nats.errors
import nats.js.errors
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, StreamInfo, StreamState

from service.cluster.client import Arrived
from service.cluster.connection import Cluster, asked_again
from service.cluster.delivery import Delivery, Lost, Message, Remembered

_log = logging.getLogger("loadlens.service")
_AT_ONCE = 1000
"""Messages that are asked for at once."""
_EXPIRES_S = 30.0
_HEARTBEAT_S = 0.5
_SILENT_S = 1.5
"""After so long without message or heartbeat a consumer is made anew."""
_LOOK_S = 2.0
"""So often it is asked which server leads the stream."""
_QUIET_S = 2.0
"""After so long without a message the stream's leader is asked whether there is none."""
_RETRY_S = 0.1
_LINGER_S = 0.002
"""What comes within that time is handed on together."""
_ANSWER_S = 2.0
_ASK_AGAIN_S = 0.1
"""So soon the one that leads the stream is asked for again, as it may just have been elected."""
_MAKE_AGAIN_S = 0.3
_AT_A_TIME = 4
"""Consumers that are made at once, as JetStream puts each on a server of its choice."""


def _request(batch: int) -> bytes:
    """Messages as they come, for a while."""
    return json.dumps(
        {"batch": batch, "expires": int(_EXPIRES_S * 1e9), "idle_heartbeat": int(_HEARTBEAT_S * 1e9)}
    ).encode()


_MANY, _ONE = _request(_AT_ONCE), _request(1)
_THERE = json.dumps({"batch": _AT_ONCE, "no_wait": True}).encode()
"""Messages that are there already."""


class _Elsewhere(Exception):
    """The consumer is on another server than it should be."""


class Tail:
    """Follows a stream. Everything here runs on the connection's loop."""

    def __init__(
        self,
        cluster: Cluster,
        stream: str,
        after: int,
        again: int = 0,
        anew: Callable[[], Awaitable[None]] | None = None,
        linger_s: float = _LINGER_S,
    ) -> None:
        """Begin behind sequence `after`; where nothing waits, what comes within `linger_s` is handed on together.

        Of another copy the last `again` messages are read again, and what is new of them is handed out. With `anew`,
        a copy in which the last message is another one is read from its beginning: `anew` is called before.
        """
        self._cluster = cluster
        self._api = cluster.connection.jetstream(timeout=_ANSWER_S)
        self._stream = stream
        self._after = after
        self._again = again
        self._anew = anew
        self._linger_s = linger_s
        self._gathers = linger_s > _LINGER_S
        self._newest: int | None = None
        """The content of the message at `last`, where another copy is to have the same there."""
        self.remembered = Remembered(3 * again)
        """What was handed out, where messages are read again."""
        self.last = after
        """The sequence of the newest message that was read, in the copy that is read."""
        self._head = after
        """The same of the newest of all."""
        self.server: str | None = None
        """The server whose copy is read."""
        self.behind: int | None = None
        """How many messages wait behind it at JetStream; None before it was told."""
        self.restarts = 0
        """How often a consumer had to be made anew."""

    async def follow(self, take: Callable[[Sequence[Message]], Awaitable[None]]) -> None:
        """Hand every message on, as they come, until it is cancelled; more only when `take` is done with them."""
        while True:
            try:
                async with contextlib.aclosing(self._consume()) as batches:
                    async for messages in batches:
                        await self._hand_on(take, messages)
            except (Lost, nats.errors.Error, TimeoutError, OSError):
                self.restarts += 1
                await asyncio.sleep(_RETRY_S)

    async def _hand_on(self, take: Callable[[Sequence[Message]], Awaitable[None]], messages: Sequence[Message]) -> None:
        try:
            await take(messages)
        except Exception as error:
            # It is no fault of the stream's: to go on would leave messages out.
            raise RuntimeError(f"messages of {self._stream} could not be taken") from error

    async def through(self, last: int) -> AsyncGenerator[Sequence[Message], None]:
        """The messages up to sequence `last`; raises TimeoutError or nats.errors.Error where they cannot be read."""
        tries = 0
        while self.last < last:
            before = self.last
            try:
                async with contextlib.aclosing(self._consume()) as batches:
                    async for messages in batches:
                        if messages:
                            yield messages
                        if self.last >= last:
                            return
                        if self.behind == 0 and not messages:
                            await self._check()
                            return
            except (Lost, nats.errors.Error, TimeoutError):
                tries = 0 if self.last > before else tries + 1
                if tries > 2:
                    raise TimeoutError(f"the stream {self._stream} cannot be read") from None
                await asyncio.sleep(_RETRY_S)

    async def _consume(self) -> AsyncGenerator[Sequence[Message], None]:
        """Batches of messages from one consumer, without a gap in any; an empty one where nothing comes."""
        connection = self._cluster.connection
        waiting: list[Arrived] = []
        arrived = asyncio.Event()

        def take(messages: Sequence[Arrived]) -> None:
            waiting.extend(messages)
            arrived.set()

        inbox = connection.new_inbox()
        subscription = await connection.receive(inbox, take)
        consumer = ""
        looking: asyncio.Task[None] | None = None
        try:
            consumer = await self._create()
            ask = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
            delivery = Delivery()
            came_s = time.monotonic()
            has_news = False
            looking = asyncio.create_task(self._look_on())
            looking.add_done_callback(lambda _: arrived.set())
            # What was asked for by a connection that is lost comes no more, or not all of it.
            self._cluster.on_lost.add(looking.cancel)
            while True:
                if looking.done():
                    raise Lost
                if has_news and self._gathers and (self.behind or 0) < _AT_ONCE // 2:
                    await asyncio.sleep(self._linger_s)
                for request, messages in self._requests(delivery.asked, has_news):
                    await connection.publish(ask, request, reply=inbox)
                    delivery.asked = messages
                async with asyncio.timeout(_SILENT_S):
                    await arrived.wait()
                await asyncio.sleep(_LINGER_S)
                batch = waiting[:]
                waiting.clear()
                arrived.clear()
                runs = delivery.runs(batch)
                self.behind = self.behind if delivery.behind is None else delivery.behind
                has_news = bool(runs)
                if runs:
                    came_s = time.monotonic()
                elif time.monotonic() - came_s > _QUIET_S:
                    came_s = time.monotonic()
                    await self._check()
                for news in itertools.chain.from_iterable(map(self._news, runs or [[]])):
                    yield news
        finally:
            if looking is not None:
                self._cluster.on_lost.discard(looking.cancel)
                looking.cancel()
            await connection.cease(subscription)
            await self._delete(consumer)

    def _requests(self, asked: int, has_news: bool) -> Sequence[tuple[bytes, int]]:
        """What to ask for where `asked` messages may still come, and how many may come then.

        Whoever lingers asks for what is there each time, so that it comes at once: to wake up for each message costs
        more than the message. Where nothing is there it waits for one.
        """
        if not self._gathers:
            return [(_MANY, asked + _AT_ONCE)] if asked < _AT_ONCE // 2 else ()
        if has_news:
            return [(_THERE, _AT_ONCE)]
        return [(_ONE, 1)] if asked <= 0 else ()

    async def _look_on(self) -> None:
        """Return when another server leads the stream."""
        leader = self.server
        while leader in (None, self.server):
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                leader = await self._leader()

    async def _leader(self) -> str | None:
        """The server that leads the stream; None where it is led by none, or needs none."""
        return _leader_of(await self._api.stream_info(self._stream))

    async def _is_same(self, state: StreamState) -> bool:
        """Whether the leader has the last message that was read, at its sequence."""
        if state.last_seq < self.last:
            return False
        if self._newest is None:
            return True
        try:
            there = await self._api.get_msg(self._stream, self.last)
        except nats.js.errors.NotFoundError:
            return False
        return hash(there.data or b"") == self._newest

    async def _check(self) -> None:
        """Raise Lost where the stream's leader has messages that the consumer's server does not know of.

        A server that stood still may stay behind the others, and serve its consumers with nothing but heartbeats.
        """
        state = (await self._api.stream_info(self._stream)).state
        if state.messages and state.last_seq > self.last:
            raise Lost

    def _news(self, run: Sequence[Message]) -> Sequence[Sequence[Message]]:
        """The messages of a run that were not handed out yet, in runs; an empty one where there is none."""
        if not run:
            return [run]
        self.last = run[-1].sequence
        if self.last > self._head or self.behind == 0:
            self._head = self.last
        if not self._again:
            self._newest = hash(run[-1].payload)
            return [run]
        news: list[list[Message]] = [[]]
        for message in run:
            if self.remembered.add(message.identity):
                news[-1].append(message)
            elif news[-1]:
                news.append([])
        return [some for some in news if some] or [[]]

    async def _create(self) -> str:
        """Make a consumer on the server that leads the stream, or on another where that cannot be had."""
        info = await asked_again(lambda: self._api.stream_info(self._stream), _ASK_AGAIN_S, _ANSWER_S)
        leader = _leader_of(info)
        if self._again:
            self.last = max(self._head - self._again, self._after)
        elif self._anew is not None and not await self._is_same(info.state):
            _log.warning("the copy of %s on %s is not as the one before, and is read anew", self._stream, leader)
            self.last, self._newest = 0, None
            await self._anew()
        made = await self._created(leader)
        self.behind = made.num_pending
        self.server = leader
        return made.name

    async def _created(self, leader: str | None) -> ConsumerInfo:
        """A consumer on the server that leads, or on another where that cannot be had: JetStream chooses at random."""
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.last + 1,
            inactive_threshold=30.0,
            mem_storage=True,
            num_replicas=1,
        )
        others: list[ConsumerInfo] = []

        async def make() -> ConsumerInfo:
            made = await self._api.add_consumer(self._stream, config, timeout=_ANSWER_S)
            if leader is None or (made.cluster and made.cluster.leader == leader):
                return made
            others.append(made)
            raise _Elsewhere

        try:
            # What is made later than that is forgotten by the server, as nobody asks it for anything.
            return await asked_again(make, _MAKE_AGAIN_S, _ANSWER_S, at_once=1 if leader is None else _AT_A_TIME)
        except (_Elsewhere, nats.errors.Error, TimeoutError):
            if not others:
                raise
            return others.pop()
        finally:
            for other in others:
                await self._delete(other.name)

    async def _delete(self, consumer: str) -> None:
        connection = self._cluster.connection
        if consumer and connection.is_connected:
            with contextlib.suppress(nats.errors.Error):
                await connection.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{consumer}")


def _leader_of(info: StreamInfo) -> str | None:
    return info.cluster.leader if info.cluster and info.cluster.replicas else None
