"""One who follows the stream: what it gets next, and from where."""

import asyncio
from collections.abc import AsyncGenerator

from service.stream.broker import Hub
from service.stream.channels import Channel, Form
from service.stream.selection import Selection


class Consumer:
    """Follows from behind offset `after`, or from now on.

    `chunks` gives encoded events: what is asked for, in order, each once; `gap` or `missed` where the journal has
    something no more; heartbeats. Raises TooManyConsumers when it is made.
    """

    def __init__(self, hub: Hub, selection: Selection, form: Form, after: int | None) -> None:
        self._hub = hub
        self._wake = asyncio.Event()
        self._channel: Channel = hub.join(selection, form, self._wake)
        self._cursor = hub.routed if after is None else after
        self._place: int | None = None
        """The number of the channel's piece that comes next; None while the journal is read."""
        self._was_live = False

    def leave(self) -> None:
        """It is gone."""
        self._hub.leave(self._channel, self._wake)

    async def chunks(self) -> AsyncGenerator[bytes]:
        """What it gets, until the service stops."""
        hub, channel = self._hub, self._channel
        if self._cursor > hub.routed:
            # Offsets that were never given out here: the data directory is another, or older.
            last, self._cursor = self._cursor, hub.routed
            yield channel.notice("gap", hub.routed, hub.routed + 1, last)
        beats = hub.beats - 1
        while not hub.closing:
            for chunk in self._live() if self._place is not None else await self._from_journal():
                beats = hub.beats
                yield chunk
            if self._is_due():
                continue
            if beats < hub.beats:
                beats = hub.beats
                yield channel.heartbeat(self._cursor)
            self._wake.clear()
            if not self._is_due() and beats == hub.beats and not hub.closing:
                await self._wake.wait()

    def _is_due(self) -> bool:
        """Whether there is something to do at once."""
        return self._place is None or self._place < self._channel.next

    def _live(self) -> list[bytes]:
        """The next piece that the channel holds."""
        assert self._place is not None
        channel = self._channel
        self._was_live = True
        if self._place < channel.first:
            # It was taken away before we came to it; the journal may have it still.
            self._place = None
            return []
        if self._place == channel.next:
            self._cursor = self._hub.routed
            return []
        piece = channel.pieces[self._place - channel.first]
        self._place += 1
        self._cursor = piece.last
        self._hub.delivered += piece.events
        return [piece.data]

    async def _from_journal(self) -> list[bytes]:
        """The next page of the journal; from its end on, it goes on live."""
        hub, channel = self._hub, self._channel
        if self._cursor >= hub.routed:
            self._place = channel.next
            return []
        stretch = await hub.read(channel, self._cursor)
        chunks = []
        if stretch.first > self._cursor + 1:
            hub.missed += stretch.first - self._cursor - 1
            name = "missed" if self._was_live else "gap"
            chunks.append(channel.notice(name, stretch.first - 1, self._cursor + 1, stretch.first - 1))
        self._cursor = stretch.last
        hub.delivered += sum(piece.events for piece in stretch.pieces)
        return chunks + [piece.data for piece in stretch.pieces]
