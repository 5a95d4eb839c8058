"""`loadlens-analytics import`, run as a person runs it, into a running service and into files."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analytics import connect
from analytics.sources.importing.reports import lanes_of
from analytics.sources.importing.samples import SetAside, checked, frame_of
from analytics.sources.importing.sending import Note, send
from analytics.sources.service import Client
from analytics.sources.service_api import ServiceApi, ServiceError
from contract import times
from tests.support import preloaded
from tests.support.serving import running
from tests.support.terminals import ROOT, environment

DATA = ROOT / "tests" / "data" / "import"
NUMBERS = ["count", "mean", "var", "min", "max", "approximated"]


def run(*arguments: object, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    variables = {"XDG_STATE_HOME": str(cwd / "state")} | variables
    return preloaded.run(
        "analytics", "import", *map(str, arguments), cwd=cwd, environment=environment(**variables), timeout=240
    )


@pytest.fixture(scope="module")
def target_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service without data."""
    with running(tmp_path_factory.mktemp("target")) as url:
        yield url


def test_nothing_is_written_by_a_dry_run(tmp_path: Path) -> None:
    done = run(DATA / "csv/wide.csv", "--to", tmp_path / "fleet", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "host: column 'hostname', 2 of them" in done.stderr
    assert "cpu.utilization (gauge): column 'CPU Utilization (%)'" in done.stderr
    assert "1 set aside: out of range" in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_what_is_imported_into_files_counts_once_and_is_asked_as_any_other(tmp_path: Path) -> None:
    for added in (True, False):
        done = run(DATA / "csv/wide.csv", DATA / "csv/hosts.csv", "--to", tmp_path / "fleet", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("were there already" in done.stderr) is not added
    with connect(tmp_path / "fleet") as source:
        frame = source.history("web-1", "cpuUtilization", rate="raw")
        assert frame["mean"].tolist() == [0.125, 1.0, 0.5]
        assert {*frame["count"]} == {1}
        assert source.history("web-1", "load5m", rate="raw")["mean"].tolist() == [0.4, 0.6, 0.6]
    rows = (tmp_path / "import-aside.csv").read_text().splitlines()
    assert rows[0] == "file,line,reason"
    assert {row.rsplit("wide.csv,")[1].partition(",")[0] for row in rows[1:] if "wide.csv" in row} == {"4", "6", "8"}


def test_one_file_holds_one_metric(tmp_path: Path) -> None:
    done = run(DATA / "csv/hosts.csv", "--to", "one.parquet", cwd=tmp_path)
    assert (done.returncode, (tmp_path / "one.parquet").exists()) == (0, True)
    done = run(DATA / "csv/wide.csv", "--to", "two.parquet", cwd=tmp_path)
    assert done.returncode == 1
    assert "expected a folder for several metrics" in done.stderr


@pytest.mark.server
def test_what_is_imported_into_a_service_has_its_own_times_and_counts_once(target_url: str, tmp_path: Path) -> None:
    for taken in (True, False):
        done = run(DATA / "telegraf/telegraf.lp", "--to", target_url, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("were there already" in done.stderr) is not taken
    with Client(target_url) as source:
        host = source.history("web-1", start=1_772_000_000_000, end=1_773_000_000_000, rate="raw")
        assert host["mean"].tolist() == pytest.approx([0.25, 0.5], rel=1e-12)
        assert host["min"].tolist() == host["max"].tolist() == host["mean"].tolist()
        assert host["approximated"].tolist() == [0, 0]
        assert [str(time) for time in host.index] == ["2026-03-01 10:00:00+00:00", "2026-03-01 10:00:10+00:00"]
        core = source.history("web-1", core=0, start=1_772_000_000_000, end=1_773_000_000_000, rate="raw")
        assert core["mean"].tolist() == pytest.approx([0.5], rel=1e-12)
        memory = source.history(
            "web-1", "memoryUtilization", start=1_772_000_000_000, end=1_773_000_000_000, rate="raw"
        )
        assert memory["mean"].tolist() == pytest.approx([0.25], rel=1e-12)
        assert "web-1" in source.users()["user"].tolist()
        assert int(source.fleet(start=1_772_000_000_000, end=1_773_000_000_000, rate="1d")["count"].sum()) >= 2
    # A network's two quantities are known of one moment; the first has no rate.
    assert "set aside" in done.stderr


@pytest.mark.server
def test_windows_that_are_exported_and_imported_are_the_same(service_url: str, target_url: str, tmp_path: Path) -> None:
    bounds = {"start": 1_531_000_000_000, "end": 1_532_000_000_000}
    with Client(service_url) as source:
        exported = source.fleet("cpuLoadAvg", rate="raw", by="user", **bounds)
        cores = source.history("6a:d6:96:d3:45:35", rate="raw", core="each", **bounds)
    exported.to_parquet(tmp_path / "fleet.parquet")
    cores.assign(user=pd.Categorical(["with-cores"] * len(cores))).to_parquet(tmp_path / "cores.parquet")
    done = run("fleet.parquet", "cores.parquet", "--to", target_url, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Client(target_url) as source:
        frame = source.fleet("cpuLoadAvg", rate="raw", by="user", **bounds)
        again = source.history("with-cores", rate="raw", core="each", **bounds)
    _same(frame[frame["user"] != "with-cores"], exported, "user")
    _same(again, cores, "core")
    done = run("fleet.parquet", "--to", tmp_path / "fleet", cwd=tmp_path)
    with connect(tmp_path / "fleet") as files:
        _same(files.fleet("cpuUtilization", rate="raw", by="user"), exported, "user")


def _same(found: pd.DataFrame, expected: pd.DataFrame, label: str) -> None:
    """Whether two frames of windows are equal to 1e-12, histograms to the sample."""
    sides = []
    for frame in (found, expected):
        rows = frame.reset_index()
        rows[label] = rows[label].astype(str)
        sides.append(rows.sort_values(["time", label], ignore_index=True))
    assert sides[0][["time", label]].equals(sides[1][["time", label]])
    assert np.allclose(sides[0][NUMBERS].to_numpy(float), sides[1][NUMBERS].to_numpy(float), rtol=1e-12, atol=1e-15)
    assert sides[0]["histogram"].tolist() == sides[1]["histogram"].tolist()


@pytest.mark.server
def test_an_import_that_was_cut_short_goes_on_where_it_ended(
    target_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    rows = 10_000
    end_ms = 1_600_000_000_000 + np.arange(rows) * 1000
    frame = frame_of({"user": "many", "end_ms": end_ms, "quantity": "cpu.utilization", "value": np.full(rows, 0.5)})
    good = checked(frame, SetAside(), times.now_ms())
    [lane] = lanes_of(good, {}, SetAside())
    assert [batch.reports for batch in lane] == [4000, 4000, 2000]

    class Flaky(ServiceApi):
        """Loses the connection at the second batch."""

        calls = 0

        def call(self, *arguments, **options):  # type: ignore[no-untyped-def]
            self.calls += 1
            if self.calls == 2:
                raise ServiceError("gone")
            return super().call(*arguments, **options)

    with Flaky(target_url) as api:
        with pytest.raises(ServiceError, match="gone"):
            send(api, [lane], lambda count: None)
        assert Note(target_url, [lane]).taken == [1]
        sent = send(api, [lane], lambda count: None)
    assert (sent.skipped, sent.accepted, sent.duplicates) == (4000, 6000, 0)
    assert Note(target_url, [lane]).taken == [0]


@pytest.mark.server
def test_a_service_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("time,host,cpu\n2026-03-01T10:00:00Z,a,0.5\n")
    done = run("x.csv", "--to", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: http://127.0.0.1:9 cannot be reached" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.csv"], 1, "nowhere.csv: No such file or directory"),
        (["x.csv", "--tz", "Mars"], 2, "--tz: expected a time zone such as Europe/Berlin, got Mars"),
        (["x.csv", "--metric", "speed"], 2, "--metric: expected a name that"),
        (["x.csv", "--time-column", "moment"], 1, "expected a column 'moment', got time, host, cpu"),
        (["x.csv", "--mapping", "m.toml", "--host-column", "x"], 2, "expected --mapping or names of columns, got both"),
        ([], 2, "FILE"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "x.csv").write_text("time,host,cpu\n2026-03-01T10:00:00Z,a,0.5\n")
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
