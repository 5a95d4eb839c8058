"""Patterns for user ids, in agents' selectors, the stream, rules, silences and alerts: those of `fnmatch`.

Where hosts are selected by their labels too, `role=web` means those whose label `role` matches the pattern behind the
`=`, and `role=web,zone=eu-*` those of which all of it is true.

`*` stands for any characters, `?` for one, `[ab]` and `[a-c]` for one of these, `[!ab]` for one that is none of them;
everything else stands for itself, `[[]` for a bracket. Upper and lower case are told apart.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence

from contract.labels import is_name
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


def host_matcher(patterns: Sequence[str]) -> Callable[[str, Mapping[str, str]], bool]:
    """Whether a host, by its user id and its labels, is among those that `patterns` mean; raises ValueError.

    A pattern such as `role=web` is about labels; a host that is called so is meant by it as well.
    """
    takes_name = matcher(patterns)
    wanted = [found for pattern in patterns if (found := _conditions(pattern))]
    if not wanted:
        return lambda user_id, labels: takes_name(user_id)
    return lambda user_id, labels: (
        takes_name(user_id)
        or any(all(name in labels and takes(labels[name]) for name, takes in one.items()) for one in wanted)
    )


def names_labels(patterns: Sequence[str]) -> bool:
    """Whether one of `patterns` is about labels."""
    return any(map(_conditions, patterns))


def _conditions(pattern: str) -> dict[str, Callable[[str], bool]]:
    """What a pattern asks of labels, by name; nothing where it is not about labels."""
    parts = [part.partition("=") for part in pattern.split(",")]
    if not all(is_name(name) and wanted for name, _, wanted in parts):
        return {}
    return {name: matcher([wanted]) for name, _, wanted in parts}


def exact_names(patterns: Sequence[str]) -> frozenset[str] | None:
    """The names that `patterns` stand for, if each stands for itself alone; None otherwise."""
    if any(_SPECIAL.search(pattern) for pattern in patterns):
        return None
    return frozenset(patterns)
