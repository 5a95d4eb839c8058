"""The fleet's picture: what its pixels say, and that it is current without reading everything again."""

import json
import threading
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analytics.frames.resampling import EVERYTHING_MS
from contract import times
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS
from service import answers
from service.answers import read_ahead
from service.dashboard import hosts
from service.dashboard.columns import PictureQuestion, rate_of
from service.dashboard.fleet import picture, picture_in_parts
from service.dashboard.matrix import FleetCache
from service.stores.embedded.store import EmbeddedStore
from tests.support.dashboard_fleet import STEP_MS
from tests.support.pictures import ALERT, CPU, START_MS, STEPS, Fleet, level
from tests.support.recordings import Host, Recording


def test_each_pixel_is_the_mean_of_its_bucket_and_0_where_there_is_none(fleet: Fleet) -> None:
    header, pixels = fleet.picture()
    assert header["labels"] == ["a", "b", "c"]
    assert header["edges"] == [0, 1, 2, 3]
    assert (header["start"], header["rate"], header["columns"]) == (START_MS, STEP_MS, STEPS)
    assert pixels[0].tolist() == [level(0.1)] * STEPS
    assert pixels[1].tolist() == [level(0.5)] * STEPS
    assert pixels[2].tolist() == [level(1.0)] * (STEPS // 2) + [0] * (STEPS // 2)


def test_neighbours_that_share_a_row_show_the_highest_of_them(fleet: Fleet) -> None:
    header, pixels = fleet.picture(rows=1)
    assert (header["rows"], header["edges"], header["total"]) == (1, [0, 3], 3)
    assert pixels[0].tolist() == [level(1.0)] * (STEPS // 2) + [level(0.5)] * (STEPS // 2)


@pytest.mark.parametrize(
    ("sort", "order"),
    [("mean", ["a", "b", "c"]), ("p95", ["a", "b", "c"]), ("max", ["a", "b", "c"]), ("name", ["a", "b", "c"])],
)
def test_hosts_are_sorted_either_way(fleet: Fleet, sort: str, order: list[str]) -> None:
    assert fleet.picture(sort=sort)[0]["labels"] == order
    assert fleet.picture(sort=sort, descending=True)[0]["labels"] == order[::-1]


def test_hosts_are_kept_by_name_state_and_place(fleet: Fleet) -> None:
    assert fleet.picture(text="B")[0]["labels"] == ["b"]
    assert fleet.picture(state="hot")[0]["labels"] == ["c"]
    assert fleet.picture(state="alerting")[0]["labels"] == ["b"]
    assert fleet.picture(state="silent")[0]["labels"] == ["c"]
    assert fleet.picture(os_type="Windows")[1].shape == (0, STEPS)
    header, pixels = fleet.picture(first=1, count=1)
    assert (header["labels"], header["edges"], header["total"], len(pixels)) == (["b"], [1, 2], 3, 1)


def test_hosts_are_kept_by_their_labels(fleet: Fleet) -> None:
    labels = {"a": {"role": "web", "zone": "eu-1"}, "b": {"role": "web", "zone": "us-1"}}
    for user, said in labels.items():
        fleet.add(user, STEPS - 1, 0.5, labels=said)
    assert fleet.picture(label="role=web")[0]["labels"] == ["a", "b"]
    header, _ = fleet.picture(label="role=web,zone=eu-*")
    assert (header["labels"], header["total"], header["states"]["reporting"]) == (["a"], 1, 1)
    assert [one["user_id"] for one in header["hottest"]] == ["a"]
    assert header["machines"][0]["labels"] == labels["a"]
    assert header["known_labels"] == {"role": {"web": 2}, "zone": {"eu-1": 1, "us-1": 1}}
    assert header["labelled"] == {"role": {"web": 1}, "zone": {"eu-1": 1}}
    assert fleet.picture(label="role=db")[0]["total"] == 0


def test_the_mean_of_a_column_weighs_hosts_by_their_cores(fleet: Fleet) -> None:
    header, _ = fleet.picture()
    assert header["weighted"][0] == pytest.approx((0.1 + 0.5 + 1.0) / 3, abs=1e-6)
    assert header["weighted"][-1] == pytest.approx((0.1 + 0.5) / 2, abs=1e-6)
    assert header["reporting"] == [3] * (STEPS // 2) + [2] * (STEPS // 2)


@pytest.mark.parametrize("sort", ["name", "change"])
def test_the_statistics_of_hosts_are_those_of_the_range_on_a_screen_of_any_width(fleet: Fleet, sort: str) -> None:
    """`c` fell silent a step before the range; wide columns begin before it."""
    asked = {"start_ms": START_MS + (STEPS // 2 + 1) * STEP_MS, "sort": sort}
    wide, narrow = (fleet.picture(**asked, rate_ms=steps * STEP_MS)[0] for steps in (12, 1))
    assert wide["start"] < narrow["start"] == asked["start_ms"]
    for name in ("machines", "hottest", "idlest", "states", "total"):
        assert wide[name] == narrow[name]
    assert [one["user_id"] for one in wide["machines"]] == ["a", "b"]
    assert fleet.picture(**asked, rate_ms=12 * STEP_MS, state="hot")[0]["total"] == 0


def test_a_short_range_that_begins_within_a_bucket_counts_the_windows_in_it_alone(fleet: Fleet) -> None:
    fleet.add("c", STEPS - 1, 0.2)
    start_ms = START_MS + (STEPS // 2) * STEP_MS - STEP_MS // 2 + 1
    header, _ = fleet.picture(start_ms=start_ms)
    assert header["start"] < start_ms == header["counted"][0]
    [c] = [one for one in header["machines"] if one["user_id"] == "c"]
    assert (c["mean"], c["maximum"]) == pytest.approx((0.2, 0.2))


def test_a_long_range_counts_whole_buckets_of_five_minutes_and_says_so(fleet: Fleet) -> None:
    start_ms = START_MS - 5 * HOUR_MS + STEP_MS // 2 + 1
    for steps in (1, 12):
        header, _ = fleet.picture(start_ms=start_ms, end_ms=START_MS + STEPS * STEP_MS - 1, rate_ms=steps * STEP_MS)
        assert header["counted"] == [START_MS - 5 * HOUR_MS, START_MS + STEPS * STEP_MS]


def test_only_what_has_changed_is_asked_for_again(fleet: Fleet) -> None:
    fleet.picture()
    fleet.store.asked.clear()
    fleet.picture(sort="mean")
    assert fleet.store.asked == []
    fleet.add("a", STEPS - 1, 0.9)
    fleet.add("new", 3, 0.7)
    _, pixels = fleet.picture(text="a")
    ranges = [(one.start_ms, one.end_ms) for one in fleet.store.asked if one.cells == "mean" and one.rate_ms == STEP_MS]
    assert ranges == [
        (START_MS + step * STEP_MS, START_MS + (step + 1) * STEP_MS) for step in (3, STEPS - 1)
    ]  # the two buckets
    assert pixels[0][-1] == level((0.1 + 0.9) / 2)


def test_a_range_that_moves_on_is_that_of_a_fresh_start(fleet: Fleet) -> None:
    fleet.picture()
    fleet.store.asked.clear()
    moved = {"start_ms": START_MS + 3 * STEP_MS, "end_ms": START_MS + (STEPS + 3) * STEP_MS}
    header, pixels = fleet.picture(**moved)
    asked = [one for one in fleet.store.asked if one.cells == "mean" and one.rate_ms == STEP_MS]
    assert [(one.end_ms - one.start_ms) // STEP_MS for one in asked] == [3]
    fresh = Fleet.__new__(Fleet)
    fresh.store, fresh.cache = fleet.store, FleetCache(fleet.store)
    again, expected = fresh.picture(**moved)
    assert np.array_equal(pixels, expected) and header == again


def test_who_joins_with_nothing_in_the_range_is_shown_as_silent(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_FRESH_S", 0.0)
    fleet.picture()
    fleet.add("late", -1000, 0.5)
    header, pixels = fleet.picture(state="silent")
    assert header["labels"] == ["c", "late"]
    assert pixels[1].tolist() == [0] * STEPS


def test_columns_are_as_wide_as_windows_are_apart(fleet: Fleet) -> None:
    header, pixels = fleet.picture(rate_ms=None, columns=1000)
    assert header["rate"] == STEP_MS
    assert (pixels[0] > 0).all()


def test_a_large_fleet_is_not_read_more_finely_than_it_reports(tmp_path: Path) -> None:
    large = Fleet(tmp_path)
    for step in range(STEPS):
        for number in range(130):
            large.add(f"m{number:03}", step, number / 200)
    header, pixels = large.picture(rate_ms=None, columns=1000, rows=130)
    assert header["rate"] == STEP_MS
    assert pixels.shape == (130, STEPS) and (pixels > 0).all()
    assert {one.rate_ms for one in large.store.asked if one.cells == "mean" and one.users is None} <= {
        STEP_MS, EVERYTHING_MS, 1
    }  # fmt: skip
    looked = len(large.store.asked)
    zoomed, _ = large.picture(rate_ms=None, columns=1000, start_ms=START_MS + STEP_MS, end_ms=START_MS + 7 * STEP_MS)
    assert (zoomed["rate"], zoomed["columns"]) == (STEP_MS, 6)
    # The columns are there already.
    assert [one for one in large.store.asked[looked:] if one.cells == "mean" and one.rate_ms == STEP_MS] == []
    large.store.close()


@pytest.mark.parametrize(
    ("days", "hosts", "columns", "expected"),
    [
        (7, 100, 400, 30 * MINUTE_MS), (7, 10_000, 400, HOUR_MS), (1, 10_000, 400, STEP_MS),
        (3, 10_000, 400, HOUR_MS), (30, 10_000, 400, 2 * HOUR_MS), (365, 10_000, 400, DAY_MS),
        (3000, 10_000, 400, 28 * DAY_MS),
    ],
)  # fmt: skip
def test_a_column_is_as_wide_as_can_be_read_at_once(
    tmp_path: Path, days: int, hosts: int, columns: int, expected: int
) -> None:
    store = EmbeddedStore(tmp_path)
    assert rate_of(store, days * DAY_MS / columns, 1, days * DAY_MS * hosts) == expected
    store.close()


def reads_ahead(cache: FleetCache) -> None:
    """Read ahead for a dashboard in use until all is read, and the next bucket is waited for."""
    ended = threading.Event()
    cache.is_used()
    waits: list[float] = []

    def wait(timeout: float | None = None) -> bool:
        waits.append(timeout or 0.0)
        if timeout == STEP_MS / 1000:
            ended.set()
        return ended.is_set()

    ended.wait = wait  # type: ignore[method-assign]
    read_ahead(cache, ended)
    assert STEP_MS / 1000 in waits


def test_ranges_that_were_read_ahead_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, now_ms = Fleet(tmp_path), START_MS + 20 * MINUTE_MS + 1
    monkeypatch.setattr(times, "now_ms", lambda: now_ms)
    for step, number in product(range(5), range(100)):
        large.add(f"m{number:03}", step, number / 100)
    reads_ahead(large.cache)
    # As the page begins them: long ones with a bucket, others at any moment.
    for hours, step_ms in (
        (1, 1), (3, 1), (6, STEP_MS), (12, STEP_MS), (24, STEP_MS), (7 * 24, HOUR_MS), (30 * 24, HOUR_MS)
    ):  # fmt: skip
        large.store.asked.clear()
        start_ms = (now_ms - hours * HOUR_MS) // step_ms * step_ms
        header, _ = large.picture(now_ms, start_ms=start_ms, end_ms=now_ms, rate_ms=None, columns=400)
        assert (header["total"], large.store.asked) == (100, []), hours
    # Reports come in for the bucket of now: nothing else is read again.
    large.add("m007", 4, 1.0)
    large.store.asked.clear()
    header, _ = large.picture(now_ms, start_ms=now_ms - HOUR_MS, end_ms=now_ms, rate_ms=None, columns=400)
    assert {(one.start_ms, one.end_ms) for one in large.store.asked} == {
        (START_MS + 4 * STEP_MS, START_MS + 5 * STEP_MS)
    }  # fmt: skip
    large.store.close()


def test_a_large_fleet_is_read_ahead_until_the_service_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Fleet(tmp_path)
    for number in range(100):
        large.add(f"m{number:03}", 0, 0.5)
    ended = threading.Event()
    ended.set()
    read_ahead(large.cache, ended)
    assert large.store.asked == []
    monkeypatch.setattr(answers, "_LATER_S", 0.0)
    reads_ahead(large.cache)
    widths = {one.rate_ms for one in large.store.asked if one.cells == "mean"}
    assert {STEP_MS, 30 * MINUTE_MS} <= widths
    assert large.cache.bytes > 0
    large.store.close()


def test_only_the_last_day_is_read_while_nobody_looks(tmp_path: Path) -> None:
    large = Fleet(tmp_path)
    for number in range(100):
        large.add(f"m{number:03}", 0, 0.5)
    ended = threading.Event()
    large.cache.used.wait = lambda timeout=None: ended.set() or True  # type: ignore[func-returns-value,method-assign]
    read_ahead(large.cache, ended)
    widths = {one.end_ms - one.start_ms for one in large.store.asked if one.cells == "mean"}
    assert widths
    assert max(widths) <= DAY_MS + STEP_MS
    large.store.close()


@pytest.mark.parametrize("choice", [{}, {"sort": "change"}, {"rows": 1, "state": "hot"}, {"text": "nobody"}])
def test_pixels_come_before_what_is_said_besides(fleet: Fleet, choice: dict[str, Any]) -> None:
    fresh = Fleet.__new__(Fleet)
    fresh.store, fresh.cache = fleet.store, FleetCache(fleet.store)
    whole, pixels = fresh.picture(**choice)
    fleet.store.asked.clear()
    wanted = PictureQuestion(
        metric=CPU, statistic="mean", start_ms=START_MS, end_ms=START_MS + STEPS * STEP_MS, rate_ms=STEP_MS,
        columns=100, **({"rows": 100} | choice)
    )  # fmt: skip
    parts = picture_in_parts(fleet.cache, wanted, {"b": [ALERT]}, START_MS + STEPS * STEP_MS)
    content = next(parts)
    # The range before says how hosts have changed, which pixels are of only where that is their order.
    before = [one for one in fleet.store.asked if one.rate_ms == EVERYTHING_MS and one.end_ms == START_MS]
    assert len(before) == (choice.get("sort") == "change")
    [tables] = [json.loads(part) for part in parts]
    length = int.from_bytes(content[:4], "little")
    header = json.loads(content[4 : 4 + length])
    assert content[4 + length :] == pixels.tobytes() and len(pixels) == header["rows"]
    assert header | tables == whole and not {*header} & {*tables}


def test_who_does_not_come_for_the_rest_holds_up_nobody(fleet: Fleet) -> None:
    wanted = PictureQuestion(
        metric=CPU, statistic="mean", start_ms=START_MS, end_ms=START_MS + STEPS * STEP_MS, rate_ms=STEP_MS,
        columns=100, rows=100,
    )  # fmt: skip
    parts = picture_in_parts(fleet.cache, wanted, {}, START_MS + STEPS * STEP_MS)
    for _ in range(2):
        assert next(parts)
        assert not fleet.cache.lock.locked()
        assert fleet.picture()[0]["known"]


def test_a_fleet_without_hosts_has_no_rows(tmp_path: Path) -> None:
    empty = Fleet(tmp_path)
    header, pixels = empty.picture()
    assert (header["rows"], header["known"], pixels.shape) == (0, 0, (0, STEPS))
    empty.store.close()


def test_numbers_lists_and_alerts_are_of_the_hosts_that_are_shown(fleet: Fleet) -> None:
    header, _ = fleet.picture()
    assert (header["states"]["reporting"], header["states"]["silent"], header["firing"]["total"]) == (3, 1, 1)
    assert header["firing"]["alerts"] == [
        {"id": 7, "rule": "busy", "user": "b", "severity": "warning", "fired": START_MS}
    ]
    header, _ = fleet.picture(state="hot")
    assert (header["states"]["reporting"], header["states"]["silent"], header["firing"]["total"]) == (1, 1, 0)
    assert [[one["user_id"] for one in header[name]] for name in ("hottest", "idlest", "silent")] == [["c"]] * 3
    header, _ = fleet.picture(text="b")
    assert (header["firing"]["rules"], header["states"]["alerting"]) == ({"busy": 1}, 1)
    header, _ = fleet.picture(first=1, count=1)
    assert ([one["user_id"] for one in header["hottest"]], header["states"]["reporting"]) == (["b"], 1)


@pytest.mark.parametrize("columns", [2, 1])
def test_the_mean_of_a_column_weighs_hosts_by_the_cores_they_had_then(tmp_path: Path, columns: int) -> None:
    """3.2 cores of 4, then of 8, beside a host of 4 at 10 %: 3.6 of 8, then of 12; 7.2 of 20 in all."""
    store = EmbeddedStore(tmp_path)
    recording = Recording()
    first_ms = START_MS // DAY_MS * DAY_MS
    for hour in range(8):
        load, cores = (0.8, 4) if hour < 4 else (0.4, 8)
        end_ms = first_ms + hour * HOUR_MS + HOUR_MS // 2
        recording.cpu(Host("x", "Linux", "1"), end_ms, np.full(9, load), [np.full(9, load)] * cores)
        recording.cpu(Host("y", "Linux", "1"), end_ms, np.full(9, 0.1), [np.full(9, 0.1)] * 4)
    store.add(1, recording.reports)
    rate_ms = 8 * HOUR_MS // columns
    asked = PictureQuestion(CPU, "mean", first_ms, first_ms + 8 * HOUR_MS, rate_ms, 100, 100)
    content = picture(FleetCache(store), asked, {}, first_ms + 8 * HOUR_MS)
    header = json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")])
    assert header["weighted"] == pytest.approx([3.6 / 8, 3.6 / 12] if columns == 2 else [7.2 / 20], abs=1e-6)
    store.close()
