"""Which windows files hold is told exactly, however little of it is kept in memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.stores.embedded.ends import Ends
from service.stores.embedded.segment import Segment

SERIES, WINDOWS = 40, 500


def written(folder: Path, number: int, rng: np.random.Generator) -> Segment:
    """A file with some row groups, of the ends that `rng` draws for each series."""
    ends = np.sort(rng.choice(np.arange(0, 50_000), (SERIES, WINDOWS)), axis=1)
    series = np.repeat(np.arange(1, SERIES + 1, dtype=np.int32), WINDOWS)
    path = folder / f"{number:09d}.parquet"
    pq.write_table(pa.table({"series": series, "time": ends.ravel()}), path, row_group_size=999)
    return Segment(number, path.name, len(series), path.stat().st_size, 1, SERIES, int(ends.min()), int(ends.max()))


@pytest.mark.parametrize("kept_bytes", [0, 10_000, 1 << 20])
def test_each_window_of_a_stream_is_known_and_no_other(tmp_path: Path, kept_bytes: int) -> None:
    rng = np.random.default_rng(1)
    segments = [written(tmp_path, number, rng) for number in (1, 2)]
    streams = np.arange(SERIES + 1) % 2 == 1
    tables = [pq.read_table(tmp_path / one.file) for one in segments]
    there = {
        pair for table in tables for pair in zip(table["series"].to_pylist(), table["time"].to_pylist(), strict=True)
    }
    ends = Ends(tmp_path, kept_bytes)
    for _ in range(3):
        series = rng.integers(0, SERIES // 2, 5000) * 2 + 1
        time = rng.integers(-10, 50_010, 5000)
        held = ends.hold(segments, series, time, streams)
        assert held.tolist() == [pair in there for pair in zip(series.tolist(), time.tolist(), strict=True)]
        assert 0 < held.sum() < 5000


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    segment = written(tmp_path, 1, np.random.default_rng(1))
    (tmp_path / segment.file).write_bytes(b"nothing")
    with pytest.raises((OSError, ValueError)):
        Ends(tmp_path).hold([segment], np.array([1]), np.array([segment.first_ms]), np.ones(SERIES + 1, bool))
