"""The fleet's picture: what its pixels say, and that it is current without reading everything again."""

import json
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from analytics.frames.resampling import EVERYTHING_MS
from contract import times
from contract.metrics import NAMES
from contract.report import FUTURE_MS, Report, decode_report, encode
from contract.times import DAY_MS, HOUR_MS, MINUTE_MS, format_instant
from service import answers
from service.alerts.repository import Alert
from service.answers import read_ahead
from service.dashboard import hosts
from service.dashboard.columns import PictureQuestion, rate_of
from service.dashboard.fleet import picture, picture_in_parts
from service.dashboard.matrix import FleetCache
from service.stores.base import Question
from service.stores.embedded.store import EmbeddedStore
from tests.support.dashboard_fleet import HOT, STEP_MS, newest_ms, report
from tests.support.recordings import Host, Recording
from tests.support.reports import as_json
from tests.support.running import RunningService

CPU = NAMES["cpuUtilization"]
START_MS = 1_700_000_100_000 // STEP_MS * STEP_MS
STEPS = 24
ALERT = Alert(7, "busy", "b", "warning", "firing", START_MS, START_MS, None, 0.5, 1, START_MS)


class Counting(EmbeddedStore):
    """A store that remembers what it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[Question] = []

    def answer(self, question: Question) -> Any:
        self.asked.append(question)
        return super().answer(question)


class Fleet:
    """A store, and the pictures of what is in it."""

    def __init__(self, folder: Path) -> None:
        self.store = Counting(folder)
        self.cache = FleetCache(self.store)
        self.sent = 0

    def add(self, user: str, step: int, mean: float, **members: object) -> None:
        """A window of a host at the end of a step."""
        said = report(user, START_MS + step * STEP_MS, mean, spread=0.0) | members
        taken: Report = decode_report(as_json(said))
        assert encode(taken)
        self.sent += 1
        self.store.add(self.sent, [taken])
        self.cache.note([taken])

    def picture(self, **asked: Any) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
        """The header and the pixels."""
        wanted: dict[str, Any] = {
            "metric": CPU, "statistic": "mean", "start_ms": START_MS, "end_ms": START_MS + STEPS * STEP_MS,
            "rate_ms": STEP_MS, "columns": 100, "rows": 100,
        }  # fmt: skip
        content = picture(self.cache, PictureQuestion(**wanted | asked), {"b": [ALERT]}, START_MS + STEPS * STEP_MS)
        length = int.from_bytes(content[:4], "little")
        header = json.loads(content[4 : 4 + length])
        pixels = np.frombuffer(content[4 + length :], np.uint8).reshape(header["rows"], header["columns"])
        return header, pixels


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Three hosts at 10, 50 and 100 %; the last one only in the first half."""
    fleet = Fleet(tmp_path)
    for step in range(STEPS):
        for user, mean in (("a", 0.1), ("b", 0.5), *((("c", 1.0),) if step < STEPS // 2 else ())):
            fleet.add(user, step, mean)
    yield fleet
    fleet.store.close()


def level(share: float) -> int:
    """The byte of a share."""
    return 1 + round(254 * share)


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
    assert waits[-1] == STEP_MS / 1000


def test_ranges_that_were_read_ahead_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, now_ms = Fleet(tmp_path), START_MS + 20 * MINUTE_MS + 1
    monkeypatch.setattr(times, "now_ms", lambda: now_ms)
    for step, number in product(range(5), range(100)):
        large.add(f"m{number:03}", step, number / 100)
    reads_ahead(large.cache)
    for hours in (1, 3, 6, 12, 24, 7 * 24, 30 * 24):
        large.store.asked.clear()
        header, _ = large.picture(start_ms=now_ms - hours * HOUR_MS, end_ms=now_ms, rate_ms=None, columns=400)
        assert (header["total"], large.store.asked) == (100, []), hours
    # Reports come in for the bucket of now: nothing else is read again.
    large.add("m007", 4, 1.0)
    header, _ = large.picture(start_ms=now_ms - HOUR_MS, end_ms=now_ms, rate_ms=None, columns=400)
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


@pytest.mark.server
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sort=colour", "sort"), ("rows=0", "rows"), ("rows=5000", "1000"), ("stat=p95", "stat"),
        ("state=busy", "state"), ("tables=never", "tables"),
        ("start=2026-01-02&end=2026-01-01", "end"), ("resample_rate=1s", "resample_rate"),
        ("metric=cpuCoreLoadAvgMax", "metric"), ("colour=red", "colour"), ("label=web", "role=web"),
    ],
)  # fmt: skip
def test_what_no_picture_can_be_made_of_is_refused(client: httpx.Client, query: str, words: str) -> None:
    answer = client.get(f"/api/v1/fleet/picture?{query}")
    assert answer.status_code == 422, answer.text
    assert words in answer.text


