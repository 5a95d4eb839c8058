"""What is wrong with an input, said so that its sender can mend it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

__all__ = ["Problem", "did_you_mean", "problem_of", "shortened"]

_PATH = re.compile(r"^(?P<detail>.*) - at (?:key in )?\$(?P<path>.*)$", re.DOTALL)
_PART = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong member of a JSON document."""

    pointer: str
    """Where: a JSON pointer (RFC 6901), empty for the whole document."""
    detail: str
    """What is wrong: what was expected and what came."""


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


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` where a known name is close to the wrong one, otherwise nothing."""
    from difflib import get_close_matches

    close = get_close_matches(wrong, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
