"""What is kept of the fleet for its picture, on every store: it is what the store says, whatever came in meanwhile."""

import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analytics.frames.resampling import EVERYTHING_MS
from contract.report import Report
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service.dashboard import totals
from service.dashboard.matrix import FleetCache, MatrixKey
from service.stores.base import Question, Store
from service.stores.cells import BINS, bins_of
from tests.service.stores.conftest import Filled
from tests.support.five_weeks import END_MS, START_MS
from tests.support.recordings import CPU, Host, Recording
from tests.support.stores import Place

STEP_MS = 5 * MINUTE_MS
RANGES = [
    (START_MS, END_MS), (START_MS + 123_457, END_MS - 3 * DAY_MS - 1), (START_MS + DAY_MS, START_MS + 2 * DAY_MS),
    (START_MS + DAY_MS + 7 * STEP_MS, START_MS + DAY_MS + 3 * HOUR_MS + STEP_MS),
    (START_MS + 40 * MINUTE_MS, START_MS + 41 * MINUTE_MS), (START_MS - 90 * DAY_MS, START_MS - 80 * DAY_MS),
]  # fmt: skip


def assert_totals(cache: FleetCache, range_ms: tuple[int, int]) -> None:
    """Those that are kept, or made of what is kept, are those that the store answers."""
    found = cache.totals.over(CPU, range_ms)
    assert found is not None
    question = Question(CPU, *range_ms, EVERYTHING_MS, by="user", histograms=True, cells="totals")
    expected = cache.store.answer(question)
    row_of = dict(zip(cache.rows.names, range(len(found)), strict=False))
    for user, one in expected.iterrows():
        row = row_of.get(str(user))
        # Who has nothing there needs no row.
        known = found.iloc[row] if row is not None else pd.Series({"mean": np.nan, "p95": np.nan, "max": np.nan})
        np.testing.assert_array_equal(known[["p95", "max"]], one[["p95", "max"]])
        np.testing.assert_allclose(known["mean"], one["mean"], rtol=1e-12)
    assert int(found["mean"].notna().sum()) == int(expected["mean"].notna().sum())


def assert_matrix(cache: FleetCache, start_ms: int, columns: int) -> None:
    """The same of means over time."""
    found = cache.matrix(MatrixKey(CPU, "mean", STEP_MS), start_ms, columns)
    end_ms = start_ms + columns * STEP_MS
    expected = cache.store.answer(Question(CPU, start_ms, end_ms, STEP_MS, by="user", cells="mean"))
    rows = cache.rows.of([*map(str, expected.index)])
    np.testing.assert_allclose(found[rows], expected.to_numpy(), rtol=1e-6)
    others = np.setdiff1d(np.arange(len(found)), rows)
    assert np.isnan(found[others]).all()


def test_statistics_of_any_range_are_those_of_the_store(filled: Filled) -> None:
    cache = FleetCache(filled.store)
    for range_ms in [*RANGES, *RANGES[::-1]]:
        assert_totals(cache, range_ms)