@pytest.mark.server
@pytest.mark.parametrize("coding", ["zstd", "gzip", "identity"])
def test_pixels_can_be_read_before_the_rest_is_there(client: httpx.Client, coding: str) -> None:
    asked = {"start": newest_ms(client) - DAY_MS, "end": newest_ms(client), "rows": 7, "sort": "p95"}
    headers = {"Accept-Encoding": coding}
    whole = client.get("/api/v1/fleet/picture", params=asked, headers=headers).content
    with client.stream("GET", "/api/v1/fleet/picture", params=asked | {"tables": "last"}, headers=headers) as answer:
        assert answer.headers.get("Content-Encoding", "identity") == coding
        first, *later = answer.iter_bytes()
    content = b"".join([first, *later])
    start = 4 + int.from_bytes(content[:4], "little")
    header, of_whole = json.loads(content[4:start]), 4 + int.from_bytes(whole[:4], "little")
    end = start + header["rows"] * header["columns"]
    assert header["rows"] == 7 and later and len(first) >= end
    assert content[start:end] == whole[of_whole:]
    assert header | json.loads(content[end:]) == json.loads(whole[4:of_whole])


@pytest.mark.server
def test_windows_of_hosts_with_a_label_are_those_of_the_hosts(client: httpx.Client) -> None:
    asked = {"metric": "cpuUtilization", "resample_rate": "1h", "start": "2026-01-01"}

    def windows(path: str, **more: object) -> list[dict[str, Any]]:
        return list(client.get(f"/api/v1/windows/{path}", params=asked | more).json()["windows"])

    [alone, labelled] = [
        windows(path, **more) for path, more in ((f"byUser/{HOT}", {}), ("fleet", {"user": "role=db"}))
    ]
    assert alone and labelled == alone
    web = windows("fleet", user="role=web", by="user")
    assert {one["user"] for one in web} == {f"web-{number:02}" for number in range(1, 25)}
    assert windows("fleet", user="role=nosuch") == []
    assert client.get("/api/v1/windows/fleet?user=nobody").status_code == 404


@pytest.mark.server
@pytest.mark.parametrize(
    "chosen",
    [
        {}, {"q": "WEB-1"}, {"os": "MacOS"}, {"state": "hot"}, {"state": "idle"}, {"state": "silent"},
        {"label": "role=web,zone=a"}, {"state": "alerting"}, {"q": "web", "sort": "p95", "order": "desc", "count": 3},
        {"sort": "name", "first": 5, "count": 4}, {"first": 1000},
    ],
)  # fmt: skip
def test_windows_of_what_a_picture_shows_are_those_of_its_hosts(
    client: httpx.Client, chosen: dict[str, object]
) -> None:
    asked = {"metric": "cpuUtilization", "resample_rate": "30m", "start": newest_ms(client) - DAY_MS}
    asked["end"] = newest_ms(client)
    content = client.get("/api/v1/fleet/picture", params=asked | {"rows": 1000} | chosen).content
    header = json.loads(content[4 : 4 + int.from_bytes(content[:4], "little")])
    found = client.get("/api/v1/windows/fleet", params=asked | {"by": "user"} | chosen).json()["windows"]
    assert {one["user"] for one in found} == set(header["labels"])
    few = client.get("/api/v1/windows/fleet", params=asked | {"by": "user", "user": "web-01"} | chosen).json()[
        "windows"
    ]
    assert {one["user"] for one in few} == set(header["labels"]) & {"web-01"}
    together = client.get("/api/v1/windows/fleet", params=asked | chosen).json()["windows"]
    assert sum(one["count"] for one in together) == sum(one["count"] for one in found)
    question = asked | {"resample_rate": "all", "by": "user", "stat": "count"} | chosen
    series = client.get("/api/v1/query", params=question).json()["series"]
    assert {one["group"] for one in series} == set(header["labels"])
    assert sum(one["values"][0] for one in series) == sum(one["count"] for one in found)
    listed = client.get("/api/v1/fleet/machines", params=asked | chosen).json()
    assert [one["user_id"] for one in listed["machines"]] == header["labels"]
    assert listed["total"] == len(header["labels"])
    for of_picture, one in zip(header["machines"], listed["machines"], strict=False):
        for name in ("mean", "p95", "change"):
            assert one[name] == pytest.approx(of_picture[name], abs=1e-6)


