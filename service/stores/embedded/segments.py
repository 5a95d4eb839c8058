"""Raw windows on disk: Parquet files, sorted by series and time, written once; which of them to merge."""

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from service.journal.files import sync_folder
from service.stores.memtable import SCHEMA

_FAN_IN = 4
LARGEST_SEGMENT = 64_000_000
"""Rows; sorting spills to disk, so this bounds how much is rewritten at once."""
LARGEST_RUN = 4_000_000
"""Rows; a run is merged in memory."""


def alike(rows: Mapping[int, int], largest: int) -> list[int]:
    """The runs to merge next, of `rows` by run: four or more of about the same size, none larger than allowed.

    Sizes are alike within a power of four, as in size-tiered compaction (O'Neil et al. 1996; Cassandra), so the
    number of runs, and how often a row is rewritten, grow with the logarithm of the rows.
    """
    levels: dict[int, list[int]] = defaultdict(list)
    for run, number in rows.items():
        if number * _FAN_IN <= largest:
            levels[int(math.log(max(number, 1), _FAN_IN))].append(run)
    for level in sorted(levels):
        if len(levels[level]) >= _FAN_IN:
            chosen, total = [], 0
            for run in levels[level]:
                total += rows[run]
                if total > largest:
                    break
                chosen.append(run)
            return chosen
    return []


_ROW_GROUP = 1024 * 1024
_FORMAT: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    # Time rises within a series: as differences it nearly vanishes. The rest repeats itself.
    "use_dictionary": [name for name in SCHEMA.names if name != "time"],
    "column_encoding": {"time": "DELTA_BINARY_PACKED"},
    "dictionary_pagesize_limit": 8 * 1024 * 1024,
}
_NEVER = (2**63 - 1, -(2**63))


class Segment(NamedTuple):
    """A file of windows and what it spans."""

    id: int
    file: str
    rows: int
    bytes: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int

    def may_hold(self, series: npt.NDArray[np.int64], time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """For each pair of a series and an end, whether the file may have that window."""
        in_series = (series >= self.first_series) & (series <= self.last_series)
        return in_series & (time >= self.first_ms) & (time <= self.last_ms)


def sort_windows(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """The windows of `batches`, sorted by series and time."""
    table = pa.Table.from_batches([batch.select(SCHEMA.names) for batch in batches], SCHEMA).combine_chunks()
    order = np.lexsort((table["time"].to_numpy(), table["series"].to_numpy()))
    return table.take(pa.array(order))


def write_segment(folder: Path, number: int, windows: Iterable[pa.RecordBatch]) -> Segment:
    """Write windows, sorted by series and time, as segment `number`; they are on disk when it returns."""
    path = folder / f"{number:09d}.parquet"
    rows = 0
    first_series = last_series = 0
    first_ms, last_ms = _NEVER
    with path.open("wb") as file:
        with pq.ParquetWriter(file, SCHEMA, **_FORMAT) as writer:
            for batch in windows:
                writer.write_batch(batch)
                first_series = first_series or batch["series"][0].as_py()
                last_series = batch["series"][-1].as_py()
                time = batch["time"].to_numpy()
                first_ms, last_ms = min(first_ms, int(time.min())), max(last_ms, int(time.max()))
                rows += len(batch)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)
    return Segment(number, path.name, rows, path.stat().st_size, first_series, last_series, first_ms, last_ms)


def merged(
    connection: duckdb.DuckDBPyConnection, folder: Path, segments: Sequence[Segment]
) -> Iterator[pa.RecordBatch]:
    """The windows of several segments, sorted by DuckDB, which spills to disk where it must."""
    columns = ", ".join(SCHEMA.names)
    files = [str(folder / segment.file) for segment in segments]
    reader = connection.sql(
        f"SELECT {columns} FROM read_parquet(?) ORDER BY series, time", params=[files]
    ).to_arrow_reader(_ROW_GROUP)
    for batch in reader:
        yield pa.RecordBatch.from_arrays(batch.columns, schema=SCHEMA)
