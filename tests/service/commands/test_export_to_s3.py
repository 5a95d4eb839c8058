"""Summaries exported to S3: they answer as where they came from, to one process or many, and appear as whole days.

It runs where an S3 server is installed (`pip install 'moto[s3]' flask flask-cors s3fs`). It is not locked:
botocore wants python-dateutil 2, the client of InfluxDB 4.
"""

from collections.abc import Iterator

import pandas as pd
import pytest

import analytics
from analytics import connect
from analytics.sources.base import Source
from analytics.sources.parquet import Files
from tests.service.commands.test_export import HOSTS, exported, measured, plain, source_of

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytestmark = [pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An address in a bucket of a server that speaks S3."""
    import fsspec
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("fleet")
        yield "s3://fleet"
        server.stop()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Three days of a fleet."""
    return source_of(tmp_path_factory.mktemp("source"), measured("2026-03-03T23:59"))


def test_what_was_exported_answers_as_where_it_came_from(source: Source, bucket: str) -> None:
    to = f"{bucket}/whole"
    assert exported(source, to, rate="1h")[1:] == (3, 0, HOSTS * 72)
    assert exported(source, to, rate="1h")[1:] == (0, 3, 0)
    with connect(to) as files:
        for rate in ("1h", "1d"):
            expected = source.fleet("cpuUtilization", rate=rate, by="user")
            pd.testing.assert_frame_equal(
                plain(files.fleet("cpuUtilization", rate=rate, by="user")), plain(expected), rtol=1e-12
            )


def test_a_day_that_could_not_be_written_stays_as_it_was(
    bucket: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = f"{bucket}/cut-short"
    frame = measured("2026-03-01T23:59")
    exported(source_of(tmp_path_factory.mktemp("early"), frame.iloc[:-50]), to, rate="1h")
    later = source_of(tmp_path_factory.mktemp("later"), frame)
    fleet = later.fleet

    def fail(metric: str, **asked: object) -> pd.DataFrame:
        if asked.get("by"):
            raise OSError("the service is away")
        return fleet(metric, **asked)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(later, "fleet", fail)
        with pytest.raises(OSError, match="is away"):
            exported(later, to, rate="1h")
    with connect(to) as files:
        assert files.fleet("cpuUtilization", rate="1d", stat="count")["value"].sum() == len(frame) - 50
    assert exported(later, to, rate="1h")[1:3] == (1, 0)
    with connect(to) as files:
        assert files.fleet("cpuUtilization", rate="1d", stat="count")["value"].sum() == len(frame)


def test_processes_of_a_dask_cluster_read_it(source: Source, bucket: str) -> None:
    """Each its partitions, by itself."""
    distributed = pytest.importorskip("distributed")
    to = f"{bucket}/parts"
    exported(source, to, rate="1h", parts=2)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        Files(to) as files,
    ):
        frame = files.dask_frame("cpuUtilization")
        assert frame.npartitions == 6
        trend = analytics.fleet_trend(frame, "1d").frame
    expected = analytics.fleet_trend(source.fleet("cpuUtilization", rate="1h", by="user"), "1d").frame
    pd.testing.assert_frame_equal(trend, expected, rtol=1e-10)
