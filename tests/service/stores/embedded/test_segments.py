"""Which runs are merged: few remain, each row is rewritten seldom, none grows beyond the limit; how a flush is cut."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.stores.embedded import segments
from service.stores.embedded.compaction import alike
from service.stores.embedded.segments import sorted_parts
from service.stores.sorted_windows import MEMTABLE_SCHEMA, SCHEMA, SortedWindows

SIZES = st.dictionaries(st.integers(1, 1000), st.integers(0, 5000), max_size=40)


@given(SIZES, st.integers(1, 10_000))
def test_what_is_merged_is_alike_in_size_and_within_the_limit(rows: dict[int, int], largest: int) -> None:
    chosen = alike(rows, largest)
    if chosen:
        assert len(chosen) == len(set(chosen)) >= 4
        sizes = [max(rows[run], 1) for run in chosen]
        assert max(sizes) <= 4 * min(sizes)
        assert sum(rows[run] for run in chosen) <= largest


@given(SIZES, st.integers(1, 10_000))
def test_merging_comes_to_an_end(rows: dict[int, int], largest: int) -> None:
    rows = dict(rows)
    next_run = 1001
    for _ in range(len(rows)):
        chosen = alike(rows, largest)
        if not chosen:
            break
        rows[next_run] = sum(rows.pop(run) for run in chosen)
        next_run += 1
    assert alike(rows, largest) == []


@given(st.lists(st.integers(1, 300), min_size=1, max_size=400))
def test_however_runs_come_few_remain_and_rows_are_rewritten_seldom(flushed: list[int]) -> None:
    rows: dict[int, int] = {}
    rewritten = 0
    run = 0
    for size in flushed:
        run += 1
        rows[run] = size
        while chosen := alike(rows, 1_000_000):
            run += 1
            rows[run] = sum(rows.pop(old) for old in chosen)
            rewritten += rows[run]
    levels = math.log(sum(flushed), 4) + 1
    assert len(rows) <= 3 * levels
    assert rewritten <= sum(flushed) * levels


def test_fewer_than_four_runs_are_left_alone() -> None:
    assert alike({}, 100) == []
    assert alike({1: 5, 2: 5, 3: 5}, 100) == []
    assert alike({1: 5, 2: 5, 3: 5, 4: 5}, 100) == [1, 2, 3, 4]


def test_runs_of_different_sizes_are_left_alone() -> None:
    assert alike({1: 1, 2: 10, 3: 100, 4: 1000}, 1_000_000) == []


def test_large_runs_are_left_alone() -> None:
    assert alike(dict.fromkeys(range(10), 26), 100) == []
    assert alike(dict.fromkeys(range(10), 25), 100) == [0, 1, 2, 3]


PIECES = st.lists(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 1000)), max_size=60), max_size=6)


def piece(windows: list[tuple[int, int]]) -> SortedWindows:
    """Windows of series and ends, in a memtable's columns."""
    columns = {field.name: np.zeros(len(windows)) for field in MEMTABLE_SCHEMA}
    columns["series"], columns["time"] = (np.array(windows, np.int64).reshape(-1, 2)[:, place] for place in (0, 1))
    made = [
        pa.array([b"1"] * len(windows), pa.binary()) if field.type == pa.binary()
        else pa.array(columns[field.name].astype(field.type.to_pandas_dtype()))
        for field in MEMTABLE_SCHEMA
    ]  # fmt: skip
    return SortedWindows.of(pa.RecordBatch.from_arrays(made, schema=MEMTABLE_SCHEMA))


@given(PIECES, st.integers(1, 100))
def test_a_flush_is_sorted_in_parts_that_are_small_unless_one_series_is_large(
    pieces: list[list[tuple[int, int]]], largest: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "PART", largest)
        parts = [*sorted_parts([piece(one) for one in pieces])]
    found = [(row["series"], row["time"]) for part in parts for row in part.to_pylist()]
    assert found == sorted(window for one in pieces for window in one)
    assert all(part.schema == SCHEMA for part in parts)
    series = [set(part["series"].to_pylist()) for part in parts]
    assert sum(map(len, series)) == len(set().union(*series)), "a series is in two parts"
    longest = max((sum(one[0] == number for some in pieces for one in some) for number in range(31)), default=0)
    assert all(len(part) < largest + longest for part in parts)
