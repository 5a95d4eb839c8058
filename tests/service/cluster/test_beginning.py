"""Processes that begin at once on servers that have nothing yet all go on, though each would make the streams."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain

import pytest

from service.cluster.connection import Cluster, ClusterAddress
from service.cluster.control_stream import ControlBucket
from service.cluster.lease import Lease
from service.cluster.ledger import LedgerReader, last_entry
from tests.support.nats_cluster import RunningNats

pytestmark = pytest.mark.server

_PROCESSES, _ROUNDS = 4, 6


@pytest.fixture
def processes(three_nodes: RunningNats, name: str) -> Iterator[list[list[Cluster]]]:
    """Connections of each process, a fleet of its own a round."""
    rounds = [
        [Cluster(ClusterAddress.parse(three_nodes.address(f"{name}-{number}"))) for _ in range(_PROCESSES)]
        for number in range(_ROUNDS)
    ]
    yield rounds
    for cluster in chain.from_iterable(rounds):
        cluster.close()


def test_processes_that_make_the_same_streams_at_once_all_begin(processes: list[list[Cluster]]) -> None:
    def begin(cluster: Cluster) -> int:
        with closing(ControlBucket(cluster)), closing(LedgerReader(cluster, lambda _: None)):
            Lease(cluster, "writer", "one")
            return cluster.call(last_entry(cluster, f"{cluster.address.name}-ledger"))

    with ThreadPoolExecutor(_PROCESSES) as pool:
        for clusters in processes:
            assert list(pool.map(begin, clusters)) == [0] * _PROCESSES
