"""What a store answers of all hosts together, or of groups of them."""

import functools
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analytics.frames.resampling import EVERYTHING_MS
from analytics.frames.statistics import statistic
from contract.metrics import QUANTITIES, Quantity
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS, parse_duration
from service.http.weighing import PieceWeights, weighed, with_cores
from service.stores import engine, memtable, sorted_windows
from service.stores.base import Grouping, Question, Store
from service.stores.cells import Cell
from service.stores.systems import NOT_RECORDED
from tests.service.stores.conftest import Filled
from tests.support.five_weeks import END_MS, START_MS
from tests.support.recordings import CPU, Host, Recording, Window, assert_quantiles, assert_same_moments
from tests.support.stores import EmbeddedPlace, Place

GROUPINGS: dict[Grouping | None, Callable[[Host], str]] = {
    None: lambda _: "",
    "user": lambda host: host.user_id,
    "os_type": lambda host: host.os_type,
    "os_version": lambda host: host.os_version,
}


@functools.cache  # the same for each store, in each state
def buckets(recording: Recording, quantity: Quantity, start: int, end: int, rate_ms: int, by: Grouping | None) -> Any:
    def group_of(window: Window) -> str | None:
        return GROUPINGS[by](window.host) if window.core is None else None

    return recording.buckets(quantity, start, end, rate_ms, group_of)


def test_a_group_is_all_its_hosts_together(filled: Filled) -> None:
    start, end = START_MS + 123_457, END_MS - 3 * DAY_MS - 1
    quantities = (CPU, QUANTITIES["disk.written_bytes"])
    for by, quantity, rate in product(GROUPINGS, quantities, ("1m", "1h", "1w")):
        rate_ms = parse_duration(rate)
        expected = buckets(filled.recording, quantity, start, end, rate_ms, by)
        for histograms in (False, True):
            question = Question(quantity, start, end, rate_ms, by=by, histograms=histograms)
            windows = filled.store.answer(question)
            assert_same_moments(windows, expected)
            if histograms:
                assert_quantiles(windows, quantity, expected)


