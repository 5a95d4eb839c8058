"""Patterns for names of users: `*` stands for any characters, `?` for one; everything else for itself."""

import fnmatch
import re
from collections.abc import Callable, Sequence

__all__ = ["EVERYBODY", "MAX_PATTERN", "matcher"]

MAX_PATTERN = 128
EVERYBODY = ("*",)


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name matches one of `patterns`, upper and lower case told apart."""
    if "*" in patterns:
        return lambda _: True
    exact = frozenset(pattern for pattern in patterns if "*" not in pattern and "?" not in pattern)
    if len(exact) == len(patterns):
        return exact.__contains__
    # fnmatch's translation does not backtrack over several stars; its character classes are not wanted here.
    translated = "|".join(fnmatch.translate(pattern.replace("[", "[[]")) for pattern in patterns)
    return lambda name: re.match(translated, name) is not None
