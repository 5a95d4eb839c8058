"""Whatever a store has done with its windows, its answers are those of the raw samples."""

import functools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise, product
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.frames.frame import unpacked
from analytics.frames.kernel import Histograms
from analytics.frames.resampling import RAW_MS, resample
from analytics.frames.statistics import SHARES, values_of
from contract.metrics import QUANTITIES, STATISTICS, Load, Quantity
from contract.times import DAY_MS, MINUTE_MS, parse_duration
from service.stores.base import Question, Store
from tests.service.stores.conftest import Filled
from tests.support.five_weeks import END_MS, HOSTS, START_MS
from tests.support.recordings import CPU, Buckets, Host, Recording, Window, assert_quantiles, assert_same_moments
from tests.support.stores import Place

Cores = int | Literal["whole", "each"]
RATES = ("1s", "7s", "1m", "5m", "15m", "1h", "90m", "1d", "1w", "52w")


@functools.cache  # the same for each store, in each state
def buckets(
    recording: Recording, user_id: str, start: int, end: int, rate_ms: int, quantity: Quantity, cores: Cores
) -> Buckets:
    def group_of(window: Window) -> str | None:
        if window.host.user_id != user_id:
            return None
        if cores == "each":
            return None if window.core is None else str(window.core)
        if cores == "whole":
            return "" if window.core is None else None
        return str(cores) if window.core == cores else None

    return recording.buckets(quantity, start, end, rate_ms, group_of)


def ask(
    filled: Filled,
    user_id: str,
    start_ms: int,
    end_ms: int,
    rate: str,
    quantity: Quantity = CPU,
    cores: Cores = "whole",
) -> None:
    """Ask for moments and for quantiles, and compare with the samples."""

    rate_ms = parse_duration(rate)
    expected = buckets(filled.recording, user_id, start_ms, end_ms, rate_ms, quantity, cores)
    for histograms in (False, True):
        question = Question(quantity, start_ms, end_ms, rate_ms, user_id, cores, histograms=histograms)
        windows = filled.store.answer(question)
        assert_same_moments(windows, expected)
        if histograms:
            assert_quantiles(windows, quantity, expected)


def test_the_whole_host_is_answered_exactly_at_every_rate(filled: Filled) -> None:
    for host, rate in product(HOSTS, RATES):
        ask(filled, host.user_id, START_MS, END_MS, rate)


def test_windows_as_they_came_are_what_resampling_makes_of_them(filled: Filled) -> None:
    for host, histograms in product(HOSTS, (True, False)):
        question = Question(CPU, START_MS, END_MS, RAW_MS, host.user_id, histograms=histograms)
        windows = filled.store.answer(question)
        assert len(windows) == len(windows.index.unique()) > 0
        again = resample(windows, RAW_MS)
        assert again.attrs == windows.attrs
        if histograms:
            assert all(map(np.array_equal, astuples(unpacked(again)[0]), astuples(unpacked(windows)[0])))
        pd.testing.assert_frame_equal(
            again.drop(columns="histogram", errors="ignore"), windows.drop(columns="histogram", errors="ignore"),
            check_exact=True, check_freq=False,
        )  # fmt: skip


def test_a_statistic_of_the_columns_that_it_is_made_of_is_the_same_to_the_bit(filled: Filled) -> None:
    cut_ms = 3 * MINUTE_MS + 21
    for host, statistic, cores in product(HOSTS, STATISTICS, ("whole", "each")):
        for rate_ms, from_ms in ((15 * MINUTE_MS, START_MS + cut_ms), (DAY_MS, START_MS)):
            asked = Question(
                CPU, from_ms, END_MS - cut_ms, rate_ms, host.user_id, cores, histograms=statistic in SHARES
            )
            expected = values_of(filled.store.answer(asked), statistic)
            values = values_of(filled.store.answer(replace(asked, statistic=statistic)), statistic)
            assert values.attrs == expected.attrs
            pd.testing.assert_frame_equal(values, expected, check_exact=True)


@pytest.mark.parametrize("by", [None, "user", "os_type"])
def test_of_groups_too(filled: Filled, by: str | None) -> None:
    for statistic in STATISTICS:
        asked = Question(CPU, START_MS, END_MS, DAY_MS, by=by, histograms=statistic in SHARES)
        expected = values_of(filled.store.answer(asked), statistic)
        values = values_of(filled.store.answer(replace(asked, statistic=statistic)), statistic)
        pd.testing.assert_frame_equal(values, expected, check_exact=True)


