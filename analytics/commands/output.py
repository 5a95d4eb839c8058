"""Answers as people read them on a terminal, charts and tables, and as data: CSV, JSON, Parquet."""

import io
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.text import Text

from analytics.commands.settings import OutputForm
from analytics.commands.tables import fill, fitting_table, keep_whole, plain
from contract.times import format_instant, parse_duration

_FORMULA = frozenset("=+-@\t\r")
_SUFFIXES: dict[str, OutputForm] = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pq": "parquet"}


def form_of(chosen: OutputForm | None, out: Path | None, *, terminal: bool) -> OutputForm:
    """The form of an answer: the one chosen, else the file's, else a table for people and CSV for programs."""
    if chosen is not None:
        return chosen
    if out is not None:
        return _SUFFIXES.get(out.suffix.lower(), "csv")
    return "table" if terminal else "csv"


def write(frame: pd.DataFrame, form: OutputForm, out: Path | None) -> None:
    """Write `frame`, an index with a name as the first column and moments as ISO 8601 in UTC, to `out` or standard
    output.

    JSON is an array of objects, a row each. Parquet keeps the types. Raises OSError where the file cannot be
    written; there is then no half of one under its name.
    """
    data = _encoded(frame, form)
    if out is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    partial = out.with_name(out.name + ".part")
    partial.write_bytes(data)
    partial.replace(out)


def _encoded(frame: pd.DataFrame, form: OutputForm) -> bytes:
    match form:
        case "csv":
            return _without_formulas(textual(frame)).to_csv(index=False, lineterminator="\n").encode()
        case "json":
            columns = textual(frame)
            rows = zip(*(_plain(columns[name]) for name in columns), strict=True)
            return msgspec.json.encode([dict(zip(columns, row, strict=True)) for row in rows]) + b"\n"
        case "parquet":
            sink = io.BytesIO()
            frame.to_parquet(sink, compression="zstd")
            return sink.getvalue()
        case "table":
            raise ValueError("a table is shown, not written")


