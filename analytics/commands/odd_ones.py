"""`loadlens-analytics odd-ones`: hosts that differ from their peers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from analytics.commands.answering import answer
from analytics.commands.settings import DURATION, PROGRAM, SpanSettings, zone
from contract import times
from contract.selectors import BY_LABEL, NAME_PATTERN, label_of
from contract.settings import load

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analytics.sources.base import Source

_DESCRIPTION = """\
Finds hosts that differ from their peers day after day: in how loaded they are,
how much that changes, or when. Peers are those with the same label, or those whose
weeks have the same shape."""
_EXAMPLES = f"""examples:
  {PROGRAM} odd-ones --by label:role               those unlike others of their role, of the last two weeks
  {PROGRAM} odd-ones --by clusters --tz Europe/Berlin
  {PROGRAM} odd-ones --all --format csv            how far each host is from the others
  {PROGRAM} odd-ones --data fleet.parquet

`times` says how many times as far from its neighbours a host is as its peers
are from theirs; over 2.5 it is odd. Groups of fewer than eight are not judged."""


class OddSettings(SpanSettings, frozen=True, kw_only=True):
    """The range, and what makes hosts peers of each other."""

    by: Annotated[
        Annotated[str, Meta(pattern=f"^(clusters|{BY_LABEL}{NAME_PATTERN.strip('^$')})$")] | None,
        Meta(
            description="Who are peers: those with the same value of a label, or with weeks of the same shape.",
            extra={"default": "all hosts", "expected": "clusters or a label such as label:role"},
        ),
    ] = None
    last: Annotated[
        str | None,
        Meta(
            description="Look at the time this long before the end.",
            extra={**DURATION, "default": "14d; of files all there is"},
        ),
    ] = None
    tz: Annotated[
        str, Meta(description="The time zone whose hours are compared.", extra={"metavar": "ZONE", "parse": zone})
    ] = "UTC"
    all: Annotated[bool, Meta(description="Answer every host, not only the odd ones.")] = False


def run_odd_ones(argv: Sequence[str]) -> int:
    """Run `odd-ones`; returns the exit code."""
    settings = load(OddSettings, argv, program=f"{PROGRAM} odd-ones", description=_DESCRIPTION, epilog=_EXAMPLES)

    def ask(source: "Source") -> "pd.DataFrame":
        from analytics.methods.odd_one_out import odd_ones_out
        from analytics.sources.base import labels

        start, end = settings.bounds_ms(times.now_ms(), "14d")
        frame = source.fleet(settings.metric, start=start, end=end, rate="1h", by="user", histograms=False)
        label = label_of(settings.by)
        peers: Any = settings.by if label is None else labels(source.users(), label)
        found = odd_ones_out(frame, peers, settings.tz)
        return found if settings.all else found[found["odd"]].reset_index(drop=True)

    return answer(settings, ask, _show)


def _show(console: "Console", frame: "pd.DataFrame") -> None:
    """A row for each host, the farthest from its peers first."""
    from analytics.commands.tables import show_rows

    columns = ["user", "group", "peers", "times", "mean", "peers_mean", "differs"]
    formats = {"times": "{:.1f}".format, "mean": "{:.1%}".format, "peers_mean": "{:.1%}".format}
    shown = frame[columns].rename(columns={"peers_mean": "theirs"})
    show_rows(console, shown, "No host differs from its peers.", written=formats | {"theirs": "{:.1%}".format})
