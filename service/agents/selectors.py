"""Which agents are meant: all of them, those of an operating system, or those whose user id fits a pattern."""

import fnmatch
import re
from dataclasses import dataclass, field

from contract.problems import shortened
from contract.report import MAX_USER_ID, OS_TYPES

__all__ = ["ALL", "Selector", "parse_selector"]

_RIGHT = "all, os:Linux, os:MacOS, os:Windows or a pattern such as user:web-* is right"


@dataclass(frozen=True, slots=True)
class Selector:
    """A condition on agents, written `all`, `os:Linux` or `user:web-*`."""

    text: str
    os_type: str | None = None
    pattern: re.Pattern[str] | None = field(default=None, compare=False)
    rank: int = 0
    """Where its settings stand unless they are given another place: the higher wins."""

    def matches(self, user_id: str, os_type: str) -> bool:
        """Whether it means this agent."""
        if self.pattern is not None:
            return self.pattern.fullmatch(user_id) is not None
        return self.os_type in (None, os_type)


ALL = Selector("all")


def parse_selector(text: str) -> Selector:
    """The selector of a text; raises ValueError, which says what is right.

    In patterns `*` stands for anything, `?` for one character, `[ab]` for one of these; capitals count.
    """
    kind, colon, rest = text.partition(":")
    if text == ALL.text:
        return ALL
    if kind == "os" and colon:
        for known in OS_TYPES:
            if known.lower() == rest.lower():
                return Selector(f"os:{known}", os_type=known, rank=100)
    if kind == "user" and rest and len(rest) <= MAX_USER_ID and rest.isprintable():
        return Selector(text, pattern=re.compile(fnmatch.translate(rest)), rank=200)
    raise ValueError(f"{shortened(ascii(text))} selects no agents; {_RIGHT}")
