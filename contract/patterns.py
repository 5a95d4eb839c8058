"""Patterns for user ids, in agents' selectors, the stream, rules, silences and alerts: those of `fnmatch`.

`*` stands for any characters, `?` for one, `[ab]` and `[a-c]` for one of these, `[!ab]` for one that is none of them;
everything else stands for itself, `[[]` for a bracket. Upper and lower case are told apart.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence

from contract.report import MAX_USER_ID

MAX_PATTERN = MAX_USER_ID
"""The most characters of a pattern: every user id can be one."""
EVERYBODY = ("*",)
_SPECIAL = re.compile(r"[*?\[]")


def checked_pattern(text: str) -> str:
    """The pattern `text`; raises ValueError where it is empty or longer than `MAX_PATTERN`."""
    if not 0 < len(text) <= MAX_PATTERN:
        raise ValueError(f"expected a pattern of 1 to {MAX_PATTERN} characters such as web-*, got {len(text)} of them")
    return text


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name matches one of `patterns`; raises ValueError for one that is empty or too long."""
    for pattern in patterns:
        checked_pattern(pattern)
    if "*" in patterns:
        return lambda _: True
    exact = exact_names(patterns)
    if exact is not None:
        return exact.__contains__
    # fnmatch's translation does not backtrack over several stars, so a pattern's length bounds what a match takes.
    match = re.compile("|".join(map(fnmatch.translate, patterns))).match
    return lambda name: match(name) is not None


def exact_names(patterns: Sequence[str]) -> frozenset[str] | None:
    """The names that `patterns` stand for, if each stands for itself alone; None otherwise."""
    if any(_SPECIAL.search(pattern) for pattern in patterns):
        return None
    return frozenset(patterns)
