"""`loadlens-service rules`: list, test, backtest, silence, and what is told to targets."""

from collections.abc import Sequence

from contract.settings import dispatch
from service.commands import lazy_command

__all__ = ["main"]

_PROGRAM = "loadlens-service rules"
_HERE = "service.commands.rules"


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for a wrong setting."""
    return dispatch(_PROGRAM, argv, _COMMANDS)


_COMMANDS = {
    "list": lazy_command(f"{_HERE}.console:list_rules", "the rules of a running service, and what fires"),
    "test": lazy_command(f"{_HERE}.console:test_files", "read rules from files, and say what is wrong"),
    "backtest": lazy_command(
        f"{_HERE}.backtesting:backtest_rules", "when rules would have fired, by a running service's history"
    ),
    "notify": lazy_command(f"{_HERE}.notifying:notify", "send a target a test notification, and say what became of it"),
    "notifications": lazy_command(f"{_HERE}.notifying:list_notifications", "what was told to whom, and what waits"),
    "redeliver": lazy_command(f"{_HERE}.notifying:redeliver", "send notifications again that were given up"),
    "silence": lazy_command(f"{_HERE}.console:silence", "tell nobody for a while"),
}