def test_sums_of_buckets_add_up_to_the_totals(filled: Filled) -> None:
    start, end = START_MS // HOUR_MS * HOUR_MS, END_MS // HOUR_MS * HOUR_MS
    asked = Question(CPU, start, end, HOUR_MS, by="user", histograms=True, cells="sums")
    sums = filled.store.answer(asked)
    windows = filled.store.answer(replace(asked, cells=None, histograms=False))
    assert len(sums) == len(windows)
    users, starts = windows["user"].astype("str"), pd.DatetimeIndex(windows.index).as_unit("ms").asi8
    by_bucket = sums.reset_index().set_index(["user", "bucket"])
    found = by_bucket.loc[[*zip(users, starts // HOUR_MS, strict=True)]]
    assert found["count"].tolist() == windows["count"].tolist()
    assert found["min"].tolist() == windows["min"].tolist() and found["max"].tolist() == windows["max"].tolist()
    np.testing.assert_allclose(found["total"], windows["mean"] * windows["count"], rtol=1e-12)
    bins = bins_of(sums)
    assert bins.shape == (len(sums), len(BINS))
    assert bins.sum(axis=1).tolist() == sums["count"].tolist()


def test_what_comes_in_late_or_from_who_joins_is_in_what_is_kept(place: Place) -> None:
    draw = random.Random(5)
    store = place.open()
    cache = FleetCache(store)
    sent = 0
    for step in range(60):
        reports = [_report(draw, f"m{draw.randrange(4 + step // 4)}") for _ in range(draw.randrange(1, 6))]
        sent += len(reports)
        store.add(sent, reports)
        cache.note(reports)
        if draw.random() < 0.2:
            store.flush()
        first = START_MS + draw.randrange(40) * STEP_MS
        assert_totals(cache, (first, first + draw.randrange(1, 40) * STEP_MS))
        assert_matrix(cache, (START_MS // STEP_MS + draw.randrange(30)) * STEP_MS, draw.randrange(1, 20))
    assert cache.bytes > 0
    store.close()


def test_no_more_is_kept_than_there_may_be(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.open()
    draw = random.Random(6)
    store.add(200, [_report(draw, f"m{number % 8}") for number in range(200)])
    few = 12 * 8 * totals._BYTES_A_HOST
    monkeypatch.setattr(totals, "MAX_BYTES", few)
    cache = FleetCache(store)
    for hours in range(4):
        first = START_MS // HOUR_MS * HOUR_MS + hours * HOUR_MS + STEP_MS
        assert_totals(cache, (first, first + 9 * STEP_MS))
        assert 0 < cache.totals.bytes <= few
    assert cache.totals.over(CPU, (START_MS, START_MS + 400 * DAY_MS)) is None
    store.close()


def test_a_failure_leaves_nothing_that_was_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.open()
    store.add(50, [_report(random.Random(seed), f"m{seed % 5}") for seed in range(50)])
    cache = FleetCache(store)
    range_ms = (START_MS, START_MS + DAY_MS)
    answer, asked = store.answer, []

    def failing(question: Question) -> pd.DataFrame:
        asked.append(question)
        if len(asked) == 2:
            raise RuntimeError("away")
        return answer(question)

    with monkeypatch.context() as patch:
        patch.setattr(store, "answer", failing)
        with pytest.raises(RuntimeError):
            cache.totals.over(CPU, range_ms)
    assert_totals(cache, range_ms)
    store.close()


def test_what_was_read_is_not_asked_for_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store: Store = place.open()
    store.add(50, [_report(random.Random(seed), f"m{seed % 5}") for seed in range(50)])
    cache = FleetCache(store)
    first = START_MS // HOUR_MS * HOUR_MS
    cache.totals.over(CPU, (first, first + 8 * HOUR_MS))
    answer, asked = store.answer, []

    def counted(question: Question) -> pd.DataFrame:
        asked.append((question.start_ms, question.end_ms))
        return answer(question)

    monkeypatch.setattr(store, "answer", counted)
    cache.totals.over(CPU, (first + 2 * HOUR_MS, first + 7 * HOUR_MS))
    assert asked == []
    cache.totals.over(CPU, (first + 2 * HOUR_MS - STEP_MS, first + 7 * HOUR_MS))
    assert asked == [(first + 2 * HOUR_MS - STEP_MS, first + 2 * HOUR_MS)]
    store.close()


def _report(draw: random.Random, user: str) -> Report:
    recording = Recording()
    end_ms = START_MS + draw.randrange(4 * HOUR_MS) // 1000 * 1000 + draw.randrange(1000)
    samples = np.array([draw.random() for _ in range(draw.randrange(1, 8))])
    recording.cpu(Host(user, "Linux", "1"), end_ms, samples)
    [report] = recording.reports
    return report
