"""A service that all plain tests share, and services of a test's own."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from service.control.database import ControlDatabase
from tests.support.influxd import RunningInflux, need
from tests.support.nats_cluster import RunningNats, need_nats
from tests.support.running import RunningService

StartService = Callable[..., RunningService]

_numbers = count(1)
_names = count(1)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that flushes all the time, so that answers come from memory and from disk."""
    with RunningService(tmp_path_factory.mktemp("shared") / "data", "--flush-interval", "0.3") as service:
        yield service
        assert service.stop() == 0, service.log
        assert "Traceback" not in service.log


@pytest.fixture(scope="session")
def client(service: RunningService) -> Iterator[httpx.Client]:
    """A client of the shared service."""
    with service.client() as client:
        yield client


@pytest.fixture(params=["direct", "routed"])
def either_way(service: RunningService, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of the shared service whose single reports are taken before the router, and one that says too much."""
    headers = {"X-Nobody-Knows": "this header"} if request.param == "routed" else {}
    with service.client(headers=headers) as client:
        yield client


@pytest.fixture(scope="session")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInflux]:
    """An InfluxDB that all tests share; each takes a database of its own. Left out where none is installed."""
    need()
    with RunningInflux(tmp_path_factory.mktemp("influxd")) as influx:
        yield influx


@pytest.fixture
def user() -> str:
    """A user that no other test has."""
    return f"user-{next(_numbers)}"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder for a service's data, not made yet."""
    return tmp_path / "data"


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ControlDatabase]:
    """A database of decisions, empty."""
    control = ControlDatabase(tmp_path / "control.db")
    yield control
    control.close()


@pytest.fixture
def start(data_dir: Path) -> Iterator[StartService]:
    """Starts services on `data_dir`, and makes sure that none is left."""
    started: list[RunningService] = []

    def start(*arguments: str, **options: object) -> RunningService:
        started.append(RunningService(data_dir, *arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for service in started:
        service.kill()


@pytest.fixture(scope="session")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNats]:
    """A server of NATS that all tests share; each takes streams of a name of its own. Left out where none is there."""
    need_nats()
    with RunningNats(tmp_path_factory.mktemp("nats"), 1) as nats:
        yield nats


@pytest.fixture
def name() -> str:
    """What no other test calls its streams and its database."""
    return f"fleet-{next(_names)}"
