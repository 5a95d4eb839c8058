"""Numbers of a state as text: exact, and half as long as their digits."""

from array import array
from base64 import b64decode, b64encode
from collections.abc import Iterable
from sys import byteorder


def pack(values: Iterable[float]) -> str:
    """The numbers as doubles, little-endian, in base64."""
    numbers = array("d", values)
    if byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()


def unpack(text: str) -> "array[float]":
    """What `pack` was given."""
    numbers = array("d", b64decode(text))
    if byteorder == "big":
        numbers.byteswap()
    return numbers
