"""Files that are merged side by side: every window of theirs in order, once, however few of each are read at a time."""

import errno
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from service.stores.embedded import forms, merging, segments
from service.stores.embedded.segments import Origin, write_segment
from service.stores.series import SeriesIndex
from service.stores.sorted_windows import SCHEMA
from tests.support.segment_files import series_of, written

SERIES = 40


def windows(random: np.random.Generator, rows: int, series: int = SERIES) -> pa.RecordBatch:
    """Of some series more than of others, in order of series and time."""
    number = np.sort((series * random.random(rows) ** 3).astype(np.int32)) + 1
    time = random.permutation(1_000_000)[:rows].astype(np.int64)
    time = time[np.lexsort((time, number))]
    order = np.lexsort((time, number))
    mean = random.integers(0, 101, rows) / 100
    columns = {
        "series": number, "time": time[order], "duration": np.full(rows, 5000, np.int32),
        "count": np.full(rows, 100), "mean": mean, "variance": random.random(rows),
        "minimum": np.zeros(rows), "maximum": random.random(rows),
        "histogram": [b"\x05d"] * rows,
    }  # fmt: skip
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


@pytest.fixture
def index() -> SeriesIndex:
    return series_of(SERIES)


def read(segment: list[pa.RecordBatch]) -> pa.Table:
    """What was merged, as windows."""
    return pa.Table.from_batches([forms.read(one) for one in segment])


@pytest.mark.parametrize("nobody", [set(), {1, 7, SERIES}])
@pytest.mark.parametrize(("read_rows", "group"), [(1, 1), (7, 64), (1000, 300), (100_000, 100_000)])
def test_what_is_merged_is_every_window_in_order(
    tmp_path: Path, index: SeriesIndex, monkeypatch: pytest.MonkeyPatch, read_rows: int, group: int, nobody: set[int]
) -> None:
    monkeypatch.setattr(merging, "_READ_ROWS", read_rows)
    monkeypatch.setattr(merging, "_LEAST_ROWS", min(read_rows, 2048))
    monkeypatch.setattr(merging, "_LEAST_ROW_GROUP", group)
    random = np.random.default_rng(read_rows)
    sizes, hosts = (400, 1, 250, 90, 300), (SERIES, 1, SERIES, 3, 2)
    batches = [windows(random, rows, series) for rows, series in zip(sizes, hosts, strict=True)]
    files = written(tmp_path, index, batches, 64)
    with duckdb.connect() as connection:
        found = [*merging.merged(connection, tmp_path, files, nobody)]
    together = pa.Table.from_batches(batches)
    expected = together.filter(~np.isin(together["series"].to_numpy(), [*nobody]))
    expected = expected.take(np.lexsort((expected["time"].to_numpy(), expected["series"].to_numpy())))
    assert read(found).equals(expected)
    assert all(len(one) >= min(group, len(expected)) for one in found[:-1])
    assert max(map(len, found)) < group + len(expected)


def test_a_file_that_is_damaged_is_told(tmp_path: Path, index: SeriesIndex) -> None:
    random = np.random.default_rng(1)
    files = written(tmp_path, index, [windows(random, 3000) for _ in range(4)], 1000)
    path = tmp_path / files[2].file
    content = bytearray(path.read_bytes())
    content[2000] ^= 0xFF
    path.write_bytes(content)
    with duckdb.connect() as connection, pytest.raises(segments.UNREADABLE):
        list(merging.merged(connection, tmp_path, files))


def test_nothing_is_left_where_all_belongs_to_nobody(tmp_path: Path, index: SeriesIndex) -> None:
    files = written(tmp_path, index, [windows(np.random.default_rng(2), 100) for _ in range(4)], 100)
    with duckdb.connect() as connection:
        assert list(merging.merged(connection, tmp_path, files, set(range(1, SERIES + 1)))) == []


def test_of_a_file_that_cannot_be_written_nothing_is_left(tmp_path: Path, index: SeriesIndex) -> None:
    """Where the disk is full, each attempt would take what room there is, until the service is started anew."""

    def until_full() -> Iterator[pa.RecordBatch]:
        yield windows(np.random.default_rng(1), 5000)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_segment(tmp_path, 1, until_full(), index, Origin())
    assert [*tmp_path.iterdir()] == []
    (segment,) = written(tmp_path, index, [windows(np.random.default_rng(2), 100)], 100)
    with pytest.raises(FileExistsError):
        write_segment(tmp_path, 1, [windows(np.random.default_rng(3), 100)], index, Origin())
    assert [path.name for path in tmp_path.iterdir()] == [segment.file]
