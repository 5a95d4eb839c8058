"""GET .../byUser/{user}: what a query may say, and what its answer says."""

from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from contract import times
from contract.metrics import NAMES, STATISTICS
from contract.times import HOUR_MS
from tests.support.recordings import Host, Recording, Samples
from tests.support.reports import METRICS, entries, history, original, post, small

pytestmark = pytest.mark.server

T0 = 1_531_396_800_000  # 2018-07-12T12:00:00Z
USER = "history of-one/user"
RANGE = {"start": "2018-07-12T12:00:00Z", "end": "2018-07-12T16:00:00Z"}
VALUES: dict[str, Callable[[Samples], Any]] = {
    "mean": np.mean, "var": np.var, "std": np.std, "min": np.min, "max": np.max, "count": len,
    "p50": lambda samples: np.quantile(samples, 0.50, method="inverted_cdf"),
    "p95": lambda samples: np.quantile(samples, 0.95, method="inverted_cdf"),
    "p99": lambda samples: np.quantile(samples, 0.99, method="inverted_cdf"),
}  # fmt: skip


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Four hours of a host with two cores, a window every minute or so."""
    random = np.random.default_rng(1)
    recording = Recording()
    for minute in range(0, 239, 2):
        size = int(random.integers(1, 30))
        end = T0 + minute * 60_000 + int(random.integers(0, 60_000))
        recording.cpu(Host(USER), end, random.random(size), [random.random(size), random.beta(1, 4, size)])
    return recording


@pytest.fixture(scope="module", autouse=True)
def _posted(client: httpx.Client, recording: Recording) -> None:
    assert post(client, *recording.reports).json() == {"accepted": len(recording.reports), "duplicates": 0}


def expected(recording: Recording, rate_ms: int, stat: str, core: int | None = None) -> dict[int, float]:
    buckets = recording.buckets(
        NAMES["cpuLoadAvg"].quantity, T0, T0 + 4 * HOUR_MS, rate_ms, lambda one: "" if one.core == core else None
    )
    return {time: float(VALUES[stat](samples)) for (_, time), samples in buckets.items()}


def dates(times: dict[int, float]) -> list[str]:
    return [str(np.datetime64(time, "ms")).removesuffix(".000") + "Z" for time in times]


def tolerance(stat: str) -> float:
    return 1 / 128 if stat[0] == "p" else 1e-12


@pytest.mark.parametrize("stat", STATISTICS)
@pytest.mark.parametrize("core", [None, 0, 1])
def test_every_statistic_equals_numpy_for_the_whole_and_for_a_core(
    client: httpx.Client, recording: Recording, stat: str, core: int | None
) -> None:
    for rate, rate_ms in (("7m", 420_000), ("1h", HOUR_MS)):
        query: dict[str, Any] = RANGE | {"resample_rate": rate, "stat": stat} | ({} if core is None else {"core": core})
        found = entries(history(client, USER, **query))
        wanted = expected(recording, rate_ms, stat, core)
        assert [date for date, _ in found] == dates(wanted)
        assert [value for _, value in found] == pytest.approx([*wanted.values()], abs=tolerance(stat))


@pytest.mark.parametrize(
    ("metric", "stat", "over"),
    [
        ("cpuCoreLoadAvgMax", "mean", max),
        ("cpuCoreLoadAvgMin", "mean", min),
        ("cpuCoreLoadVarMax", "var", max),
        ("cpuCoreLoadVarMin", "var", min),
        ("cpuCoreLoadMinMin", "var", min),
    ],
)
def test_metrics_over_cores_are_those_of_the_cores_merged_values(
    client: httpx.Client, recording: Recording, metric: str, stat: str, over: Any
) -> None:
    found = entries(history(client, USER, metric, **RANGE, resample_rate="30m"))
    cores = [expected(recording, HOUR_MS // 2, stat, core) for core in (0, 1)]
    assert [value for _, value in found] == pytest.approx(
        [over(values) for values in zip(*(core.values() for core in cores), strict=True)], abs=1e-12
    )


def test_metrics_over_cores_take_other_statistics(client: httpx.Client, recording: Recording) -> None:
    found = entries(history(client, USER, "cpuCoreLoadAvgMax", **RANGE, resample_rate="1h", stat="p95"))
    cores = [expected(recording, HOUR_MS, "p95", core).values() for core in (0, 1)]
    assert [value for _, value in found] == pytest.approx([*map(max, *cores)], abs=1 / 128)


@pytest.mark.parametrize(
    "moment",
    [
        "2018-07-12T13:00:00Z",
        "2018-07-12T13:00Z",
        "2018-07-12T13:00:00.000Z",
        "2018-07-12T15:00:00+02:00",
        "2018-07-12T04:00:00-0900",
        "2018-07-12T18:30:00+05:30",
        "2018-07-12 13:00:00",
        "20180712T130000Z",
        T0 + HOUR_MS,
        str(T0 + HOUR_MS),
    ],
)
def test_moments_are_iso_8601_with_any_offset_or_epoch_milliseconds(client: httpx.Client, moment: str | int) -> None:
    right = entries(history(client, USER, start="2018-07-12T13:00:00Z", end="2018-07-12T14:00:00Z"))
    assert len(right) == 4
    assert entries(history(client, USER, start=moment, end="2018-07-12T14:00:00Z")) == right
    query = {"start": moment, "end": "2018-07-12T14:00:00Z", "resample_rate": "15m"}
    assert entries(client.request("GET", path(USER), json=query)) == right


def test_the_plus_of_an_offset_need_not_be_escaped(client: httpx.Client) -> None:
    right = entries(history(client, USER, **RANGE))
    answer = client.get(f"{path(USER)}?start=2018-07-12T14:00:00+02:00&end=2018-07-12T18:00:00+02:00")
    assert entries(answer) == right


def path(user: str, metric: str = "cpuLoadAvg") -> str:
    return f"{METRICS}/{metric}/byUser/{user.replace('/', '%2F').replace(' ', '%20')}"


def test_the_range_includes_its_start_and_excludes_its_end(client: httpx.Client, user: str) -> None:
    post(client, small(user, T0), small(user, T0 + 60_000))
    for start, end, count in ((0, 60_000, 1), (0, 60_001, 2), (1, 60_001, 1), (1, 60_000, 0), (0, 0, 0)):
        found = entries(history(client, user, start=T0 + start, end=T0 + end, resample_rate="1m", stat="count"))
        assert sum(value for _, value in found) == count


def test_buckets_are_aligned_to_the_epoch_wherever_the_range_starts(client: httpx.Client, user: str) -> None:
    post(client, *(small(user, T0 + minute * 60_000) for minute in range(60)))
    query = {"start": T0 + 7 * 60_000, "end": T0 + 33 * 60_000, "resample_rate": "15m", "stat": "count"}
    assert entries(history(client, user, **query)) == [
        ("2018-07-12T12:00:00Z", 8), ("2018-07-12T12:15:00Z", 15), ("2018-07-12T12:30:00Z", 3),
    ]  # fmt: skip
    # Weeks too: those of the epoch begin on Thursdays.
    assert entries(history(client, user, **query | {"resample_rate": "1w"})) == [("2018-07-12T00:00:00Z", 26)]
    assert entries(history(client, user, **query | {"resample_rate": "7s"}))[0][0] == "2018-07-12T12:06:57Z"


def test_only_buckets_with_data_are_answered_in_order(client: httpx.Client, user: str) -> None:
    post(client, *(small(user, T0 + minute * 60_000) for minute in (50, 0, 20)))
    found = entries(history(client, user, **RANGE, resample_rate="10m"))
    assert [date for date, _ in found] == ["2018-07-12T12:00:00Z", "2018-07-12T12:20:00Z", "2018-07-12T12:50:00Z"]


def test_without_a_range_the_last_day_is_answered(client: httpx.Client, user: str) -> None:

    now = times.now_ms()
    post(client, small(user, now - 25 * HOUR_MS), small(user, now - 23 * HOUR_MS), small(user, now - 1000))
    found = entries(client.get(path(user), params={"stat": "count"}))
    assert sum(value for _, value in found) == 2
    assert len(found) == 2


def test_without_a_body_a_content_type_does_not_matter(client: httpx.Client) -> None:
    right = entries(history(client, USER, **RANGE))
    headers = {"Content-Type": "application/json"}
    assert entries(client.get(path(USER), params=RANGE, headers=headers)) == right
    assert entries(client.request("GET", path(USER), params=RANGE, content=b" ")) == right


def test_parameters_beside_a_body_are_refused(client: httpx.Client) -> None:
    answer = client.request("GET", path(USER), params={"resample_rate": "1h"}, content=b'{"start": 0}')
    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == ["resample_rate"]


@pytest.mark.parametrize(
    ("query", "pointer", "right"),
    [
        ({"start": "yesterday"}, "start", "2018-07-12T12:15:00Z"),
        ({"start": "2018-13-12T12:15:00Z"}, "start", "ISO 8601"),
        ({"start": "1531397700"}, "start", "looks like seconds"),
        ({"end": "1531397700000000000"}, "end", "9999"),
        ({"end": "-5"}, "end", "1970"),
        (
            {"start": "2018-07-13T00:00:00Z", "end": "2018-07-12T00:00:00Z"},
            "end",
            "not before start, 2018-07-13T00:00:00Z, got 2018-07-12T00:00:00Z",
        ),
        ({"resample_rate": "15"}, "resample_rate", "15s"),
        ({"resample_rate": "15 minutes"}, "resample_rate", "15m"),
        ({"resample_rate": "1M"}, "resample_rate", "30d"),
        ({"resample_rate": "500ms"}, "resample_rate", "1s"),
        ({"resample_rate": "53w"}, "resample_rate", "52w"),
        ({"resample_rate": "-15m"}, "resample_rate", "15m"),
        ({"resample_rate": "15m; DROP DATABASE METRICS"}, "resample_rate", "15m"),
        ({"stat": "median"}, "stat", "p50"),
        ({"core": "one"}, "core", "0, 1"),
        ({"core": "-1"}, "core", "0, 1"),
        ({"core": "99999"}, "core", "0, 1"),
        ({"core": "\u0661"}, "core", "0, 1"),
        ({"resamplerate": "1m"}, "resamplerate", "did you mean resample_rate?"),
        ({"by": "user"}, "by", "start, end, resample_rate, stat, core"),
        ({"start": ["2018-07-12", "2018-07-13"]}, "start", "more than once"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_would_be_right(
    client: httpx.Client, query: dict[str, Any], pointer: str, right: str
) -> None:
    answer = client.get(path(USER), params=RANGE | query)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    told = {error["pointer"]: error["detail"] for error in answer.json()["errors"]}
    assert right in told[pointer]


@pytest.mark.parametrize(
    ("member", "value"),
    [("start", []), ("end", {}), ("start", True), ("start", 1.5), ("resample_rate", 15), ("stat", 1), ("core", [0])],
)
def test_a_wrong_member_of_a_body_is_named_by_its_pointer(client: httpx.Client, member: str, value: Any) -> None:
    answer = client.request("GET", path(USER), json=RANGE | {member: value})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{member}"]


@pytest.mark.parametrize("body", [b"[]", b"7", b"{", b'{"start": NaN}', b"[" * 5000, b"\xff", b'{"a":' * 5000])
def test_a_body_that_is_no_json_object_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.request("GET", path(USER), content=body)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_all_wrong_parameters_are_told_at_once(client: httpx.Client) -> None:
    answer = client.get(path(USER), params={"start": "a", "end": "b", "resample_rate": "c", "stat": "d", "core": "e"})
    told = [error["pointer"] for error in answer.json()["errors"]]
    assert sorted(told) == ["core", "end", "resample_rate", "start", "stat"]


def test_too_many_buckets_are_refused_with_a_rate_that_would_do(client: httpx.Client) -> None:
    query = {"start": "2018-01-01T00:00:00Z", "end": "2018-12-31T00:00:00Z", "resample_rate": "1s"}
    answer = client.get(path(USER), params=query)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "resample_rate"
    assert "100000" in error["detail"]
    rate = error["detail"].rpartition("a rate of ")[2].split()[0]
    assert rate == "10m"
    assert client.get(path(USER), params=query | {"resample_rate": rate}).status_code == 200
    assert client.get(path(USER), params=query | {"resample_rate": "5m"}).status_code == 422


def test_as_many_buckets_as_are_allowed_are_answered(client: httpx.Client) -> None:
    end = T0 + 100_000 * 1000
    assert client.get(path(USER), params={"start": T0, "end": end, "resample_rate": "1s"}).status_code == 200
    assert client.get(path(USER), params={"start": T0, "end": end + 1, "resample_rate": "1s"}).status_code == 422


@pytest.mark.parametrize(
    ("wrong", "right"), [("cpuLoadAverage", "cpuLoadAvg"), ("cpuloadavg", "cpuLoadAvg"), ("x", "")]
)
def test_an_unknown_metric_is_not_found_and_those_there_are_are_named(
    client: httpx.Client, wrong: str, right: str
) -> None:
    answer = client.get(path(USER, wrong), params=RANGE)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert all(name in detail for name in NAMES)
    assert ("did you mean" in detail) == bool(right)
    assert f"did you mean {right}?" in detail or not right


def test_a_core_goes_with_metrics_of_one_core_only(client: httpx.Client, user: str) -> None:
    memory = {"type": "MEMORY", "utilization": {"avg": 0.5}}
    report = original(user)
    report["metrics"].append(memory)
    post(client, report)
    for metric in ("memoryUtilization", "cpuCoreLoadAvgMax"):
        answer = history(client, user, metric, core=0)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "core"
    assert history(client, user, "cpuUtilization", core=0).status_code == 200
    missing = history(client, user, core=17)
    assert missing.status_code == 404
    assert "its cores are 0, 1, 2" in missing.json()["detail"]


def test_a_known_user_without_the_metric_has_no_entries(client: httpx.Client) -> None:
    assert entries(history(client, USER, "diskReads")) == []


@pytest.mark.parametrize("metric", NAMES)
def test_every_metric_of_the_catalogue_can_be_asked_for(client: httpx.Client, metric: str) -> None:
    assert history(client, USER, metric, **RANGE).status_code == 200


def test_values_from_means_and_variances_alone_are_said_to_be_approximated(client: httpx.Client, user: str) -> None:
    post(client, original(user))
    for stat in ("min", "max", "p50", "p95", "p99"):
        document = history(client, user, stat=stat).json()
        assert "approximation" in document
        assert "samples with its mean and variance" in document["approximation"]
        answer = history(client, user, stat=stat)
        assert 0 <= answer.json()["entries"][0]["value"] <= 1
    for stat in ("mean", "var", "std", "count"):
        assert "approximation" not in history(client, user, stat=stat).json()
    assert "approximation" not in history(client, USER, stat="p95").json()


def test_the_share_that_is_approximated_is_told(client: httpx.Client, user: str) -> None:
    samples = np.random.default_rng(4).random(300)
    recording = Recording()
    recording.cpu(Host(user), T0, samples)
    recording.cpu(Host(user), T0 + 1, samples[:100], detailed=False)
    post(client, *recording.reports)
    assert "25 % of the observations" in history(client, user, stat="p95").json()["approximation"]