@pytest.mark.server
def test_hosts_come_in_pages_and_as_csv_and_arrow_and_with_the_statistics_of_their_samples(
    client: httpx.Client,
) -> None:
    asked = {"start": newest_ms(client) - DAY_MS, "end": newest_ms(client), "sort": "p95", "order": "desc"}
    whole = client.get("/api/v1/fleet/machines", params=asked).json()
    first = client.get("/api/v1/fleet/machines", params=asked | {"limit": 3}).json()
    assert (first["machines"], first["next"]) == (whole["machines"][:3], "3")
    behind = client.get("/api/v1/fleet/machines", params=asked | {"after": first["next"]}).json()
    assert (behind["machines"], behind["next"]) == (whole["machines"][3:], None)
    [hot] = [one for one in whole["machines"] if one["user_id"] == HOT]
    question = {"user": HOT, "metric": "cpuUtilization", "stat": ["mean", "p95", "max"], "resample_rate": "all"}
    said = client.get("/api/v1/query", params=question | {"start": asked["start"], "end": asked["end"]}).json()
    assert [hot[name] for name in ("mean", "p95", "max")] == pytest.approx(
        [one["values"][0] for one in said["series"]], abs=1e-12
    )
    lines = client.get("/api/v1/fleet/machines", params=asked, headers={"Accept": "text/csv"}).text.splitlines()
    assert lines[0] == "user_id,states,mean,p95,max,change,cores,os_type,last_seen,labels"
    assert len(lines) == 1 + whole["total"]
    arrow = {"Accept": "application/vnd.apache.arrow.stream"}
    table = pa.ipc.open_stream(
        client.get("/api/v1/fleet/machines", params=asked | {"limit": 3}, headers=arrow).content
    ).read_all()
    assert table.schema.metadata == {b"total": str(whole["total"]).encode(), b"next": b"3"}
    for row, one in zip(table.to_pylist(), first["machines"], strict=True):
        numbers = {name: row.pop(name) for name in ("mean", "p95", "max", "change")}
        assert numbers == pytest.approx({name: one.pop(name) for name in numbers}, abs=1e-14, nan_ok=True)
        row["last_seen"], row["labels"] = format_instant(int(row["last_seen"].timestamp() * 1000)), dict(row["labels"])
        assert row == one
    assert client.get("/api/v1/fleet/machines", headers={"Accept": "image/png"}).status_code == 406


@pytest.mark.server
@pytest.mark.parametrize("path", ["/api/v1/query", "/api/v1/fleet/machines"])
@pytest.mark.parametrize("wrong", ["state=busy", "sort=colour", "count=0", "first=x", "label=web", "os=Plan9", "end=1"])
def test_no_such_choice_is_refused_wherever_hosts_are_chosen(client: httpx.Client, path: str, wrong: str) -> None:
    answer = client.get(f"{path}?start=2026-01-02&{wrong}")
    assert answer.status_code == 422, answer.text
    assert wrong.partition("=")[0] in answer.text


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


@pytest.mark.server
def test_who_a_choice_of_numbers_is_about_is_never_answered_from_before(client: httpx.Client) -> None:
    asked = {"start": newest_ms(client) - DAY_MS, "end": newest_ms(client), "by": "user", "resample_rate": "all"}
    assert client.get("/api/v1/query", params=asked | {"q": "web"}).headers["ETag"]
    chosen = client.get("/api/v1/query", params=asked | {"state": "alerting"})
    assert "ETag" not in chosen.headers
    assert chosen.headers["Cache-Control"] == "no-store"


@pytest.mark.server
@pytest.mark.parametrize(
    "wrong", ["state=busy", "sort=colour", "count=0", "first=x", "label=web", "os=Plan9", "count="]
)
def test_windows_of_no_such_choice_are_refused(client: httpx.Client, wrong: str) -> None:
    answer = client.get(f"/api/v1/windows/fleet?{wrong}")
    assert answer.status_code == 422, answer.text
    assert wrong.partition("=")[0] in answer.text


@pytest.mark.server
@pytest.mark.parametrize("kind", ["anomalies", "changes", "forecast", "size", "week"])
def test_methods_answer_and_say_where_data_are_too_few(client: httpx.Client, kind: str) -> None:
    told = client.get(f"/api/v1/analysis/{kind}/byUser/web-01", params={"tz": "Europe/Berlin"})
    assert told.status_code == 200, told.text
    assert "unavailable" not in told.json()
    first = client.get(f"/api/v1/analysis/{kind}/byUser/web-01", params={"start": "1970-01-02", "end": "1970-02-02"})
    assert first.status_code == 200, first.text
    early = client.get(f"/api/v1/analysis/{kind}/byUser/web-01", params={"start": "2020-01-01", "end": "2020-01-02"})
    assert early.json()["unavailable"].startswith("Not enough data")
    assert client.get(f"/api/v1/analysis/{kind}/byUser/nobody").status_code == 404


