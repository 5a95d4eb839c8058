"""CSV and Parquet files as tables for `tables`, and windows of our own as samples."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds

from analytics.frames.checking import IDENTITIES
from analytics.frames.columns import NUMBERS
from analytics.frames.exchange import frame_of as frame_of_arrow
from analytics.frames.frame import FrameError
from analytics.sources.importing.readings import Hints, Reading, frame_of_readings
from analytics.sources.importing.samples import MAYBE_CUT, WHOLE, ImportFault, Ints, SetAside, frame_of
from analytics.sources.importing.tables import read_table
from contract.metrics import NAMES

_SNIFFED: Final = 64 * 1024
_DELIMITERS: Final = ",;\t|"
_LEFT_OPEN: Final = "a quotation mark that is left open takes in the lines below"


ReadTable = Callable[[pa.Table, Ints, int, str, Hints, SetAside], Reading]
"""Says what a table does: as `tables.read_table`, or by a mapping."""


def read_csv(path: Path, file: int, hints: Hints, aside: SetAside, read: ReadTable = read_table) -> Sequence[Reading]:
    """What a CSV file with a header says, of any of four delimiters; of InfluxDB's annotated kind, table by table."""
    body = path.read_bytes()
    if b"\0" in body[:_SNIFFED]:
        raise ImportFault("expected text, got a file with zero bytes")
    if not body.strip():
        raise ImportFault("expected a table with a header, got an empty file")
    body = body.removeprefix(b"\xef\xbb\xbf")
    if b"\n" not in body:
        # Lines that end as those of old Macs do.
        body = body.replace(b"\r", b"\n")
    if body.lstrip()[:1] == b"#":
        return _annotated(body, path, file, hints, aside, read)
    return [_csv(body, 0, path, file, hints, aside, read)]


def _annotated(body: bytes, path: Path, file: int, hints: Hints, aside: SetAside, read: ReadTable) -> list[Reading]:
    """Tables with annotations before them and a blank line behind: https://docs.influxdata.com/influxdb/v2/reference/syntax/annotated-csv/"""
    readings = []
    place, whole = 0, len(body.splitlines())
    for block in re.split(rb"\r?\n\r?\n(?=#|,)", body):
        lines = block.splitlines()
        header = next((number for number, line in enumerate(lines) if line.strip() and line[:1] != b"#"), None)
        if header is not None and len(lines) > header + 1:
            end = b"\n" if place + len(lines) < whole or body.endswith(b"\n") else b""
            readings.append(_csv(b"\n".join(lines[header:]) + end, place + header, path, file, hints, aside, read))
        place += len(lines) + 1
    if not readings:
        raise ImportFault("expected a table with a header, got comments alone")
    return readings


def _csv(body: bytes, before: int, path: Path, file: int, hints: Hints, aside: SetAside, read: ReadTable) -> Reading:
    names, delimiter = _header(body)
    ragged: dict[int, int] = {}

    def invalid(row: pacsv.InvalidRow) -> str:
        ragged[row.number or 0] = 1 + row.text.strip("\r\n").count("\n")
        return "skip"

    try:
        table = pacsv.read_csv(
            pa.BufferReader(body),
            read_options=pacsv.ReadOptions(
                column_names=names,
                skip_rows=1,
                use_threads=b'"' not in body and _is_regular(body, len(names), delimiter),
            ),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, invalid_row_handler=invalid),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as error:
        raise ImportFault(f"expected CSV in UTF-8, got what cannot be read: {str(error).splitlines()[0]}") from None
    if not table.num_rows:
        raise ImportFault("expected rows below the header, got none")
    for line, count in ragged.items():
        reason = _LEFT_OPEN if count > 1 else f"expected {len(names)} columns, got another number"
        aside.add(file, before + line, reason, count)
    lines = np.arange(2, table.num_rows + len(ragged) + 2)
    lines = lines[~np.isin(lines, [*ragged])][: table.num_rows] + before
    if b'"' in body:
        table, lines = _closed(table, lines, delimiter, file, aside)
        if not table.num_rows:
            raise ImportFault(f"expected rows, got {_LEFT_OPEN}")
    if lines[-1] == before + _lines_of(body) and not body.endswith(b"\n"):
        table, lines = _uncut(table, lines, file, aside)
    return read(table, lines, file, path.stem, hints, aside)


def _header(body: bytes) -> tuple[list[str], str]:
    """The names of the columns, each another, and what is between them. Raises ImportFault where there are none."""
    first = body[: body.find(b"\n") + 1 or len(body)].decode("utf-8", "replace").rstrip("\n")
    delimiter = max(_DELIMITERS, key=first.count) if any(map(first.count, _DELIMITERS)) else ","
    try:
        header = next(csv.reader(io.StringIO(first), delimiter=delimiter), [])
    except csv.Error as error:
        raise ImportFault(f"expected the names of columns in the first line, got what is no CSV: {error}") from None
    if all(re.fullmatch(r"[-+.\dTZ: ]*", name) for name in header):
        raise ImportFault(f"expected the names of columns in the first line, got {first.strip()[:60]!r}")
    names = [name.strip() or f"column {place}" for place, name in enumerate(header, 1)]
    if len({*names}) < len(names):
        places = {name: place for place, name in reversed([*enumerate(names)])}
        names = [name if places[name] == place else f"{name} {place + 1}" for place, name in enumerate(names)]
    return names, delimiter


