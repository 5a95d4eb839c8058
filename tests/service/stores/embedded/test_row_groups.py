"""Row groups that are read whole: what is asked for is there once and to the bit, whichever rows are wanted."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analytics.frames.tiers import RAW, Piece
from service.stores.embedded import forms, row_groups
from service.stores.embedded.segments import UNREADABLE
from service.stores.series import SeriesIndex
from service.stores.sorted_windows import SCHEMA
from tests.support.segment_files import series_of, written

SERIES, EACH, STEP_MS = 4, 100, 5000
NAMES = [name for name in SCHEMA.names if name != "duration"]


def windows(first: int) -> pa.RecordBatch:
    """As many windows of each series, from a number on; of some of them reports said less."""
    random = np.random.default_rng(first)
    rows = SERIES * EACH
    busy = random.integers(0, 101, rows)
    said = random.random(rows) < 0.9
    columns = {
        "series": np.repeat(np.arange(1, SERIES + 1, dtype=np.int32), EACH),
        "time": np.tile(np.arange(first, first + EACH) * STEP_MS, SERIES),
        "duration": np.full(rows, STEP_MS, np.int32), "count": np.full(rows, 100),
        "mean": busy / 100, "variance": random.random(rows), "minimum": np.zeros(rows), "maximum": random.random(rows),
        "histogram": [b"\x05d" if one else b"" for one in said],
    }  # fmt: skip
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


@pytest.fixture
def index() -> SeriesIndex:
    return series_of(SERIES)


@pytest.mark.parametrize("series", [[1], [3], [2, 3], [1, 4], [1, 2, 3, 4]])
@pytest.mark.parametrize("rows_at_once", [37, EACH, 1000])
@pytest.mark.parametrize(("start", "end"), [(0, 300), (120, 260), (30, 31)])
def test_what_is_asked_for_is_there_once_whoever_reads_it(
    tmp_path: Path, index: SeriesIndex, series: list[int], rows_at_once: int, start: int, end: int
) -> None:
    batches = [windows(first) for first in (0, 100, 200)]
    files = written(tmp_path, index, batches, rows_at_once)
    piece = Piece(RAW, start * STEP_MS, end * STEP_MS)
    here, others = row_groups.divided(tmp_path, files, piece, np.array(series))
    found = [forms.read(one) for one in row_groups.read(here, forms.needed(NAMES), piece, np.array(series))]
    left = {one.file for one in others}
    wholes = [one for file, one in zip(files, batches, strict=True) if file.file not in left]
    together = pa.Table.from_batches(wholes, schema=SCHEMA)
    whose, time = together["series"].to_numpy(), together["time"].to_numpy()
    wanted = np.isin(whose, series) & (time >= piece.start_ms) & (time < piece.end_ms)
    expected = together.select(NAMES).filter(pa.array(wanted))
    assert pa.Table.from_batches(found, schema=expected.schema).equals(expected)
    if (start, end) == (0, 300) and (rows_at_once == EACH or len(series) == SERIES):
        assert not left


def test_a_few_windows_of_many_are_left_to_the_other_reader(tmp_path: Path, index: SeriesIndex) -> None:
    files = written(tmp_path, index, [windows(0)], 1000)
    assert row_groups.divided(tmp_path, files, Piece(RAW, 0, 10 * STEP_MS), np.array([1, 2, 3, 4])) == ([], files)
    assert row_groups.divided(tmp_path, files, Piece(RAW, 0, 100 * STEP_MS), np.array([2])) == ([], files)


def test_pieces_cut_at_seams_share_no_row_group(tmp_path: Path, index: SeriesIndex) -> None:
    files = written(tmp_path, index, [windows(first) for first in (0, 100, 200)], 50)
    seams = row_groups.seams(tmp_path, files, np.array([2]))
    assert seams == [place * STEP_MS for place in range(0, 300, 50)]
    read: list[tuple[Path, int]] = []
    for start_ms, end_ms in pairwise([*seams, 300 * STEP_MS]):
        here, _ = row_groups.divided(tmp_path, files, Piece(RAW, start_ms, end_ms), np.array([2]))
        assert sum(len(file.groups) for file in here) == 1
        read += [(file.path, group.number) for file in here for group in file.groups]
    assert len(set(read)) == len(read) == 6


def test_a_damaged_page_is_told(tmp_path: Path, index: SeriesIndex) -> None:
    files = written(tmp_path, index, [windows(0)], EACH)
    path = tmp_path / files[0].file
    content = bytearray(path.read_bytes())
    content[200:1500] = bytes(byte ^ 255 for byte in content[200:1500])
    path.write_bytes(content)
    piece = Piece(RAW, 0, 100 * STEP_MS)
    here, _ = row_groups.divided(tmp_path, files, piece, np.array([1]))
    with pytest.raises(UNREADABLE):
        [*row_groups.read(here, forms.needed(NAMES), piece, np.array([1]))]
