"""Summaries of all hosts as Parquet files: they answer as where they came from, and are written once."""

from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
from dask.distributed import Client as DaskClient
from dask.distributed import LocalCluster

import analytics
from analytics import connect
from analytics.frames.frame import frame_of_values
from analytics.sources.base import Source
from analytics.sources.parquet import Files
from contract.settings import SettingsError
from service.commands.export import Export, ExportedMetric, ExportError, ExportSettings, written
from tests.support.s3_server import BUCKET, RunningS3, need_s3

HOSTS = 40


def measured(last: str, seed: int = 1) -> pd.DataFrame:
    """A window of each host each 7 minutes, of a beta distribution of its own."""
    time = pd.date_range("2026-03-01", last, freq="7min", tz="UTC")
    random = np.random.default_rng(seed)
    frames = [
        pd.DataFrame({"user": f"host-{host}", "value": random.beta(1 + host % 7, 5, len(time))}, index=time)
        for host in range(HOSTS)
    ]
    values = pd.concat(frames).rename_axis("time").sort_index()
    return frame_of_values(values, metric="cpuUtilization")


def source_of(folder: Path, frame: pd.DataFrame) -> Source:
    """What answers a frame."""
    folder.mkdir(exist_ok=True)
    frame.to_parquet(folder / "windows.parquet")
    return connect(folder)


def exported(source: Source, to: str, **settings: object) -> ExportedMetric:
    return written(Export(source, ExportSettings(to=to, **settings)), "cpuUtilization")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(tmp_path_factory.mktemp("source"), measured("2026-03-03T23:59"))


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """In one order, without regard to how names are kept."""
    return frame.assign(user=frame["user"].astype("str")).reset_index().sort_values(["user", "time"], ignore_index=True)


def test_what_was_exported_answers_as_where_it_came_from(source: Source, tmp_path: Path) -> None:
    done = exported(source, str(tmp_path / "export"), rate="1h")
    assert done == ExportedMetric("cpuUtilization", 3, 0, HOSTS * 72)
    with connect(tmp_path / "export") as files:
        for rate in ("1h", "1d"):
            expected = source.fleet("cpuUtilization", rate=rate, by="user")
            answered = files.fleet("cpuUtilization", rate=rate, by="user")
            pd.testing.assert_frame_equal(plain(answered), plain(expected), rtol=1e-12)
    names = sorted(path.parent.name for path in (tmp_path / "export").rglob("part-000.parquet"))
    assert names == ["day=2026-03-01", "day=2026-03-02", "day=2026-03-03"]


def test_each_host_is_in_one_part(source: Source, tmp_path: Path) -> None:
    exported(source, str(tmp_path), rate="1h", parts=4)
    of_part = [
        {*pd.read_parquet(path, columns=["user"])["user"].astype(str)}
        for path in sorted(tmp_path.glob("cpuUtilization/day=2026-03-02/*.parquet"))
    ]
    assert sum(map(len, of_part)) == len(set.union(*of_part)) == HOSTS


