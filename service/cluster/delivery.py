"""What a consumer of JetStream delivers: messages, each known by what it is, in runs that follow each other."""

from collections.abc import Sequence

import msgspec

from service.cluster.client import Arrived

_ID = b"\r\nNats-Msg-Id:"
_ONLY_ID = b"NATS/1.0\r\nNats-Msg-Id: "
"""What headers begin with that have nothing but an id, as those of reports."""
_ID_AT = len(_ONLY_ID)
_HEARTBEAT = b"NATS/1.0 100"
_ACKNOWLEDGE = b"$JS.ACK."
_TOKENS = 9
"""Of where a message's acknowledgement would go, with servers such as 2.9."""


class Message(msgspec.Struct, frozen=True, gc=False):
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
        run: list[Message] = []
        delivered, behind = self._delivered, b""
        next_sequence = -1
        for message in batch:
            if not message.reply.startswith(_ACKNOWLEDGE):
                if not message.headers.startswith(_HEARTBEAT):
                    # The request has ended, for its time or for want of a leader.
                    self.asked = 0
                continue
            tokens = message.reply.split(b".")
            # Its sequence in the stream, its number among those of the consumer, when it was put, and how many follow.
            # Newer servers put a domain and an account in front, and a random token behind.
            start = 5 if len(tokens) == _TOKENS else 7
            sequence = int(tokens[start])
            delivered += 1
            if int(tokens[start + 1]) != delivered:
                raise Lost
            behind = tokens[start + 3]
            self.asked -= 1
            if sequence != next_sequence:
                run = []
                runs.append(run)
            next_sequence = sequence + 1
            run.append(Message(sequence, message.payload, _identity_of(message, tokens[start + 2])))
        if runs:
            self._delivered, self.behind = delivered, int(behind)
        return runs


def identity_of(name: bytes) -> int:
    """What a message is known by that was sent with this id."""
    return hash(name)


def _identity_of(message: Arrived, put_ns: bytes) -> int:
    headers = message.headers
    if headers.startswith(_ONLY_ID) and headers.find(b"\r\n", _ID_AT) == len(headers) - 4:
        return hash(headers[_ID_AT:-4])
    start = headers.find(_ID)
    if start < 0:
        return hash((put_ns, message.payload))
    start += len(_ID)
    return identity_of(headers[start : headers.index(b"\r\n", start)].strip())
