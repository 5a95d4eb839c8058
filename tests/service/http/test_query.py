"""GET /api/v1/query: several metrics, statistics, users and groupings at once; buckets of any clock."""

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.metrics import Memory
from contract.times import DAY_MS, HOUR_MS
from tests.support.recordings import Host, Recording, Samples
from tests.support.reports import METRICS, JsonObject, post
from tests.support.running import RunningService

pytestmark = pytest.mark.server

# Clocks in Berlin go back on 28 October 2018, in the middle of these days.
T0 = 1_540_598_400_000  # 2018-10-27T00:00:00Z
END = T0 + 3 * DAY_MS
HOSTS = [Host("web-1"), Host("web-2", "Linux", "13"), Host("db,1", "Windows", "11")]
RANGE: dict[str, Any] = {"start": T0, "end": END}


@pytest.fixture(scope="module")
def recording() -> Recording:
    random = np.random.default_rng(5)
    recording = Recording()
    for number, host in enumerate(HOSTS):
        for minute in range(0, 3 * 24 * 60, 37 + number):
            size = int(random.integers(2, 30))
            end_ms = T0 + minute * 60_000 + number
            cores = [random.random(size) for _ in range(2)]
            recording.cpu(host, end_ms, random.beta(1 + number, 4, size), cores)
            if number < 2:
                recording.other(host, end_ms, Memory, {"utilization": random.random(size)})
    return recording


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, recording: Recording) -> Iterator[httpx.Client]:
    """A service with these hosts and no other."""
    folder: Path = tmp_path_factory.mktemp("query")
    with RunningService(folder / "data", "--flush-interval", "0.2") as service, service.client() as client:
        assert post(client, *recording.reports).status_code == 202
        yield client
        assert service.stop() == 0
        assert "Traceback" not in service.log


def ask(client: httpx.Client, **query: Any) -> JsonObject:
    answer = client.get("/api/v1/query", params=RANGE | query)
    assert answer.status_code == 200, answer.text
    document: JsonObject = answer.json()
    return document


def refused(client: httpx.Client, **query: Any) -> dict[str, str]:
    answer = client.get("/api/v1/query", params=RANGE | query)
    assert answer.status_code == 422, answer.text
    return {problem["pointer"]: problem["detail"] for problem in answer.json()["errors"]}


def samples(
    recording: Recording, wanted: Callable[[Any], bool], start_ms: int = T0, end_ms: int = END, quantity: int = 0
) -> Samples:
    named = recording.windows[quantity].quantity
    return np.concatenate(
        [
            one.samples
            for one in recording.windows
            if one.quantity == named and start_ms <= one.end_ms < end_ms and wanted(one)
        ]
    )


def test_without_parameters_the_fleets_load_of_the_last_day_is_answered(fleet: httpx.Client) -> None:
    series = {"metric": "cpuLoadAvg", "stat": "mean", "unit": "1", "by": "all", "values": []}
    assert fleet.get("/api/v1/query").json() == {"dates": [], "series": [series]}


def close_to(entries: list[dict[str, Any]]) -> Any:
    """The values at their dates. A flush between two requests changes the order of sums, so the last digit."""
    return pytest.approx({entry["date"]: entry["value"] for entry in entries}, rel=1e-12)


def test_series_agree_with_history_and_fleet(fleet: httpx.Client) -> None:
    table = ask(fleet, metric="cpuLoadAvg", stat="mean,p95", by="all,user", resample_rate="1h")
    found = {
        (one["stat"], one["by"], one.get("group")): {
            date: value for date, value in zip(table["dates"], one["values"], strict=True) if value is not None
        }
        for one in table["series"]
    }
    assert len(found) == 2 * (1 + len(HOSTS))
    for stat in ("mean", "p95"):
        query = RANGE | {"stat": stat, "resample_rate": "1h"}
        whole = fleet.get(f"{METRICS}/cpuLoadAvg/fleet", params=query).json()["entries"]
        assert found[stat, "all", None] == close_to(whole)
        for host in HOSTS:
            one = fleet.get(f"{METRICS}/cpuLoadAvg/byUser/{host.user_id}", params=query).json()["entries"]
            assert found[stat, "user", host.user_id] == close_to(one)


