"""Quantiles: exact for an idle and a saturated host and for constant windows, always between the extremes."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.histogram import LINEAR, LOGARITHMIC, Bins, deal_out, quantile
from contract.summary import Summary

ENDS = st.sampled_from([0.0, 1.0])
SHARES = st.one_of(ENDS, st.floats(0.0, 1.0))
WINDOWS = st.lists(st.lists(SHARES, min_size=1, max_size=30), min_size=1, max_size=8)
QS = (0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 1.0)


def merged(windows: Sequence[Sequence[float]]) -> Summary:
    return functools.reduce(Summary.merge, (Summary.of(window, LINEAR) for window in windows), Summary.empty())


def test_a_saturated_host_answers_one_although_a_sample_was_lower() -> None:
    summary = Summary.of([0.9] + [1.0] * 299, LINEAR)
    for q in (0.5, 0.95, 0.99):
        assert summary.quantile(q, LINEAR) == 1.0 >= summary.mean


def test_an_idle_host_answers_zero_although_a_sample_was_higher() -> None:
    summary = Summary.of([0.0] * 299 + [0.2], LINEAR)
    for q in (0.5, 0.95, 0.99):
        assert summary.quantile(q, LINEAR) == 0.0


@pytest.mark.parametrize("constant", [0.0, 0.3, 0.0021, 0.999, 1.0])
def test_a_constant_load_is_answered_as_it_is_after_any_number_of_merges(constant: float) -> None:
    whole = functools.reduce(Summary.merge, [Summary.of([constant] * 100, LINEAR)] * 500)
    assert [whole.quantile(q, LINEAR) for q in QS] == [constant] * len(QS)


@given(WINDOWS, st.floats(0.0, 1.0))
def test_after_any_merges_zero_and_one_are_exact_and_all_else_within_a_128th(
    windows: list[list[float]], q: float
) -> None:
    samples = np.concatenate(windows)
    exact = float(np.quantile(samples, q, method="inverted_cdf"))
    answered = merged(windows).quantile(q, LINEAR)
    if exact in (0.0, 1.0):
        assert answered == exact
    assert abs(answered - exact) <= 1 / 128
    assert samples.min() <= answered <= samples.max()


def test_without_extremes_the_value_of_the_bin_is_answered() -> None:
    assert quantile({19: 1}, 0.5, LINEAR) == 19.5 / 64
    assert quantile({19: 1}, 0.5, LINEAR, 0.3, 0.3) == 0.3


@pytest.mark.parametrize("bins", [LINEAR, LOGARITHMIC])
def test_bins_are_in_the_order_of_their_values(bins: Bins) -> None:
    values = [bins.value(index) for index in range(bins.first, bins.last + 1)]
    assert values == sorted(set(values))


def test_exactly_zero_and_exactly_one_are_told_from_their_neighbours() -> None:
    assert [LINEAR.index(value) for value in (0.0, 5e-324, 1 / 64, math.nextafter(1.0, 0.0), 1.0)] == [-1, 0, 1, 63, 64]
    assert (LINEAR.value(-1), LINEAR.value(64)) == (0.0, 1.0)


@given(st.dictionaries(st.integers(-1, 64), st.floats(1e-6, 1e6), min_size=1), st.integers(1, 1000))
def test_observations_are_dealt_out_by_weight_within_half_of_one(weights: dict[int, float], count: int) -> None:
    counts = deal_out(weights, count)
    assert sum(counts.values()) == count
    assert min(counts.values()) >= 1
    total = math.fsum(weights.values())
    for edge in weights:
        due = count * math.fsum(weight for bin_, weight in weights.items() if bin_ <= edge) / total
        assert abs(sum(number for bin_, number in counts.items() if bin_ <= edge) - due) <= 0.5 + 1e-9


@given(st.lists(SHARES, min_size=1, max_size=60))
def test_samples_of_equal_times_are_summarised_as_without_weights(samples: list[float]) -> None:
    plain, weighted = (
        Summary.of(samples, LINEAR),
        Summary.weighted(samples, [0.05] * len(samples), len(samples), LINEAR),
    )
    assert weighted.histogram == plain.histogram
    assert (weighted.count, weighted.minimum, weighted.maximum) == (plain.count, plain.minimum, plain.maximum)
    assert weighted.mean == pytest.approx(plain.mean, abs=1e-15)
    assert weighted.variance == pytest.approx(plain.variance, abs=1e-15)


@given(st.lists(st.tuples(SHARES, st.integers(1, 9)), min_size=1, max_size=60))
def test_a_sample_that_covers_several_intervals_is_as_many_samples(runs: list[tuple[float, int]]) -> None:
    samples = [value for value, length in runs for _ in range(length)]
    values, weights = [value for value, _ in runs], [float(length) for _, length in runs]
    plain, weighted = Summary.of(samples, LINEAR), Summary.weighted(values, weights, len(samples), LINEAR)
    assert weighted.histogram == plain.histogram
    assert weighted.mean == pytest.approx(plain.mean, abs=1e-14)
    assert weighted.variance == pytest.approx(plain.variance, abs=1e-14)


def test_nothing_is_summarised_only_where_there_is_something() -> None:
    with pytest.raises(ValueError, match="expected at least one sample"):
        Summary.weighted([], [], 1, LINEAR)
