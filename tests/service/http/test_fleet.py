"""GET .../fleet: all hosts together, or in groups."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

import analytics
from analytics.frames.statistics import values_of
from contract.times import HOUR_MS
from tests.service.conftest import StartService
from tests.support.recordings import Host, Recording, Samples
from tests.support.reports import METRICS, JsonObject, post, small
from tests.support.running import RunningService

pytestmark = pytest.mark.server

T0 = 1_531_396_800_000
HOSTS = [
    Host("a", "Linux", "12"),
    Host("b", "Linux", "13"),
    Host("c", "Windows", "11"),
    Host("d", "MacOS", "13"),
]
RANGE: dict[str, Any] = {"start": T0, "end": T0 + 4 * HOUR_MS}


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Hosts of different sizes and loads; the later in the alphabet, the busier."""
    random = np.random.default_rng(8)
    recording = Recording()
    for number, host in enumerate(HOSTS):
        for minute in range(0, 240, 7 + number):
            size = int(random.integers(1, 50))
            recording.cpu(
                host, T0 + minute * 60_000 + number, random.beta(1 + number, 5 - number, size), [random.random(size)]
            )
    return recording


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, recording: Recording) -> Iterator[httpx.Client]:
    """A service with these hosts and no other."""
    folder: Path = tmp_path_factory.mktemp("fleet")
    with RunningService(folder / "data", "--flush-interval", "0.2") as service, service.client() as client:
        assert post(client, *recording.reports).json() == {"accepted": len(recording.reports), "duplicates": 0}
        yield client
        assert service.stop() == 0


def ask(client: httpx.Client, metric: str = "cpuLoadAvg", **query: Any) -> list[JsonObject]:
    answer = client.get(f"{METRICS}/{metric}/fleet", params=RANGE | query)
    assert answer.status_code == 200, answer.text
    entries: list[JsonObject] = answer.json()["entries"]
    return entries


def samples_of(recording: Recording, attribute: str | None, rate_ms: int) -> dict[tuple[str, int], Samples]:
    return recording.buckets(
        recording.windows[0].quantity,
        RANGE["start"],
        RANGE["end"],
        rate_ms,
        lambda one: (str(getattr(one.host, attribute)) if attribute else "") if one.core is None else None,
    )


@pytest.mark.parametrize("rate", ["1m", "1h"])
def test_the_fleet_is_all_samples_of_all_hosts(fleet: httpx.Client, recording: Recording, rate: str) -> None:
    wanted = samples_of(recording, None, {"1m": 60_000, "1h": HOUR_MS}[rate]).values()
    for stat, value in (("mean", np.mean), ("var", np.var), ("count", len)):
        found = ask(fleet, resample_rate=rate, stat=stat)
        assert [entry["value"] for entry in found] == pytest.approx([float(value(part)) for part in wanted], abs=1e-12)
        assert "group" not in found[0]


@pytest.mark.parametrize(
    ("by", "attribute"), [("user", "user_id"), ("os_type", "os_type"), ("os_version", "os_version")]
)
def test_groups_are_all_samples_of_their_hosts(
    fleet: httpx.Client, recording: Recording, by: str, attribute: str
) -> None:
    found = ask(fleet, resample_rate="1h", by=by)
    wanted = samples_of(recording, attribute, HOUR_MS)
    assert [entry["group"] for entry in found] == [group for group, _ in wanted]
    assert [entry["value"] for entry in found] == pytest.approx([part.mean() for part in wanted.values()], abs=1e-12)


@pytest.mark.parametrize("stat", ["mean", "p95", "count"])
def test_top_keeps_the_groups_with_the_highest_values_over_the_range(
    fleet: httpx.Client, recording: Recording, stat: str
) -> None:
    values: dict[str, Callable[[Samples], Any]] = {
        "mean": np.mean,
        "p95": lambda part: np.quantile(part, 0.95),
        "count": len,
    }
    value = values[stat]
    whole = {group: float(value(part)) for (group, _), part in samples_of(recording, "user_id", 1 << 60).items()}
    highest = sorted(whole, key=lambda group: -whole[group])
    for top in (1, 2, 4, 100):
        found = ask(fleet, resample_rate="1h", by="user", stat=stat, top=top)
        assert [*dict.fromkeys(entry["group"] for entry in found)] == highest[:top]


