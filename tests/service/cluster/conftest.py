"""Three servers of NATS that tests share, and a connection to the one that all tests of the service share."""

from collections.abc import Iterator

import pytest

from service.cluster.connection import Cluster, ClusterAddress
from tests.support.nats_cluster import RunningNats, need_nats


@pytest.fixture(scope="package")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNats]:
    """Three that are a cluster."""
    need_nats()
    with RunningNats(tmp_path_factory.mktemp("nats"), 3) as nats:
        yield nats


@pytest.fixture
def cluster(one_node: RunningNats, name: str) -> Iterator[Cluster]:
    """A connection to the one server."""
    cluster = Cluster(ClusterAddress.parse(one_node.address(name)))
    yield cluster
    cluster.close()
