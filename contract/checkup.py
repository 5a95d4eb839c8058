"""What a program finds when it looks after itself: in plain words, with what to do about it, and as an exit code."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

FindingState = Literal["works", "note", "fails"]
_WIDTH = 80
_MARGIN = 18
"""Columns before the words of a finding: its state and what it is about."""


class CheckResult(Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at."""

    about: str
    """What it is, in a word of at most nine letters, such as `spool`."""
    state: FindingState
    """`note` is for what works, and yet somebody may want to know."""
    says: str
    """How it is, in a sentence."""
    remedy: str = ""
    """What to do; empty where there is nothing to do."""


def exit_code(findings: Iterable[CheckResult]) -> int:
    """0 where nothing fails, otherwise 1."""
    return int(any(finding.state == "fails" for finding in findings))


def in_words(findings: Iterable[CheckResult]) -> str:
    """The findings for a terminal of 80 characters, each with its remedy below it."""
    return "\n".join(_paragraph(finding) for finding in findings)


def as_document(findings: Sequence[CheckResult]) -> dict[str, Any]:
    """The findings for programs: `works` says whether nothing fails."""
    return {"works": exit_code(findings) == 0, "findings": findings}


def _paragraph(finding: CheckResult) -> str:
    # Text from elsewhere, such as a service's problem, moves no cursor and colours nothing.
    says = "".join(one if one.isprintable() else "\ufffd" for one in " ".join(finding.says.split()))
    state = finding.state.upper() if finding.state == "fails" else finding.state
    lines = [f"{state:<6}{finding.about:<{_MARGIN - 6}}" + _wrapped(says)]
    if finding.remedy:
        lines.append(" " * _MARGIN + _wrapped(f"-> {finding.remedy}"))
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    lines = textwrap.wrap(text, _WIDTH - _MARGIN, break_long_words=False, break_on_hyphens=False)
    return ("\n" + " " * _MARGIN).join(lines)