def test_one_bucket_holds_the_exact_total_of_the_range(fleet: httpx.Client, recording: Recording) -> None:
    start, end = T0 + 1_234_567, END - 7_654_321
    query = {"start": start, "end": end, "resample_rate": "all", "by": "user"}
    table = ask(fleet, metric="cpuLoadAvg", stat="count,mean,var,max", **query)
    assert len(table["dates"]) == 1
    found = {(one["group"], one["stat"]): one["values"][0] for one in table["series"]}
    for host in HOSTS:
        mine = samples(recording, lambda one, m=host: one.host == m and one.core is None, start, end)
        assert found[host.user_id, "count"] == len(mine)
        assert found[host.user_id, "mean"] == pytest.approx(mine.mean(), rel=1e-12)
        assert found[host.user_id, "var"] == pytest.approx(mine.var(), rel=1e-12)
        assert found[host.user_id, "max"] == mine.max()


def test_history_and_fleet_answer_totals_of_the_range(fleet: httpx.Client, recording: Recording) -> None:
    for path, wanted in (("byUser/web-1", "web-1"), ("fleet", None)):
        answer = fleet.get(f"{METRICS}/cpuLoadAvg/{path}", params=RANGE | {"resample_rate": "all"})
        mine = samples(recording, lambda one, w=wanted: one.core is None and w in (None, one.host.user_id))
        [entry] = answer.json()["entries"]
        assert entry == {"date": "2018-10-27T00:00:00Z", "value": pytest.approx(mine.mean(), rel=1e-12)}


def test_days_of_a_place_are_from_midnight_to_midnight_there(fleet: httpx.Client, recording: Recording) -> None:
    table = ask(fleet, stat="count", resample_rate="1d", tz="Europe/Berlin")
    assert table["dates"] == [
        "2018-10-26T22:00:00Z", "2018-10-27T22:00:00Z", "2018-10-28T23:00:00Z", "2018-10-29T23:00:00Z",
    ]  # fmt: skip
    edges = [T0 - 2 * HOUR_MS, T0 + 22 * HOUR_MS, T0 + 47 * HOUR_MS, T0 + 71 * HOUR_MS, END]
    [series] = table["series"]
    counts = [
        len(samples(recording, lambda one: one.core is None, start, end)) for start, end in itertools.pairwise(edges)
    ]
    assert series["values"] == counts


def test_hours_of_a_place_where_clocks_go_back_are_hours(fleet: httpx.Client) -> None:
    local = ask(fleet, stat="count", resample_rate="1h", tz="Europe/Berlin")
    assert local == ask(fleet, stat="count", resample_rate="1h")


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe", "America/Havana"])
def test_places_of_odd_offsets_keep_every_sample(fleet: httpx.Client, zone: str) -> None:
    [whole] = ask(fleet, stat="count", resample_rate="all")["series"]
    for rate in ("30m", "1h", "6h", "1d", "1w"):
        [series] = ask(fleet, stat="count", resample_rate=rate, tz=zone)["series"]
        assert sum(value for value in series["values"] if value) == whole["values"][0]


def test_an_offset_moves_the_edges(fleet: httpx.Client, recording: Recording) -> None:
    table = ask(fleet, stat="count", resample_rate="1d", offset="6h")
    assert table["dates"][:2] == ["2018-10-26T06:00:00Z", "2018-10-27T06:00:00Z"]
    [series] = table["series"]
    first = samples(recording, lambda one: one.core is None, T0, T0 + 6 * HOUR_MS)
    assert series["values"][0] == len(first)
    assert ask(fleet, stat="count", resample_rate="1d", offset="-18h") == table


def test_users_are_chosen_by_name_and_pattern(fleet: httpx.Client, recording: Recording) -> None:
    [series] = ask(fleet, user="web-*", stat="count", resample_rate="all")["series"]
    mine = samples(recording, lambda one: one.core is None and one.host.user_id.startswith("web"))
    assert series["values"] == [len(mine)]
    table = ask(fleet, user=["web-1", "db,1"], by="user", resample_rate="all")
    assert [one["group"] for one in table["series"]] == ["db,1", "web-1"]
    assert ask(fleet, user="nobody-*", by="user") == {"dates": [], "series": []}


def test_a_user_that_never_reported_is_not_found(fleet: httpx.Client) -> None:
    answer = fleet.get("/api/v1/query", params={"user": ["web-1", "web-3"]})
    assert answer.status_code == 404
    assert "'web-3'" in answer.json()["detail"]


def test_cores_of_several_hosts_are_answered_at_once(fleet: httpx.Client, recording: Recording) -> None:
    table = ask(fleet, user="web-*", by="core", stat="max", resample_rate="all")
    found = {(one["group"], one["core"]): one["values"][0] for one in table["series"]}
    assert set(found) == {(user, core) for user in ("web-1", "web-2") for core in (0, 1)}
    for (user, core), value in found.items():
        mine = samples(recording, lambda one, u=user, c=core: (one.host.user_id, one.core) == (u, c))
        assert value == mine.max()


