"""`loadlens-analytics metrics`: the metrics that can be asked for."""

from collections.abc import Sequence

from analytics.commands.asking import answer
from analytics.commands.settings import PROGRAM, AskSettings
from contract.settings import load

_DESCRIPTION = "Lists the metrics that can be asked for, with unit and usual statistic."


def run(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(AskSettings, argv, program=f"{PROGRAM} metrics", description=_DESCRIPTION)
    from analytics.commands.terminal import show_rows

    return answer(
        settings,
        lambda service: service.metrics(),
        lambda console, frame: show_rows(console, frame.drop(columns=["type", "stored"])),
    )
