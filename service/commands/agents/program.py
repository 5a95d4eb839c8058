"""`loadlens-service agents COMMAND`: which command is meant."""

from collections.abc import Sequence

from contract.settings import Command, dispatch
from contract.settings.commands import listing
from service.commands.agents.settings import PROGRAM


def main(argv: Sequence[str]) -> int:
    """Run a command; without one, list the agents."""
    if argv and argv[0] in ("-h", "--help"):
        print(
            f"usage: {PROGRAM} [COMMAND] [settings]\n       {PROGRAM} COMMAND --help\n\n"
            "Shows agents, and says what they are to do. Without a command it lists them all.\n\n"
            f"{listing(_COMMANDS)}"
        )
        return 0
    return dispatch(PROGRAM, argv, _COMMANDS, _list)


def _list(argv: Sequence[str]) -> int:
    from service.commands.agents.listing import main as run

    return run(argv)


def _set(argv: Sequence[str]) -> int:
    from service.commands.agents.changing import set_main as run

    return run(argv)


def _unset(argv: Sequence[str]) -> int:
    from service.commands.agents.changing import unset_main as run

    return run(argv)


def _watch(argv: Sequence[str]) -> int:
    from service.commands.agents.watching import main as run

    return run(argv)


def _report_now(argv: Sequence[str]) -> int:
    from service.commands.agents.doing import report_now_main as run

    return run(argv)


def _diagnostics(argv: Sequence[str]) -> int:
    from service.commands.agents.doing import diagnostics_main as run

    return run(argv)


def _audit(argv: Sequence[str]) -> int:
    from service.commands.agents.trail import main as run

    return run(argv)


_COMMANDS = {
    "list": Command("what is in force at each agent, and whether that is what was asked", _list),
    "set": Command("ask agents to sample differently", _set),
    "unset": Command("take that back", _unset),
    "watch": Command("follow a roll-out until all have in force what was asked", _watch),
    "report-now": Command("have agents report the window that runs", _report_now),
    "diagnostics": Command("have agents say what helps to find out what ails them", _diagnostics),
    "audit": Command("who changed what", _audit),
}
