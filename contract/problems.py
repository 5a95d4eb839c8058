"""What is wrong with an input, said so that its sender can mend it."""

import re
from dataclasses import dataclass

import msgspec

__all__ = ["Problem", "problem_of", "shortened"]

_PATH = re.compile(r"^(?P<detail>.*) - at (?:key in )?\$(?P<path>.*)$", re.DOTALL)
_PART = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong member of a JSON document."""

    pointer: str
    """Where: a JSON pointer (RFC 6901), empty for the whole document."""
    detail: str
    """What is wrong and what would be right."""


def problem_of(error: msgspec.DecodeError) -> Problem:
    """The problem that msgspec's error describes; its path becomes a JSON pointer."""
    text = str(error).replace("`", "")
    match = _PATH.match(text)
    if match is None:
        return Problem("", text)
    # Of an entry of a map, msgspec does not say which: the pointer ends at the map.
    path = match["path"].partition("[...]")[0]
    pointer = "".join("/" + (name or index) for name, index in _PART.findall(path))
    return Problem(pointer, match["detail"])


def shortened(text: str, length: int = 60) -> str:
    """The text, cut where it is longer than a message should quote."""
    return text if len(text) <= length else text[: length - 3] + "..."