@pytest.mark.server
def test_analyses_refuse_what_they_do_not_know(client: httpx.Client) -> None:
    assert client.get("/api/v1/analysis/fortune/byUser/web-01").status_code == 404
    assert client.get("/api/v1/analysis/week/byUser/web-01?tz=Mars").status_code == 422


@pytest.mark.server
def test_a_backtest_says_when_a_rule_would_have_fired(client: httpx.Client, service: RunningService) -> None:
    newest = client.get("/api/v1/users").json()["users"][0]["last_seen"]
    asked = {"start": 0, "end": newest, "definition": {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.9}}
    answer = client.post("/api/v1/backtests", json=asked)
    assert answer.status_code == 200, answer.text
    assert {period["user"] for period in answer.json()["periods"]} <= {HOT, "web-01"}
    # To a time that nobody lives to see; it is looked at up to now.
    endless = client.post("/api/v1/backtests", json=asked | {"end": "9999-12-31T23:59:59Z"})
    assert endless.status_code == 200
    assert endless.json()["end"] <= times.now_ms() + FUTURE_MS
    for wrong, status in (
        ({"start": 0, "end": newest}, 422),
        ({"start": 0, "end": newest, "rule": "nobody"}, 404),
        ({"start": newest, "end": 0, "rule": "hot"}, 422),
        ({"start": 0, "end": newest, "definition": {"kind": "magic"}}, 422),
    ):
        assert client.post("/api/v1/backtests", json=wrong).status_code == status
    assert service.process.poll() is None


@pytest.mark.server
def test_alerts_and_backtests_are_kept_by_label(client: httpx.Client) -> None:
    def firing(**params: str) -> set[str]:
        return {one["user"] for one in client.get("/api/v1/alerts", params=params).json()["alerts"]}

    assert HOT in firing() and HOT in firing(user="role=db,zone=*") and HOT in firing(user="db-*")
    assert HOT not in firing(user="role=web") and firing(user="role=nosuch") == set()
    asked = {"rule": "hot", "start": newest_ms(client) - DAY_MS, "end": newest_ms(client)}
    for user, found in (("role=db", {HOT}), ("role=web", {"web-01"}), ("*", {HOT, "web-01"}), ("nobody", set())):
        answer = client.post("/api/v1/backtests", json=asked | {"user": user})
        assert {one["user"] for one in answer.json()["periods"]} == found
    assert client.post("/api/v1/backtests", json=asked | {"user": ""}).status_code == 422


@pytest.mark.server
def test_hosts_are_listed_by_pattern_and_label(client: httpx.Client) -> None:
    def listed(**params: Any) -> list[str]:
        return [one["user_id"] for one in client.get("/api/v1/users", params=params).json()["users"]]

    assert listed(label="role=db") == listed(user="role=db") == [HOT]
    assert listed(user=["web-0[12]", HOT], label="role=web") == ["web-01", "web-02"]
    assert listed(user="nobody") == listed(label="role=nosuch") == []
    assert listed(label="role=web", limit=2, after="web-03") == ["web-04", "web-05"]
    assert client.get("/api/v1/users?label=web").status_code == 422


@pytest.mark.server
def test_a_browser_that_finds_nothing_gets_a_page_with_links_and_a_program_a_problem(client: httpx.Client) -> None:
    accepted = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    answer = client.get("/nosuchpage", headers=accepted)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    for path in ("/", "/machines", "/docs"):
        assert f'<a href="{path}">' in answer.text
        assert client.get(path).status_code == 200
    for path, headers in (("/nosuchpage", {}), ("/api/v1/nosuch", accepted)):
        problem = client.get(path, headers=headers)
        assert (problem.status_code, problem.headers["Content-Type"]) == (404, "application/problem+json")
        assert problem.json()["status"] == 404


@pytest.mark.server
def test_files_of_the_page_are_kept_for_good_and_say_nothing_of_others(client: httpx.Client) -> None:
    page = client.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy
    address = page.text.partition('src="')[2].partition('"')[0]
    file = client.get(address)
    assert "immutable" in file.headers["Cache-Control"]
    version = address.split("/")[2]
    for other in (
        f"/static/{version}/../dashboard.html.j2",
        f"/static/{version}/%2e%2e/dashboard.html.j2",
        "/static/old/app.js",
    ):
        assert client.get(other).status_code == 404


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
