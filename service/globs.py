"""Patterns for names of users: `*` stands for any characters, `?` for one; everything else for itself."""

import fnmatch
import re
from collections.abc import Callable, Sequence

__all__ = ["EVERYBODY", "MAX_PATTERN", "exact_names", "matcher"]

MAX_PATTERN = 128
EVERYBODY = ("*",)


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name matches one of `patterns`, upper and lower case told apart."""
    if "*" in patterns:
        return lambda _: True
    exact = exact_names(patterns)
    if exact is not None:
        return exact.__contains__
    # fnmatch's translation does not backtrack over several stars; its character classes are not wanted here.
    translated = "|".join(fnmatch.translate(pattern.replace("[", "[[]")) for pattern in patterns)
    return lambda name: re.match(translated, name) is not None


def exact_names(patterns: Sequence[str]) -> frozenset[str] | None:
    """The names that `patterns` stand for, if each stands for itself alone; None otherwise."""
    if any("*" in pattern or "?" in pattern for pattern in patterns):
        return None
    return frozenset(patterns)