def test_only_days_that_changed_are_written_again(tmp_path: Path) -> None:
    to = str(tmp_path / "export")
    frame = measured("2026-03-02T23:59")
    late = frame.iloc[100:200]
    early = frame.drop(index=late.index)
    assert exported(source_of(tmp_path / "a", early), to)[1:3] == (2, 0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "export").rglob("*.parquet")}
    assert exported(source_of(tmp_path / "a", early), to)[1:3] == (0, 2)
    assert exported(source_of(tmp_path / "b", frame), to)[1:3] == (1, 1)
    changed = {path.parent.name for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed == {"day=2026-03-01"}
    with connect(Path(to)) as files:
        assert files.fleet("cpuUtilization", rate="1d", stat="count")["value"].sum() == len(frame)


def test_what_was_exported_otherwise_is_not_mixed(source: Source, tmp_path: Path) -> None:
    exported(source, str(tmp_path), rate="1h")
    with pytest.raises(ExportError, match="was written with --rate 1h --parts 8, not with --rate 5m --parts 8"):
        exported(source, str(tmp_path))


def test_a_file_system_of_another_kind_is_written_and_read(source: Source) -> None:
    assert exported(source, "memory://export", rate="6h").days == 3
    assert exported(source, "memory://export", rate="6h").unchanged == 3
    with connect("memory://export") as files:
        expected = source.fleet("cpuUtilization", rate="1d", stat="p95")
        pd.testing.assert_frame_equal(files.fleet("cpuUtilization", rate="1d", stat="p95"), expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rate": "7h"}, "divides a day"), ({"rate": "soon"}, "--rate"), ({"metric": ("cpu",)}, "got cpu"),
        ({"to": "nowhere://x"}, "nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_is_said(source: Source, settings: dict[str, object], words: str) -> None:
    with pytest.raises((ValueError, SettingsError, ExportError), match=words):
        exported(source, **({"to": "memory://other"} | settings))  # type: ignore[arg-type]


def test_many_rows_are_merged_file_by_file(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same answers."""
    exported(source, str(tmp_path), rate="1h")
    monkeypatch.setattr("analytics.sources.parquet._MANY_ROWS", 100)
    with Files(tmp_path) as files:
        for rate in ("12h", "2d"):
            expected = source.fleet("cpuUtilization", rate=rate, by="user")
            answered = files.fleet("cpuUtilization", rate=rate, by="user")
            pd.testing.assert_frame_equal(plain(answered), plain(expected), rtol=1e-12)
        pd.testing.assert_frame_equal(
            files.fleet("cpuUtilization", rate="1d", histograms=False),
            source.fleet("cpuUtilization", rate="1d", histograms=False), rtol=1e-12,
        )  # fmt: skip


def test_dask_reads_a_partition_for_each_file(source: Source, tmp_path: Path) -> None:
    exported(source, str(tmp_path), rate="1h", parts=2)
    with Files(tmp_path) as files:
        frame = files.dask_frame("cpuUtilization")
        assert frame.npartitions == 6
        trend = analytics.fleet_trend(frame, "1d").frame
    expected = analytics.fleet_trend(source.fleet("cpuUtilization", rate="1h", by="user"), "1d").frame
    pd.testing.assert_frame_equal(trend, expected, rtol=1e-10)


# A bucket of S3


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningS3]:
    """A server, where one is installed."""
    need_s3()
    with RunningS3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: RunningS3, monkeypatch: pytest.MonkeyPatch) -> RunningS3:
    """The server, which clients are told of."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.mark.server
def test_what_was_exported_to_s3_answers_as_where_it_came_from(source: Source, s3: RunningS3) -> None:
    to = f"s3://{BUCKET}/whole"
    assert exported(source, to, rate="1h")[1:] == (3, 0, HOSTS * 72)
    assert exported(source, to, rate="1h")[1:] == (0, 3, 0)
    with connect(to) as files:
        expected = source.fleet("cpuUtilization", rate="1h", by="user")
        answered = files.fleet("cpuUtilization", rate="1h", by="user")
        pd.testing.assert_frame_equal(plain(answered), plain(expected), rtol=1e-12)
    with connect(f"{to}/cpuUtilization/day=2026-03-02/part-000.parquet") as file:
        assert set(file.users().index) < set(source.users().index)


@pytest.mark.server
def test_of_s3_only_days_that_changed_are_written_again(tmp_path: Path, s3: RunningS3) -> None:
    to = f"s3://{BUCKET}/again"
    frame = measured("2026-03-02T23:59")
    early = frame[frame["user"] != "host-3"]
    assert exported(source_of(tmp_path / "a", early[early.index < "2026-03-02"]), to, parts=40).days == 1
    names = s3.names("again")
    assert exported(source_of(tmp_path / "b", frame), to, parts=40)[1:3] == (2, 0)
    with connect(to) as files:
        assert files.fleet("cpuUtilization", rate="1d", stat="count")["value"].sum() == len(frame)
    # Of a host that was forgotten the file goes, if it was its only one.
    assert exported(source_of(tmp_path / "c", early), to, parts=40)[1:3] == (2, 0)
    kept = [name for name in s3.names("again") if name.endswith((".parquet", ".json"))]
    assert [name for name in kept if "day=2026-03-02" not in name] == names


@pytest.mark.server
def test_a_day_that_fails_half_way_is_not_in_s3(source: Source, s3: RunningS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays, and the day is written when it can be."""
    to = f"s3://{BUCKET}/half"
    export = Export(source, ExportSettings(to=to, rate="1h"))
    days = export.metric("cpuUtilization")
    assert next(days)[0] == "2026-03-01"
    before = s3.names("half")

    def fail(self: Export, metric: str, day_ms: int) -> Iterator[pd.DataFrame]:
        yield from slices(self, metric, day_ms)
        raise OSError("the service is gone")

    slices = Export._slices
    with monkeypatch.context() as patch:
        patch.setattr(Export, "_slices", fail)
        with pytest.raises(OSError, match="gone"):
            next(days)
    assert s3.names("half") == before
    assert exported(source, to, rate="1h")[1:3] == (2, 1)


@pytest.mark.server
def test_processes_of_a_dask_cluster_read_from_s3(source: Source, s3: RunningS3) -> None:
    to = f"s3://{BUCKET}/dask"
    exported(source, to, rate="1h", parts=2)
    with (
        dask.config.set({"distributed.admin.tick.limit": "60s", "distributed.comm.timeouts.connect": "60s"}),
        connect(to) as files,
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        DaskClient(cluster),  # type: ignore[no-untyped-call]
    ):
        assert isinstance(files, Files)
        trend = analytics.fleet_trend(files.dask_frame("cpuUtilization"), "1d").frame
    expected = analytics.fleet_trend(source.fleet("cpuUtilization", rate="1h", by="user"), "1d").frame
    pd.testing.assert_frame_equal(trend, expected, rtol=1e-10)


@pytest.mark.server
def test_a_bucket_that_is_not_there_is_said(source: Source, s3: RunningS3) -> None:
    with pytest.raises(OSError, match="nobody-s"):
        exported(source, "s3://nobody-s/export", rate="1h")
    with pytest.raises(OSError, match="nobody-s"):
        connect("s3://nobody-s/export")