def test_metrics_over_cores_are_answered_for_each_host(fleet: httpx.Client) -> None:
    table = ask(fleet, metric="cpuCoreLoadAvgMax,cpuLoadAvg.p95", by="user", resample_rate="6h")
    query = RANGE | {"resample_rate": "6h"}
    for series in table["series"]:
        path = f"{METRICS}/{series['metric']}/byUser/{series['group']}"
        entries = fleet.get(path, params=query | {"stat": series["stat"]}).json()["entries"]
        # What is flushed between the two is merged in another order: the last bit may differ.
        told = [value for value in series["values"] if value is not None]
        assert [entry["value"] for entry in entries] == pytest.approx(told, rel=1e-14, abs=0)


def test_rows_have_a_column_for_each_metric_and_statistic(fleet: httpx.Client) -> None:
    query = RANGE | {"metric": "cpuLoadAvg.mean,cpuLoadAvg.p95,memoryUtilization", "by": ["user", "all"],
                     "resample_rate": "all"}  # fmt: skip
    answers = {
        form: fleet.get("/api/v1/query", params=query, headers={"Accept": form})
        for form in ("text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet")
    }
    csv, arrow, parquet = answers.values()
    table = pa.ipc.open_stream(arrow.content).read_all()
    columns = ["date", "by", "group", "cpuLoadAvg.mean", "cpuLoadAvg.p95", "memoryUtilization.mean"]
    assert table.column_names == columns
    assert table.field("cpuLoadAvg.p95").metadata == {b"unit": b"1"}
    assert table.equals(pq.read_table(io.BytesIO(parquet.content)))
    assert table["group"].to_pylist() == ["db,1", "web-1", "web-2", None]
    assert table["memoryUtilization.mean"].is_null().to_pylist() == [True, False, False, False]
    frame = pd.read_csv(io.BytesIO(csv.content))
    assert frame["cpuLoadAvg.p95"].tolist() == table["cpuLoadAvg.p95"].to_pylist()
    assert frame["date"].unique().tolist() == ["2018-10-27T00:00:00Z"]


def test_the_question_may_be_a_json_body(fleet: httpx.Client) -> None:
    question = RANGE | {"metric": ["cpuLoadAvg"], "stat": ["p95", "max"], "by": ["user"], "user": ["web-1"],
                        "resample_rate": "1d"}  # fmt: skip
    body = fleet.request("GET", "/api/v1/query", json=question).json()
    assert body == ask(fleet, metric="cpuLoadAvg", stat="p95,max", by="user", user="web-1", resample_rate="1d")


def test_top_keeps_the_groups_that_are_highest_over_the_range(fleet: httpx.Client) -> None:
    whole = ask(fleet, stat="p95", by="user", resample_rate="all")["series"]
    highest = [one["group"] for one in sorted(whole, key=lambda one: -one["values"][0])]
    for top in (1, 2):
        table = ask(fleet, stat="p95,mean", by="user", resample_rate="1h", top=top)
        assert [*dict.fromkeys(one["group"] for one in table["series"])] == highest[:top]


def test_what_is_wrong_is_named(fleet: httpx.Client) -> None:
    assert "statistic" in refused(fleet, stat="p96")["stat"]
    assert "all, user" in refused(fleet, by="rack")["by"]
    assert "Europe/Berlin" in refused(fleet, tz="Europe/Berlim")["tz"]
    assert "one bucket" in refused(fleet, tz="Europe/Berlin", resample_rate="all")["tz"]
    assert "less than the rate" in refused(fleet, offset="2h", resample_rate="1h")["offset"]
    assert "by=user" in refused(fleet, metric="cpuCoreLoadAvgMax")["by"]
    assert "no cores" in refused(fleet, metric="memoryUtilization", by="core")["by"]
    assert "groups" in refused(fleet, top=3)["top"]
    assert fleet.get("/api/v1/query", params={"metric": "cpuLoad"}).status_code == 404


def test_an_answer_that_is_too_large_is_refused_with_a_rate_that_fits(fleet: httpx.Client) -> None:
    metrics = ",".join(f"cpuLoadAvg.{stat}" for stat in ("mean", "var", "std", "min", "max", "p50", "p95", "p99"))
    query = {"start": T0 - 3 * DAY_MS, "by": "core", "metric": metrics, "resample_rate": "6s"}
    assert "would do" in refused(fleet, **query)["resample_rate"]
