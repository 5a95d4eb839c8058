"""`loadlens-analytics forecast`: what load to expect, and how far to trust it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from analytics.commands.answering import MethodSettings, answer, windows
from analytics.commands.settings import DURATION, PROGRAM, duration
from contract import times
from contract.settings import load
from contract.times import DAY_MS, WEEK_MS

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analytics.sources.base import Source


_HORIZON = {"metavar": "DURATION", "parse": duration(52 * WEEK_MS)}
_STEP = {"metavar": "DURATION", "parse": duration(DAY_MS)}
_DESCRIPTION = """\
Says what load to expect. A dozen methods are tried out on each host's own
past and mixed by the errors they made; how large these were is said with the
forecast. `lower_80` to `upper_80` holds 80 of 100 values of that step."""
_EXAMPLES = f"""examples:
  {PROGRAM} forecast                               all hosts, the next week
  {PROGRAM} forecast web-1 --horizon 2d            one host, as a chart
  {PROGRAM} forecast --data fleet.parquet --format json | jq '.[0]'
  {PROGRAM} forecast web-1 --tz Europe/Berlin      days and weeks of that time zone

Two weeks of history teach it the week: give --last 14d or more."""


class ForecastSettings(MethodSettings, frozen=True, kw_only=True):
    """How far to look ahead, and from which past."""

    horizon: Annotated[str, Meta(description="How far to look ahead.", extra=_HORIZON)] = "1w"
    rate: Annotated[str, Meta(description="The step of the forecast; it divides a day.", extra=_STEP)] = "1h"
    tz: Annotated[
        str, Meta(description="The time zone whose days and weeks repeat.", extra={"examples": ["Europe/Berlin"]})
    ] = "UTC"
    last: Annotated[
        str | None,
        Meta(
            description="Learn from the time this long before the end.",
            extra={**DURATION, "default": "42d; of files all there is"},
        ),
    ] = None


def run_forecast(argv: Sequence[str]) -> int:
    """Run `forecast`; returns the exit code."""
    settings = load(ForecastSettings, argv, program=f"{PROGRAM} forecast", description=_DESCRIPTION, epilog=_EXAMPLES)
    past: list[pd.DataFrame] = []
    summaries: list[tuple[str, pd.DataFrame]] = []

    def ask(source: "Source") -> "pd.DataFrame":
        from analytics.methods.forecasting import forecast

        bounds = settings.bounds_ms(times.now_ms(), "42d")
        frame = windows(source, settings, bounds, settings.rate, histograms=False)
        made = forecast(frame, settings.horizon, rate=settings.rate, tz=settings.tz)
        past.append(frame)
        summaries.append((made.summary, made.models))
        made.frame.attrs |= frame.attrs
        return made.frame

    def show(console: "Console", frame: "pd.DataFrame") -> None:
        [(summary, models)] = summaries
        show_forecast(console, frame, past[0], summary, models, settings.rate)

    return answer(settings, ask, show)


_PAST_SHARE = 0.4
"""Of the chart's time, how much lies before the forecast."""


def show_forecast(
    console: "Console", frame: "pd.DataFrame", past: "pd.DataFrame", summary: str, models: "pd.DataFrame", rate: str
) -> None:
    """A chart and a table by days for one host; for several a row each, the highest expected peak first."""
    import pandas as pd

    from analytics.commands.output import draw, formatter
    from analytics.commands.tables import show_rows
    from analytics.frames.frame import by_user

    written = formatter(str(frame.attrs.get("unit", "")), "mean")
    upper = next(str(name) for name in frame if str(name).startswith("upper_"))
    if frame["user"].nunique() > 1:
        users = frame.groupby("user", observed=True)
        rows = (
            pd.DataFrame({"mean": users["mean"].mean(), "highest": users["mean"].max(), "up to": users[upper].max()})
            .rename(index=str)
            .join(by_user(models)[["error", "skill"]])
        )
        formats = dict.fromkeys(map(str, rows), written) | {"skill": "{:.0%}".format}
        show_rows(console, rows.sort_values("up to", ascending=False), "", written=formats)
    else:
        lower = upper.replace("upper", "lower")
        span = frame.index.max() - frame.index.min()
        recent = past[past.index >= past.index.max() - span * _PAST_SHARE]
        draw(console, pd.concat([recent["mean"], frame["mean"]]), rate, written, since=frame.index.min())
        by_day = frame.drop(columns="user").groupby(pd.DatetimeIndex(frame.index).floor("D"))
        rows = pd.DataFrame(
            {"mean": by_day["mean"].mean(), "lowest": by_day[lower].min(), "highest": by_day["mean"].max(),
             "up to": by_day[upper].max()}
        )  # fmt: skip
        rows.index = pd.Index([day.strftime("%a %Y-%m-%d") for day in rows.index], name="day (UTC)")
        show_rows(console, rows, "", written=dict.fromkeys(map(str, rows), written))
    console.print()
    console.print(summary, style="dim")
