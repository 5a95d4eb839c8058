"""Prometheus' remote write, encoded by hand: protobuf's wire format and snappy's block format, from their specs.

https://protobuf.dev/programming-guides/encoding/ and
https://github.com/google/snappy/blob/main/format_description.txt
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

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


Fields = dict[int, list[int | float | bytes]]


def fields(message: bytes) -> Fields:
    """The members of a message by their numbers: whole numbers, doubles, and what has a length as it is."""
    found: Fields = {}
    place = 0

    def number() -> int:
        nonlocal place
        read = shift = 0
        while True:
            byte = message[place]
            place += 1
            read |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return read

    while place < len(message):
        key = number()
        value: int | float | bytes
        if key & 7 == 0:
            value = number()
        elif key & 7 == 1:
            (value,) = struct.unpack_from("<d", message, place)
            place += 8
        else:
            assert key & 7 == 2, f"a member of wire type {key & 7}"
            length = number()
            value = message[place : place + length]
            place += length
        found.setdefault(key >> 3, []).append(value)
    return found


def packed(content: bytes) -> list[int]:
    """A packed list of numbers."""
    found, read, shift = [], 0, 0
    for byte in content:
        read |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            found.append(read)
            read = shift = 0
    return found


def signed(number: int) -> int:
    """A number of the types sint32 and sint64 (zigzag)."""
    return number >> 1 ^ -(number & 1)


class Histogram(NamedTuple):
    """A native histogram, as Prometheus' document says how it is read."""

    count: int
    sum: float
    zero: int
    schema: int
    buckets: dict[int, int]

    def quantile(self, q: float) -> float:
        """The upper bound of the bucket that holds it."""
        rank, seen = max(1, math.ceil(q * self.count)), self.zero
        if seen >= rank:
            return 0.0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return 2.0 ** (bucket / 2**self.schema)
        raise AssertionError("the buckets hold less than the count")


def _histogram(message: bytes) -> tuple[int, Histogram]:
    read = fields(message)
    deltas = [signed(one) for one in packed(b"".join(map(bytes, read.get(12, []))))]  # type: ignore[arg-type]
    buckets: dict[int, int] = {}
    bucket, count = 0, 0
    for span in read.get(11, []):
        assert isinstance(span, bytes)
        gap = fields(span)
        bucket += signed(int(gap.get(1, [0])[0]))
        for _ in range(int(gap[2][0])):
            count += deltas.pop(0)
            buckets[bucket] = count
            bucket += 1
    assert not deltas
    assert read[14] == [3], "a gauge histogram"
    schema = signed(int(read[4][0]))
    made = Histogram(int(read[1][0]), float(read.get(3, [0.0])[0]), int(read.get(6, [0])[0]), schema, buckets)
    return int(read[15][0]), made


Value = float | Histogram


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    return value.decode()


def received(body: bytes, *, second: bool) -> dict[tuple[str, str], dict[int, Value]]:
    """What a request says: by name and instance of a series its values by time."""
    request = fields(body)
    symbols = [_text(one) for one in request.get(4, [])]
    found: dict[tuple[str, str], dict[int, Value]] = {}
    for one in request.get(5 if second else 1, []):
        assert isinstance(one, bytes)
        series = fields(one)
        if second:
            (places,) = series[1]
            assert isinstance(places, bytes)
            texts = [symbols[place] for place in packed(places)]
            labels = dict(zip(texts[::2], texts[1::2], strict=True))
        else:
            pairs = [fields(pair) for pair in series[1] if isinstance(pair, bytes)]
            labels = {_text(pair[1][0]): _text(pair[2][0]) for pair in pairs}
        assert [*labels] == sorted(labels)
        values: dict[int, Value] = {}
        for message in series.get(2, []):
            assert isinstance(message, bytes)
            read = fields(message)
            values[int(read[2][0])] = float(read.get(1, [0.0])[0])
        values |= dict(
            _histogram(message) for message in series.get(3 if second else 4, []) if isinstance(message, bytes)
        )
        assert [*values] == sorted(values)
        found.setdefault((labels["__name__"], labels["instance"] + labels.get("core", "")), {}).update(values)
    return found


def unblock(content: bytes) -> bytes:
    """What a block of snappy unpacks to."""
    length, place, shift = 0, 0, 0
    while True:
        byte = content[place]
        place += 1
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    made = bytearray()
    while place < len(content):
        tag = content[place]
        place += 1
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                more = size - 59
                size = int.from_bytes(content[place : place + more], "little")
                place += more
            made += content[place : place + size + 1]
            place += size + 1
            continue
        if tag & 3 == 1:
            size, back = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | content[place]
            place += 1
        else:
            wide = 2 if tag & 3 == 2 else 4
            size, back = (tag >> 2) + 1, int.from_bytes(content[place : place + wide], "little")
            place += wide
        for _ in range(size):
            made.append(made[-back])
    assert len(made) == length
    return bytes(made)
