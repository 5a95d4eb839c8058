"""Which hosts are meant: their ids, their labels, and the patterns that select them by either.

Labels are what people tell hosts apart by beside their ids, such as `role=web`. A host says its own. They are what it
said last: a host that gets another label has it in all its history too.

Patterns, in agents' selectors, the stream, rules, silences and alerts, are those of `fnmatch`: `*` stands for any
characters, `?` for one, `[ab]` and `[a-c]` for one of these, `[!ab]` for one that is none of them; everything else
stands for itself, `[[]` for a bracket. Upper and lower case are told apart. Where hosts are selected by their labels
too, `role=web` means those whose label `role` matches the pattern behind the `=`, and `role=web,zone=eu-*` those of
which all of it is true.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final

from msgspec import Meta

from contract.problems import shortened

MAX_USER_ID = 128
UserId = Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID)]

MAX_LABELS = 16
MAX_LABEL_VALUE = 64
_NAME = "[A-Za-z][A-Za-z0-9_.-]{0,31}"
NAME_PATTERN = f"^{_NAME}$"
LabelName = Annotated[str, Meta(pattern=NAME_PATTERN)]
Labels = Annotated[
    dict[LabelName, Annotated[str, Meta(min_length=1, max_length=MAX_LABEL_VALUE)]], Meta(max_length=MAX_LABELS)
]
"""By name. A value is printable and has no comma, so that lists of labels can be written with commas between."""

BY_LABEL: Final = "label:"
"""What stands before a label's name where hosts are grouped by it."""
NOT_LABELLED: Final = "not labelled"
"""The group of hosts without the label."""

_name = re.compile(_NAME)

MAX_PATTERN = MAX_USER_ID
"""The most characters of a pattern: every user id can be one."""
EVERYBODY = ("*",)
_SPECIAL = re.compile(r"[*?\[]")


def is_label_name(text: str) -> bool:
    """Whether a label can be called so."""
    return _name.fullmatch(text) is not None


def fault_of_labels(labels: Mapping[str, str]) -> str | None:
    """What is wrong with labels beyond what `Labels` says, None where nothing is."""
    for name, value in labels.items():
        if not is_label_name(name):
            return f"expected names of letters, digits, _ . and -, got {shortened(ascii(name))}"
        if not value.isprintable() or "," in value:
            return (
                f"expected printable characters without a comma as the value of {name}, got {shortened(ascii(value))}"
            )
    return None


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """The labels of texts such as `role=web`; raises ValueError."""
    labels: dict[str, str] = {}
    for text in texts:
        name, is_there, value = text.partition("=")
        if (
            not is_there
            or not is_label_name(name)
            or not 0 < len(value) <= MAX_LABEL_VALUE
            or fault_of_labels({name: value})
        ):
            raise ValueError(
                "expected NAME=VALUE such as role=web: a letter and up to 31 letters, digits, _ . and -, then up to "
                f"{MAX_LABEL_VALUE} printable characters without a comma, got {shortened(ascii(text))}"
            )
        if name in labels:
            raise ValueError(f"expected each label once, got {name} twice")
        labels[name] = value
    if len(labels) > MAX_LABELS:
        raise ValueError(f"expected at most {MAX_LABELS} labels, got {len(labels)}")
    return labels


def read_labels(text: object) -> dict[str, str]:
    """The labels of what `labels_text` gave; none of anything that is no text."""
    return parse_labels(text.split(",")) if isinstance(text, str) and text else {}


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as they are written: `role=web,zone=a`."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def label_of(grouping: str | None) -> str | None:
    """The label that a grouping such as `label:role` is by; None where it is by something else."""
    if grouping is None or not grouping.startswith(BY_LABEL):
        return None
    name = grouping.removeprefix(BY_LABEL)
    return name if is_label_name(name) else None


def column_of_grouping(grouping: str) -> str:
    """The column of a frame that has the groups: `label` for those of a label, else it is called as the grouping."""
    return "label" if grouping.startswith(BY_LABEL) else grouping


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
    if not all(is_label_name(name) and wanted for name, _, wanted in parts):
        return {}
    return {name: matcher([wanted]) for name, _, wanted in parts}


def exact_names(patterns: Sequence[str]) -> frozenset[str] | None:
    """The names that `patterns` stand for, if each stands for itself alone; None otherwise."""
    if any(_SPECIAL.search(pattern) for pattern in patterns):
        return None
    return frozenset(patterns)
