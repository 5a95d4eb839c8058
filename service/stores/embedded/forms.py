"""How windows lie in files: which columns, how they are encoded, and how every form of every release is read again.

A file has the columns of `service.stores.sorted_windows.SCHEMA`, and in place of most of their values others that they
follow from: means and variances as whole numbers (`service.stores.embedded.fractions`), histograms as counts by bin
(`service.stores.embedded.counts`), extremes only where they do not follow from these. Whatever came is read again to
the bit: `read` gives it, from any rows of a file.

    table = pyarrow.parquet.read_table("data/raw/000000001.parquet")
    windows = service.stores.embedded.forms.read(table)

Files of older releases have other columns, and `windows_in` reads them beside newer ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from service.stores.embedded import counts, fractions
from service.stores.embedded.counts import Counts, Outer, StoredColumn
from service.stores.sorted_windows import SCHEMA, binary

Ints = npt.NDArray[np.int64]

_FOLLOWING = ("mean", "variance", "minimum", "maximum", "histogram")
"""Null where they follow from other columns."""
STORED = pa.schema(
    [*(field.with_nullable(field.name in _FOLLOWING) for field in SCHEMA), *fractions.SCHEMA, *counts.SCHEMA]
)
"""The columns of files, but for the names of series."""
_BY_BYTE = (
    "time", "duration", "mean", "variance",
    *(name for name in (*fractions.SCHEMA.names, *counts.SCHEMA.names) if name != "parts"),
)  # fmt: skip
"""Columns of values that seldom repeat as a whole: their first bytes do, and are put next to each other. Times
do repeat, from one core of a host to the next, so far away that only whole bytes are found again."""
FLUSHED, MERGED, SETTLED = 1, 6, 13
"""How much effort zstd makes in the columns by byte: for windows that are soon merged with others, for those that may
be, and for those that hardly will. Between, more effort finds nothing in such columns."""


def parquet_options(names: Iterable[str], effort: int) -> dict[str, Any]:
    """How these columns are written."""
    return {
        "compression": "zstd",
        "compression_level": {name: effort if name in _BY_BYTE else 3 for name in names},
        # Most of the rest repeats itself. A dictionary of histograms would be read whole for a few of them, and takes
        # more bytes than zstd alone.
        "use_dictionary": [name for name in names if name not in ("histogram", *_BY_BYTE)],
        "column_encoding": dict.fromkeys(_BY_BYTE, "BYTE_STREAM_SPLIT"),
        "dictionary_pagesize_limit": 8 * 1024 * 1024,
        "write_page_checksum": True,
    }


def stored(batch: pa.RecordBatch, cores: Ints) -> dict[str, pa.Array]:
    """The columns of `STORED` for windows, each of a host or device that has so many cores."""
    count = batch["count"].to_numpy()
    found = Counts.of(binary(batch), count)
    values = dict(zip(SCHEMA.names, batch.select(SCHEMA.names).columns, strict=True))
    numbers, ticks = fractions.columns(batch, cores, found)
    for name, expected in zip(("minimum", "maximum"), found.extremes(ticks, Outer.of(found.by_bin)), strict=True):
        reported = batch[name].to_numpy()
        values[name] = pa.array(reported, mask=found.is_counted & _same(reported, expected), from_pandas=False)
    values["histogram"] = pc.if_else(pa.array(found.is_counted), pa.scalar(None, pa.binary()), values["histogram"])
    return values | numbers | found.columns()


def _same(some: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which are equal to the bit; -0 is not 0."""
    equal: npt.NDArray[np.bool_] = some.view(np.int64) == others.view(np.int64)
    return equal


def needed(names: Sequence[str]) -> list[str]:
    """The columns of `STORED` that those of `SCHEMA` follow from, these among them."""
    if {*_FOLLOWING[1:]} & {*names}:
        return [name for name in STORED.names if name not in SCHEMA.names or name in names or name in _FOLLOWING]
    of_mean = ("count", "units", "busy_rest", "mean_ulps", *counts.SCHEMA.names) if "mean" in names else ()
    return [name for name in STORED.names if name in names or name in of_mean]


