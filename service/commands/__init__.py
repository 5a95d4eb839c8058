"""The commands of `loadlens-service`."""

import importlib
import sys
from collections.abc import Callable, Sequence

from contract.settings import Command


def lazy_command(target: str, summary: str) -> Command:
    """The command that `target`, such as `service.commands.up:main`, is; imported when it is run, for quick help."""

    def run(argv: Sequence[str]) -> int:
        module, _, name = target.partition(":")
        function: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), name)
        return function(argv)

    return Command(summary, run)


def failed(program: str, error: Exception | str) -> int:
    """Say on standard error what went wrong; returns the exit code of failures, 1."""
    print(f"{program}: error: {error}", file=sys.stderr)
    return 1
