"""A running InfluxDB of any schema becomes the samples that a mapping file says, as files do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics.commands.importing import ImportSettings, run_import
from analytics.sources.connecting import connect
from analytics.sources.importing.influx import Database
from analytics.sources.importing.reading import Understood, read
from analytics.sources.importing.readings import Hints
from analytics.sources.importing.samples import ImportFault
from analytics.sources.influx_address import Address, Credentials
from tests.support.influxd import RunningInflux, need

pytestmark = pytest.mark.server
START_MS = 1_772_359_200_000
HOUR_MS = 3_600_000
NOW_MS = 1_800_000_000_000
BOX = """
time = "time"
host = "server name"
core = "cpu"
where = { _measurement = "box, \\"old\\"" }

[[take]]
column = "busy %"
metric = "cpu.utilization"
unit = "percent"

[[take]]
column = "in use"
metric = "memory.utilization"
unit = "share"
where = { kind = "ram" }
"""
QUERY = '''
time = "time"
host = "server"
query = """
SELECT mean("load") FROM "box" WHERE time >= 1772359200000ms AND time < 1772362800000ms
GROUP BY time(10m), "server" fill(none)"""

[[take]]
column = "mean"
metric = "cpu.utilization"
unit = "share"
'''


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInflux]:
    need()
    with RunningInflux(tmp_path_factory.mktemp("influxd")) as influx:
        influx.query('CREATE DATABASE "hosts"', "")
        name, box = 'box\\,\\ "old"', "server\\ name"
        lines = []
        for number in range(60):
            at_ms = START_MS + number * HOUR_MS
            lines += [f"{name},{box}=web-{one},cpu=cpu-total busy\\ %={number + one}.5 {at_ms}" for one in (0, 1)]
            kind = "ram" if number % 2 else "disk"
            lines.append(f"{name},{box}=web-0,cpu=cpu-total,kind={kind} in\\ use=0.{number + 10} {at_ms}")
        lines += [f"box,server=db-1 load=0.{number + 10} {START_MS + number * 60_000}" for number in range(60)]
        influx.write("\n".join(lines), "hosts")
        yield influx


def understood(database: RunningInflux, mapping: Path, **within: int) -> Understood:
    source = Database(Address.parse(database.address("hosts")), Credentials(), **within)
    return read([], Hints(mapping=mapping), NOW_MS, databases=[source])


def test_points_of_any_schema_are_what_the_mapping_says(database: RunningInflux, tmp_path: Path) -> None:
    mapping = tmp_path / "box.toml"
    mapping.write_text(BOX)
    found = understood(database, mapping)
    frame = found.checked.frame
    cpu = frame[(frame["quantity"] == "cpu.utilization") & (frame["user"] == "web-1")]
    assert cpu["value"].tolist() == pytest.approx([(number + 1.5) / 100 for number in range(60)], rel=1e-12)
    assert cpu["end_ms"].tolist() == [START_MS + number * HOUR_MS for number in range(60)]
    memory = frame[frame["quantity"] == "memory.utilization"]
    assert memory["value"].tolist() == pytest.approx([float(f"0.{number + 10}") for number in range(1, 60, 2)])
    assert any("180 points" in line for line in found.said)
    some = understood(database, mapping, start_ms=START_MS + HOUR_MS, end_ms=START_MS + 3 * HOUR_MS).checked.frame
    assert sorted({*some["end_ms"]}) == [START_MS + HOUR_MS, START_MS + 2 * HOUR_MS]


def test_a_query_of_the_mapping_is_the_table(database: RunningInflux, tmp_path: Path) -> None:
    mapping = tmp_path / "query.toml"
    mapping.write_text(QUERY)
    frame = understood(database, mapping).checked.frame
    assert {*frame["user"]} == {"db-1"}
    expected = [
        sum(float(f"0.{number + 10}") for number in range(start, start + 10)) / 10 for start in range(0, 60, 10)
    ]
    assert frame["value"].tolist() == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_imported_is_said(database: RunningInflux, tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(BOX.replace("old", "other"))
    with pytest.raises(ImportFault, match="expected points, got none"):
        understood(database, mapping)
    mapping.write_text(QUERY.replace("SELECT mean", "SELECT nothing"))
    with pytest.raises(ImportFault, match=r"influx://127\.0\.0\.1:.*undefined function"):
        understood(database, mapping)
    mapping.write_text(BOX.replace("where = { _measurement", "where = { other"))
    with pytest.raises(ImportFault, match="a query in the mapping, got neither"):
        understood(database, mapping)
    source = Database(Address.parse(database.address("hosts")), Credentials())
    with pytest.raises(ImportFault, match="expected --mapping"):
        read([], Hints(), NOW_MS, databases=[source])
    gone = Database(Address.parse("influx://127.0.0.1:1/hosts"), Credentials())
    mapping.write_text(BOX)
    with pytest.raises(ImportFault, match="cannot be reached"):
        read([], Hints(mapping=mapping), NOW_MS, databases=[gone])


def test_the_command_writes_files_and_what_is_imported_twice_counts_once(
    database: RunningInflux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("box.toml").write_text(BOX)
    arguments = [database.address("hosts"), "--mapping", "box.toml", "--to", "fleet", "--start", "2026-03-01T12:00:00Z"]
    for _ in range(2):
        assert run_import(arguments) == 0
    assert "were there already" in capsys.readouterr().err
    with connect(Path("fleet")) as source:
        frame = source.history("web-0", "cpuUtilization", rate="raw")
    assert frame["mean"].tolist() == pytest.approx([(number + 0.5) / 100 for number in range(2, 60)])
    assert {*frame["count"]} == {1}


def test_a_wrong_address_is_a_wrong_setting() -> None:
    for wrong in ("influx://user:secret@localhost/hosts", "influx://"):
        with pytest.raises(ValueError, match="FILE: "):
            ImportSettings(file=(wrong,))
    with pytest.raises(ValueError, match="--from-token"):
        ImportSettings(file=("influx://localhost/x",), from_token="a", from_user="b")
