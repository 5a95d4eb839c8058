"""Stand-ins have the mean and variance of what they stand for, and land in the bins an agent would use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.frames.standins import bin_indices, standins
from contract.histogram import LINEAR, LOGARITHMIC


@given(st.lists(st.floats(0, 1), min_size=1))
def test_shares_land_in_the_bins_an_agent_uses(values: list[float]) -> None:
    assert bin_indices(np.array(values), LINEAR).tolist() == [LINEAR.index(value) for value in values]


@given(st.lists(st.floats(0, 1e300), min_size=1))
def test_rates_land_in_the_bins_an_agent_uses(values: list[float]) -> None:
    assert bin_indices(np.array(values), LOGARITHMIC).tolist() == [LOGARITHMIC.index(value) for value in values]


def test_values_at_the_edges_of_bins_land_in_the_bins_an_agent_uses() -> None:
    growth = 1.01 / 0.99
    edges = growth ** np.arange(LOGARITHMIC.first, LOGARITHMIC.last, dtype=np.float64)
    near = [edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf), np.array([0.0, 1e-3, 1e15, 1.0])]
    values = np.concatenate(near)
    assert bin_indices(values, LOGARITHMIC).tolist() == [LOGARITHMIC.index(value) for value in values.tolist()]


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 1000))
def test_two_halves_lie_one_deviation_from_the_mean(mean: float, variance: float, count: int) -> None:
    low, high, histogram = standins(np.array([mean]), np.array([variance]), np.array([count]), bounded=False)
    deviation = np.sqrt(variance) if count > 1 else 0.0
    assert low[0] == max(mean - deviation, 0.0)
    assert high[0] == mean + deviation
    assert histogram.count.sum() == count
    expected: dict[int, int] = {}
    for value, number in ((low[0], count // 2), (high[0], count - count // 2)):
        if number:
            expected[LOGARITHMIC.index(value)] = expected.get(LOGARITHMIC.index(value), 0) + number
    assert dict(zip(histogram.bin.tolist(), histogram.count.tolist(), strict=True)) == expected


def test_shares_and_rates_may_come_together() -> None:
    mean, variance, count = np.array([0.9, 0.9, 0.5]), np.array([0.25, 0.25, 0.0]), np.array([101, 101, 7])
    low, high, histogram = standins(mean, variance, count, np.array([True, False, True]))
    assert low.tolist() == [0.4, 0.4, 0.5]
    assert high.tolist() == [1.0, 1.4, 0.5]
    assert histogram.row.tolist() == [0, 0, 1, 1, 2]
    assert histogram.bin.tolist() == [
        LINEAR.index(0.4), LINEAR.index(1.0), LOGARITHMIC.index(0.4), LOGARITHMIC.index(1.4), LINEAR.index(0.5),
    ]  # fmt: skip
    assert histogram.count.tolist() == [50, 51, 50, 51, 7]


@pytest.mark.parametrize("bounded", [True, False])
def test_no_windows_have_no_standins(bounded: bool) -> None:
    nothing = np.empty(0)
    low, high, histogram = standins(nothing, nothing, np.empty(0, np.int64), bounded)
    assert len(low) == len(high) == len(histogram) == 0
