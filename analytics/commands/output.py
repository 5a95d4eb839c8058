"""Frames as data: CSV, JSON or Parquet, into a file or to standard output."""

import io
import sys
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from analytics.commands.settings import Form
from contract.times import format_instant

_SUFFIXES: dict[str, Form] = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pq": "parquet"}


def form_of(chosen: Form | None, out: Path | None, *, terminal: bool) -> Form:
    """The form of an answer: the one chosen, else the file's, else a table for people and CSV for programs."""
    if chosen is not None:
        return chosen
    if out is not None:
        return _SUFFIXES.get(out.suffix.lower(), "csv")
    return "table" if terminal else "csv"


def write(frame: pd.DataFrame, form: Form, out: Path | None) -> None:
    """Write `frame`, its index as the first column and moments as ISO 8601 in UTC, to `out` or standard output.

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


def _encoded(frame: pd.DataFrame, form: Form) -> bytes:
    match form:
        case "csv":
            return textual(frame).to_csv(index=False, lineterminator="\n").encode()
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
    """The frame with its index as a column and moments as text; histograms, which are bytes, are left out."""
    frame = frame.reset_index().drop(columns="histogram", errors="ignore")
    for name in frame.select_dtypes("datetimetz"):
        frame[name] = [format_instant(ms) for ms in pd.DatetimeIndex(frame[name]).as_unit("ms").asi8.tolist()]
    return frame


def _plain(column: "pd.Series[Any]") -> list[Any]:
    """Values as Python has them; None for a missing one."""
    return column.astype(object).where(column.notna(), None).tolist()
