"""`loadlens-analytics right-size`: how many cores machines need."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from analytics.commands.answering import answer
from analytics.commands.machines import MethodSettings, windows
from analytics.commands.settings import DURATION, PROGRAM
from contract import times
from contract.settings import load

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analytics.sources.base import Source

_DESCRIPTION = """\
Says how many cores each machine needs to stay under a utilization at a quantile
of its samples, on days to come too, how sure that is, and what could be saved."""
_EXAMPLES = f"""examples:
  {PROGRAM} right-size                             all machines, most to save first
  {PROGRAM} right-size web-1 --target 0.7 --quantile 0.99
  {PROGRAM} right-size --sizes 2,4,8,16 --price 0.04
  {PROGRAM} right-size --data fleet.parquet --cores 8

A week of data or more is better: working days and weekends differ."""


class RightSizeSettings(MethodSettings, frozen=True, kw_only=True):
    """What is to be kept, and of which sizes."""

    target: Annotated[
        Annotated[float, Meta(gt=0, le=1)],
        Meta(description="The utilization that a machine should rarely exceed, a share."),
    ] = 0.8
    quantile: Annotated[
        Annotated[float, Meta(gt=0, lt=1)], Meta(description="Which share of the samples is to be under it.")
    ] = 0.95
    cores: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="How many cores a machine has.", extra={"metavar": "N", "default": "as each reported"}),
    ] = None
    sizes: Annotated[
        tuple[Annotated[float, Meta(gt=0)], ...],
        Meta(description="The sizes there are, in cores.", extra={"metavar": "N,N", "default": "any whole number",
                                                                  "examples": ["2,4,8,16"]}),
    ] = ()  # fmt: skip
    price: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="What a core costs an hour, in any currency.", extra={"metavar": "PRICE", "default": "none"}),
    ] = None
    last: Annotated[
        str | None,
        Meta(
            description="Look at the time this long before the end.",
            extra={**DURATION, "default": "42d; of files all there is"},
        ),
    ] = None


def run_right_size(argv: Sequence[str]) -> int:
    """Run `right-size`; returns the exit code."""
    settings = load(
        RightSizeSettings, argv, program=f"{PROGRAM} right-size", description=_DESCRIPTION, epilog=_EXAMPLES
    )

    def ask(source: "Source") -> "pd.DataFrame":
        from analytics.frames.frame import FrameError
        from analytics.frames.weights import cores_by_user
        from analytics.methods.right_sizing import right_size

        bounds = settings.bounds_ms(times.now_ms(), "42d")
        frame = windows(source, settings, bounds, "1h", histograms=True)
        cores: float | pd.Series[float] | None = settings.cores
        if cores is None:
            cores = cores_by_user(source.users())
            if not frame["user"].isin(cores.index).any():
                raise FrameError("how many cores the machines have is not known here: say it with --cores")
        sized = right_size(
            frame, cores, settings.target, settings.quantile, sizes=settings.sizes or None,
            core_hour_price=settings.price,
        )  # fmt: skip
        return sized.sort_values("saved", ascending=False, na_position="last")

    def show(console: "Console", frame: "pd.DataFrame") -> None:
        show_sizes(console, frame)

    return answer(settings, ask, show)


_SHOWN = {"now": "cores", "recommended": "right", "saved": "saved", "utilization": "used", "confidence": "sure"}


def show_sizes(console: "Console", frame: "pd.DataFrame") -> None:
    """A sentence for one machine; for several a row each, those with most to save first, and the sum."""
    from analytics.commands.tables import plain, show_rows

    if len(frame) == 1:
        console.print(plain(str(frame["why"].iloc[0])))
        return
    rows = frame[[*(name for name in ("user",) if name in frame), *_SHOWN, "verdict"]].rename(columns=_SHOWN)
    formats = dict.fromkeys(("cores", "right", "saved"), "{:g}".format) | dict.fromkeys(
        ("used", "sure"), "{:.0%}".format
    )
    show_rows(console, rows, "Nothing has been reported in this time.", written=formats)
    known = frame.dropna(subset="recommended")
    saved, missing = known["saved"].clip(lower=0).sum(), -known["saved"].clip(upper=0).sum()
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in frame["verdict"].value_counts().items())
    console.print(f"\n{counts}. {saved:g} of {known['now'].sum():g} cores could be saved, {missing:g} more are needed.")
    if "saved_a_month" in frame:
        console.print(f"That is {frame['saved_a_month'].sum():,.2f} a month.")
