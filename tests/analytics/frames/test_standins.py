"""Stand-ins have the mean and variance of what they stand for, and land in the bins an agent would use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaincinv

from analytics.frames.standins import EDGES, Floats, beta_samples, bin_indices, standins
from contract.histogram import LINEAR, LOGARITHMIC, quantile


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
    mean, variance, count = np.array([0.9, 0.9, 0.5]), np.array([0.09, 0.25, 0.0]), np.array([101, 101, 7])
    low, high, histogram = standins(mean, variance, count, np.array([True, False, True]))
    assert low.tolist() == [0.0, 0.4, 0.5]
    assert high.tolist() == [1.0, 1.4, 0.5]
    assert histogram.row.tolist() == [0, 0, 1, 1, 2]
    assert histogram.bin.tolist() == [
        LINEAR.index(0.0), LINEAR.index(1.0), LOGARITHMIC.index(0.4), LOGARITHMIC.index(1.4), LINEAR.index(0.5),
    ]  # fmt: skip
    assert histogram.count.tolist() == [10, 91, 50, 51, 7]


@given(st.floats(0.0, 1.0), st.floats(0.0, 0.25), st.integers(1, 1000))
def test_a_standin_is_of_all_samples_between_extremes_that_its_variance_allows(
    mean: float, variance: float, count: int
) -> None:
    low, high, histogram = standins(np.array([mean]), np.array([variance]), np.array([count]), bounded=True)
    assert histogram.count.sum() == count
    assert (np.diff(histogram.bin) > 0).all()
    assert 0.0 <= low[0] <= mean <= high[0] <= 1.0
    if count > 2 and variance <= mean * (1 - mean):
        assert (high[0] - mean) * (mean - low[0]) >= variance - 1e-9


def answers(samples: Floats, q: float) -> tuple[float, float]:
    """A quantile of samples, and that of what stands for them where only mean and variance are known."""
    mean, variance, count = (np.array([value]) for value in (samples.mean(), samples.var(), len(samples)))
    low, high, histogram = standins(mean, variance, count, bounded=True)
    counts = dict(zip(histogram.bin.tolist(), histogram.count.tolist(), strict=True))
    exact = float(np.quantile(samples, q, method="inverted_cdf"))
    return exact, quantile(counts, q, LINEAR, low[0], high[0])


RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("samples", "within"),
    [
        pytest.param(RANDOM.random(1000), 0.02, id="uniform"),
        pytest.param(np.where(RANDOM.random(1000) < 0.95, 0.0, RANDOM.random(1000)), 0.1, id="95 % zeros"),
        pytest.param(np.repeat([0.0, 1.0], [950, 50]), 0.0, id="zeros and ones"),
        pytest.param(np.clip(RANDOM.normal(0.4, 0.1, 1000), 0.0, 1.0), 0.02, id="a hump"),
        pytest.param(RANDOM.exponential(0.05, 1000).clip(0.0, 1.0), 0.02, id="a tail"),
        pytest.param(np.array([0.2, 0.6]), 1 / 128, id="two samples"),
        pytest.param(np.full(50, 0.3), 1e-15, id="constant"),
        pytest.param(np.array([0.7]), 0.0, id="one sample"),
    ],
)
def test_quantiles_of_a_standin_are_near_those_of_the_samples(samples: Floats, within: float) -> None:
    for q in (0.05, 0.5, 0.95, 0.99):
        exact, answered = answers(samples, q)
        assert abs(answered - exact) <= within, q


def test_a_standin_lies_between_extremes_that_are_told() -> None:
    mean, variance, count = np.array([0.5, 0.5, 500.0]), np.array([0.01, 0.002, 1e4]), np.array([100, 100, 100])
    told = np.array([0.4, 0.4, 300.0]), np.array([0.6, 0.6, 900.0])
    low, high, histogram = standins(mean, variance, count, np.array([True, True, False]), told)
    assert (low.tolist(), high.tolist()) == (told[0].tolist(), told[1].tolist())
    # The variance of the first is the highest that there is between its extremes.
    first = histogram.row == 0
    assert histogram.bin[first].tolist() == [LINEAR.index(0.4), LINEAR.index(0.6)]
    assert histogram.count[first].tolist() == [50, 50]
    for row, bins in ((1, LINEAR), (2, LOGARITHMIC)):
        found = histogram.bin[histogram.row == row]
        assert len(found) > 2
        assert bins.index(told[0][row]) <= found.min() <= found.max() <= bins.index(told[1][row])


def test_many_windows_answer_as_their_samples_together() -> None:
    samples = RANDOM.beta(0.5, 2.0, (500, 100))
    mean, variance = samples.mean(axis=1), samples.var(axis=1)
    _, _, histogram = standins(mean, variance, np.full(500, 100), bounded=True)
    bins, place = np.unique(histogram.bin, return_inverse=True)
    counts = dict(zip(bins.tolist(), np.bincount(place, histogram.count).astype(int).tolist(), strict=True))
    for q in (0.5, 0.95, 0.99):
        assert abs(quantile(counts, q, LINEAR) - np.quantile(samples, q)) <= 0.03


@pytest.mark.parametrize("spread", [0.05, 0.3, 0.6, 0.9])
def test_the_table_is_that_of_the_beta_distribution(spread: float) -> None:
    mean = np.linspace(0.01, 0.99, 99)
    values, numbers = beta_samples(mean, spread**2 * mean * (1 - mean), np.full(99, 100))
    weight = 1 / spread**2 - 1
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    exact = betaincinv((mean * weight)[:, None], ((1 - mean) * weight)[:, None], middles)
    assert np.abs(values - exact).max() <= (0.003 if spread <= 0.5 else 0.03)
    assert (numbers.sum(axis=1) == 100).all()


@pytest.mark.parametrize("bounded", [True, False])
def test_no_windows_have_no_standins(bounded: bool) -> None:
    nothing = np.empty(0)
    low, high, histogram = standins(nothing, nothing, np.empty(0, np.int64), bounded)
    assert len(low) == len(high) == len(histogram) == 0
