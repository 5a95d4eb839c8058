"""`loadlens-analytics history`: one machine's values over time."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from analytics.commands.asking import answer
from analytics.commands.settings import PROGRAM, RangeSettings
from contract import times
from contract.report import MAX_USER_ID
from contract.settings import load

_DESCRIPTION = "Shows one machine's values over time: a chart and a table on a terminal, otherwise data."
_EPILOG = f"""examples:
  {PROGRAM} history 6a:d6:96:d3:45:35 --stat p95 --last 30d --rate 1h
  {PROGRAM} history 6a:d6:96:d3:45:35 --core 3 --last 1h --rate 1m
  {PROGRAM} history web-1 --start 2018-07-12T12:15:00Z --end 2018-07-12T16:15:00Z --out web-1.csv"""


class HistorySettings(RangeSettings, frozen=True, kw_only=True):
    """What to show of whom."""

    user_id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_USER_ID,
            description=f"The machine, as `{PROGRAM} users` lists it.",
            extra={"positional": True},
        ),
    ]
    core: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(description="One core of it.", extra={"metavar": "N", "default": "the whole machine"}),
    ] = None


def run(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(HistorySettings, argv, program=f"{PROGRAM} history", description=_DESCRIPTION, epilog=_EPILOG)
    from analytics.commands.terminal import show_series

    start_ms, end_ms = settings.range_ms(times.now_ms())
    name = settings.user_id if settings.core is None else f"{settings.user_id}, core {settings.core}"
    return answer(
        settings,
        lambda service: service.history(
            settings.user_id, settings.metric, start=start_ms, end=end_ms, rate=settings.rate, stat=settings.statistic,
            core=settings.core,
        ),
        lambda console, frame: show_series(console, frame, name, settings.rate),
    )  # fmt: skip
