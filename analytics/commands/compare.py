"""`loadlens-analytics compare`: whether a time, or a host, differs from another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from analytics.commands.answering import HostName, MethodSettings, answer, windows
from analytics.commands.settings import DURATION, PROGRAM
from contract import times
from contract.settings import load
from contract.times import MINUTE_MS, format_duration, format_instant, parse_duration

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analytics.sources.base import Source


_DESCRIPTION = """\
Says whether a time differs from the one before it, or two hosts from each
other, by how much, and how sure that is: samples of one host are alike, so
hosts and days are what is counted, not samples."""
_EXAMPLES = f"""examples:
  {PROGRAM} compare                                the fleet, the last week against the one before
  {PROGRAM} compare --by user                      each host with itself, largest difference first
  {PROGRAM} compare web-1 --end 2026-11-20 --last 3d --earlier 7d    against the same days a week earlier
  {PROGRAM} compare web-1 web-2 --last 7d          two hosts, the same time
  {PROGRAM} compare --data fleet.parquet           the later half against the earlier one

Compare whole weeks with whole weeks: weekends differ."""


class CompareSettings(MethodSettings, frozen=True, kw_only=True):
    """The two hosts, or two ranges of one, that are compared."""

    other_id: Annotated[
        HostName | None,
        Meta(description="Another host, of the same time.", extra={"positional": True, "default": "an earlier time"}),
    ] = None
    earlier: Annotated[
        str | None,
        Meta(
            description="How much earlier the other time lies, as long as the first.",
            extra={**DURATION, "default": "directly before"},
        ),
    ] = None
    by: Annotated[
        Literal["user"] | None,
        Meta(description="Compare each host with itself.", extra={"default": "all hosts together"}),
    ] = None
    last: Annotated[
        str | None,
        Meta(
            description="Look at the time this long before the end.",
            extra={**DURATION, "default": "7d; of files the later half"},
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.other_id is not None and (self.earlier is not None or self.by is not None):
            raise ValueError("expected a second host or --earlier and --by, got both: two hosts share one time")


def run_compare(argv: Sequence[str]) -> int:
    """Run `compare`; returns the exit code."""
    settings = load(CompareSettings, argv, program=f"{PROGRAM} compare", description=_DESCRIPTION, epilog=_EXAMPLES)

    def ask(source: "Source") -> "pd.DataFrame":
        from analytics.methods.comparison import compare

        bounds = settings.bounds_ms(times.now_ms(), "7d")
        if settings.other_id is not None:
            first = windows(source, settings, bounds, "1h", histograms=True)
            second = windows(source, settings, bounds, "1h", histograms=True, user_id=settings.other_id)
            names = (str(settings.user_id), settings.other_id)
            for name, frame in zip(names, (first, second), strict=True):
                _check_there(source, frame, name, f"of {name}", bounds)
            found = compare(first.drop(columns="user"), second.drop(columns="user"), names=names)
        else:
            first, second = _two_times(source, settings, bounds)
            found = compare(first, second, by=settings.by)
        found.attrs |= first.attrs
        return found

    def show(console: "Console", frame: "pd.DataFrame") -> None:
        show_comparison(console, frame)

    return answer(settings, ask, show)


def _two_times(
    source: "Source", settings: CompareSettings, bounds_ms: tuple[int | None, int | None]
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """The windows of the earlier time and of the later one."""
    import pandas as pd

    start_ms, end_ms = bounds_ms
    if start_ms is None or end_ms is None:
        frame = windows(source, settings, bounds_ms, "1h", histograms=True)
        middle = frame.index.min() + (frame.index.max() - frame.index.min()) / 2
        middle = middle.ceil("h") if pd.notna(middle) else middle
        if frame.empty or not ((frame.index < middle).any() and (frame.index >= middle).any()):
            raise ValueError(
                "expected two hours of data at least, which have an earlier and a later half, got "
                + ("nothing" if frame.empty else f"those of {frame.index.min():%Y-%m-%d %H:%M} only")
            )
        return frame[frame.index < middle], frame[frame.index >= middle]
    length_ms = end_ms - start_ms
    back_ms = length_ms if settings.earlier is None else parse_duration(settings.earlier)
    earlier = (max(0, start_ms - back_ms), end_ms - back_ms)
    ranges = (("in the earlier time", earlier), ("in the later time", (start_ms, end_ms)))
    found = []
    for what, bounds in ranges:
        found.append(windows(source, settings, bounds, "1h", histograms=True))
        _check_there(source, found[-1], settings.user_id, what, bounds)
    before, after = found
    return before, after


def _check_there(
    source: "Source", frame: "pd.DataFrame", user_id: str | None, what: str, bounds_ms: tuple[int | None, int | None]
) -> None:
    """Raise ValueError where a side has no data: which, what there is, and how to ask for that."""
    if not frame.empty:
        return
    start, end = (None if one is None else format_instant(one) for one in bounds_ms)
    when = f", {start} to {end}" if start and end else ""
    users = source.users()
    seen = users if user_id is None else users[users["user"].astype(str) == user_id]
    said = f"nothing was reported {what}{when}"
    if seen.empty or seen["first_seen"].isna().all():
        raise ValueError(said)
    first_ms, last_ms = (
        int(moment.timestamp() * 1000) for moment in (seen["first_seen"].min(), seen["last_seen"].max())
    )
    half = format_duration(max((last_ms - first_ms) // 2 // MINUTE_MS, 1) * MINUTE_MS)
    raise ValueError(
        f"{said}; there are reports from {format_instant(first_ms)} to {format_instant(last_ms)}, whose halves are "
        f"compared by --end {format_instant(last_ms)} --last {half}"
    )


def show_comparison(console: "Console", frame: "pd.DataFrame") -> None:
    """The verdict and its figures; for several hosts a row each."""
    from analytics.commands.output import formatter
    from analytics.commands.tables import plain, show_rows

    written = formatter(str(frame.attrs.get("unit", "")), "mean")
    means = [str(name) for name in frame if str(name).startswith("mean_")]
    rows = frame[[*(name for name in ("user",) if name in frame), *means, "difference", "lower", "upper", "p_value"]]
    rows = rows.rename(columns={name: name.removeprefix("mean_") for name in means} | {"p_value": "p"})
    formats = {str(name): written for name in rows if name != "user"} | {"p": "{:.2g}".format}
    if len(frame) == 1:
        verdict = str(frame["verdict"].iloc[0])
        console.print(plain(f"{verdict[0].upper()}{verdict[1:]}."))
        console.print()
        rows = rows.drop(columns="user", errors="ignore")
    show_rows(console, rows, "Nothing has been reported in both times.", written=formats)
