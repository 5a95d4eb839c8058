"""A service with a fleet to look at, and rules that find something; a small fleet in a store."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.dashboard_fleet import fill
from tests.support.pictures import STEPS, Fleet
from tests.support.running import RunningService, wait_until

_RULES = """
[[rules]]
name = "hot"
kind = "threshold"
metric = "cpuLoadAvg"
above = 0.9
severity = "critical"
description = "Find out what runs there."
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with the fleet of `tests.support.dashboard_fleet`, up to now."""
    folder: Path = tmp_path_factory.mktemp("dashboard")
    rules = folder / "rules.toml"
    rules.write_text(_RULES)
    with RunningService(folder / "data", "--rules", str(rules)) as service:
        with service.client() as client:
            fill(client, time.time_ns() // 1_000_000)
            wait_until(lambda: client.get("/api/v1/alerts").json()["total"] > 0, "an alert")
        yield service
        assert service.stop() == 0, service.log
        assert "Traceback" not in service.log
        assert service.log.count("the service ends") == 1


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    """A client of that service."""
    with service.client() as client:
        yield client


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Three hosts at 10, 50 and 100 %; the last one only in the first half."""
    fleet = Fleet(tmp_path)
    for step in range(STEPS):
        for user, mean in (("a", 0.1), ("b", 0.5), *((("c", 1.0),) if step < STEPS // 2 else ())):
            fleet.add(user, step, mean)
    yield fleet
    fleet.store.close()