def test_the_variance_of_the_fleet_holds_what_lies_between_hosts(fleet: httpx.Client, recording: Recording) -> None:
    """The original averaged variances, so a fleet of steady hosts looked steady."""
    (entry,) = ask(fleet, "cpuLoadVar", resample_rate="52w")
    (samples,) = samples_of(recording, None, 1 << 60).values()
    assert entry["value"] == pytest.approx(samples.var(), abs=1e-12)
    parts = samples_of(recording, "user_id", 1 << 60).values()
    assert entry["value"] > max(part.var() for part in parts) * 1.1


@pytest.mark.parametrize(
    ("metric", "query", "pointer"),
    [
        ("cpuLoadAvg", {"by": "core"}, "by"),
        ("cpuLoadAvg", {"top": "3"}, "top"),
        ("cpuLoadAvg", {"by": "user", "top": "0"}, "top"),
        ("cpuLoadAvg", {"by": "user", "top": "ten"}, "top"),
        ("cpuLoadAvg", {"core": "1"}, "core"),
        ("cpuCoreLoadAvgMax", {}, "metric"),
    ],
)
def test_what_does_not_go_with_the_fleet_is_refused(
    fleet: httpx.Client, metric: str, query: dict[str, str], pointer: str
) -> None:
    answer = fleet.get(f"{METRICS}/{metric}/fleet", params=RANGE | query)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_a_metric_that_nobody_reports_has_no_entries(fleet: httpx.Client) -> None:
    assert ask(fleet, "memoryUtilization") == []
    assert ask(fleet, "memoryUtilization", by="user", top=3) == []


def test_users_are_listed_with_what_they_said_last(fleet: httpx.Client, recording: Recording) -> None:
    users = fleet.get("/api/v1/users").json()["users"]
    assert [(user["user_id"], user["os_type"], user["os_version"]) for user in users] == [
        (host.user_id, host.os_type, host.os_version) for host in HOSTS
    ]
    for user in users:
        reports = [report for report in recording.reports if report.user_id == user["user_id"]]
        first, last = min(one.start_timestamp for one in reports), max(one.end_timestamp for one in reports)
        assert user["cores"] == 1
        assert np.datetime64(user["first_seen"].removesuffix("Z"), "ms").astype(int) == first
        assert np.datetime64(user["last_seen"].removesuffix("Z"), "ms").astype(int) == last


def test_the_fleet_takes_a_body_as_history_does(fleet: httpx.Client) -> None:
    query = RANGE | {"resample_rate": "1h", "by": "os_type", "stat": "max", "top": 1}
    answer = fleet.request("GET", f"{METRICS}/cpuLoadAvg/fleet", json=query)
    assert answer.json()["entries"] == ask(fleet, **query)


@pytest.fixture(scope="module")
def unequal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """64 cores at 10 % that sample thrice as often, 2 cores at 90 %, which changed their system after an hour."""
    recording = Recording()
    for minute in range(0, 240, 10):
        version = "20.04" if minute < 60 else "22.04"
        recording.cpu(Host("large", "Linux", "20.04"), T0 + minute * 60_000, np.full(30, 0.1), [np.full(30, 0.1)] * 64)
        recording.cpu(Host("small", "Linux", version), T0 + minute * 60_000, np.full(10, 0.9), [np.full(10, 0.9)] * 2)
    with RunningService(tmp_path_factory.mktemp("unequal") / "data") as service:
        with service.client() as client:
            assert post(client, *recording.reports).status_code == 202
        yield service
        assert service.stop() == 0


BY_CORES = (64 * 0.1 + 2 * 0.9) / 66