def test_windows_that_end_in_the_same_moment_are_one_as_they_came_too(place: Place) -> None:
    recording = Recording()
    for samples in ([0.1, 0.2], [0.9, 0.6]):
        recording.cpu(Host("one"), START_MS, np.array(samples), [np.array(samples)])
    with closing(place.open()) as store:
        store.add(2, recording.reports)
        windows = store.answer(Question(CPU, 0, END_MS, RAW_MS, "one", histograms=True))
    assert windows["count"].tolist() == [4]
    assert windows["mean"].tolist() == pytest.approx([0.45])


def astuples(histograms: Histograms) -> tuple[np.ndarray, ...]:
    return histograms.row, histograms.bin, histograms.count


def test_a_range_may_be_as_long_as_there_are_years(filled: Filled) -> None:
    for rate in ("52w", "12w"):
        ask(filled, HOSTS[0].user_id, 0, 253_402_300_799_999, rate)


def test_cores_are_answered_by_their_own_numbers_together_and_alone(filled: Filled) -> None:
    for host, rate in product(HOSTS, ("7s", "15m", "1d")):
        ask(filled, host.user_id, START_MS, END_MS, rate, cores="each")
    for core, rate in product((0, 2, 5), ("1m", "1h")):
        ask(filled, HOSTS[1].user_id, START_MS, END_MS, rate, cores=core)


