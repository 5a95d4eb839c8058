"""NATS's client, with a shorter way for messages that come and go by the thousand.

Its own way looks for each message with up to seven regular expressions, takes headers apart, makes an object of it, and
hands that to a task of the subscription by a queue; what is sent is checked, put together from parts and announced to a
task one by one. Here whole messages are cut out of what was read and handed on together, and what is sent together is
one text. Where a newer release of the client has another inside, its own way is gone.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

_log = logging.getLogger("loadlens.service")
_END = b"\r\n"
_PLAIN = b"MSG"
_MOST = {_PLAIN: 5, b"HMSG": 6}
"""Words of a message with where to answer; without it is one less."""
_HEADERS_SIZE = len(b"NATS/1.0\r\nNats-Msg-Id: \r\n\r\n")
_PUBLISH = b"HPUB %b %b %d %d\r\nNATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n%b\r\n"
_AT_ONCE = 256 * 1024
"""Bytes that are handed to the connection together: the client keeps 2 MiB for a server that is slow."""
_RETRY_S = 0.1
_SENDS = all(hasattr(Client, name) for name in ("_send_command", "_flush_pending"))
"""Whether the client has inside what the shorter way of sending needs."""


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """A message as it came, nothing of it taken apart."""

    subject: bytes
    reply: bytes
    payload: bytes
    headers: bytes
    """With their first line, which may have a status; empty where there are none."""


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message for JetStream, which says to `reply` what became of it."""

    subject: bytes
    reply: bytes
    id: bytes
    """Of all messages with one `Nats-Msg-Id` JetStream keeps one."""
    payload: bytes


Take = Callable[[Sequence[Arrived]], None]
"""Takes messages of a subscription that came together, on the connection's loop."""


class ShortClient(Client):
    """The client. Everything here runs on its loop."""

    def __init__(self) -> None:
        super().__init__()
        self.takers: dict[bytes, Take] = {}
        """Who takes what comes to a subscription, by its number."""
        self._ps: Parser = _ShortParser(self)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        """Take what did not come by the shorter way, as it stood behind something else."""
        take = self.takers.get(b"%d" % sid)
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers)  # type: ignore[arg-type]
        else:
            hand_on(take, [Arrived(subject, reply, data, headers or b"")])

    async def _process_op_err(self, e: Exception) -> None:
        """Go to another server.

        The connection that is of no use any more is cut: to close it takes until all is sent that waits to be, and a
        server that stands still or is cut off never takes that.
        """
        if self.is_connected or self.is_connecting:
            writer = getattr(self._transport, "_io_writer", None)
            if writer is not None:
                writer.transport.abort()
        await super()._process_op_err(e)

    async def _attempt_reconnect(self) -> None:
        """Connect again, whatever goes wrong meanwhile: the client's own way ends at what it does not expect.

        Such as uvloop's RuntimeError where a server dies while it is told what is subscribed to.
        """
        while True:
            try:
                await super()._attempt_reconnect()
            except Exception:  # noqa: BLE001 - or this process would never be connected again
                _log.warning("NATS cannot be reached again; trying anew", exc_info=True)
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def receive(self, subject: str, take: Take) -> Subscription:
        """Have `take` called with the messages of a subject, as they come."""

        async def taken(message: Msg) -> None:
            take([_as_it_came(message)])

        subscription = await self.subscribe(subject, cb=taken, pending_msgs_limit=0, pending_bytes_limit=0)
        self.takers[b"%d" % subscription._id] = take
        return subscription

    async def cease(self, subscription: Subscription) -> None:
        """Receive no more of a subscription."""
        self.takers.pop(b"%d" % subscription._id, None)
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Send messages, in their order. Raises nats.errors.Error where the connection is closed, or one is too large.

        Without a connection they are kept until there is one, as `publish` keeps them.
        """
        if not _SENDS:
            for one in messages:
                names = {"Nats-Msg-Id": one.id.decode()}
                await self.publish(one.subject.decode(), one.payload, one.reply.decode(), names)
            return
        if self.is_closed:
            raise nats.errors.ConnectionClosedError
        texts: list[bytes] = []
        size, most = 0, self.max_payload
        for one in messages:
            headers, payload = _HEADERS_SIZE + len(one.id), len(one.payload)
            if payload > most:
                # The server would end the connection for it.
                raise nats.errors.MaxPayloadError
            texts.append(_PUBLISH % (one.subject, one.reply, headers, headers + payload, one.id, one.payload))
            size += payload
            if size > _AT_ONCE:
                await self._send_command(b"".join(texts))
                texts, size = [], 0
        if texts:
            await self._send_command(b"".join(texts))
        await self._flush_pending()


class _ShortParser(Parser):
    """Hands on what comes to subscriptions that have a taker; all else is for the client's own parser."""

    def __init__(self, client: ShortClient) -> None:
        super().__init__(client)
        self._takers = client.takers

    async def parse(self, data: bytes = b"") -> None:
        """Go on with what was read."""
        if self.state == AWAITING_CONTROL_LINE:
            read = bytes(self.buf) + data if self.buf else data
            place, is_all = self._take(read)
            self.buf = bytearray(memoryview(read)[place:])
            if is_all:
                return
            data = b""
        await super().parse(data)

    def _take(self, read: bytes) -> tuple[int, bool]:
        """Hand on messages up to the first that is another's.

        Returns where that begins, or what is not there as a whole yet, and whether there is none of another.
        """
        place, end = 0, len(read)
        is_all = False
        taking: Take | None = None
        batch: list[Arrived] = []
        takers = self._takers
        try:
            while not (is_all := place == end):
                line = read.find(_END, place)
                if line < 0:
                    is_all = True
                    break
                # MSG or HMSG, subject, subscription, where to answer if at all, bytes of headers if any, bytes of all
                words = read[place:line].split()
                most = _MOST.get(words[0], 0)
                take = takers.get(words[2]) if most else None
                if take is None or not most - 1 <= (count := len(words)) <= most:
                    break
                start = line + 2
                body = start if words[0] == _PLAIN else start + int(words[-2])
                stop = start + int(words[-1])
                if stop + 2 > end:
                    is_all = True
                    break
                if take is not taking:
                    if taking is not None:
                        hand_on(taking, batch)
                    taking, batch = take, []
                reply = words[3] if count == most else b""
                batch.append(Arrived(words[1], reply, read[body:stop], read[start:body]))
                place = stop + 2
        except (IndexError, ValueError):
            # The client's parser says what is wrong with it.
            is_all = False
        if taking is not None:
            hand_on(taking, batch)
        return place, is_all


def hand_on(take: Take, messages: Sequence[Arrived]) -> None:
    """Have messages taken."""
    try:
        take(messages)
    except Exception:  # noqa: BLE001 - the client would take it for a broken connection
        _log.exception("messages of NATS could not be taken")


def _as_it_came(message: Msg) -> Arrived:
    headers = dict(message.headers or {})
    first = f"NATS/1.0 {headers.pop('Status', '')}".rstrip()
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())] if message.headers else []
    text = "".join(f"{line}\r\n" for line in lines)
    return Arrived(message.subject.encode(), message.reply.encode(), message.data, text.encode())