@pytest.mark.parametrize(("weight", "mean"), [("samples", 0.3), ("hosts", 0.5), ("cores", BY_CORES)])
def test_hosts_count_as_their_weight_says(unequal: RunningService, weight: str, mean: float) -> None:
    with unequal.client() as client:
        values = [entry["value"] for entry in ask(client, resample_rate="1h", weight=weight)]
        assert values == pytest.approx([mean] * 4)
        alone = ask(client, resample_rate="4h", by="user", weight=weight)
        assert {entry["group"]: entry["value"] for entry in alone} == pytest.approx({"large": 0.1, "small": 0.9})
        systems = {
            entry["group"]: entry["value"] for entry in ask(client, resample_rate="4h", by="os_version", weight="cores")
        }
        assert systems["22.04"] == pytest.approx(0.9)
        assert systems["20.04"] == pytest.approx((64 * 24 * 0.1 + 2 * 6 * 0.9) / (64 * 24 + 2 * 6))


@pytest.mark.parametrize("weight", ["hosts", "cores"])
def test_the_library_weighs_as_the_service_does(unequal: RunningService, weight: Any) -> None:
    with analytics.connect(unequal.url) as source:
        asked: dict[str, Any] = {"start": T0, "end": T0 + 4 * HOUR_MS, "rate": "1h", "weight": weight}
        answered = source.fleet(**asked, stat="p95")["value"]
        windows = source.fleet(**asked)
        assert values_of(windows, "p95")["value"].tolist() == answered.tolist()
        by_user = source.fleet(start=T0, end=T0 + 4 * HOUR_MS, rate="1h", by="user")
        weighed = analytics.weigh(by_user, weight, cores=source.users()).drop(columns="user")
        assert analytics.resample(weighed, "1h")["mean"].tolist() == pytest.approx(windows["mean"].tolist(), abs=1e-12)


