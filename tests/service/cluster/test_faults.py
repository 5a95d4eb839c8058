"""Whatever one process of a cluster does: what was acknowledged is kept, once, by all."""

from pathlib import Path

import pytest

from tests.support.cluster_load import FAULTS, ClusterUnderLoad
from tests.support.influxd import RunningInflux
from tests.support.nats_cluster import RunningNats

pytestmark = pytest.mark.server


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.timeout(600)
def test_no_acknowledged_report_is_lost_or_counted_twice(
    fault: str, tmp_path: Path, three_nodes: RunningNats, influx: RunningInflux, name: str
) -> None:
    """Two services on three nodes of NATS and an InfluxDB, while four hosts report to both of them."""
    load = ClusterUnderLoad(tmp_path, three_nodes, influx, name)
    try:
        load.go_on()
        FAULTS[fault](load)
        load.go_on()
        assert load.finish() == []
        assert all("Traceback" not in service.log for service in load.services)
    finally:
        load.close()


@pytest.mark.timeout(600)
def test_processes_that_only_write_take_over_from_each_other(
    tmp_path: Path, three_nodes: RunningNats, influx: RunningInflux, name: str
) -> None:
    """One process takes reports and answers; of two that write, the second goes on when the first is killed."""
    load = ClusterUnderLoad(tmp_path, three_nodes, influx, name, roles=("api", "writer", "writer"))
    try:
        load.go_on()
        FAULTS["kill_writer"](load)
        load.go_on()
        assert load.finish() == []
    finally:
        load.close()
