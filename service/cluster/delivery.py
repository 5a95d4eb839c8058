"""What a consumer of JetStream delivers: messages, each known by what it is, in runs that follow each other."""

from collections.abc import Sequence
from typing import NamedTuple

from service.cluster.connection import Arrived

_ID = b"\r\nNats-Msg-Id:"
_HEARTBEAT = b"NATS/1.0 100"
_TOKENS = 9
"""Of where a message's acknowledgement would go, with servers such as 2.9."""


class Message(NamedTuple):
    """A message of a stream."""

    sequence: int
    payload: bytes
    identity: int
    """The same wherever the message is, and for each time that it was sent: of its id, where it has one."""


class Lost(Exception):
    """The consumer is gone, or has left something out."""


class Remembered:
    """The identities of the newest messages. One thread adds, any may ask."""

    def __init__(self, most: int) -> None:
        """Remember so many."""
        self._most = most
        self._identities: dict[int, None] = {}

    def __contains__(self, identity: int) -> bool:
        return identity in self._identities

    def add(self, identity: int) -> bool:
        """Remember a message; whether it is new."""
        if identity in self._identities:
            return False
        self._identities[identity] = None
        if len(self._identities) > self._most:
            del self._identities[next(iter(self._identities))]
        return True


class Delivery:
    """What a consumer has delivered, and what it was asked for."""

    def __init__(self) -> None:
        self.asked = 0
        """Messages that are still to come of those that were asked for."""
        self.behind: int | None = None
        self._delivered = 0

    def runs(self, batch: Sequence[Arrived]) -> list[list[Message]]:
        """The messages of a batch, in runs whose sequences follow each other. Raises Lost where one is left out."""
        runs: list[list[Message]] = []
        for message in batch:
            if not message.reply.startswith(b"$JS.ACK"):
                if not message.headers.startswith(_HEARTBEAT):
                    # The request has ended, for its time or for want of a leader.
                    self.asked = 0
                continue
            sequence, delivered, put_ns, self.behind = _place(message.reply)
            if delivered != self._delivered + 1:
                raise Lost
            self._delivered = delivered
            self.asked -= 1
            if not runs or sequence != runs[-1][-1].sequence + 1:
                runs.append([])
            runs[-1].append(Message(sequence, message.payload, _identity_of(message, put_ns)))
        return runs


def _identity_of(message: Arrived, put_ns: int) -> int:
    start = message.headers.find(_ID)
    if start < 0:
        return hash((put_ns, message.payload))
    start += len(_ID)
    return hash(message.headers[start : message.headers.index(b"\r\n", start)].strip().decode())


def _place(reply: bytes) -> tuple[int, int, int, int]:
    """Of a message: its sequence in the stream, its number among those of the consumer, when it was put, and how many
    follow.
    """
    tokens = reply.split(b".")
    # Newer servers put a domain and an account in front, and a random token behind.
    start = 5 if len(tokens) == _TOKENS else 7
    sequence, delivered, put_ns, behind = tokens[start : start + 4]
    return int(sequence), int(delivered), int(put_ns), int(behind)
