"""The command `loadlens-service agents`: an operator asks about agents, and says what they are to do."""

from collections.abc import Sequence

from service.commands import lazy_command, run_one_of

__all__ = ["main"]

_PROGRAM = "loadlens-service agents"
_HERE = "service.commands.agents"


def main(argv: Sequence[str]) -> int:
    """Run a command; without one, list the agents. Returns the exit code: 0, 1 for a failure, 2 for a wrong setting."""
    return run_one_of(
        _PROGRAM, argv, _COMMANDS, "Shows agents, and says what they are to do. Without a command it lists them all.",
        meant=_MEANT,
    )  # fmt: skip


_MEANT = {
    **dict.fromkeys(("pause", "stop", "disable"), "set TARGET paused=true"),
    **dict.fromkeys(("resume", "unpause", "start", "enable"), "set TARGET paused=false"),
    **dict.fromkeys(("delete", "remove"), "forget TARGET"),
}
"""What people try first, and how it is said here."""
_COMMANDS = {
    "list": lazy_command(
        f"{_HERE}.listing:list_agents", "what is in force at each agent, and whether that is what was asked"
    ),
    "set": lazy_command(f"{_HERE}.changing:set_settings", "ask agents to sample differently"),
    "unset": lazy_command(f"{_HERE}.changing:unset_settings", "take that back"),
    "watch": lazy_command(f"{_HERE}.changing:watch", "follow a roll-out until all have in force what was asked"),
    "report-now": lazy_command(f"{_HERE}.commanding:report_now", "have agents report the window that runs"),
    "diagnostics": lazy_command(
        f"{_HERE}.commanding:diagnostics", "have agents say what helps to find out what ails them"
    ),
    "forget": lazy_command(
        f"{_HERE}.commanding:forget", "leave agents that are gone out of lists, settings and alerts"
    ),
    "audit": lazy_command(f"{_HERE}.listing:audit", "who changed what"),
}
