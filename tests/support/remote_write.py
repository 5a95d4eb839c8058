"""Prometheus' remote write, encoded by hand: protobuf's wire format and snappy's block format, from their specs.

https://protobuf.dev/programming-guides/encoding/ and
https://github.com/google/snappy/blob/main/format_description.txt
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

V2_TYPE = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
HEADERS = {
    "Content-Type": "application/x-protobuf", "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}  # fmt: skip
STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]

Series = tuple[Mapping[str, str], Sequence[tuple[int, float]]]
"""The labels of a series, and its samples: a moment in epoch milliseconds and a value."""


def varint(number: int) -> bytes:
    """A number, seven bits a byte, the least first; negative ones as 64 bits."""
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def member(number: int, content: bytes) -> bytes:
    """A member of a message that has a length: a text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def sample(at_ms: int, value: float) -> bytes:
    """A sample: `double value = 1; int64 timestamp = 2`."""
    return b"\x09" + struct.pack("<d", value) + b"\x10" + varint(at_ms)


def first(series: Iterable[Series], *more: bytes) -> bytes:
    """`prometheus.WriteRequest`."""
    made = []
    for labels, samples in series:
        pairs = [member(1, member(1, name.encode()) + member(2, text.encode())) for name, text in labels.items()]
        made.append(member(1, b"".join([*pairs, *(member(2, sample(*one)) for one in samples), *more])))
    return b"".join(made)


def second(series: Iterable[Series], *more: bytes) -> bytes:
    """`io.prometheus.write.v2.Request`, with places of labels in a packed list."""
    symbols = {"": 0}
    made = []
    for labels, samples in series:
        places = [symbols.setdefault(text, len(symbols)) for pair in labels.items() for text in pair]
        packed = member(1, b"".join(map(varint, places)))
        made.append(member(5, b"".join([packed, *(member(2, sample(*one)) for one in samples), *more])))
    return b"".join([*(member(4, text.encode()) for text in symbols), *made])


def block(content: bytes) -> bytes:
    """A block of snappy that is nothing but literals, 60 bytes each."""
    parts = [content[place : place + 60] for place in range(0, len(content), 60)]
    return varint(len(content)) + b"".join(bytes([len(part) - 1 << 2]) + part for part in parts)
