"""Labels of hosts: what people tell machines apart by beside their ids, such as `role=web`.

A host says its own. They are what it said last: a host that gets another label has it in all its history too.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from msgspec import Meta

from contract.problems import shortened

MAX_LABELS = 16
MAX_VALUE = 64
_NAME = "[A-Za-z][A-Za-z0-9_.-]{0,31}"
NAME_PATTERN = f"^{_NAME}$"
LabelName = Annotated[str, Meta(pattern=NAME_PATTERN)]
Labels = Annotated[
    dict[LabelName, Annotated[str, Meta(min_length=1, max_length=MAX_VALUE)]], Meta(max_length=MAX_LABELS)
]
"""By name. A value is printable and has no comma, so that lists of labels can be written with commas between."""

BY_LABEL: Final = "label:"
"""What stands before a label's name where hosts are grouped by it."""
NOT_LABELLED: Final = "not labelled"
"""The group of hosts without the label."""

_name = re.compile(_NAME)


def is_name(text: str) -> bool:
    """Whether a label can be called so."""
    return _name.fullmatch(text) is not None


def fault_of(labels: Mapping[str, str]) -> str | None:
    """What is wrong with labels beyond what `Labels` says, None where nothing is."""
    for name, value in labels.items():
        if not is_name(name):
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
        if not is_there or not is_name(name) or not 0 < len(value) <= MAX_VALUE or fault_of({name: value}):
            raise ValueError(
                "expected NAME=VALUE such as role=web: a letter and up to 31 letters, digits, _ . and -, then up to "
                f"{MAX_VALUE} printable characters without a comma, got {shortened(ascii(text))}"
            )
        if name in labels:
            raise ValueError(f"expected each label once, got {name} twice")
        labels[name] = value
    if len(labels) > MAX_LABELS:
        raise ValueError(f"expected at most {MAX_LABELS} labels, got {len(labels)}")
    return labels


def read_labels(text: object) -> dict[str, str]:
    """The labels of what `in_words` gave; none of anything that is no text."""
    return parse_labels(text.split(",")) if isinstance(text, str) and text else {}


def in_words(labels: Mapping[str, str]) -> str:
    """Labels as they are written: `role=web,zone=a`."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def label_of(grouping: str | None) -> str | None:
    """The label that a grouping such as `label:role` is by; None where it is by something else."""
    if grouping is None or not grouping.startswith(BY_LABEL):
        return None
    name = grouping.removeprefix(BY_LABEL)
    return name if is_name(name) else None


def column_of(grouping: str) -> str:
    """The column of a frame that has the groups: `label` for those of a label, else it is called as the grouping."""
    return "label" if grouping.startswith(BY_LABEL) else grouping
