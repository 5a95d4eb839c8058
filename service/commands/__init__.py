"""The commands of `loadlens-service`."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from analytics.commands.answering import in_commands
from contract.settings import Command, dispatch, fail
from contract.settings.commands import listing


def lazy_command(target: str, summary: str) -> Command:
    """The command that `target`, such as `service.commands.up:main`, is; imported when it is run, for quick help."""

    def run(argv: Sequence[str]) -> int:
        module, _, name = target.partition(":")
        function: Callable[[Sequence[str]], int] = getattr(importlib.import_module(module), name)
        return function(argv)

    return Command(summary, run)


def run_one_of(
    program: str,
    argv: Sequence[str],
    commands: Mapping[str, Command],
    summary: str,
    *,
    meant: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run one of a command's own commands, `list` where none is named; returns its exit code.

    `summary` is what `--help` says before it lists them. `meant` has the commands that people mean by other words.
    """
    if argv and argv[0] in meant:
        fail(program, f"unknown command {argv[0]}; `{program} {meant[argv[0]]}` does that")
    if argv and argv[0] in ("-h", "--help"):
        usage = f"usage: {program} [COMMAND] [settings]\n       {program} COMMAND --help"
        print(f"{usage}\n\n{summary}\n\n{listing(commands)}")
        return 0
    return dispatch(program, argv, commands, commands["list"].run)


def failed(program: str, error: Exception | str) -> int:
    """Say on standard error what went wrong; returns the exit code of failures, 1."""
    print(f"{program}: error: {in_commands(str(error))}", file=sys.stderr)
    return 1
