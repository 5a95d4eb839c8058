"""Disks and network interfaces by name: how they are called, and the numbers by which stores know them.

A store has a number where a core has its own. It follows from the name, so that whoever reads the same reports, in any
order, comes to the same; only of two names with one number the later known has the next.
"""

import zlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from msgspec import Meta

LISTED: Final = 16
"""So many devices of a kind an agent names in a window: those that moved most bytes in it."""
MAX_DEVICES: Final = 64
"""So many names of a kind are known of a host; further ones are left out."""
MAX_NAME: Final = 64
DeviceName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]

FIRST_NUMBER: Final = 8192
"""Numbers of devices begin above those of cores."""
LAST_NUMBER: Final = 65533

Devices = Mapping[str, Mapping[str, int]]
"""What is known of a host: for a metric's type (`DISKS`) the number of each name. Replaced, never changed."""


def with_names(known: Devices, kind: str, names: Iterable[str]) -> Devices:
    """What is known once a host has named some devices of a kind; `known` itself where that is nothing new."""
    numbers = known.get(kind, {})
    if all(name in numbers for name in names):
        return known
    numbers = dict(numbers)
    for name in names:
        if name not in numbers and len(numbers) < MAX_DEVICES:
            numbers[name] = _free_number(name, numbers)
    return {**known, kind: numbers}


def _free_number(name: str, numbers: Mapping[str, int]) -> int:
    taken = {*numbers.values()}
    span = LAST_NUMBER - FIRST_NUMBER + 1
    first = zlib.crc32(name.encode("utf-8", "surrogatepass")) % span
    return next(number for step in range(span) if (number := FIRST_NUMBER + (first + step) % span) not in taken)


def both(one: Devices, other: Devices) -> Devices:
    """What two know of a host; of a name with two numbers the first's."""
    return {kind: {**other.get(kind, {}), **one.get(kind, {})} for kind in sorted({*one, *other})}


class Names(dict[int, str]):
    """The names of devices by their numbers; `#` and the number where a name is not known, as after a repair."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        super().__init__({number: name for name, number in numbers.items()})

    def __missing__(self, number: int) -> str:
        return f"#{number}"
