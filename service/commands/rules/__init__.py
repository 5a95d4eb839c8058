"""`loadlens-service rules`: list, test, backtest, silence."""

import importlib
from collections.abc import Callable, Sequence

from contract.settings import Command, dispatch

__all__ = ["main"]

_PROGRAM = "loadlens-service rules"


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for a wrong setting."""
    return dispatch(_PROGRAM, argv, _COMMANDS)


def _command(name: str, summary: str) -> Command:
    def run(argv: Sequence[str]) -> int:
        # Imported only when it is wanted, so that help and wrong settings are answered at once.
        command: Callable[[Sequence[str]], int] = importlib.import_module(f"service.commands.rules.{name}").run
        return command(argv)

    return Command(summary, run)


_COMMANDS = {
    "list": _command("listing", "the rules of a running service, and what fires"),
    "test": _command("testing", "read rules from files, and say what is wrong"),
    "backtest": _command("backtesting", "when rules would have fired, by a running service's history"),
    "silence": _command("silencing", "tell nobody for a while"),
}
