"""Programs with commands, such as `loadlens-service demo`, and how a program says that it was called wrongly."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from contract.problems import did_you_mean


class SettingsError(ValueError):
    """A setting that cannot be used; the message names where it came from and what is expected."""


def fail(program: str, message: str) -> NoReturn:
    """End the program with one line on standard error and exit code 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


_OURS = ("agent", "analytics", "contract", "service")


@dataclass(frozen=True, slots=True)
class Command:
    """One thing a program does when its name is the first argument."""

    summary: str
    """One line of the program's help."""
    run: Callable[[Sequence[str]], int | None]
    """Called with the arguments after the name; answers the exit code. Import what it needs inside it."""


def dispatch(
    program: str,
    argv: Sequence[str] | None,
    commands: Mapping[str, Command],
    default: Callable[[Sequence[str]], int | None] | None = None,
) -> int:
    """Run the command that `argv` (the process's own where it is None) starts with, and answer its exit code.

    Without one, `default` gets the arguments; it lists the commands by passing them to `load`. A program
    that has no default lists them here.
    """
    argv = sys.argv[1:] if argv is None else argv
    with _ending_in_order(program):
        return _dispatched(program, argv, commands, default)


@contextlib.contextmanager
def _ending_in_order(program: str) -> Iterator[None]:
    """Ends the program with a line for a wrong setting, and in silence where whoever read its output has enough."""
    try:
        try:
            yield
        except SettingsError as error:
            fail(program, str(error))
        finally:
            # Now, and not when Python ends: nobody could be told of it any more.
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def _dispatched(
    program: str,
    argv: Sequence[str],
    commands: Mapping[str, Command],
    default: Callable[[Sequence[str]], int | None] | None,
) -> int:
    first = argv[0] if argv else ""
    if first in commands:
        return _run(program, commands[first].run, argv[1:])
    if first and not first.startswith("-"):
        fail(program, f"unknown command {first}{did_you_mean(first, commands)}; expected {', '.join(commands)}")
    if default is not None:
        return _run(program, default, argv)
    return _without_default(program, first, commands)


def _run(program: str, run: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    try:
        return run(argv) or 0
    except ModuleNotFoundError as error:
        # The base install is the agent alone, yet it has the commands of all programs.
        if error.name is None or error.name.partition(".")[0] in _OURS:
            raise
        extra = program.removeprefix("loadlens-")
        print(f"{program}: error: {error.name} is missing; pip install 'loadlens[{extra}]' brings it", file=sys.stderr)
        return 1


def listing(commands: Mapping[str, Command]) -> str:
    """The commands with their summaries, a line each."""
    width = max(map(len, commands))
    return "\n".join(["commands:", *(f"  {name:<{width}}  {command.summary}" for name, command in commands.items())])


def _without_default(program: str, first: str, commands: Mapping[str, Command]) -> int:
    from contract import __version__

    if first == "--version":
        print(program, __version__)
    elif first in ("", "-h", "--help"):
        print(f"usage: {program} COMMAND [settings]\n       {program} COMMAND --help\n\n{listing(commands)}")
    else:
        fail(program, f"{first}: a command comes first; expected {', '.join(commands)}")
    return 0 if first else 2
