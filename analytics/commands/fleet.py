"""`loadlens-analytics fleet`: the values of all machines together, or of groups of them."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from analytics.commands.asking import answer
from analytics.commands.settings import PROGRAM, RangeSettings
from contract import times
from contract.settings import load

_DESCRIPTION = "Shows the values of all machines together, or of each group of them."
_EPILOG = f"""examples:
  {PROGRAM} fleet --last 7d --rate 1h
  {PROGRAM} fleet --by user --top 10 --stat p95      the ten machines with the highest 95th percentile
  {PROGRAM} fleet --by os_version --format json"""


class FleetSettings(RangeSettings, frozen=True, kw_only=True):
    """What to show of the fleet."""

    by: Annotated[
        Literal["os_type", "os_version", "user"] | None,
        Meta(description="One group for each value of it.", extra={"default": "all machines together"}),
    ] = None
    top: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        Meta(description="Only the groups that are highest over the whole range.", extra={"metavar": "N"}),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top is not None and self.by is None:
            raise ValueError("--top goes with --by: it keeps the groups with the highest values")


def run(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(FleetSettings, argv, program=f"{PROGRAM} fleet", description=_DESCRIPTION, epilog=_EPILOG)
    from analytics.commands.terminal import show_groups, show_series

    start_ms, end_ms = settings.range_ms(times.now_ms())
    show = show_series if settings.by is None else show_groups
    name = "the fleet" if settings.by is None else settings.by
    return answer(
        settings,
        lambda service: service.fleet(
            settings.metric, start=start_ms, end=end_ms, rate=settings.rate, by=settings.by, top=settings.top,
            stat=settings.statistic,
        ),
        lambda console, frame: show(console, frame, name, settings.rate),
    )  # fmt: skip
