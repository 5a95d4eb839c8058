"""Windows of few series read from files of windows row group by row group, each once, and no column in vain.

DuckDB is the better reader of a few windows, since it leaves out what it does not need within a row group. Whole row
groups take it half as much again as Arrow, and of a column of which the footer says all Arrow reads nothing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from analytics.frames.tiers import Piece
from service.stores.embedded import forms
from service.stores.embedded.segment import Segment

Ints = npt.NDArray[np.int64]

_LEAST_SHARE = 1 / 3
"""Of fewer of the rows of what is to be read, DuckDB reads them."""
_ROWS = 1 << 18
"""That are read at once: some 40 MB."""


class _RowGroup(NamedTuple):
    """A row group, and what its statistics say."""

    number: int
    rows: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int

    def wanted(self, piece: Piece, series: Ints) -> float:
        """About how many of its rows are of some series and end in a piece of time."""
        first, behind = np.searchsorted(series, (self.first_series, self.last_series + 1))
        of_series = (behind - first) / (self.last_series - self.first_series + 1)
        span_ms = min(self.last_ms + 1, piece.end_ms) - max(self.first_ms, piece.start_ms)
        return float(max(self.rows * of_series * span_ms / (self.last_ms + 1 - self.first_ms), 0.0))


class _ChosenFile(NamedTuple):
    """A file, its footer, and the row groups that are to be read."""

    path: Path
    footer: pq.FileMetaData
    groups: Sequence[_RowGroup]


def _groups(footer: pq.FileMetaData) -> list[_RowGroup]:
    """The row groups of a file; none of those whose statistics say too little."""
    found = []
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        # As `forms.STORED` begins.
        series, time = group.column(0).statistics, group.column(1).statistics
        if series is None or time is None or not (series.has_min_max and time.has_min_max):
            return []
        found.append(_RowGroup(number, group.num_rows, series.min, series.max, time.min, time.max))
    return found


def divided(
    folder: Path, segments: Sequence[Segment], piece: Piece, series: Ints
) -> tuple[list[_ChosenFile], list[Segment]]:
    """The files of which most is wanted, to be read here, and those to be read by DuckDB.

    Raises what is `service.stores.embedded.segments.UNREADABLE` where a file is damaged.
    """
    here, others = [], []
    for one in sorted(segments, key=lambda segment: segment.first_ms):
        footer = pq.read_metadata(folder / one.file) if one.form == forms.NEWEST_FORM else None
        groups = [] if footer is None else _groups(footer)
        wanted = [(group, rows) for group in groups if (rows := group.wanted(piece, series))]
        if (
            footer is None
            or not groups
            or sum(rows for _, rows in wanted) < _LEAST_SHARE * sum(group.rows for group, _ in wanted)
        ):
            others.append(one)
        else:
            here.append(_ChosenFile(folder / one.file, footer, [group for group, _ in wanted]))
    return here, others


def read(files: Sequence[_ChosenFile], names: Sequence[str], piece: Piece, series: Ints) -> Iterator[pa.RecordBatch]:
    """The rows of files that are of some series and end in a piece of time, with the columns `names` of `forms.STORED`.

    Raises what is `service.stores.embedded.segments.UNREADABLE` where a file is damaged.
    """
    for path, footer, groups in files:
        with pq.ParquetFile(path, metadata=footer, page_checksum_verification=True, pre_buffer=False) as file:
            for group in groups:
                for batch in _of_group(file, group, names):
                    if len(chosen := _chosen(batch, piece, series)):
                        yield chosen


def _of_group(file: pq.ParquetFile, group: _RowGroup, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a row group; columns whose values the footer says are not read."""
    footer = file.metadata.row_group(group.number)
    said = {
        name: value
        for place in range(footer.num_columns)
        if (name := (column := footer.column(place)).path_in_schema) in names
        and (value := _only_value(column.statistics, column.num_values)) is not None
    }
    read = [name for name in names if name not in said or name == "time"]
    schema = pa.schema([forms.STORED.field(name) for name in names])
    for batch in file.iter_batches(_ROWS, [group.number], read, use_threads=True):
        columns = [
            batch[name] if name in read else pa.repeat(pa.scalar(said[name].value, schema.field(name).type), len(batch))
            for name in names
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


class _Only(NamedTuple):
    value: int | None


def _only_value(statistics: Any, rows: int) -> _Only | None:
    """What all rows of a column have, where that is null or a whole number; None where they differ or may."""
    if statistics is None or not statistics.has_null_count:
        return None
    if not statistics.num_values:
        return _Only(None)
    is_one = not statistics.null_count and statistics.has_min_max and statistics.min == statistics.max
    return _Only(statistics.min) if is_one and type(statistics.min) is int else None


def _chosen(batch: pa.RecordBatch, piece: Piece, series: Ints) -> pa.RecordBatch:
    """The rows of some series that end in a piece of time."""
    whose, time = batch["series"].to_numpy(), batch["time"].to_numpy()
    place = np.searchsorted(series, whose)
    is_chosen = series[np.minimum(place, len(series) - 1)] == whose
    is_chosen &= (time >= piece.start_ms) & (time < piece.end_ms)
    if is_chosen.all():
        return batch
    places = np.flatnonzero(is_chosen)
    if len(places) and places[-1] - places[0] + 1 == len(places):
        return batch.slice(int(places[0]), len(places))
    return batch.take(pa.array(places))


def seams(folder: Path, segments: Sequence[Segment], series: Ints) -> list[int]:
    """Moments where files begin, and row groups that have one of the series alone: what ends before them is elsewhere.

    Raises what is `service.stores.embedded.segments.UNREADABLE` where a file is damaged.
    """
    found = set()
    for one in segments:
        if one.form != forms.NEWEST_FORM or not len(_within(series, one.first_series, one.last_series)):
            continue
        for group in _groups(pq.read_metadata(folder / one.file)):
            if group.first_series == group.last_series and len(_within(series, group.first_series, group.last_series)):
                found.add(group.first_ms)
        found.add(one.first_ms)
    return sorted(found)


def _within(series: Ints, first: int, last: int) -> Ints:
    return series[np.searchsorted(series, first) : np.searchsorted(series, last, side="right")]
