"""Answers over HTTP equal numpy on the raw samples, from memory and from disk, at raw and at rollup rates."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from contract.times import DAY_MS, parse_duration
from tests.service.conftest import StartService
from tests.support.recordings import CPU, Host, Recording, Samples
from tests.support.reports import METRICS, JsonObject, entries, history, post

pytestmark = pytest.mark.server

T0 = 1_704_067_200_000  # 2024-01-01, a Monday
RATES = ("1s", "7s", "5m", "15m", "1h", "1d", "52w")


def same_bucket(recording: Recording) -> None:
    """Two reports of different sizes in one second, far from each other in value."""
    recording.cpu(Host("two"), T0 + 200, np.array([0.91, 0.87, 0.99]), [np.array([0.5, 0.6, 0.7])] * 2)
    recording.cpu(Host("two"), T0 + 900, np.linspace(0.01, 0.2, 97), [np.linspace(0, 1, 97)] * 2)


def one_week(recording: Recording) -> None:
    """Windows of all sizes at all times of a week."""
    random = np.random.default_rng(21)
    for _ in range(400):
        size = int(random.integers(1, 40))
        end = T0 + int(random.integers(0, 7 * DAY_MS))
        recording.cpu(Host("many"), end, random.beta(0.4, 2, size), [random.random(size), random.random(size) ** 3])


@pytest.mark.parametrize(("user", "fill"), [("two", same_bucket), ("many", one_week)])
def test_answers_equal_numpy_before_and_after_they_are_on_disk(start: StartService, user: str, fill: object) -> None:
    recording = Recording()
    fill(recording)  # type: ignore[operator]
    service = start("--flush-interval", "3600")
    with service.client() as client:
        half = len(recording.reports) // 2
        for part in (recording.reports[:half], recording.reports[half:]):
            assert post(client, *part).json() == {"accepted": len(part), "duplicates": 0}
        assert_exact(client, user, recording)
    assert service.stop() == 0
    service = start("--flush-interval", "3600")
    with service.client() as client:
        assert_exact(client, user, recording)


def assert_exact(client: httpx.Client, user: str, recording: Recording) -> None:
    for rate in RATES:
        for core in (None, 1):
            start_ms, end_ms = T0 + 137, T0 + 6 * DAY_MS + 12_345_678
            query: JsonObject = {"start": start_ms, "end": end_ms, "resample_rate": rate} | (
                {} if core is None else {"core": core}
            )
            if (end_ms - start_ms) / parse_duration(rate) > 100_000:
                query["end"] = start_ms + DAY_MS
            expected: list[Samples] = [
                *recording.buckets(
                    CPU,
                    query["start"],
                    query["end"],
                    parse_duration(rate),
                    lambda one, core=core: "" if one.core == core else None,  # type: ignore[misc]
                ).values()
            ]
            assert expected
            for metric, stat, value in (("cpuLoadAvg", "mean", np.mean), ("cpuLoadVar", "var", np.var)):
                found = [number for _, number in entries(history(client, user, metric, stat=stat, **query))]
                assert found == pytest.approx([float(value(part)) for part in expected], rel=1e-12, abs=1e-15)
            found = [number for _, number in entries(history(client, user, stat="p95", **query))]
            exact = [float(np.quantile(part, 0.95, method="inverted_cdf")) for part in expected]
            assert found == pytest.approx(exact, abs=1 / 128)


def test_a_month_at_any_rate_is_the_same_whether_read_at_once_or_day_by_day(start: StartService) -> None:
    """Whatever tier answers a range, its parts merge to the whole."""
    recording = Recording()
    one_week(recording)
    service = start("--flush-interval", "0.1")
    with service.client() as client:
        for place in range(0, 400, 50):
            post(client, *recording.reports[place : place + 50])
        for rate in ("5m", "1h", "1d"):
            query = {"resample_rate": rate, "stat": "count"}
            path = f"{METRICS}/cpuLoadAvg/byUser/many"
            whole = entries(client.get(path, params=query | {"start": T0, "end": T0 + 7 * DAY_MS}))
            days = [
                entry
                for day in range(7)
                for entry in entries(
                    client.get(path, params=query | {"start": T0 + day * DAY_MS, "end": T0 + (day + 1) * DAY_MS})
                )
            ]
            assert whole == days
            assert sum(value for _, value in whole) == sum(
                len(one.samples) for one in recording.windows if one.core is None
            )


def test_the_data_folder_of_one_service_can_be_moved_to_another(start: StartService, data_dir: Path) -> None:
    recording = Recording()
    same_bucket(recording)
    service = start()
    with service.client() as client:
        post(client, *recording.reports)
    assert service.stop() == 0
    moved = data_dir.rename(data_dir.with_name("moved"))
    service = start("--data-dir", str(moved))
    with service.client() as client:
        assert [value for _, value in entries(history(client, "two", stat="count"))] == [100]
