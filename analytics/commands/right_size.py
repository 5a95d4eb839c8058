"""`loadlens-analytics right-size`: how many cores hosts need."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from analytics.commands.answering import MethodSettings, answer, windows
from analytics.commands.settings import DURATION, PROGRAM
from contract import times
from contract.settings import load

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analytics.sources.base import Source


_DESCRIPTION = """\
Says how many cores each host needs to stay under a utilization at a quantile
of its samples, on days to come too, how sure that is, and what could be saved."""
_EXAMPLES = f"""examples:
  {PROGRAM} right-size                             all hosts, most to save first
  {PROGRAM} right-size web-1 --target 0.7 --quantile 0.99
  {PROGRAM} right-size --sizes 2,4,8,16 --price 0.04
  {PROGRAM} right-size --data fleet.parquet --cores 8

A week of data or more is better: working days and weekends differ."""


class RightSizeSettings(MethodSettings, frozen=True, kw_only=True):
    """What is to be kept, and of which sizes."""

    target: Annotated[
        Annotated[float, Meta(gt=0, le=1)],
        Meta(description="The utilization that a host should rarely exceed, a share."),
    ] = 0.8
    quantile: Annotated[
        Annotated[float, Meta(gt=0, lt=1)], Meta(description="Which share of the samples is to be under it.")
    ] = 0.95
    cores: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="How many cores a host has, and had.",
            extra={"metavar": "N", "default": "what each reported at the time"},
        ),
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
        table, caveat = sized(source, settings)
        if caveat:
            print(caveat, file=sys.stderr)
        return table.sort_values("saved", ascending=False, na_position="last")

    def show(console: "Console", frame: "pd.DataFrame") -> None:
        show_sizes(console, frame)

    return answer(settings, ask, show)


def sized(source: "Source", settings: RightSizeSettings) -> "tuple[pd.DataFrame, str | None]":
    """The sizes, and what is to be known beside them."""
    from analytics.methods.right_sizing import right_size, size_hosts

    bounds = settings.bounds_ms(times.now_ms(), "42d")
    options: dict[str, Any] = {"sizes": settings.sizes or None, "core_hour_price": settings.price}
    frame = windows(source, settings, bounds, "1h", histograms=True, cores=settings.cores is None)
    if settings.cores is not None:
        return right_size(frame, settings.cores, settings.target, settings.quantile, **options), None
    found = size_hosts(frame, source.users(), settings.target, settings.quantile, **options)
    found.table.attrs["unit"] = found.unit
    if found.caveat is None:
        return found.table, None
    if found.in_cores:
        return found.table, f"{found.caveat} Size each by its name with --cores."
    return found.table, f"{found.caveat} With --cores they are in cores."


_SHOWN = {"now": "cores", "recommended": "right", "saved": "saved", "utilization": "used", "confidence": "sure"}


def show_sizes(console: "Console", frame: "pd.DataFrame") -> None:
    """A sentence for one host; for several a row each, those with most to save first, and the sum."""
    from analytics.commands.tables import plain, show_rows

    if len(frame) == 1:
        console.print(plain(str(frame["why"].iloc[0])))
        return
    relative = frame.attrs.get("unit", "cores") != "cores"
    titles = _SHOWN | ({"now": "size"} if relative else {})
    rows = frame[[*(name for name in ("user",) if name in frame), *titles, "verdict"]].rename(columns=titles)
    formats = dict.fromkeys(("cores", "size", "right", "saved"), "{:g}".format) | dict.fromkeys(
        ("used", "sure"), "{:.0%}".format
    )
    show_rows(console, rows, "Nothing has been reported in this time.", written=formats)
    known = frame.dropna(subset="recommended")
    saved, missing = known["saved"].clip(lower=0).sum(), -known["saved"].clip(upper=0).sum()
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in frame["verdict"].value_counts().items())
    unit = "hosts' worth of CPU" if relative else "cores"
    console.print(
        f"\n{counts}. {saved:g} of {known['now'].sum():g} {unit} could be saved, {missing:g} more are needed."
    )
    if "saved_a_month" in frame:
        console.print(f"That is {frame['saved_a_month'].sum():,.2f} a month.")
