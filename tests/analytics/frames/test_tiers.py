"""The plan of a read covers its range once, each part from a tier that answers it exactly."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.frames.tiers import RAW, Piece, plan
from contract.influx import TIERS as INFLUX_TIERS
from service.stores.retention import TIERS

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
RATES = st.one_of(
    st.sampled_from([1000, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 90 * MINUTE, DAY, 7 * DAY]),
    st.integers(1, 364).map(lambda number: number * 5 * MINUTE),
    st.integers(1000, 364 * DAY),
)
MOMENTS = st.one_of(
    st.integers(0, 400 * DAY),
    st.tuples(st.sampled_from(TIERS), st.integers(0, 400), st.integers(-1, 1)).map(
        lambda parts: max(0, parts[0] * parts[1] + parts[2])
    ),
)


@given(MOMENTS, MOMENTS, RATES)
def test_the_pieces_cover_the_range_without_gap_or_overlap(start: int, end: int, rate: int) -> None:
    pieces = [*plan(start, end, rate, TIERS)]
    if start >= end:
        assert pieces == []
        return
    assert pieces[0].start_ms == start
    assert pieces[-1].end_ms == end
    assert all(piece.start_ms < piece.end_ms for piece in pieces)
    assert all(before.end_ms == after.start_ms for before, after in pairwise(pieces))


@given(MOMENTS, MOMENTS, RATES)
def test_a_rollup_serves_only_its_own_whole_buckets_and_rates_that_it_divides(start: int, end: int, rate: int) -> None:
    for piece in plan(start, end, rate, TIERS):
        if piece.tier != RAW:
            assert piece.tier in TIERS
            assert rate % piece.tier == piece.start_ms % piece.tier == piece.end_ms % piece.tier == 0


@given(MOMENTS, MOMENTS, RATES)
def test_no_piece_could_be_read_from_a_coarser_tier(start: int, end: int, rate: int) -> None:
    for piece in plan(start, end, rate, TIERS):
        for tier in TIERS:
            if tier > piece.tier and rate % tier == 0:
                first_whole = -(-piece.start_ms // tier) * tier
                assert first_whole + tier > piece.end_ms


@given(MOMENTS, MOMENTS, RATES)
def test_there_are_at_most_two_pieces_of_each_tier(start: int, end: int, rate: int) -> None:
    pieces = [*plan(start, end, rate, TIERS)]
    assert len(pieces) <= 2 * len(TIERS) + 1
    assert all(before.tier != after.tier for before, after in pairwise(pieces))


def test_whole_days_are_read_from_days_alone() -> None:
    assert [*plan(3 * DAY, 10 * DAY, DAY, TIERS)] == [Piece(DAY, 3 * DAY, 10 * DAY)]


def test_edges_are_read_from_ever_finer_tiers() -> None:
    start, end = DAY - HOUR - 7, 2 * DAY + 2 * HOUR + 5 * MINUTE + 1
    assert [*plan(start, end, DAY, TIERS)] == [
        Piece(RAW, start, DAY - HOUR),
        Piece(HOUR, DAY - HOUR, DAY),
        Piece(DAY, DAY, 2 * DAY),
        Piece(HOUR, 2 * DAY, 2 * DAY + 2 * HOUR),
        Piece(5 * MINUTE, 2 * DAY + 2 * HOUR, end - 1),
        Piece(RAW, end - 1, end),
    ]


@pytest.mark.parametrize("rate", [1000, 7000, 4 * MINUTE, 7 * MINUTE])
def test_a_rate_that_no_tier_divides_is_read_from_the_windows(rate: int) -> None:
    assert [*plan(0, 30 * DAY, rate, TIERS)] == [Piece(RAW, 0, 30 * DAY)]


@pytest.mark.parametrize("tiers", [TIERS, [*INFLUX_TIERS]])
def test_each_tier_divides_the_next(tiers: list[int]) -> None:
    assert all(coarser % finer == 0 for finer, coarser in pairwise(tiers))
