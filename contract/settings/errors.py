"""How a program says that it was called wrongly."""

import sys
from typing import NoReturn

__all__ = ["SettingsError", "fail"]


class SettingsError(ValueError):
    """A setting that cannot be used; the message names where it came from and what is expected."""


def fail(program: str, message: str) -> NoReturn:
    """End the program with one line on standard error and exit code 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)
