"""Merging windows gives what the raw samples give."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.frames.columns import Windows, concatenate, merge, take
from analytics.frames.kernel import order_of
from contract.histogram import LINEAR, LOGARITHMIC
from contract.summary import Summary
from tests.support.sampled_windows import Samples, of_summaries, windows_of

RATE_MS = 1000
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=20).map(np.array)
LABELS = st.tuples(st.integers(-2, 3), st.integers(-2500, 2500))
LABELLED = st.lists(st.tuples(LABELS, SHARES), min_size=1, max_size=30)
Labelled = list[tuple[tuple[int, int], Samples]]


def columns(labelled: Labelled) -> Windows:
    return windows_of([label for label, _ in labelled], [part for _, part in labelled], LINEAR)


def assert_same(first: Windows, second: Windows) -> None:
    for name in ("series", "time", "count", "minimum", "maximum", "approximated"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)
    for name in ("mean", "variance"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-12, atol=1e-15, err_msg=name)
    assert first.histograms is not None
    assert second.histograms is not None
    for name in ("row", "bin", "count"):
        np.testing.assert_array_equal(getattr(first.histograms, name), getattr(second.histograms, name), name)


@given(LABELLED)
def test_merged_windows_are_the_windows_of_all_raw_samples(labelled: Labelled) -> None:
    together = defaultdict(list)
    for (series, time), samples in labelled:
        together[series, math.floor(time / RATE_MS) * RATE_MS].append(samples)
    groups = sorted(together)
    expected = windows_of(groups, [np.concatenate(together[group]) for group in groups], LINEAR)
    assert_same(merge(columns(labelled), rate_ms=RATE_MS), expected)


@given(LABELLED)
def test_merging_columns_is_merging_summaries(labelled: Labelled) -> None:
    whole = Summary.empty()
    for _, samples in labelled:
        whole = whole.merge(Summary.of(samples.tolist(), LINEAR))
    windows = columns(labelled)
    everything = replace(windows, series=np.zeros_like(windows.series), time=np.zeros_like(windows.time))
    assert_same(merge(everything), of_summaries([(0, 0)], [whole]))


@given(LABELLED, st.data())
def test_parts_may_be_merged_in_any_grouping_and_order(labelled: Labelled, data: st.DataObject) -> None:
    windows = columns(labelled)
    part = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(labelled), max_size=len(labelled))))
    parts = [merge(take(windows, part == number), rate_ms=100) for number in data.draw(st.permutations(range(4)))]
    assert_same(merge(concatenate(parts), rate_ms=RATE_MS), merge(windows, rate_ms=RATE_MS))


@given(LABELLED)
def test_merging_what_is_merged_changes_no_bit(labelled: Labelled) -> None:
    once = merge(columns(labelled), rate_ms=RATE_MS)
    twice = merge(once, rate_ms=RATE_MS)
    np.testing.assert_array_equal(once.mean, twice.mean)
    np.testing.assert_array_equal(once.variance, twice.variance)
    assert_same(once, twice)


def test_a_window_alone_keeps_the_mean_and_variance_it_came_with() -> None:
    windows = of_summaries([(0, 5), (1, 5)], [Summary(100, 0.2148631642976225, 0.005718669350831782, 0, 1)] * 2)
    merged = merge(windows, rate_ms=900_000)
    assert merged.mean.tolist() == [0.2148631642976225] * 2
    assert merged.variance.tolist() == [0.005718669350831782] * 2


def test_windows_alike_have_the_mean_of_each_to_the_bit() -> None:
    windows = of_summaries([(0, time) for time in range(1000)], [Summary(100, 0.1, 0.0, 0.1, 0.1)] * 1000)
    merged = merge(windows, rate_ms=1000)
    assert merged.mean.tolist() == [0.1]
    assert merged.variance[0] < 1e-33


@pytest.mark.parametrize("centre", [0.5, 1e9, 1e15])
def test_a_small_variance_around_a_large_mean_is_not_lost(centre: float) -> None:
    random = np.random.default_rng(3)
    means = centre + np.round(random.uniform(-0.5, 0.5, 100_000) * 8) / 8
    counts = random.integers(1, 200, len(means))
    windows = Windows(
        np.zeros(len(means), np.int64),
        np.arange(len(means)),
        counts,
        means,
        np.full(len(means), 1e-3),
        means,
        means,
        np.zeros(len(means), np.int64),
        None,
    )
    merged = merge(windows, rate_ms=1 << 40)
    # Both are exact in 64-bit floats here but for the last division.
    exact_mean = math.fsum(counts * (means - centre)) / int(counts.sum())
    exact_variance = 1e-3 + math.fsum(counts * (means - centre - exact_mean) ** 2) / int(counts.sum())
    assert merged.mean[0] == pytest.approx(centre + exact_mean, rel=1e-15)
    assert merged.variance[0] == pytest.approx(exact_variance, rel=1e-12)


def test_an_outlier_that_comes_first_takes_no_precision_from_the_rest() -> None:
    summaries = [Summary(1, 1e9, 0, 1e9, 1e9)] + [Summary(1, 1e-3, 0, 1e-3, 1e-3)] * 99_999
    merged = merge(of_summaries([(0, 0)] * len(summaries), summaries))
    assert merged.mean[0] == pytest.approx(math.fsum(part.mean for part in summaries) / 100_000, rel=1e-15)


def test_the_largest_values_that_are_accepted_do_not_overflow_the_mean() -> None:
    merged = merge(of_summaries([(0, 0)] * 2, [Summary(2**40, 1e300, 0, 1e300, 1e300)] * 2))
    assert merged.mean.tolist() == [1e300]


def test_windows_without_samples_add_nothing() -> None:
    some = Summary.of([0.1, 0.4], LINEAR)
    merged = merge(of_summaries([(0, 0)] * 2, [Summary.empty(), some]))
    assert_same(merged, of_summaries([(0, 0)], [some]))


def test_nothing_merges_to_nothing() -> None:
    assert len(merge(Windows.empty(), rate_ms=1000)) == 0
    assert len(merge(concatenate([]))) == 0


def test_labels_far_apart_are_sorted_as_well() -> None:
    far = 1 << 62
    windows = of_summaries([(far, 5), (-far, far), (far, -far), (-far, 0)], [Summary.of([0.5], LINEAR)] * 4)
    merged = merge(windows)
    assert list(zip(merged.series.tolist(), merged.time.tolist(), strict=True)) == [
        (-far, 0), (-far, far), (far, -far), (far, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("groups", [1, 40_000])
def test_histograms_add_up_however_many_groups_there_are(groups: int) -> None:
    """A single table holds the bins of few groups; many groups of widely spread bins are sorted."""
    values = np.array([1e-9, 1.0, 1e14])
    labels = [(series, time) for time in range(2) for series in range(groups)]
    windows = windows_of(labels, [values] * len(labels), LOGARITHMIC)
    merged = merge(windows, rate_ms=10).histograms
    assert merged is not None
    assert merged.count.tolist() == [2] * 3 * groups
    assert merged.row.tolist() == np.repeat(np.arange(groups), 3).tolist()
    assert merged.bin[:3].tolist() == [LOGARITHMIC.index(value) for value in values]


def test_a_bucket_needs_a_width() -> None:
    with pytest.raises(ValueError, match="at least 1 ms"):
        merge(Windows.empty(), rate_ms=0)


def test_windows_with_and_without_histograms_cannot_be_joined() -> None:
    windows = of_summaries([(0, 0)], [Summary.of([0.5], LINEAR)])
    bare = replace(windows, histograms=None)
    with pytest.raises(ValueError, match="histograms"):
        concatenate([windows, bare])
    assert len(concatenate([windows, Windows.empty()])) == 1


@given(LABELLED, st.data())
def test_taken_windows_keep_their_histograms(labelled: Labelled, data: st.DataObject) -> None:
    windows = columns(labelled)
    places = data.draw(st.lists(st.integers(-len(labelled), len(labelled) - 1)))
    assert_same(take(windows, np.array(places, np.int64)), columns([labelled[place] for place in places]))
    mask = np.isin(np.arange(len(labelled)), places)
    assert_same(take(windows, mask), columns([part for part, kept in zip(labelled, mask, strict=True) if kept]))


@given(st.lists(st.tuples(*[st.integers(-(2**62), 2**62) | st.integers(-3, 3)] * 2), min_size=1, max_size=40))
def test_rows_are_put_in_order_of_their_keys_and_equal_ones_stay_as_they_are(rows: list[tuple[int, int]]) -> None:
    keys = [*np.array(rows, np.int64).T]
    order = order_of(keys)
    right = sorted(range(len(rows)), key=rows.__getitem__)
    assert (right if order is None else order.tolist()) == right
    assert (order is None) == (right == [*range(len(rows))])
