"""Histograms: every value is near the value of its bin, and quantiles are as near to numpy's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.histogram import LINEAR, LOGARITHMIC, count_values, flatten, quantile, unflatten

shares = st.floats(0.0, 1.0)
rates = st.floats(1e-3, 1e15)
quantiles = st.floats(0.0, 1.0)


@given(shares)
def test_a_share_is_within_half_a_bin_of_the_bins_value(value: float) -> None:
    assert abs(LINEAR.value(LINEAR.index(value)) - value) <= 1 / 128


@given(rates)
def test_a_rate_is_within_one_percent_of_the_bins_value(value: float) -> None:
    assert LOGARITHMIC.value(LOGARITHMIC.index(value)) == pytest.approx(value, rel=0.01 + 1e-12)


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-9, 0.00099])
def test_a_rate_below_the_smallest_stands_for_zero(value: float) -> None:
    assert LOGARITHMIC.index(value) == LOGARITHMIC.first
    assert LOGARITHMIC.value(LOGARITHMIC.first) == 0.0


def test_the_smallest_rate_is_not_zero() -> None:
    assert LOGARITHMIC.value(LOGARITHMIC.index(1e-3)) == pytest.approx(1e-3, rel=0.01)


def test_a_rate_above_the_largest_shares_the_last_bin() -> None:
    assert LOGARITHMIC.index(1e300) == LOGARITHMIC.last == LOGARITHMIC.index(1e15)


@given(st.lists(rates, min_size=2, max_size=2))
def test_bins_keep_the_order_of_values(values: list[float]) -> None:
    low, high = sorted(values)
    assert LOGARITHMIC.index(low) <= LOGARITHMIC.index(high)


@pytest.mark.parametrize("value", [-1e-9, 1.0000001, math.nan, math.inf])
def test_what_is_not_a_share_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"expected a share in \[0, 1\], got"):
        LINEAR.index(value)


@pytest.mark.parametrize("value", [-1e-9, math.nan])
def test_what_is_not_a_rate_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected a number of at least 0, got"):
        LOGARITHMIC.index(value)


@given(st.lists(shares, min_size=1, max_size=300), quantiles)
def test_quantiles_of_shares_are_within_half_a_bin_of_numpys(values: list[float], q: float) -> None:
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    assert abs(quantile(count_values(values, LINEAR), q, LINEAR) - exact) <= 1 / 128


@given(st.lists(rates, min_size=1, max_size=300), quantiles)
def test_quantiles_of_rates_are_within_one_percent_of_numpys(values: list[float], q: float) -> None:
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    assert quantile(count_values(values, LOGARITHMIC), q, LOGARITHMIC) == pytest.approx(exact, rel=0.01 + 1e-12)


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_a_quantile_is_asked_for_as_a_share(q: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        quantile({0: 1}, q, LINEAR)


def test_an_empty_histogram_has_no_quantile() -> None:
    with pytest.raises(ValueError, match="got an empty one"):
        quantile({}, 0.5, LINEAR)


@given(st.dictionaries(st.integers(-500, 500), st.integers(1, 10**9)))
def test_the_wire_form_is_read_back(counts: dict[int, int]) -> None:
    flat = flatten(counts)
    assert unflatten(flat) == counts
    assert flat[::2] == sorted(counts)


def test_empty_bins_are_left_out_and_a_bin_without_count_is_refused() -> None:
    assert flatten({2: 0, 1: 3}) == [1, 3]
    with pytest.raises(ValueError, match="shorter"):
        unflatten([1, 3, 2])
