"""The messages of a stream in their order, each once, from a sequence on: read through, or followed.

A consumer of JetStream lives in one server's memory and asks for no acknowledgement: how far a reader is, it knows
itself, and keeps it with what it made of the messages. So a consumer that is lost is made again behind the last
message.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from service.cluster.connection import Cluster

_AT_ONCE = 1000
"""Messages that are asked for at once."""
_EXPIRES_S = 30.0
_HEARTBEAT_S = 0.5
_SILENT_S = 1.5
"""After so long without message or heartbeat a consumer is made anew."""
_QUIET_S = 2.0
"""After so long without a message the stream's leader is asked whether there is none."""
_RETRY_S = 0.1
_LINGER_S = 0.002
"""What comes within that time is handed on together."""


class Message(NamedTuple):
    """A message of a stream."""

    sequence: int
    payload: bytes


class _Lost(Exception):
    """The consumer is gone, or has left something out."""


class Tail:
    """Follows a stream. Everything here runs on the connection's loop."""

    def __init__(self, cluster: Cluster, stream: str, after: int) -> None:
        """Begin behind sequence `after`."""
        self._cluster = cluster
        self._stream = stream
        self.last = after
        """The sequence of the newest message that was handed out."""
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
            except (_Lost, nats.errors.Error, TimeoutError, OSError):
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
            except (_Lost, nats.errors.Error, TimeoutError):
                tries = 0 if self.last > before else tries + 1
                if tries > 2:
                    raise TimeoutError(f"the stream {self._stream} cannot be read") from None
                await asyncio.sleep(_RETRY_S)

    async def _consume(self) -> AsyncGenerator[Sequence[Message], None]:
        """Batches of messages from one consumer, without a gap in any; an empty one where nothing comes."""
        connection = self._cluster.connection
        waiting: list[Msg] = []
        arrived = asyncio.Event()

        async def take(message: Msg) -> None:
            waiting.append(message)
            arrived.set()

        inbox = connection.new_inbox()
        subscription = await connection.subscribe(inbox, cb=take, pending_msgs_limit=0, pending_bytes_limit=0)
        consumer = ""
        try:
            consumer = await self._create()
            ask = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer}"
            delivery = _Delivery()
            came_s = time.monotonic()
            while True:
                if delivery.asked < _AT_ONCE // 2:
                    await connection.publish(ask, _REQUEST, reply=inbox)
                    delivery.asked += _AT_ONCE
                await asyncio.wait_for(arrived.wait(), _SILENT_S)
                await asyncio.sleep(_LINGER_S)
                batch = waiting[:]
                waiting.clear()
                arrived.clear()
                runs = delivery.runs(batch)
                self.behind = self.behind if delivery.behind is None else delivery.behind
                if runs:
                    came_s = time.monotonic()
                elif time.monotonic() - came_s > _QUIET_S:
                    came_s = time.monotonic()
                    await self._check()
                for run in runs or [[]]:
                    yield self._handed(run)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
            if consumer and connection.is_connected:
                with contextlib.suppress(nats.errors.Error):
                    await connection.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{consumer}")

    async def _check(self) -> None:
        """Raise _Lost where the stream's leader has messages that the consumer's server does not know of.

        A server that stood still may stay behind the others, and serve its consumers with nothing but heartbeats.
        """
        state = (await self._cluster.jetstream.stream_info(self._stream)).state
        if state.messages and state.last_seq > self.last:
            raise _Lost

    def _handed(self, messages: Sequence[Message]) -> Sequence[Message]:
        self.last = messages[-1].sequence if messages else self.last
        return messages

    async def _create(self) -> str:
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.last + 1,
            inactive_threshold=30.0,
            mem_storage=True,
            num_replicas=1,
        )
        made = await self._cluster.jetstream.add_consumer(self._stream, config, timeout=2.0)
        self.behind = made.num_pending
        return made.name


class _Delivery:
    """What a consumer has delivered, and what it was asked for."""

    def __init__(self) -> None:
        self.asked = 0
        """Messages that are still to come of those that were asked for."""
        self.behind: int | None = None
        self._delivered = 0

    def runs(self, batch: Sequence[Msg]) -> list[list[Message]]:
        """The messages of a batch, in runs whose sequences follow each other. Raises _Lost where one is left out."""
        runs: list[list[Message]] = []
        for message in batch:
            if not message.reply.startswith("$JS.ACK"):
                if (message.headers or {}).get("Status") != "100":
                    # The request has ended, for its time or for want of a leader.
                    self.asked = 0
                continue
            sequence, delivered, self.behind = _place(message.reply)
            if delivered != self._delivered + 1:
                raise _Lost
            self._delivered = delivered
            self.asked -= 1
            if not runs or sequence != runs[-1][-1].sequence + 1:
                runs.append([])
            runs[-1].append(Message(sequence, message.data))
        return runs


_REQUEST = json.dumps(
    {"batch": _AT_ONCE, "expires": int(_EXPIRES_S * 1e9), "idle_heartbeat": int(_HEARTBEAT_S * 1e9)}
).encode()


def _place(reply: str) -> tuple[int, int, int]:
    """Of a message: its sequence in the stream, its number among those of the consumer, and how many follow."""
    tokens = reply.split(".")
    # Newer servers put a domain and an account in front, and a random token behind.
    start = 5 if len(tokens) == _TOKENS else 7
    return int(tokens[start]), int(tokens[start + 1]), int(tokens[start + 3])


_TOKENS = 9
