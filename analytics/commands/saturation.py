"""`loadlens-analytics saturation`: for how long hosts were at or above a load."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from analytics.commands.answering import MethodSettings, answer, windows
from analytics.commands.settings import DURATION, PROGRAM, duration
from contract import times
from contract.settings import load
from contract.times import DAY_MS, HOUR_MS, WEEK_MS, format_duration, parse_duration

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analytics.sources.base import Source


_DESCRIPTION = """\
Says for which share of the time hosts were at or above a load. From
histograms: a peak of 50 ms counts for 50 ms, whatever the mean around it."""
_EXAMPLES = f"""examples:
  {PROGRAM} saturation                             the last week, hosts most often at 90 % first
  {PROGRAM} saturation web-1 --every 1d            day by day
  {PROGRAM} saturation --threshold 0.75 --last 30d --format csv
  {PROGRAM} saturation --data fleet.parquet

At multiples of 1/64 (0.75, 0.875) the share is exact; elsewhere `lower` and
`upper` bound it."""


class SaturationSettings(MethodSettings, frozen=True, kw_only=True):
    """The host, and the load from which it counts as saturated."""

    threshold: Annotated[
        Annotated[float, Meta(ge=0, le=1)], Meta(description="The load from which on time counts, a share.")
    ] = 0.9
    every: Annotated[
        str | None,
        Meta(
            description="One answer for each of these, such as 1d.",
            extra={"metavar": "DURATION", "parse": duration(52 * WEEK_MS), "default": "one for the whole time"},
        ),
    ] = None
    last: Annotated[
        str | None,
        Meta(
            description="Look at the time this long before the end.",
            extra={**DURATION, "default": "7d; of files all there is"},
        ),
    ] = None


def run_saturation(argv: Sequence[str]) -> int:
    """Run `saturation`; returns the exit code."""
    settings = load(
        SaturationSettings, argv, program=f"{PROGRAM} saturation", description=_DESCRIPTION, epilog=_EXAMPLES
    )

    def ask(source: "Source") -> "pd.DataFrame":
        from analytics.methods.thresholds import saturation

        bounds = settings.bounds_ms(times.now_ms(), "7d")
        rate_ms = min(HOUR_MS, parse_duration(settings.every)) if settings.every else HOUR_MS
        frame = windows(source, settings, bounds, format_duration(rate_ms), histograms=True)
        return saturation(frame, settings.threshold, rate=settings.every)

    def show(console: "Console", frame: "pd.DataFrame") -> None:
        show_saturation(console, frame, settings.threshold)

    return answer(settings, ask, show)


def show_saturation(console: "Console", frame: "pd.DataFrame", threshold: float) -> None:
    """A row for each host, the most often saturated first, or for each step of time."""
    from analytics.commands.tables import show_rows

    share = f"at {threshold:.0%}"
    rows = frame.assign(a_day=frame["share"] * DAY_MS).rename(columns={"share": share, "a_day": "a day"})
    columns = [*(name for name in ("user",) if name in rows), share, "a day", "lower", "upper", "count"]
    formats = {
        **dict.fromkeys((share, "lower", "upper"), "{:.2%}".format), "a day": _time_a_day, "count": "{:,}".format,
    }  # fmt: skip
    if frame.index.name == "time":
        rows = rows.rename_axis("time (UTC)")
    show_rows(console, rows[columns], "Nothing has been reported in this time.", written=formats)


def _time_a_day(ms: float) -> str:
    """How long in a day, in the two largest units: `1h 12m`, `35s`."""
    seconds = round(ms / 1000)
    hours, minutes = divmod(seconds // 60, 60)
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {seconds % 60:02}s" if minutes else f"{seconds}s"
