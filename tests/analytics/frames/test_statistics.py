"""Statistics of columns are those of the summaries, and of numpy on raw samples."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.frames.frame import to_frame
from analytics.frames.kernel import Histograms
from analytics.frames.statistics import quantiles, quantiles_of_counts, statistic, values_of
from contract.histogram import LINEAR, LOGARITHMIC, Bins
from contract.metrics import STATISTICS, Statistic
from contract.summary import Summary
from tests.support.sampled_windows import Samples, of_summaries, windows_of

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=50).map(np.array)
RATES = st.lists(st.floats(0, 1e16), min_size=1, max_size=50).map(np.array)
Q = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0])


def labels(samples: list[Samples]) -> list[tuple[int, int]]:
    return [(0, time) for time in range(len(samples))]


@given(st.lists(SHARES, min_size=1, max_size=8), Q)
def test_quantiles_of_shares_are_those_of_each_summary(samples: list[Samples], q: float) -> None:
    expected = [Summary.of(part.tolist(), LINEAR).quantile(q, LINEAR) for part in samples]
    assert quantiles(windows_of(labels(samples), samples, LINEAR), q, LINEAR).tolist() == expected


@given(st.lists(RATES, min_size=1, max_size=8), Q)
def test_quantiles_of_rates_are_those_of_each_summary(samples: list[Samples], q: float) -> None:
    expected = [Summary.of(part.tolist(), LOGARITHMIC).quantile(q, LOGARITHMIC) for part in samples]
    assert quantiles(windows_of(labels(samples), samples, LOGARITHMIC), q, LOGARITHMIC).tolist() == expected


@given(SHARES, Q)
def test_a_quantile_of_shares_is_within_half_a_bin_of_the_samples(samples: Samples, q: float) -> None:
    exact = np.quantile(samples, q, method="inverted_cdf")
    estimate = quantiles(windows_of([(0, 0)], [samples], LINEAR), q, LINEAR)[0]
    # The share is rounded once to find the rank, which at a tie may be the next sample.
    neighbours = [exact, *np.sort(samples)[np.searchsorted(np.sort(samples), exact, side="right") :][:1]]
    assert min(abs(estimate - value) for value in neighbours) <= 1 / 128 + 1e-15


@pytest.mark.parametrize("q", [0.0, 0.5, 0.95, 1.0])
def test_a_table_of_counts_has_the_quantiles_of_its_histograms(q: float) -> None:
    samples = [[0.0], [1.0, 0.2, 0.21], [], [0.5] * 19 + [0.9], [0.94, 0.95, 0.96]]
    summaries = [Summary.of(some, LINEAR) if some else Summary.empty() for some in samples]
    windows = of_summaries([(0, at) for at in range(len(samples))], summaries)
    assert windows.histograms is not None
    counts = np.zeros((len(samples), LINEAR.last - LINEAR.first + 1), np.uint8)
    counts[windows.histograms.row, windows.histograms.bin - LINEAR.first] = windows.histograms.count
    found = quantiles_of_counts(counts, windows.minimum, windows.maximum, q, LINEAR)
    np.testing.assert_array_equal(found, quantiles(windows, q, LINEAR))


def test_entries_in_any_order_give_the_same_quantiles() -> None:
    windows = windows_of([(0, 0), (0, 1)], [np.array([0.1, 0.5, 0.9]), np.array([0.3, 0.4])], LINEAR)
    assert windows.histograms is not None
    turned = Histograms(*(getattr(windows.histograms, name)[::-1] for name in ("row", "bin", "count")))
    shuffled = replace(windows, histograms=turned)
    np.testing.assert_array_equal(quantiles(shuffled, 0.5, LINEAR), quantiles(windows, 0.5, LINEAR))


def test_a_window_of_no_samples_has_no_values_and_no_quantile() -> None:
    windows = of_summaries([(0, 0), (0, 1), (0, 2)], [Summary.empty(), Summary.of([0.3], LINEAR), Summary.empty()])
    for name in STATISTICS:
        assert values_of(to_frame(windows), name)["value"].notna().tolist() == [True]
    assert np.isnan(quantiles(of_summaries([(0, 0)], [Summary.empty()]), 0.5, LINEAR)).all()


@pytest.mark.parametrize("bins", [LINEAR, LOGARITHMIC])
def test_every_statistic_of_the_catalogue_is_that_of_the_samples(bins: Bins) -> None:
    samples = np.random.default_rng(1).beta(2, 5, 1000)
    windows = windows_of([(0, 0)], [samples], bins)
    frame = to_frame(windows)
    frame.attrs = {"metric": "cpuUtilization" if bins is LINEAR else "diskReadBytes"}
    values = {name: float(statistic(frame, name)[0]) for name in STATISTICS}
    assert values["count"] == 1000
    assert values["mean"] == pytest.approx(samples.mean(), rel=1e-12)
    assert values["var"] == pytest.approx(samples.var(), rel=1e-12)
    assert values["std"] == pytest.approx(samples.std(), rel=1e-12)
    assert (values["min"], values["max"]) == (samples.min(), samples.max())
    shares: dict[Statistic, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    for name, share in shares.items():
        exact = float(np.quantile(samples, share, method="inverted_cdf"))
        assert math.isclose(values[name], exact, rel_tol=0.01, abs_tol=1 / 128 if bins is LINEAR else 0)


def test_a_wrong_question_is_refused() -> None:
    windows = of_summaries([(0, 0)], [Summary.of([0.3], LINEAR)])
    bare = replace(windows, histograms=None)
    with pytest.raises(ValueError, match="without histograms"):
        quantiles(bare, 0.5, LINEAR)
    with pytest.raises(ValueError, match="from 0 to 1"):
        quantiles(windows, 1.5, LINEAR)
    with pytest.raises(ValueError, match="no statistic"):
        statistic(to_frame(windows), "p42")  # type: ignore[arg-type]
