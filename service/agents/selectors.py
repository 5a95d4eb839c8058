"""Which agents are meant: all of them, those of an operating system, or those whose user id fits a pattern."""

from collections.abc import Callable
from dataclasses import dataclass, field

from contract.patterns import MAX_PATTERN, matcher
from contract.problems import shortened
from contract.report import OS_TYPES

__all__ = ["ALL", "Selector", "parse_selector"]

_RIGHT = "all, os:Linux, os:MacOS, os:Windows or a pattern such as user:web-* is right"


@dataclass(frozen=True, slots=True)
class Selector:
    """A condition on agents, written `all`, `os:Linux` or `user:web-*`."""

    text: str
    os_type: str | None = None
    takes_user: Callable[[str], bool] | None = field(default=None, compare=False)
    rank: int = 0
    """Where its settings stand unless they are given another place: the higher wins."""

    def matches(self, user_id: str, os_type: str) -> bool:
        """Whether it means this agent."""
        if self.takes_user is not None:
            return self.takes_user(user_id)
        return self.os_type in (None, os_type)


ALL = Selector("all")


def parse_selector(text: str) -> Selector:
    """The selector of a text; raises ValueError, which says what is right.

    Patterns are those of `contract.patterns`.
    """
    kind, colon, rest = text.partition(":")
    if text == ALL.text:
        return ALL
    if kind == "os" and colon:
        for known in OS_TYPES:
            if known.lower() == rest.lower():
                return Selector(f"os:{known}", os_type=known, rank=100)
    if kind == "user" and rest and len(rest) <= MAX_PATTERN and rest.isprintable():
        return Selector(text, takes_user=matcher([rest]), rank=200)
    raise ValueError(f"{shortened(ascii(text))} selects no agents; {_RIGHT}")