def _uncut(table: pa.Table, lines: Ints, file: int, aside: SetAside) -> tuple[pa.Table, Ints]:
    """The rows, and their lines, but the last, where that may be cut inside its last cell."""
    if not _is_cut(table.column(table.num_columns - 1)):
        return table, lines
    aside.add(file, int(lines[-1]), MAYBE_CUT)
    return table.slice(0, len(table) - 1), lines[:-1]


def _lines_of(body: bytes) -> int:
    return body.count(b"\n") + (not body.endswith(b"\n"))


def _is_cut(column: pa.ChunkedArray) -> bool:
    """Whether the last cell may be the beginning of a longer one: none above it is as short, or one goes on."""
    last = column[-1].as_py()
    above = column.slice(0, len(column) - 1).drop_null()
    if last is None or not len(above):
        return False
    if pc.all(pc.less(len(last.encode()), pc.binary_length(above))).as_py():
        return True
    is_name = pc.any(pc.match_substring_regex(above, r"[^-+.,%\d\s]")).as_py()
    return bool(is_name and not pc.any(pc.equal(above, last)).as_py() and pc.any(pc.starts_with(above, last)).as_py())


def _closed(table: pa.Table, lines: Ints, delimiter: str, file: int, aside: SetAside) -> tuple[pa.Table, Ints]:
    """The rows, and their lines, but those of which a cell goes on over lines that are rows themselves."""
    kept = np.ones(len(table), np.bool_)
    for place, column in enumerate(table.columns):
        for row in np.flatnonzero(pc.match_substring(column, "\n").fill_null(False).to_numpy()).tolist():
            *whole, last = column[row].as_py().split("\n")[1:]
            is_row = any(line.count(delimiter) == table.num_columns - 1 for line in whole)
            if kept[row] and (is_row or last.count(delimiter) == place > 0):
                kept[row] = False
                aside.add(file, int(lines[row]), _LEFT_OPEN, 2 + len(whole))
    return (table, lines) if kept.all() else (table.filter(pa.array(kept)), lines[kept])


def _is_regular(body: bytes, columns: int, delimiter: str) -> bool:
    """Whether every line has as many columns, so that threads may read: they do not tell the numbers of lines."""
    return body.count(delimiter.encode()) == _lines_of(body) * (columns - 1)


def read_parquet(
    path: Path, file: int, hints: Hints, aside: SetAside, read: ReadTable = read_table
) -> Sequence[Reading]:
    """What a Parquet file says, or a folder of them whose folders may be named as Hive does (`host=web-1/`)."""
    try:
        found = ds.dataset(path, format="parquet", partitioning="hive")
        schema = found.schema
        table = found.to_table()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ImportFault(f"expected Parquet, got what cannot be read: {str(error).splitlines()[0]}") from None
    if not table.num_rows:
        raise ImportFault("expected rows, got none")
    if {"time", *NUMBERS} <= {*schema.names}:
        return [_own(table, path, file, hints)]
    return [read(table, np.arange(1, table.num_rows + 1), file, path.stem, hints, aside)]


def _with_users(table: pa.Table) -> pa.Table:
    """The table whose column of hosts is called `user`, where another one has them."""
    hosts = [name for name in IDENTITIES if name in table.column_names]
    if "user" in table.column_names or not hosts:
        return table
    return table.rename_columns(["user" if name == hosts[0] else name for name in table.column_names])


def _own(table: pa.Table, path: Path, file: int, hints: Hints) -> Reading:
    """Windows as we export them: summaries, which are kept whole."""
    from analytics.sources.parquet_files import metric_of

    try:
        metric = metric_of(path, table.schema)
        frame = frame_of_arrow(_with_users(table))
    except FrameError as error:
        raise ImportFault(str(error)) from None
    frame = frame[frame["count"] > 0]
    quantity = NAMES[metric].quantity.name
    rows = len(frame)
    lines: Ints = np.arange(1, rows + 1)
    columns = {
        "user": frame["user"].array if "user" in frame else hints.host_name or path.stem,
        "end_ms": pd.DatetimeIndex(frame.index).asi8,
        "core": frame["core"].fillna(WHOLE).to_numpy(np.int64) if "core" in frame else WHOLE,
        "quantity": quantity, "value": frame["mean"].to_numpy(), "line": lines, "file": file,
    }  # fmt: skip
    made = frame_of(columns)
    for name in ("count", "var", "min", "max", "approximated"):
        made[name] = frame[name].to_numpy()
    made["histogram"] = frame["histogram"].array if "histogram" in frame else None
    said = [
        f"windows of {metric}: count, mean, variance, extremes" + (" and histograms" if "histogram" in frame else "")
    ]
    return Reading(frame_of_readings({"user": [], "end_ms": [], "value": []}), (), said, windows=made)
