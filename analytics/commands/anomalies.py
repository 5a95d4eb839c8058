"""`loadlens-analytics anomalies`: where hosts did what they had not done before."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from analytics.commands.answering import MethodSettings, answer, windows
from analytics.commands.settings import DURATION, PROGRAM, duration
from contract import times
from contract.problems import plural
from contract.settings import load
from contract.times import HOUR_MS, MINUTE_MS, parse_duration

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analytics.sources.base import Source


_DESCRIPTION = """\
Finds where a host did what it had not done before: spikes and drops, shifts,
values that flutter or stick, nights that are days. Nothing is to be set; the
time before the range, --learn, is what it knows as usual."""
_EXAMPLES = f"""examples:
  {PROGRAM} anomalies                              the last week, all hosts
  {PROGRAM} anomalies web-1 --last 30d
  {PROGRAM} anomalies --all --format csv           every point with its verdict, not events alone
  {PROGRAM} anomalies --data fleet.parquet

At steps of 5 minutes it learns for a day and a half before its first verdict."""


class AnomaliesSettings(MethodSettings, frozen=True, kw_only=True):
    """Which points, and how much is known before them."""

    rate: Annotated[
        str,
        Meta(
            description="The step between two points, 1m to 1h.",
            extra={"metavar": "DURATION", "parse": duration(HOUR_MS)},
        ),
    ] = "5m"
    last: Annotated[
        str | None,
        Meta(
            description="Judge the time this long before the end.",
            extra={**DURATION, "default": "7d; of files all there is"},
        ),
    ] = None
    learn: Annotated[str, Meta(description="How much before that is read, to know what is usual.", extra=DURATION)] = (
        "2w"
    )
    all: Annotated[bool, Meta(description="Answer every point, not only those where an anomaly begins.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if parse_duration(self.rate) < MINUTE_MS:
            raise ValueError(f"--rate: expected 1m to 1h, got {self.rate}")


def run_anomalies(argv: Sequence[str]) -> int:
    """Run `anomalies`; returns the exit code."""
    settings = load(AnomaliesSettings, argv, program=f"{PROGRAM} anomalies", description=_DESCRIPTION, epilog=_EXAMPLES)
    looked_at: list[tuple[int, int]] = []

    def ask(source: "Source") -> "pd.DataFrame":
        import pandas as pd

        from analytics.methods.anomalies import Tuning, anomalies

        start_ms, end_ms = settings.bounds_ms(times.now_ms(), "7d")
        learn_from = None if start_ms is None else max(0, start_ms - parse_duration(settings.learn))
        frame = windows(source, settings, (learn_from, end_ms), settings.rate, histograms=False)
        found: pd.DataFrame = anomalies(frame, tuning=Tuning.for_step(parse_duration(settings.rate)))
        if start_ms is not None:
            found = found[found.index >= pd.Timestamp(start_ms, unit="ms", tz="UTC")]
        looked_at.append((len(found), found["user"].nunique()))
        found = found if settings.all else found[found["anomaly"]].drop(columns="anomaly").sort_index()
        found.attrs |= frame.attrs
        return found

    def show(console: "Console", frame: "pd.DataFrame") -> None:
        show_anomalies(console, frame, *looked_at[0])

    return answer(settings, ask, show)


def show_anomalies(console: "Console", frame: "pd.DataFrame", points: int, hosts: int) -> None:
    """A row for each event, in order of time, and what was looked at."""
    from analytics.commands.output import formatter
    from analytics.commands.tables import show_rows

    looked_at = f"{plural(points, 'point')} of {plural(hosts, 'host')} {'was' if points == 1 else 'were'} judged"
    written = formatter(str(frame.attrs.get("unit", "")), "mean")
    shown = [name for name in ("user", "value", "expected", "kind", "score") if name in frame]
    if hosts == 1:
        shown.remove("user")
    rows = frame[shown].rename_axis("time (UTC)")
    formats = {"value": written, "expected": written, "score": "{:.2f}".format}
    show_rows(console, rows, "No anomaly.", written=formats)
    console.print(f"\n{looked_at}; {len(frame):,} shown." if len(frame) else f"{looked_at}.", style="dim")
