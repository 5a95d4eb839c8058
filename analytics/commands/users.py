"""`loadlens-analytics users`: the machines that report."""

from collections.abc import Sequence

from analytics.commands.asking import answer
from analytics.commands.settings import PROGRAM, AskSettings
from contract.settings import load

_DESCRIPTION = "Lists the machines that have reported, and what each last said of itself."


def run(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(AskSettings, argv, program=f"{PROGRAM} users", description=_DESCRIPTION)
    from analytics.commands.terminal import show_rows

    return answer(settings, lambda service: service.users(), show_rows)
