"""Tables on a terminal: columns stay readable at 80 characters, and what hosts report tells the terminal nothing."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.times import format_instant

_MAX_WHOLE = 24
_MAX_ROWS = 24
"""Rows of a table on a terminal; of more, the first and the last."""


def fitting_table(*headings: str, numbers: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """A table without lines. Where it is wider than the terminal, text goes on below itself.

    `numbers` are columns that stand to the right; they and those that are `whole` are never broken or cut.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in numbers else "left",
            no_wrap=heading in numbers or heading in whole,
            overflow="fold",
        )
    return table


def keep_whole(table: Table, *headings: str) -> Table:
    """Never break the names in some columns, where the longest has at most 24 characters: people copy them."""
    for column in table.columns:
        if column.header in headings and max(map(cell_len, map(str, column.cells)), default=0) <= _MAX_WHOLE:
            column.no_wrap = True
    return table


def plain(text: str) -> Text:
    """Text as it is: no markup, and nothing that a reporting host could tell the terminal to do."""
    return Text("".join(character if character.isprintable() else "\ufffd" for character in text))


def fill(table: Table, rows: Sequence[tuple[str, ...]]) -> None:
    """Add rows: all of them, or the first and the last with the number of those between."""
    half = _MAX_ROWS // 2
    hidden = len(rows) - _MAX_ROWS
    shown = rows if hidden <= 0 else [*rows[:half], *rows[-half:]]
    for number, row in enumerate(shown):
        if hidden > 0 and number == half:
            table.add_row(Text(f"... {hidden:,} more", "dim"))
        table.add_row(*map(plain, row))


def moment(at: pd.Timestamp) -> str:
    """A moment to the minute, UTC: `2026-11-29 11:45`."""
    return format_instant(int(at.timestamp() * 1000))[:16].replace("T", " ")


def show_rows(
    console: Console,
    frame: pd.DataFrame,
    nothing: str,
    *,
    written: Mapping[str, Callable[[Any], str]] | None = None,
    whole: bool = False,
) -> None:
    """A table of the rows, with an index that has a name as the first column; `nothing` is said where there are none.

    Columns without any value are left out. `written` says how the values of a column are written; without it moments
    are written to the minute, and flags as yes or no. Unless all rows are to be shown as a `whole`, those in the
    middle of many are left out.
    """
    if frame.empty:
        console.print(plain(nothing))
        return
    columns = frame if frame.index.name is None else frame.reset_index()
    columns = columns.dropna(axis="columns", how="all")
    texts = {str(name): _texts(columns[name], (written or {}).get(str(name))) for name in columns}
    numbers = [name for name in texts if pd.api.types.is_numeric_dtype(columns[name])]
    moments = [name for name in texts if pd.api.types.is_datetime64_any_dtype(columns[name])]
    table = fitting_table(*texts, numbers=numbers, whole=moments)
    rows = [*zip(*texts.values(), strict=True)]
    if whole:
        for row in rows:
            table.add_row(*map(plain, row))
    else:
        fill(table, rows)
    console.print(keep_whole(table, "user"))


def _texts(column: "pd.Series[Any]", written: Callable[[Any], str] | None) -> list[str]:
    if written is None and pd.api.types.is_datetime64_any_dtype(column):
        written = moment
    if written is None and pd.api.types.is_bool_dtype(column):
        written = {True: "yes", False: "no"}.__getitem__
    return ["-" if pd.isna(value) else (written or str)(value) for value in column]
