"""Stores of a test's own, in databases of their own, on the shared InfluxDB."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from analytics.sources.influx_address import Address, Credentials
from service.stores.influx.store import InfluxStore
from tests.support.influx_proxy import InfluxProxy
from tests.support.influxd import RunningInflux

OpenStore = Callable[..., InfluxStore]

_numbers = count(1)


@pytest.fixture
def database() -> str:
    """A database that no other test has."""
    return f"own_{next(_numbers)}"


@pytest.fixture
def open_store(influx: RunningInflux, database: str, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the database as a host of a name would, and closes what a test left open.

    Another host finds it let go of, as after the minute in which the claim of one that was killed becomes stale.
    """
    opened: dict[str, InfluxStore] = {}
    stores: list[InfluxStore] = []

    def open_store(host: str = "here", url: str = influx.url, name: str = database, **options: object) -> InfluxStore:
        credentials = Credentials(**options.pop("who", {}))  # type: ignore[arg-type]
        for other in [store for name, store in opened.items() if name != host]:
            other._claim.let_go()
        store = InfluxStore(Address(url, name), credentials, tmp_path / host, **options)  # type: ignore[arg-type]
        opened[host] = store
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture(params=[2, 3], ids=["2.x", "3.x"])
def newer(request: pytest.FixtureRequest, influx: RunningInflux) -> Iterator[InfluxProxy]:
    """A server that answers as InfluxDB 2 or 3 does; it wants a token, and has no bucket."""
    with InfluxProxy(influx, request.param, "s3cret-t0ken") as proxy:
        yield proxy
        assert not proxy.overwritten


@pytest.fixture
def proxy(influx: RunningInflux, database: str) -> Iterator[InfluxProxy]:
    """A server that answers as InfluxDB 2, with the bucket made, on which faults can be put."""
    with InfluxProxy(influx, 2) as proxy:
        proxy.make(database)
        yield proxy
        assert not proxy.overwritten