def read(batch: pa.Table | pa.RecordBatch, *, histograms: bool = True) -> pa.RecordBatch:
    """The windows of rows of files, with the columns of `SCHEMA` that were read (`needed`).

    Without `histograms` there is something in the column where the report had one, and no more.
    """
    if isinstance(batch, pa.Table):
        batch = _one(batch)
    names = [name for name in SCHEMA.names if name in batch.schema.names]
    values: dict[str, Any] = {name: batch[name] for name in names}
    if "mean" in values:
        values |= _following(batch, histograms=histograms)
    return pa.RecordBatch.from_arrays([*values.values()], schema=pa.schema([SCHEMA.field(name) for name in names]))


def _one(table: pa.Table) -> pa.RecordBatch:
    """A table as one batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


_PART = 8192
"""Rows that are read together: what is made of them on the way stays in the processor's cache."""


def _following(batch: pa.RecordBatch, *, histograms: bool) -> dict[str, pa.Array]:
    """The columns of rows of files that follow from others."""
    rows = len(batch)
    has_all = "variance" in batch.schema.names
    names = ("mean", "variance", "minimum", "maximum") if has_all else ("mean",)
    columns = {
        name: StoredColumn.of(batch[name])
        for name in (*names, *fractions.SCHEMA.names, *counts.SCHEMA.names)
        if name in batch.schema.names
    }
    count = batch["count"].to_numpy()
    found = {name: np.empty(rows) for name in names}
    lengths, packed = np.empty(rows, np.int32), [np.empty(0, np.uint8)]
    for first in range(0, rows, _PART):
        part = slice(first, min(first + _PART, rows))
        some, number = {name: column.part(part) for name, column in columns.items()}, count[part]
        ticks = fractions.read_ticks(some, number)
        counted, sums = Counts.read(some, number, ticks, of_squares=has_all)
        found["mean"][part], busy = fractions.read_means(some, number, counted, sums)
        if not has_all:
            continue
        found["variance"][part] = fractions.read_variances(some, number, counted, sums, busy)
        outer = Outer.of(counted.by_bin)
        for name, expected in zip(("minimum", "maximum"), counted.extremes(ticks, outer), strict=True):
            kept = some[name]
            found[name][part] = expected if kept.is_empty else np.where(kept.is_valid, kept.values, expected)
        if histograms:
            lengths[part], content = counted.packed(outer)
            packed.append(content)
    values = {name: pa.array(column, from_pandas=False) for name, column in found.items()}
    if has_all:
        made = _binary(lengths, np.concatenate(packed)) if histograms else _same_binary(b"\0\1", rows)
        kept = batch["histogram"]
        values["histogram"] = made if kept.null_count == rows else pc.coalesce(kept, made)
    return values


def _binary(lengths: npt.NDArray[np.int32], content: npt.NDArray[np.uint8]) -> pa.BinaryArray:
    """Bytes of so many lengths, one behind the other."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.Array.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(content)])


def _same_binary(value: bytes, rows: int) -> pa.BinaryArray:
    """The same bytes in each row."""
    return _binary(np.full(rows, len(value), np.int32), np.tile(np.frombuffer(value, np.uint8), rows))


_PLAIN = {
    field.name: f"NULL::{'BIGINT' if field.type == pa.int64() else 'INTEGER'} AS {field.name}"
    for field in (*fractions.SCHEMA, *counts.SCHEMA)
}
_FORMS: Sequence[Mapping[str, str]] = (
    _PLAIN,
    _PLAIN
    | {
        "mean": "coalesce(mean, busy / units + mean_rest) AS mean",
        "variance": "coalesce(variance, (squares * units - parts::BIGINT * busy * busy)"
        " / (parts::BIGINT * units * units) + variance_rest) AS variance",
    },
    {},
)
"""What the columns of `STORED` are in each form of files that there ever was, where they are not what is there."""
NEWEST_FORM = len(_FORMS) - 1


def source_of(files: Mapping[int, Sequence[str]], names: Sequence[str]) -> tuple[str, list[list[str]]]:
    """A source for DuckDB with the columns `needed` of `files`, by their form, at least one; and its parameters."""
    columns = needed(names)
    selected = {form: ", ".join(_FORMS[form].get(name, name) for name in columns) for form in files}
    text = " UNION ALL ".join(f"SELECT {selected[form]} FROM read_parquet(?)" for form in files)
    return f"({text})", [[*of_form] for of_form in files.values()]


def form_of(schema: pa.Schema) -> int:
    """The form of a file with these columns."""
    return NEWEST_FORM if counts.SCHEMA.names[0] in schema.names else int("units" in schema.names)
