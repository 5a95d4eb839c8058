"""The contract suite's stores: every implementation, in every state that its windows can be in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from analytics.sources import influx_client
from contract.report import Report
from service.stores.base import Store
from service.stores.influx import queries
from tests.support.five_weeks import batches, record
from tests.support.recordings import Recording
from tests.support.stores import STORES, Place, marked, place_of


class Filled(NamedTuple):
    """A store, and what went into it."""

    store: Store
    recording: Recording


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    """How long stores wait for InfluxDB: a host that runs all tests at once may stand still for half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(influx_client, "_CONNECT_S", 60.0)
        patch.setattr(influx_client, "_PING_S", 60.0)
        patch.setattr(queries, "_SELECT_S", 300.0)
        yield


@pytest.fixture(params=[marked(kind) for kind in STORES])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place for a store."""
    return place_of(request.param, tmp_path / "store", request)


@pytest.fixture(params=[marked(kind) for kind in STORES])
def new_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Place]:
    """Makes empty places, as many as a test wants."""
    return lambda: place_of(request.param, tmp_path_factory.mktemp("store") / "store", request)


@pytest.fixture(scope="session")
def recording() -> Recording:
    """What the fleet sampled."""
    return record()


STATES = ("in memory", "on disk", "partly on disk", "compacted", "reopened", "crashed")
FLUSHED_AFTER = {"in memory": (), "partly on disk": (3, 8), "crashed": (0, 1, 2, 5, 9)}
"""The batches after which a store was flushed, in other states after each."""


@pytest.fixture(scope="session", params=[marked(kind, state) for kind in STORES for state in STATES])
def filled(
    request: pytest.FixtureRequest, recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    """A store that holds the fleet's windows."""
    kind, state = request.param
    place = place_of(kind, tmp_path_factory.mktemp("filled") / "store", request)
    store = place.open()
    given: list[tuple[int, list[Report]]] = []
    for number, part in enumerate(batches(recording.reports, 12)):
        given.append(((given[-1][0] if given else 0) + len(part), part))
        store.add(*given[-1])
        if number in FLUSHED_AFTER.get(state, range(12)):
            store.flush()
    if state in ("compacted", "reopened"):
        while store.compact():
            pass
    if state == "reopened":
        store.close()
        store = place.open()
    if state == "crashed":
        store = place.crash(store)
        for last, part in given:
            if last > store.flushed:
                store.add(last, part)
    yield Filled(store, recording)
    store.close()