def textual(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its index, where that has a name, as a column and moments as text; histograms are left out."""
    frame = frame.reset_index(drop=frame.index.name is None).drop(columns="histogram", errors="ignore")
    for name in frame.select_dtypes("datetimetz"):
        moments = pd.DatetimeIndex(frame[name]).as_unit("ms")
        told = zip(moments.asi8.tolist(), moments.isna().tolist(), strict=True)
        frame[name] = pd.Series(
            [None if missing else format_instant(ms) for ms, missing in told], frame.index, "object"
        )
    return frame


def _without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before texts that a spreadsheet would take for formulas."""
    for name in frame.select_dtypes("category"):
        frame[name] = frame[name].astype(object)
    for name in frame.select_dtypes(["object", "str"]):
        is_formula = [isinstance(value, str) and value[:1] in _FORMULA for value in frame[name]]
        frame[name] = frame[name].mask(pd.Series(is_formula, frame.index), "'" + frame[name].astype(str))
    return frame


def _plain(column: "pd.Series[Any]") -> list[Any]:
    """Values as Python has them; None for a missing one."""
    return column.astype(object).where(column.notna(), None).tolist()


_BLOCKS = np.array(list(" ▁▂▃▄▅▆▇█"))


def condensed(
    time_ms: npt.NDArray[np.int64], value: npt.NDArray[np.float64], rate_ms: int, width: int
) -> npt.NDArray[np.float64]:
    """At most `width` columns of equal time, each with the highest of its values, NaN where there is none.

    The values are those of buckets of `rate_ms`, at least one. Few buckets get up to eight columns each.
    """
    bucket = (time_ms - time_ms.min()) // rate_ms
    buckets = int(bucket.max()) + 1
    columns = min(width, buckets)
    highest = np.full(columns, np.nan)
    np.fmax.at(highest, bucket * columns // buckets, value)
    return np.repeat(highest, min(8, width // columns))


def chart(columns: npt.NDArray[np.float64], top: float, height: int) -> list[str]:
    """Bars from 0 to `top`, `height` lines of text from the upper one; a gap where a column is NaN."""
    eighths = _eighths(columns, top, 8 * height)
    return ["".join(_BLOCKS[np.clip(eighths - 8 * line, 0, 8)]) for line in reversed(range(height))]


def sparkline(columns: npt.NDArray[np.float64], top: float) -> str:
    """A chart of one line."""
    return chart(columns, top, 1)[0]


def _eighths(columns: npt.NDArray[np.float64], top: float, full: int) -> npt.NDArray[np.int64]:
    share = np.nan_to_num(columns / top) if top > 0 else np.zeros(len(columns))
    # A value of 0 is shown as the lowest block: only where there is no value is there nothing.
    return np.where(np.isnan(columns), 0, np.clip(np.rint(share * full), 1, full)).astype(np.int64)


_PREFIXES = ("", "k", "M", "G", "T", "P")
_PREFIXED = {"By": "B", "By/s": "B/s", "Hz": "Hz"}
"""Units with prefixes, as people write them."""


def formatter(unit: str, stat: str) -> Callable[[float], str]:
    """How to write a statistic of a quantity with a UCUM unit, such as `1` for shares or `By/s`."""
    if stat == "count":
        return "{:,.0f}".format
    if stat == "var":
        return "{:.4g}".format
    if unit == "1":
        return "{:.1%}".format
    if unit in _PREFIXED:
        return partial(_prefixed, _PREFIXED[unit])
    return ("{:.4g} " + unit.replace("{", "").replace("}", "").replace("Cel", "°C")).format


def _prefixed(unit: str, value: float) -> str:
    for prefix in _PREFIXES[:-1]:
        if value < 999.5:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:,.3g} {_PREFIXES[-1]}{unit}"


_CHART_LINES = 8
_GAP = 2
"""Columns of a terminal between those of a table."""
_EXTREMES = ("lowest", "highest", "last")
_MIN_SPARKLINE, _MAX_SPARKLINE = 16, 60
_MAX_NAME = 30
"""Columns of a terminal that a name gets before a timeline; longer ones go on below."""


def show_series(console: Console, frame: pd.DataFrame, name: str, rate: str) -> None:
    """A chart and a table of the values of `name`."""
    if frame.empty:
        _say_nothing(console, name)
        return
    written = formatter(frame.attrs.get("unit", ""), frame.attrs.get("stat", ""))
    time_ms, value = _columns(frame)
    console.print(_heading(frame, f"of {name}", rate))
    draw(console, frame["value"], rate, written)
    stat = str(frame.attrs.get("stat", "value"))
    table = fitting_table("time (UTC)", stat, numbers=(stat,), whole=("time (UTC)",))
    rows = [(format_instant(time), written(number)) for time, number in zip(time_ms.tolist(), value, strict=True)]
    fill(table, rows)
    console.print(table)


def show_groups(console: Console, frame: pd.DataFrame, name: str, rate: str) -> None:
    """A line for each group: its timeline, lowest, highest and last value; the group with the highest first."""
    if frame.empty:
        _say_nothing(console, "the fleet")
        return
    written = formatter(frame.attrs.get("unit", ""), frame.attrs.get("stat", ""))
    time_ms, _ = _columns(frame)
    ends_ms = np.array([time_ms.min(), time_ms.max()])
    groups = sorted(frame.groupby(name, observed=True), key=lambda item: -item[1]["value"].max())
    values = [part["value"].to_numpy(np.float64) for _, part in groups]
    numbers = [tuple(written(number) for number in (value.min(), value.max(), value[-1])) for value in values]
    names = [str(group) for group, _ in groups]
    width = _timeline_width(console, names, numbers)
    top = float(frame["value"].max())
    lines = [_timeline(part, ends_ms, rate, top, width) if width else "" for _, part in groups]
    table = fitting_table(name, "over time", *_EXTREMES, numbers=_EXTREMES, whole=("over time",))
    fill(table, [(*row, *number) for *row, number in zip(names, lines, numbers, strict=True)])
    console.print(_heading(frame, f"by {name}", rate))
    console.print(Text(" to ".join(map(format_instant, ends_ms.tolist())), "dim"))
    console.print(keep_whole(table, name))


def _timeline_width(console: Console, names: Sequence[str], numbers: Sequence[tuple[str, ...]]) -> int:
    """The columns of a terminal that names and numbers leave for timelines; 0 where it can draw none."""
    if console.options.ascii_only:
        return 0
    written = [max(map(len, column)) for column in zip(_EXTREMES, *numbers, strict=True)]
    taken = min(_MAX_NAME, max(map(len, names))) + sum(written) + _GAP * (1 + len(written))
    return max(_MIN_SPARKLINE, min(_MAX_SPARKLINE, console.width - taken))


def _timeline(part: pd.DataFrame, ends_ms: npt.NDArray[np.int64], rate: str, top: float, width: int) -> str:
    """One group's sparkline, to the scale of time and value that all groups share."""
    time_ms, value = _columns(part)
    time_ms, value = np.concatenate([time_ms, ends_ms]), np.concatenate([value, [np.nan, np.nan]])
    return sparkline(condensed(time_ms, value, parse_duration(rate), width), top)


def _columns(frame: pd.DataFrame) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    return pd.DatetimeIndex(frame.index).as_unit("ms").asi8, frame["value"].to_numpy(np.float64)


def _heading(frame: pd.DataFrame, name: str, rate: str) -> Text:
    stat = frame.attrs.get("stat")
    heading = plain(f"{frame.attrs.get('metric', 'value')}{f' ({stat})' if stat else ''} {name}, every {rate}")
    heading.stylize("bold")
    return heading


def draw(
    console: Console,
    values: "pd.Series[float]",
    rate: str,
    written: Callable[[float], str],
    *,
    since: pd.Timestamp | None = None,
) -> None:
    """A chart of values by time (UTC), as wide as the terminal; what lies before `since` is drawn faintly."""
    if console.options.ascii_only or values.dropna().empty:
        return
    values = values.dropna()
    time_ms, value = pd.DatetimeIndex(values.index).as_unit("ms").asi8, values.to_numpy().astype(np.float64)
    highest = written(float(value.max()))
    margin = len(highest) + 1
    columns = condensed(time_ms, value, parse_duration(rate), max(8, console.width - margin - 1))
    now = 0 if since is None else round(len(columns) * float(np.mean(time_ms < since.timestamp() * 1000)))
    lines = chart(columns, float(value.max()), _CHART_LINES)
    for number, line in enumerate(lines):
        label = highest if number == 0 else "0" if number == len(lines) - 1 else ""
        console.print(
            Text(f"{label:>{margin - 1}} ", "dim").append(line[:now], "bright_black").append(line[now:], "cyan")
        )
    first, last = format_instant(int(time_ms[0])), format_instant(int(time_ms[-1]))
    gap = max(2, len(columns) - len(first) - len(last))
    console.print(Text(" " * margin + first + " " * gap + last + "\n", "dim"))


def _say_nothing(console: Console, name: str) -> None:
    console.print(plain(f"There is no data of {name} in this range."))