def test_other_metric_types_are_answered_exactly(filled: Filled) -> None:
    names = ("memory.utilization", "disk.read_bytes", "disk.writes")
    for host, name, rate in product(HOSTS, names, ("1s", "15m", "1d")):
        ask(filled, host.user_id, START_MS, END_MS, rate, QUANTITIES[name])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_range_may_start_and_end_anywhere(filled: Filled, data: st.DataObject) -> None:
    # The ends of windows are the edges at which a mistake would show.
    ends = sorted({window.end_ms for window in filled.recording.windows})
    edges = st.one_of(
        st.integers(START_MS - DAY_MS, END_MS + DAY_MS),
        st.sampled_from(ends).flatmap(lambda end: st.integers(end - 1, end + 1)),
        st.integers(START_MS // DAY_MS, END_MS // DAY_MS).map(lambda day: day * DAY_MS),
    )
    start, end = data.draw(edges, "start"), data.draw(edges, "end")
    host = data.draw(st.sampled_from(HOSTS), "machine")
    ask(filled, host.user_id, start, end, data.draw(st.sampled_from(RATES), "rate"))


def test_a_range_includes_its_start_and_excludes_its_end(filled: Filled) -> None:
    window = next(window for window in filled.recording.windows if len(window.samples) > 1)
    user, end = window.host.user_id, window.end_ms
    windows = filled.store.answer(Question(CPU, end, end + 1, 1000, user))
    assert windows["count"].tolist() == [len(window.samples)]
    windows = filled.store.answer(Question(CPU, end - 1, end, 1000, user))
    assert len(windows) == 0


def test_an_unknown_user_and_a_core_that_is_not_there_have_no_values(filled: Filled) -> None:
    assert len(filled.store.answer(Question(CPU, START_MS, END_MS, DAY_MS, "nobody", histograms=True))) == 0
    assert len(filled.store.answer(Question(CPU, START_MS, END_MS, DAY_MS, HOSTS[1].user_id, cores=1))) == 0


# Windows as the original's client sends them: mean and variance, nothing more.

HOST = Host("old-client")


def everything(quantity: Quantity = CPU, rate_ms: int = 5 * MINUTE_MS) -> Question:
    return Question(quantity, START_MS, END_MS, rate_ms, HOST.user_id, histograms=True)


def in_memory_and_on_disk(place: Place, recording: Recording) -> Iterator[Store]:
    """A store that holds the recording in memory, then the same store with all of it on disk."""
    store = place.open()
    store.add(len(recording.reports), recording.reports)
    yield store
    store.flush()
    yield store
    store.close()


def test_windows_without_histogram_count_as_approximated_and_keep_exact_moments(place: Place) -> None:
    random = np.random.default_rng(5)
    recording = Recording()
    for number in range(6):
        samples = random.random(10 + number)
        recording.cpu(HOST, START_MS + number * MINUTE_MS, samples, [samples], detailed=number % 2 == 0)
    for store in in_memory_and_on_disk(place, recording):
        for rate_ms in (MINUTE_MS, 60 * MINUTE_MS):
            windows = store.answer(everything(rate_ms=rate_ms))
            whole = recording.buckets(CPU, START_MS, END_MS, rate_ms, lambda one: "" if one.core is None else None)
            assert_same_moments(windows, whole)
            assert windows["approximated"].sum() == 11 + 13 + 15
            assert unpacked(windows)[0].count.sum() == windows["count"].sum()


def test_samples_all_alike_are_known_without_a_histogram(place: Place) -> None:
    recording = Recording()
    recording.cpu(HOST, START_MS, np.full(100, 0.3), detailed=False)
    for store in in_memory_and_on_disk(place, recording):
        windows = store.answer(everything())
        assert windows["min"].tolist() == windows["max"].tolist() == pytest.approx([0.3], abs=1e-12)
        assert windows["approximated"].tolist() == [0]


def test_two_sizes_in_one_bucket_weigh_by_their_observations(place: Place) -> None:
    recording = Recording()
    recording.cpu(HOST, START_MS + 100, np.array([0.9]))
    recording.cpu(HOST, START_MS + 200, np.array([0.1, 0.2, 0.15, 0.1]))
    raw = np.array([0.9, 0.1, 0.2, 0.15, 0.1])
    for store in in_memory_and_on_disk(place, recording):
        for rate_ms in (1000, 900_000, DAY_MS):
            windows = store.answer(everything(rate_ms=rate_ms))
            assert windows["mean"].tolist() == pytest.approx([raw.mean()], rel=1e-12)
            assert windows["var"].tolist() == pytest.approx([raw.var()], rel=1e-12)


def test_a_late_window_joins_the_bucket_it_belongs_to(place: Place) -> None:
    recording = Recording()
    store = place.open()
    for last, day in enumerate((0, 1, 2, 0, 1), 1):
        report = recording.cpu(HOST, START_MS + day * DAY_MS + last, np.array([day / 4, last / 8]))
        store.add(last, [report])
        store.flush()
        for rate_ms in (900_000, DAY_MS):
            windows = store.answer(everything(rate_ms=rate_ms))
            expected = recording.buckets(CPU, START_MS, END_MS, rate_ms, lambda _: "")
            assert_same_moments(windows, expected)
            assert_quantiles(windows, CPU, expected)
    store.close()


def test_different_counts_of_a_reports_members_are_kept_apart(place: Place) -> None:
    recording = Recording()
    samples = {"load1": np.array([1.0, 2.0]), "load5": np.array([3.0]), "load15": np.array([1.0, 5.0, 9.0])}
    recording.other(HOST, START_MS, Load, samples)
    for store in in_memory_and_on_disk(place, recording):
        for quantity in Load.quantities:
            windows = store.answer(everything(quantity))
            assert windows["count"].tolist() == [len(samples[quantity.attribute])]
            assert windows["mean"].tolist() == [samples[quantity.attribute].mean()]


def test_buckets_may_begin_at_any_moments(filled: Filled) -> None:
    def group_of(window: Window) -> str | None:
        return window.host.user_id if window.core is None else None

    days = range(START_MS // DAY_MS * DAY_MS + 2 * DAY_MS - 30 * MINUTE_MS, END_MS, DAY_MS)
    for start_ms, more in product((START_MS, START_MS + 3 * MINUTE_MS + 1), ((), days)):
        edges = (start_ms, *more)
        expected = {}
        for begin, end in pairwise((*edges, END_MS)):
            for (user, _), samples in filled.recording.buckets(CPU, begin, end, 2**50, group_of).items():
                expected[user, begin] = samples
        question = Question(CPU, start_ms, END_MS, 0, by="user", histograms=True, edges=edges)
        windows = filled.store.answer(question)
        assert_same_moments(windows, dict(sorted(expected.items())))
        assert_quantiles(windows, CPU, dict(sorted(expected.items())))


def test_some_hosts_of_the_fleet_are_answered_core_by_core(filled: Filled) -> None:
    users = frozenset(host.user_id for host in HOSTS[:2])
    question = Question(CPU, START_MS, END_MS, DAY_MS, by="user", cores="each", users=users)
    windows = filled.store.answer(question)
    assert set(windows["user"].astype("str")) == users
    for user in users:
        one = filled.store.answer(Question(CPU, START_MS, END_MS, DAY_MS, user, cores="each"))
        mine = windows[windows["user"] == user]
        assert mine.drop(columns="user").equals(one)
