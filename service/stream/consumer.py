"""One who follows the stream: what it gets next, and from where."""

import asyncio
from collections.abc import AsyncGenerator

from service.stream.broker import Broker
from service.stream.channels import Channel, StreamFormat
from service.stream.subscription import Subscription


class StreamConsumer:
    """Follows from behind offset `after`, or from now on.

    `chunks` gives encoded events: what is asked for, in order, each once; `gap` or `missed` where the journal has
    something no more; heartbeats. Raises TooManyConsumers when it is made.
    """

    def __init__(
        self, broker: Broker, subscription: Subscription, stream_format: StreamFormat, after: int | None
    ) -> None:
        self._broker = broker
        self._wake = asyncio.Event()
        self._channel: Channel = broker.join(subscription, stream_format, self._wake)
        self._cursor = broker.routed if after is None else after
        self._place: int | None = None
        """The number of the channel's batch that comes next; None while the journal is read."""
        self._was_live = False

    def leave(self) -> None:
        """Stop following; called once, when the client has gone."""
        self._broker.leave(self._channel, self._wake)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """What it gets, encoded, until the service stops."""
        broker, channel = self._broker, self._channel
        if self._cursor > broker.routed:
            await broker.catch_up(self._cursor)
        if self._cursor > broker.routed:
            # Offsets that were never given out here: the data directory is another, or older.
            last, self._cursor = self._cursor, broker.routed
            yield channel.notice("gap", broker.routed, broker.routed + 1, last)
        heartbeats = broker.heartbeats - 1
        while not broker.closing:
            for chunk in self._live() if self._place is not None else await self._from_journal():
                heartbeats = broker.heartbeats
                yield chunk
            if self._is_due():
                continue
            if heartbeats < broker.heartbeats:
                heartbeats = broker.heartbeats
                yield channel.heartbeat(self._cursor)
            self._wake.clear()
            if not self._is_due() and heartbeats == broker.heartbeats and not broker.closing:
                await self._wake.wait()

    def _is_due(self) -> bool:
        """Whether there is something to do at once."""
        return self._place is None or self._place < self._channel.next

    def _live(self) -> list[bytes]:
        """The next batch that the channel holds."""
        assert self._place is not None
        channel = self._channel
        self._was_live = True
        if self._place < channel.first:
            # It was taken away before we came to it; the journal may have it still.
            self._place = None
            return []
        if self._place == channel.next:
            self._cursor = self._broker.routed
            return []
        batch = channel.batches[self._place - channel.first]
        self._place += 1
        self._cursor = batch.last
        self._broker.delivered += batch.events
        return [batch.data]

    async def _from_journal(self) -> list[bytes]:
        """The next page of the journal; from its end on, it goes on live."""
        broker, channel = self._broker, self._channel
        if self._cursor >= broker.routed:
            self._place = channel.next
            return []
        past = await broker.read(channel, self._cursor)
        chunks = []
        if past.first > self._cursor + 1:
            broker.missed += past.first - self._cursor - 1
            name = "missed" if self._was_live else "gap"
            chunks.append(channel.notice(name, past.first - 1, self._cursor + 1, past.first - 1))
        self._cursor = past.last
        broker.delivered += sum(batch.events for batch in past.batches)
        return chunks + [batch.data for batch in past.batches]
