"""Pieces of windows as bytes: an Arrow stream, a Parquet file, CSV or JSON, each begun before it is known whole."""

import io
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from analytics.frames.packing import unpack
from service.http.answers import ARROW, CSV, JSON, PARQUET, instants, without_formulas

_TEXT_ROWS = 10_000
"""Rows that are turned into text at once: some tens of ms."""


class Form(Protocol):
    """Writes tables of one schema; what each call returns is sent at once."""

    def write(self, table: pa.Table) -> Iterator[bytes]:
        """The bytes that a piece adds, in steps of some tens of ms."""

    def end(self) -> bytes:
        """What comes last."""


class _Columnar:
    """What pyarrow writes; drained after every piece."""

    def __init__(self, open_writer: Callable[[io.BytesIO], Any]) -> None:
        self._sink = _Drain()
        self._writer = open_writer(self._sink)

    def write(self, table: pa.Table) -> Iterator[bytes]:
        self._writer.write_table(table)
        yield self._sink.drain()

    def end(self) -> bytes:
        self._writer.close()
        return self._sink.drain()


class _Drain(io.BytesIO):
    """A sink that is emptied now and then, but counts on."""

    def __init__(self) -> None:
        super().__init__()
        self._before = 0

    def tell(self) -> int:
        return self._before + super().tell()

    def seekable(self) -> bool:
        return False

    def drain(self) -> bytes:
        content = self.getvalue()
        self._before += len(content)
        super().seek(0)
        self.truncate()
        return content


class _Csv:
    """A line a window; moments as ISO 8601, a histogram as `bin:count` pairs."""

    def __init__(self, schema: pa.Schema) -> None:
        self._names = schema.names
        self._header = True

    def write(self, table: pa.Table) -> Iterator[bytes]:
        for part in _parts(table):
            sink = io.BytesIO()
            options = pa_csv.WriteOptions(include_header=self._header, quoting_style="needed")
            pa_csv.write_csv(without_formulas(_textual(part)), sink, options)
            self._header = False
            yield sink.getvalue()

    def end(self) -> bytes:
        sink = io.BytesIO()
        if self._header:
            pa_csv.write_csv(pa.table({name: pa.array([], pa.string()) for name in self._names}), sink)
        return sink.getvalue()


class _Json:
    """`{"windows": [...]}`, an object a window; a histogram as in a report, `[bin, count, ...]`."""

    def __init__(self, schema: pa.Schema) -> None:
        self._names = schema.names
        self._lead = b'{"windows":['

    def write(self, table: pa.Table) -> Iterator[bytes]:
        for part in _parts(table):
            columns = [_plain(part, name) for name in self._names]
            rows = [dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True)]
            yield self._lead + msgspec.json.encode(rows)[1:-1]
            self._lead = b","

    def end(self) -> bytes:
        return (self._lead if self._lead != b"," else b"") + b"]}"


def _parts(table: pa.Table) -> Iterator[pa.Table]:
    for first in range(0, len(table), _TEXT_ROWS):
        yield table.slice(first, _TEXT_ROWS)


def _plain(table: pa.Table, name: str) -> list[Any]:
    if name == "time":
        return instants(table["time"].cast(pa.int64()).to_numpy())
    return _flat(table["histogram"]) if name == "histogram" else table[name].to_pylist()


def _flat(column: pa.ChunkedArray) -> list[list[int]]:
    found = unpack(column.combine_chunks())
    pairs = np.stack([found.bin.astype(np.int64), found.count], axis=1).ravel()
    ends = 2 * np.cumsum(np.bincount(found.row, minlength=len(column)))
    return [part.tolist() for part in np.split(pairs, ends[:-1])]


def _textual(table: pa.Table) -> pa.Table:
    columns = {name: table[name] for name in table.column_names}
    columns["time"] = pa.array(_plain(table, "time"), pa.string())
    if "user" in columns:
        columns["user"] = columns["user"].cast(pa.string())
    if "histogram" in columns:
        texts = [
            " ".join(f"{b}:{n}" for b, n in zip(one[::2], one[1::2], strict=True)) for one in _plain(table, "histogram")
        ]
        columns["histogram"] = pa.array(texts, pa.string())
    return pa.table(columns)


def _arrow(schema: pa.Schema) -> Form:
    return _Columnar(lambda sink: pa.ipc.new_stream(sink, schema))


def _parquet(schema: pa.Schema) -> Form:
    return _Columnar(lambda sink: pq.ParquetWriter(sink, schema, compression="zstd"))


FORMS: dict[str, Callable[[pa.Schema], Form]] = {JSON: _Json, CSV: _Csv, ARROW: _arrow, PARQUET: _parquet}
"""By media type."""