def test_a_table_of_cells_has_the_numbers_of_the_windows(filled: Filled) -> None:
    start, end = START_MS + 123_457, END_MS - 3 * DAY_MS - 1
    asked: list[tuple[Cell, Quantity, str]] = [
        ("mean", CPU, "5m"), ("max", CPU, "1w"), ("min", CPU, "1h"), ("mean", QUANTITIES["disk.written_bytes"], "7m"),
    ]  # fmt: skip
    for cells, quantity, rate in asked:
        rate_ms = parse_duration(rate)
        windows = filled.store.answer(Question(quantity, start, end, rate_ms, by="user"))
        table = filled.store.answer(Question(quantity, start, end, rate_ms, by="user", cells=cells))
        assert [*table.columns] == [*range(start // rate_ms, end // rate_ms + 1)]
        assert int(table.notna().to_numpy().sum()) == len(windows)
        columns = pd.DatetimeIndex(windows.index).as_unit("ms").asi8 // rate_ms - start // rate_ms
        rows = table.index.get_indexer(pd.Index(windows["user"].astype("str")))
        found = table.to_numpy()[rows, columns]
        np.testing.assert_allclose(found, windows[cells].to_numpy(np.float32), rtol=1e-6)


def test_totals_have_the_numbers_of_the_windows(filled: Filled) -> None:
    start, end = START_MS + 123_457, END_MS - 3 * DAY_MS - 1
    asked = Question(CPU, start, end, EVERYTHING_MS, by="user", histograms=True)
    windows = filled.store.answer(asked)
    table = filled.store.answer(replace(asked, cells="totals")).loc[windows["user"].astype("str")]
    assert table["p95"].tolist() == statistic(windows, "p95").tolist()
    assert table["max"].tolist() == windows["max"].tolist()
    np.testing.assert_allclose(table["mean"], windows["mean"], rtol=1e-12)


def test_the_groups_are_named_in_order(filled: Filled) -> None:
    by_version = filled.store.answer(Question(CPU, START_MS, END_MS, DAY_MS, by="os_version"))
    assert by_version["os_version"].unique().tolist() == ["11", "12", "13"]
    by_type = filled.store.answer(Question(CPU, START_MS, END_MS, DAY_MS, by="os_type"))
    assert by_type["os_type"].unique().tolist() == ["Linux", "MacOS", "Windows"]


def versions(
    store: Store, rate_ms: int, by: Grouping = "os_version", **more: Any
) -> dict[tuple[str, int], list[float]]:
    """Samples and mean of each group and bucket."""
    windows = store.answer(Question(CPU, START_MS, END_MS, rate_ms, by=by, **more))
    times = pd.DatetimeIndex(windows.index).as_unit("ms").asi8.tolist()
    numbers = zip(windows["count"].tolist(), windows["mean"].round(9).tolist(), strict=True)
    return dict(zip(zip(windows[by].tolist(), times, strict=True), map(list, numbers), strict=True))


def upgraded(name: str, at: int, windows: int = 12, first_ms: int = START_MS) -> Recording:
    """Windows of one sample a minute: 0.2 under 20.04 before the one at a place, 0.6 under 22.04 from it on."""
    recording = Recording()
    for place in range(windows):
        version, load = ("20.04", 0.2) if place < at else ("22.04", 0.6)
        recording.cpu(Host(name, "Linux", version), first_ms + place * MINUTE_MS, np.array([load]))
    return recording


@pytest.mark.parametrize("state", ["in memory", "on disk", "reopened", "crashed"])
def test_windows_count_with_the_system_of_their_time(place: Place, state: str) -> None:
    # The change is within a bucket of every rollup.
    recording = upgraded("upgraded", 7, first_ms=START_MS + 2 * MINUTE_MS)
    other = upgraded("other", 0, first_ms=START_MS + 2 * MINUTE_MS)
    store = place.open()
    reports = sorted([*recording.reports, *other.reports], key=lambda report: report.end_timestamp)
    store.add(1, reports[:9])
    if state != "in memory":
        store.flush()
    store.add(2, reports[9:])
    if state in ("on disk", "reopened"):
        store.flush()
    if state == "reopened":
        store.close()
        store = place.open()
    if state == "crashed":
        store = place.crash(store)
        store.add(2, reports[9:])
    for rate_ms in (HOUR_MS, DAY_MS):
        start = START_MS // rate_ms * rate_ms
        assert versions(store, rate_ms) == {("20.04", start): [7, 0.2], ("22.04", start): [17, 0.6]}
        assert versions(store, rate_ms, "os_type") == {("Linux", start): [24, pytest.approx(0.483333333)]}
    minutes = versions(store, MINUTE_MS)
    first = START_MS // MINUTE_MS
    assert [minutes["20.04", (first + number) * MINUTE_MS] for number in range(2, 9)] == [[1, 0.2]] * 7
    assert {tuple(value) for (version, _), value in minutes.items() if version == "22.04"} == {(1, 0.6), (2, 0.6)}
    store.close()


def test_late_windows_count_with_the_system_they_came_from(place: Place) -> None:
    reports = upgraded("upgraded", 6).reports
    store = place.open()
    for number, late in enumerate([5, 0, 11, 2, 1, 6, 3, 10, 4, 7, 9, 8], 1):
        store.add(number, [reports[late]])
    day = START_MS // DAY_MS * DAY_MS
    assert versions(store, DAY_MS) == {("20.04", day): [6, 0.2], ("22.04", day): [6, 0.6]}
    store.close()


def test_groups_may_be_told_apart_by_user(place: Place) -> None:
    store = place.open()
    store.add(1, [*upgraded("a", 6).reports, *upgraded("b", 3).reports])
    windows = store.answer(Question(CPU, START_MS, END_MS, DAY_MS, by="os_version", each_user=True))
    assert [*zip(windows["user"], windows["os_version"], windows["count"].tolist(), strict=True)] == [
        ("a", "20.04", 6), ("a", "22.04", 6), ("b", "20.04", 3), ("b", "22.04", 9)
    ]  # fmt: skip
    store.close()


def test_windows_of_hosts_say_how_many_cores_each_had_at_the_time(place: Place) -> None:
    recording = Recording()
    for minute in range(0, 240, 60):
        load, cores = (0.8, 4) if minute < 120 else (0.4, 8)
        end_ms = START_MS + (minute + 30) * MINUTE_MS
        recording.cpu(Host("grown", "Linux", "1"), end_ms, np.full(9, load), [np.full(9, load)] * cores)
        recording.cpu(Host("small", "Linux", "1"), end_ms, np.full(9, 0.5), [np.full(9, 0.5)] * 2)
    store = place.open()
    store.add(1, recording.reports)
    question = Question(CPU, START_MS, START_MS + 4 * HOUR_MS, HOUR_MS, by="user")
    told = with_cores(store.answer(question), store, question)
    assert told["cores"].tolist() == [4, 4, 8, 8, 2, 2, 2, 2]
    store.close()


def test_a_host_whose_system_changes_all_the_time_is_still_answered(place: Place) -> None:
    """Two hosts with one id: what was long ago is not recorded."""
    store = place.open()
    for number in range(1, 201):
        recording = Recording()
        host = Host("twins", "Linux", "12" if number % 2 else "13")
        recording.cpu(host, START_MS + number * 1000, np.array([0.5]))
        store.add(number, recording.reports)
    found = versions(store, DAY_MS)
    assert {name: count for (name, _), (count, _) in found.items()} == {"12": 32, "13": 32, NOT_RECORDED: 136}
    store.close()


def test_a_fleet_of_hundreds_is_answered_exactly(place: Place) -> None:
    """More hosts than a query names one by one."""
    random = np.random.default_rng(11)
    recording = Recording()
    for number in range(600):
        for end in (START_MS + number, START_MS + DAY_MS - 7 * number):
            recording.cpu(Host(f"m{number:03}", "Linux", str(number % 7)), end, random.random(3))
    store = place.open()
    store.add(700, recording.reports[:700])
    store.flush()
    store.add(1200, recording.reports[700:])
    for by, group_of in GROUPINGS.items():
        for rate_ms in (60_000, 3_600_000):
            question = Question(CPU, START_MS, END_MS, rate_ms, by=by, histograms=True)
            windows = store.answer(question)
            expected = recording.buckets(
                CPU,
                START_MS,
                END_MS,
                rate_ms,
                lambda window, of=group_of: of(window.host),  # type: ignore[misc]
            )
            assert_same_moments(windows, expected)
            assert_quantiles(windows, CPU, expected)
    store.close()


def test_late_windows_in_memory_count_wherever_a_range_begins_and_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are merged in blocks of pieces, of which nearly each reaches beyond a range; it is asked while they come."""
    monkeypatch.setattr(memtable, "_CHUNK", 8)
    monkeypatch.setattr(engine, "_BLOCK", 3)
    random = np.random.default_rng(5)
    store, recording = place.open(), Recording()
    for number in range(200):
        late = int(random.integers(6 * HOUR_MS)) if number % 5 == 0 else 0
        end = START_MS + 6 * HOUR_MS + 7_001 * number - late
        recording.cpu(Host(f"m{number % 9}", "Linux", "12"), end, random.random(3))
        store.add(number + 1, recording.reports[-1:])
        if number not in (60, 130, 199):
            continue
        for start, end in (
            (START_MS, START_MS + DAY_MS),
            (START_MS + 2 * HOUR_MS + 123_457, START_MS + 6 * HOUR_MS + 200_003),
            (START_MS + 6 * HOUR_MS + 1_000, START_MS + 6 * HOUR_MS + 200_003),
            (START_MS + 6 * HOUR_MS + 61_000, START_MS + 6 * HOUR_MS + 3 * 61_000),
        ):
            expected = recording.buckets(CPU, start, end, 900_000, lambda _: "")
            windows = store.answer(Question(CPU, start, end, 900_000, histograms=True))
            assert_same_moments(windows, expected)
            assert_quantiles(windows, CPU, expected)
    store.close()


def test_late_windows_in_memory_are_merged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often all hosts are asked for, though every piece in memory reaches beyond the range."""
    monkeypatch.setattr(memtable, "_CHUNK", 8)
    store, recording = EmbeddedPlace(tmp_path / "store").open(), Recording()
    day = START_MS // DAY_MS * DAY_MS
    for number in range(64):
        end = day + (number % 2) * DAY_MS + 1_000 * number
        recording.cpu(Host(f"m{number}", "Linux", "12"), end, np.array([0.5, 0.25]))
        store.add(number + 1, recording.reports[-1:])
    question = Question(CPU, day + DAY_MS, day + 2 * DAY_MS, 900_000)
    once = store.answer(question)
    with monkeypatch.context() as patch:
        patch.setattr(sorted_windows, "rows_of", None)
        patch.setattr(engine, "rows_of", None)
        pd.testing.assert_frame_equal(store.answer(question), once)
    assert once["count"].sum() == 32 * 2
    store.close()


def test_hosts_weigh_by_the_cores_of_their_time_in_buckets_of_any_width(place: Place) -> None:
    """3.2 cores of 4, then of 8, beside a host of 4 at 10 %: 72 of 200 core-days in 20 days."""
    first_ms = START_MS // DAY_MS * DAY_MS + 3 * DAY_MS
    recording = Recording()
    for hour in range(0, 20 * 24, 6):
        load, cores = (0.8, 4) if hour < 240 else (0.4, 8)
        end_ms = first_ms + hour * HOUR_MS + HOUR_MS // 2
        recording.cpu(Host("x", "Linux", "1"), end_ms, np.full(9, load), [np.full(9, load)] * cores)
        recording.cpu(Host("y", "Linux", "1"), end_ms, np.full(9, 0.1), [np.full(9, 0.1)] * 4)
    store = place.open()
    store.add(1, recording.reports)
    store.flush()
    end_ms = first_ms + 20 * DAY_MS
    whole = Question(CPU, first_ms, end_ms, 20 * DAY_MS, edges=(first_ms,), histograms=True)
    [mean] = weighed(store, whole, "cores")["mean"]
    assert mean == pytest.approx(72 / 200)
    for place_ms in (0, DAY_MS, 5 * DAY_MS, 9 * DAY_MS):
        # The change is in another part of the bucket each time.
        part = Question(CPU, first_ms + place_ms, first_ms + place_ms + 11 * DAY_MS, 11 * DAY_MS,
                        edges=(first_ms + place_ms,))  # fmt: skip
        before = max(0, 10 - place_ms // DAY_MS)
        [mean] = weighed(store, part, "cores")["mean"]
        assert mean == pytest.approx(3.6 * 11 / (8 * before + 12 * (11 - before)))
    for rate_ms in (HOUR_MS, DAY_MS, 7 * DAY_MS, 364 * DAY_MS):
        asked = Question(CPU, first_ms, end_ms, rate_ms)
        buckets = weighed(store, asked, "cores")
        assert PieceWeights(store, Question(CPU, first_ms, end_ms, rate_ms, by="user"), "cores").together(asked)[
            "mean"
        ].tolist() == pytest.approx(buckets["mean"].tolist())
        assert np.average(buckets["mean"], weights=buckets["count"]) == pytest.approx(72 / 200)
    groups = weighed(store, Question(CPU, first_ms, end_ms, 364 * DAY_MS, by="os_type"), "cores")
    assert groups["os_type"].tolist() == ["Linux"] * len(groups)
    store.close()
