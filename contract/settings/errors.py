"""How a program says that it was called wrongly."""

import sys
from collections.abc import Iterable
from typing import NoReturn

__all__ = ["SettingsError", "did_you_mean", "fail"]


class SettingsError(ValueError):
    """A setting that cannot be used; the message names where it came from and what would be right."""


def fail(program: str, message: str) -> NoReturn:
    """End the program with one line on standard error and exit code 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def did_you_mean(wrong: str, right: Iterable[str]) -> str:
    """` (did you mean X?)` where a right name is close to the wrong one, otherwise nothing."""
    from difflib import get_close_matches

    close = get_close_matches(wrong, list(right), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
