"""Summaries: merging them gives what the raw samples, laid end to end, give."""

import functools
import math
import random
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.histogram import LINEAR, LOGARITHMIC, Bins
from contract.summary import Summary

shares = st.lists(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40), min_size=1, max_size=8)
rates = st.lists(st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=40), min_size=1, max_size=8)
quantiles = st.floats(0.0, 1.0)
TINY = sys.float_info.min
"""Below it numbers have fewer digits, down to one: half of 5e-324 is 0."""


def merged(windows: Sequence[Sequence[float]], bins: Bins) -> Summary:
    """The summary of all windows together."""
    return functools.reduce(Summary.merge, (Summary.of(window, bins) for window in windows), Summary.empty())


def assert_same(one: Summary, other: Summary) -> None:
    """Equal, but for rounding in mean and variance."""
    assert (one.count, one.minimum, one.maximum) == (other.count, other.minimum, other.maximum)
    assert one.histogram == other.histogram
    scale = max(abs(one.minimum), abs(one.maximum))
    assert one.mean == pytest.approx(other.mean, rel=1e-12, abs=1e-12 * scale + TINY)
    assert one.variance == pytest.approx(other.variance, rel=1e-12, abs=1e-12 * scale**2 + TINY)


@pytest.mark.parametrize("bins", [LINEAR, LOGARITHMIC])
@given(data=st.data())
def test_merged_windows_are_the_raw_samples(data: st.DataObject, bins: Bins) -> None:
    windows = data.draw(shares if bins is LINEAR else rates)
    raw = np.concatenate([np.array(window) for window in windows])
    scale = float(raw.max())
    summary = merged(windows, bins)
    assert summary.count == len(raw)
    assert summary.mean == pytest.approx(float(raw.mean()), rel=1e-12, abs=1e-12 * scale + TINY)
    assert summary.variance == pytest.approx(float(raw.var()), rel=1e-12, abs=1e-12 * scale**2 + TINY)
    assert (summary.minimum, summary.maximum) == (raw.min(), raw.max())
    assert sum(summary.histogram.values()) == len(raw)


@given(shares, quantiles)
def test_quantiles_of_shares_are_within_a_128th(windows: list[list[float]], q: float) -> None:
    exact = float(np.quantile(np.concatenate(windows), q, method="inverted_cdf"))
    assert abs(merged(windows, LINEAR).quantile(q, LINEAR) - exact) <= 1 / 128


@given(rates, quantiles)
def test_quantiles_of_rates_are_within_one_percent(windows: list[list[float]], q: float) -> None:
    exact = float(np.quantile(np.concatenate(windows), q, method="inverted_cdf"))
    assert merged(windows, LOGARITHMIC).quantile(q, LOGARITHMIC) == pytest.approx(exact, rel=0.01 + 1e-12)


@given(shares)
def test_a_quantile_lies_between_the_extremes(windows: list[list[float]]) -> None:
    summary = merged(windows, LINEAR)
    assert summary.quantile(0.0, LINEAR) >= summary.minimum
    assert summary.quantile(1.0, LINEAR) <= summary.maximum


@given(shares, st.randoms(use_true_random=False))
def test_the_order_of_merging_does_not_matter(windows: list[list[float]], chance: random.Random) -> None:
    shuffled = chance.sample(windows, len(windows))
    assert_same(merged(windows, LINEAR), merged(shuffled, LINEAR))


@given(shares, shares, shares)
def test_the_grouping_of_merging_does_not_matter(
    one: list[list[float]], two: list[list[float]], three: list[list[float]]
) -> None:
    a, b, c = (merged(windows, LINEAR) for windows in (one, two, three))
    assert_same(a.merge(b).merge(c), a.merge(b.merge(c)))


@given(shares)
def test_the_empty_summary_changes_nothing(windows: list[list[float]]) -> None:
    summary = merged(windows, LINEAR)
    assert summary.merge(Summary.empty()) == summary == Summary.empty().merge(summary)


def test_a_million_windows_lose_nothing_to_rounding() -> None:
    window = Summary.of([0.1, 0.2, 0.3, 0.7], LINEAR)
    total = functools.reduce(lambda whole, _: whole.merge(whole), range(20), window)
    assert total.count == 4 * 2**20
    assert total.mean == pytest.approx(window.mean, rel=1e-14)
    assert total.variance == pytest.approx(window.variance, rel=1e-12)


def test_variance_survives_a_large_mean() -> None:
    values = [1e12, 1e12 + 1, 1e12 + 2]
    assert merged([values, values], LOGARITHMIC).variance == pytest.approx(2 / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("samples", "message"),
    [([], "at least one sample"), ([0.5, 1.5], "expected a share"), ([math.nan], "expected a share")],
)
def test_what_cannot_be_summarised_is_refused(samples: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Summary.of(samples, LINEAR)


def test_without_a_histogram_there_is_no_quantile() -> None:
    with pytest.raises(ValueError, match="got an empty one"):
        Summary(2, 0.5, 0.0, 0.5, 0.5).quantile(0.5, LINEAR)
