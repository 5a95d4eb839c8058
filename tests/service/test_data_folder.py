"""One process at a time has a data folder, whatever store it uses; the next one has it as soon as that has ended."""

import subprocess
from pathlib import Path

import pytest

from tests.service.conftest import StartService
from tests.support import preloaded
from tests.support.influxd import RunningInflux
from tests.support.reports import END_MS, METRICS, entries, history, post, small
from tests.support.running import RunningService, clean_environment

pytestmark = pytest.mark.server


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return preloaded.run("service", *arguments, environment=clean_environment())


def test_two_services_with_an_influxdb_cannot_share_a_data_folder(
    data_dir: Path, influx: RunningInflux, start: StartService
) -> None:
    store = ("--store", influx.address("ONE-FOLDER"), "--flush-interval", "3600")
    service = start(*store)
    with service.client() as client:
        for number in range(20):
            assert post(client, small("one", END_MS + number * 1000)).status_code == 202
        second = run("--port", "0", "--data-dir", str(data_dir), *store)
        assert second.returncode == 1
        (line,) = [line for line in second.stderr.splitlines() if "error" in line]
        assert "in use by another process" in line
        for number in range(20, 40):
            assert post(client, small("one", END_MS + number * 1000)).status_code == 202
    service.kill()
    service = start(*store)
    with service.client() as client:
        query = {"start": END_MS, "end": END_MS + 60_000, "stat": "count", "resample_rate": "1m"}
        assert sum(value for _, value in entries(history(client, "one", **query))) == 40


def test_another_store_does_not_make_a_data_folder_free(
    start: StartService, data_dir: Path, influx: RunningInflux
) -> None:
    with start().client() as client:
        assert client.get("/readyz").status_code == 200  # it has the folder
    second = run("--port", "0", "--data-dir", str(data_dir), "--store", influx.address())
    assert second.returncode == 1
    assert "in use by another process" in second.stderr


def test_after_a_kill_the_folder_is_free_at_once(start: StartService) -> None:
    for number in range(3):
        service = start()
        with service.client() as client:
            post(client, small("one", END_MS + number * 1000))
            assert client.get(f"{METRICS}/cpuLoadAvg/byUser/one").status_code == 200
        service.kill()


def test_a_second_service_waits_for_the_first_to_end(data_dir: Path) -> None:
    with RunningService(data_dir) as first:
        first.process.terminate()
        with RunningService(data_dir) as second, second.client() as client:
            assert client.get("/readyz").status_code == 200
