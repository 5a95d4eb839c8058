"""Which runs are merged: few remain, each row is rewritten seldom, and none grows beyond the limit."""

import math

from hypothesis import given
from hypothesis import strategies as st

from service.stores.embedded.segments import alike

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
