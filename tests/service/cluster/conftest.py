"""Servers of NATS that tests share; each takes streams of a name of its own."""

from collections.abc import Iterator
from itertools import count

import pytest

from service.cluster.connection import Cluster, ClusterAddress
from tests.support.nats_cluster import RunningNats, need_nats

_names = count(1)


@pytest.fixture(scope="package")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNats]:
    """A server of its own."""
    need_nats()
    with RunningNats(tmp_path_factory.mktemp("nats"), 1) as nats:
        yield nats


@pytest.fixture(scope="package")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNats]:
    """Three that are a cluster."""
    need_nats()
    with RunningNats(tmp_path_factory.mktemp("nats"), 3) as nats:
        yield nats


@pytest.fixture
def name() -> str:
    """What no other test calls its streams and its database."""
    return f"fleet-{next(_names)}"


@pytest.fixture
def cluster(one_node: RunningNats, name: str) -> Iterator[Cluster]:
    """A connection to the one server."""
    cluster = Cluster(ClusterAddress.parse(one_node.address(name)))
    yield cluster
    cluster.close()