@pytest.mark.parametrize(("weight", "mean"), [("samples", 0.3), ("hosts", 0.5), ("cores", BY_CORES)])
def test_tables_and_windows_are_weighed_too(unequal: RunningService, weight: Any, mean: float) -> None:
    query = RANGE | {"resample_rate": "1h", "weight": weight}
    with unequal.client() as client:
        table = client.get("/api/v1/query", params=query | {"by": ["all", "user", "os_version"]})
        assert table.status_code == 200, table.text
        rows = {(one["by"], one.get("group")): one for one in table.json()["series"]}
        assert rows["all", None]["values"] == pytest.approx([mean] * 4)
        assert rows["user", "small"]["values"] == pytest.approx([0.9] * 4)
        windows = client.get("/api/v1/windows/fleet", params=query | {"histograms": "true"})
        assert [one["mean"] for one in windows.json()["windows"]] == pytest.approx([mean] * 4)
        refused = client.get("/api/v1/query", params=query | {"stat": "count", "weight": "cores"})
        assert refused.status_code == 422 and "weight" in refused.text
    with analytics.connect(unequal.url) as source:
        told = source.query(start=T0, end=T0 + 4 * HOUR_MS, rate="1h", weight=weight)  # type: ignore[attr-defined]
        assert told["cpuLoadAvg.mean"].tolist() == pytest.approx([mean] * 4)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A host of 4 cores at 80 %, then of 8 at 40 %, beside one of 2 at 50 %."""
    recording = Recording()
    for minute in range(0, 240, 10):
        load, cores = (0.8, 4) if minute < 120 else (0.4, 8)
        recording.cpu(
            Host("grown", "Linux", "22.04"), T0 + minute * 60_000, np.full(9, load), [np.full(9, load)] * cores
        )
        recording.cpu(Host("small", "Linux", "22.04"), T0 + minute * 60_000, np.full(9, 0.5), [np.full(9, 0.5)] * 2)
    with RunningService(tmp_path_factory.mktemp("grown") / "data") as service:
        with service.client() as client:
            assert post(client, *recording.reports).status_code == 202
        yield service
        assert service.stop() == 0


def test_a_host_weighs_by_the_cores_that_it_had_at_the_time(grown: RunningService, tmp_path: Path) -> None:
    """4.2 of 6 cores were in use, then 4.2 of 10: by what it has now it would have been 7.4 of 10."""
    used = [4.2 / 6, 4.2 / 6, 4.2 / 10, 4.2 / 10]
    with grown.client() as client:
        assert [one["value"] for one in ask(client, resample_rate="1h", weight="cores")] == pytest.approx(used)
    with analytics.connect(grown.url) as source:
        asked: Any = {"start": T0, "end": T0 + 4 * HOUR_MS, "rate": "1h"}
        assert source.fleet(**asked, weight="cores")["mean"].tolist() == pytest.approx(used)
        by_user = source.fleet(**asked, by="user", weight="cores")
        assert by_user["cores"].tolist() == [4, 4, 8, 8, 2, 2, 2, 2]
        pd.testing.assert_frame_equal(by_user.drop(columns="cores"), source.fleet(**asked, by="user"))
        each = [
            source.history(user, **(asked | {"rate": "raw"}), core="each").assign(user=user)
            for user in ("grown", "small")
        ]
    frame = pd.concat(each)
    frame.assign(user=pd.Categorical(frame["user"])).to_parquet(tmp_path / "fleet.parquet")
    with analytics.connect(tmp_path / "fleet.parquet") as file:
        assert file.fleet(rate="1h", weight="cores")["mean"].tolist() == pytest.approx(used)
        pd.testing.assert_frame_equal(file.fleet(rate="1h", by="user", weight="cores"), by_user)


HOURS = 240


@pytest.mark.parametrize("weight", ["hosts", "cores"])
def test_a_host_that_was_seen_for_an_hour_counts_for_an_hour(weight: Any, start: StartService, tmp_path: Path) -> None:
    """However wide buckets are: two of 2 cores at 20 % throughout, beside one at 100 % for an hour of ten days."""
    recording = Recording()
    for hour in range(HOURS):
        for name, load in (("a", 0.2), ("b", 0.2), *([("brief", 1.0)] if hour == HOURS - 3 else [])):
            for minute in (5, 25, 45):
                moment = T0 + hour * HOUR_MS + minute * 60_000
                recording.cpu(Host(name, "Linux", "12"), moment, np.full(9, load), [np.full(9, load)] * 2)
    service = start()
    with service.client() as client:
        assert post(client, *recording.reports).status_code == 202
    right = (2 * HOURS * 0.2 + 1.0) / (2 * HOURS + 1)
    # Where a host is looked at in buckets of more than an hour it may count for one of these.
    allowed = right + 2 / (2 * HOURS)
    whole: Any = {"start": T0, "end": T0 + HOURS * HOUR_MS, "weight": weight}
    sources = [service.url]
    with analytics.connect(service.url) as source:
        asked = {"start": T0, "end": T0 + HOURS * HOUR_MS}
        each = [
            source.history(user, **asked, rate="raw", core="each").assign(user=user) for user in ("a", "b", "brief")
        ]
        frame = pd.concat(each)
        frame.assign(user=pd.Categorical(frame["user"])).to_parquet(tmp_path / "fleet.parquet")
        sources.append(str(tmp_path / "fleet.parquet"))
    for address in sources:
        with analytics.connect(address) as source:
            for rate in ("12h", "1d"):
                answer = source.fleet(**whole, rate=rate)
                assert right - 1e-6 < np.average(answer["mean"], weights=answer["count"]) < allowed, (address, rate)
    with analytics.connect(service.url) as source:
        table = source.query(["cpuLoadAvg"], stats=["mean"], rate="all", **whole)  # type: ignore[attr-defined]
        assert right - 1e-6 < table.iloc[0, -1] < allowed


def test_a_weight_that_cannot_be_told_is_refused(unequal: RunningService) -> None:
    with unequal.client() as client:
        for query, said in (
            ({"weight": "users"}, "one of samples, cores, hosts"),
            ({"weight": "cores", "stat": "count"}, "stat=count"),
        ):
            answer = client.get(f"{METRICS}/cpuLoadAvg/fleet", params=RANGE | query)
            assert answer.status_code == 422
            assert said in answer.text
        post(
            client,
            small("coreless", T0 + 1000),
        )
        answer = client.get(f"{METRICS}/cpuLoadAvg/fleet", params=RANGE | {"weight": "cores"})
        assert answer.status_code == 422
        assert "coreless" in answer.text


@pytest.mark.parametrize("by", ["os_type", "os_version"])
def test_groups_of_nobody_are_no_entries(start: StartService, by: str) -> None:
    with start().client() as client:
        answer = client.get(
            "/api/v1/metrics/load1m/fleet", params={"by": by, "start": "2018-07-12", "end": "2018-07-13"}
        )
        assert answer.json() == {"entries": []}
