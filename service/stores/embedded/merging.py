"""Files of windows merged into one: read side by side in the order that they have, a piece of each at a time."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from service.stores.embedded import forms
from service.stores.embedded.segment import Segment
from service.stores.embedded.segments import in_order, windows_in

_ROW_GROUP = 1024 * 1024
_LEAST_ROW_GROUP = 64 * 1024
_ROW_GROUPS = 16
"""A file has so many at least, or small ones: what is written at once is in memory, with 150 bytes a row."""
_READ_ROWS = 32 * 1024
"""Of all files together, at a time."""
_LEAST_ROWS = 2048


def merged(
    connection: duckdb.DuckDBPyConnection, folder: Path, segments: Sequence[Segment], nobody: Collection[int] = ()
) -> Iterator[pa.RecordBatch]:
    """The windows of several segments but those of the series `nobody`, sorted by series and time.

    Raises what is `service.stores.embedded.segments.UNREADABLE`, or duckdb.Error, where one is damaged.
    """
    if any(one.form != forms.NEWEST_FORM for one in segments):
        return _sorted(connection, folder, segments, nobody)
    rows = sum(one.rows for one in segments) // _ROW_GROUPS
    return _together(_merged(folder, segments, nobody), min(max(rows, _LEAST_ROW_GROUP), _ROW_GROUP))


def _merged(folder: Path, segments: Sequence[Segment], nobody: Collection[int]) -> Iterator[pa.RecordBatch]:
    """Pieces of any size; those of a series that are in one file stay in their order where they end together."""
    strangers = np.array(sorted(nobody), np.int64)
    read_rows = max(_READ_ROWS // len(segments), _LEAST_ROWS)
    files = [_File(folder / one.file, read_rows) for one in segments]
    try:
        while files := [file for file in files if file.fill()]:
            # What comes up to here is in memory of all of them, but for what else the first to end has of that series.
            first = min(files, key=lambda file: file.last)
            while first.last == first.first and first.more():
                pass
            bound = first.last if first.is_over else first.last - 1
            for file in files:
                while file.last <= bound and file.more():
                    pass
            batch = in_order(pa.concat_batches([piece for file in files for piece in file.taken(bound)]))
            if len(strangers):
                batch = batch.filter(pa.array(~np.isin(batch["series"].to_numpy(), strangers)))
            if len(batch):
                yield batch
    finally:
        for file in files:
            file.close()


class _File:
    """A file that is read from its beginning to its end, and what of it is in memory."""

    def __init__(self, path: Path, rows: int) -> None:
        self._file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)
        self._batches = self._file.iter_batches(rows, columns=forms.STORED.names, use_threads=False)
        self._pieces: list[pa.RecordBatch] = []
        self.is_over = False
        """Whether all of it was read."""

    @property
    def first(self) -> int:
        """The first series of what is in memory,"""
        return int(self._pieces[0]["series"][0].as_py())

    @property
    def last(self) -> int:
        """And the last."""
        return int(self._pieces[-1]["series"][-1].as_py())

    def fill(self) -> bool:
        """Have something of it in memory; False, and closed, where nothing is left."""
        if self._pieces or self.more():
            return True
        self.close()
        return False

    def more(self) -> bool:
        """Read on; False where nothing is left."""
        for batch in self._batches:
            if len(batch):
                named = [batch[name] for name in forms.STORED.names]
                self._pieces.append(pa.RecordBatch.from_arrays(named, schema=forms.STORED))
                return True
        self.is_over = True
        return False

    def taken(self, bound: int) -> Iterator[pa.RecordBatch]:
        """What is in memory up to a series, which is not there any more then."""
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            behind = int(np.searchsorted(piece["series"].to_numpy(), bound, side="right"))
            if behind:
                yield piece.slice(0, behind)
            if behind < len(piece):
                self._pieces.append(piece.slice(behind))

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _together(pieces: Iterator[pa.RecordBatch], least: int) -> Iterator[pa.RecordBatch]:
    """The same windows, at least so many at a time but for the last."""
    waiting: list[pa.RecordBatch] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= least:
            yield pa.concat_batches(waiting)
            waiting = []
    if waiting:
        yield pa.concat_batches(waiting)


def _sorted(
    connection: duckdb.DuckDBPyConnection, folder: Path, segments: Sequence[Segment], nobody: Collection[int]
) -> Iterator[pa.RecordBatch]:
    """The windows of files of which some are of an older form, sorted by DuckDB, which spills to disk."""
    source, files = windows_in(folder, segments)
    connection.register("nobody", pa.table({"series": pa.array(sorted(nobody), pa.int32())}))
    reader = connection.sql(
        f"SELECT {', '.join(forms.STORED.names)} FROM {source} ANTI JOIN nobody USING (series) ORDER BY series, time",
        params=files,
    ).to_arrow_reader(_ROW_GROUP)
    for batch in reader:
        if len(batch):
            yield forms.read(pa.RecordBatch.from_arrays(batch.columns, schema=forms.STORED))
    connection.unregister("nobody")
