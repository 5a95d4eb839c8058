"""Copies between an embedded store and a real InfluxDB, both ways: each window once, wherever they were cut short."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from analytics.sources.influx_address import Address, Credentials
from contract.report import encode
from contract.times import HOUR_MS
from service.commands.copy import main
from service.commands.copy.fields import compare_fields
from service.commands.copy.stores import DayRange
from service.commands.copy.verifying import CopyCheck
from service.journal.journal import Journal
from service.stores.base import Question
from service.stores.embedded.store import EmbeddedStore
from service.stores.influx.store import InfluxStore
from service.stores.opening import influx_folder
from tests.service.commands.copy.test_copy import (
    BEGIN_MS,
    DAY_MS,
    KEPT,
    UNTIL_MS,
    answers,
    assert_holds,
    expired,
    fill,
    recording,
)
from tests.support import process_uses
from tests.support.five_weeks import START_MS
from tests.support.influx_proxy import InfluxProxy, Request
from tests.support.influxd import RunningInflux, need
from tests.support.recordings import CPU, Host, Recording
from tests.support.reports import post, small
from tests.support.running import ROOT, RunningService, wait_until

pytestmark = pytest.mark.server

__all__ = ["KEPT", "expired", "recording"]

_BUSY_S = 3.0


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInflux]:
    """An InfluxDB; each test has a database of its own."""
    need()
    with RunningInflux(tmp_path_factory.mktemp("influx")) as influx:
        yield influx


def opened(influx: RunningInflux, database: str, folder: Path) -> InfluxStore:
    """The store of a database, as a service on another host sees it."""
    return InfluxStore(Address.parse(influx.address(database)), Credentials(), folder)


def copy(source: Path | str, target: Path | str) -> int:
    return main(["--from", str(source), "--to", str(target), "--store-memory", "256MB"])


def test_there_and_back_nothing_changes(influx: RunningInflux, recording: Recording, tmp_path: Path) -> None:
    fill(tmp_path / "source", recording)
    address = influx.address("ROUND")
    assert copy(tmp_path / "source", address) == 0
    store = opened(influx, "ROUND", tmp_path / "known")
    assert_holds(store, recording)
    store.close()
    assert copy(address, tmp_path / "back") == 0
    original, back = EmbeddedStore(tmp_path / "source", "256MB"), EmbeddedStore(tmp_path / "back", "256MB")
    assert_holds(back, recording)
    # A report of another metric type that ended together with this one may have begun a little earlier.
    known = ["user_id", "os_type", "os_version", "cores", "last_seen"]
    assert back.users()[known].equals(original.users()[known])
    assert back.newest() == original.newest()
    original.close()
    back.close()
    assert copy(address, influx.address("OTHER")) == 0
    store = opened(influx, "OTHER", tmp_path / "known too")
    assert_holds(store, recording)
    store.close()


@pytest.mark.parametrize("lines", [10, 900])
def test_a_copy_into_influxdb_that_is_killed_goes_on_where_it_was(
    influx: RunningInflux, recording: Recording, tmp_path: Path, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "source", recording)
    database = f"KILLED_{lines}"
    address = influx.address(database)
    command = [
        sys.executable,
        "-m",
        "tests.support.copier",
        "--from",
        str(tmp_path / "source"),
        "--to",
        address,
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: _points(influx, database) >= lines or process.poll() is not None, f"{lines} points")
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it was killed in the middle"
    assert copy(tmp_path / "source", address) == 0
    assert "Verified: " in capsys.readouterr().out
    store = opened(influx, database, tmp_path / "known")
    assert_holds(store, recording)
    store.close()


def test_what_a_killed_copy_had_sent_arrives_before_another_goes_on(
    influx: RunningInflux, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "source", recording)
    held = threading.Event()

    def hold(request: Request) -> None:
        if request.path == "/write" and b"measurements_5m," in request.body and not held.is_set():
            held.set()
            # InfluxDB has it, and is busy: so long it needs to take it.
            killed.wait()
            time.sleep(_BUSY_S)

    killed = threading.Event()
    with InfluxProxy(influx, 1) as proxy:
        proxy.fault = hold
        command = [sys.executable, "-m", "tests.support.copier", "--from", str(tmp_path / "source")]
        with subprocess.Popen(
            [*command, "--to", proxy.address("LATE")], cwd=ROOT, stdout=subprocess.DEVNULL
        ) as process:
            wait_until(held.is_set, "a write of rollups")
            process.kill()
        killed.set()
        assert copy(tmp_path / "source", influx.address("LATE")) == 0
        assert "Verified: " in capsys.readouterr().out
        store = opened(influx, "LATE", tmp_path / "known")
        assert_holds(store, recording)
        store.close()


def _points(influx: RunningInflux, database: str) -> int:
    if database not in str(influx.query("SHOW DATABASES")):
        return 0
    counted = influx.query('SELECT COUNT("cpuLoadAvg") FROM "measurements", "cores", "cores_1d"', database)
    return sum(int(str(series["values"][0][1])) for series in counted)  # type: ignore[index]


def test_what_is_left_as_rollups_only_gets_into_influxdb_and_out_again(
    influx: RunningInflux, expired: tuple[Path, Recording], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = expired
    address = influx.address("EXPIRED")
    assert copy(source, address) == 0
    assert "rollups of 5m stand for days whose windows the source has no more" in capsys.readouterr().out
    assert copy(address, tmp_path / "back") == 0
    original, there = EmbeddedStore(source, "256MB"), opened(influx, "EXPIRED", tmp_path / "known")
    back = EmbeddedStore(tmp_path / "back", "256MB")
    for rate_ms in (HOUR_MS, DAY_MS, 7 * DAY_MS):
        for mine, theirs, again in zip(*(answers(one, rate_ms) for one in (original, there, back)), strict=True):
            np.testing.assert_allclose(theirs, mine, rtol=1e-12)
            np.testing.assert_allclose(again, mine, rtol=1e-12)
    for store in (original, there, back):
        assert store.users()["user_id"].tolist() == ["one", "two"]
        store.close()


FIELDS = [
    "cpuLoadAvg",
    "cpuLoadVar",
    "cpuCoreLoadAvgMax",
    "cpuCoreLoadAvgMin",
    "cpuCoreLoadVarMax",
    "cpuCoreLoadMinMin",
]


def write_original(influx: RunningInflux, database: str) -> None:
    """Fifty points as the original wrote them."""
    influx.query(f'CREATE DATABASE "{database}"')
    lines = [
        f"measurements,osType=Linux,osVersion=18.04\\ LTS,userId=6a:d6:96:d3:45:35"
        f" cpuLoadAvg={place / 100},cpuLoadVar=0.01,cpuCoreLoadAvgMax={place / 100 + 0.2},"
        f"cpuCoreLoadAvgMin={place / 200},cpuCoreLoadVarMax={place / 1000},cpuCoreLoadMinMin={place / 2000}"
        f" {START_MS + place * 5000}"
        for place in range(50)
    ]
    influx.write("\n".join(lines), database)


def original_fields(influx: RunningInflux, database: str) -> list[list[object]]:
    """The original's fields of all points of hosts, with their times."""
    (series,) = influx.query(f'SELECT {", ".join(FIELDS)} FROM "measurements"', database)
    values: list[list[object]] = series["values"]
    return values


def test_points_of_the_original_are_copied_field_by_field(
    influx: RunningInflux, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_original(influx, "OLD1")
    assert copy(influx.address("OLD1"), influx.address("NEW1")) == 0
    shown = capsys.readouterr().out
    assert "Verified: " in shown
    assert "6 of a field of the original, each with its count, sum, minimum and maximum" in shown
    assert original_fields(influx, "NEW1") == original_fields(influx, "OLD1")
    assert copy(influx.address("NEW1"), tmp_path / "embedded") == 0
    assert copy(tmp_path / "embedded", influx.address("BACK1")) == 0
    assert original_fields(influx, "BACK1") == original_fields(influx, "OLD1")


def test_a_field_that_is_not_whole_is_named(influx: RunningInflux, tmp_path: Path) -> None:
    write_original(influx, "WHOLE")
    write_original(influx, "CHANGED")
    user, span = (
        "6a:d6:96:d3:45:35",
        DayRange(START_MS // DAY_MS * DAY_MS, START_MS // DAY_MS * DAY_MS + DAY_MS, 5000, 1),
    )
    tags = f"measurements,osType=Linux,osVersion=18.04\\ LTS,userId={user}"
    changed = "cpuCoreLoadAvgMax=0.9,cpuCoreLoadVarMax=0.9"
    influx.write(f"{tags} {changed} {START_MS}", "CHANGED")  # the least of one, and the greatest of the other
    influx.query("DELETE WHERE time = " + str((START_MS + 5000) * 1_000_000), "CHANGED")
    influx.write(f"{tags} cpuLoadAvg=0.01,cpuLoadVar=0.01,cpuCoreLoadMinMin=0.0005 {START_MS + 5000}", "CHANGED")
    with_all, without = opened(influx, "WHOLE", tmp_path / "whole"), opened(influx, "CHANGED", tmp_path / "changed")
    check = CopyCheck()
    compare_fields(with_all, without, span, check)
    assert check.fields == 6
    assert [words.partition(", ")[2] for words in check.named] == [
        "cpuCoreLoadAvgMax, 2024-01-30: 50 values in the source, 49 in the target",
        "cpuCoreLoadAvgMin, 2024-01-30: 50 values in the source, 49 in the target",
        "cpuCoreLoadVarMax, 2024-01-30: 50 values in the source, 49 in the target",
    ]
    check = CopyCheck()
    influx.write(
        f"{tags} cpuCoreLoadAvgMax=0.21,cpuCoreLoadAvgMin=0.005,cpuCoreLoadVarMax=0.001 {START_MS + 5000}", "CHANGED"
    )
    compare_fields(with_all, without, span, check)
    assert len(check.named) == 2
    assert "cpuCoreLoadAvgMax, 2024-01-30: sum 22.25" in check.named[0]
    assert (
        "minimum 0.2 in the source, 0.21 in the target; maximum 0.69 in the source, 0.9 in the target" in check.named[0]
    )
    assert "cpuCoreLoadVarMax, 2024-01-30: sum 1.225" in check.named[1]
    with_all.close()
    without.close()


def test_points_of_the_original_are_copied_as_the_hundred_samples_they_stand_for(
    influx: RunningInflux, tmp_path: Path
) -> None:
    write_original(influx, "OLD")
    assert copy(influx.address("OLD"), tmp_path / "target") == 0
    store = EmbeddedStore(tmp_path / "target", "256MB")
    windows = store.answer(Question(CPU, BEGIN_MS, UNTIL_MS, DAY_MS, "6a:d6:96:d3:45:35"))
    assert windows["count"].tolist() == windows["approximated"].tolist() == [5000]
    np.testing.assert_allclose(windows["mean"], [np.arange(50).mean() / 100])
    assert store.users()[["os_type", "os_version", "cores"]].to_numpy().tolist() == [["Linux", "18.04 LTS", 0]]
    store.close()


def test_reports_that_only_the_journal_has_are_copied(
    influx: RunningInflux, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = influx.address("JOURNAL")
    data_dir = tmp_path / "data"
    home = influx_folder(data_dir, Address.parse(address))
    store = opened(influx, "JOURNAL", home)
    store.add(300, recording.reports[:300])
    store.close()
    journal = Journal(home / "journal", 1 << 30)
    journal.advance_to(300)
    journal.append([encode(report) for report in recording.reports[300:]])
    journal.close()
    assert main(["--from", address, "--to", str(tmp_path / "target"), "--data-dir", str(data_dir)]) == 0
    assert "200 windows were in the source's journal only" in capsys.readouterr().out
    copied = EmbeddedStore(tmp_path / "target", "256MB")
    assert_holds(copied, recording)
    copied.close()


@pytest.mark.parametrize("folder", ["its own", "another"])
def test_a_database_is_copied_while_its_service_runs(
    influx: RunningInflux, tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    address = influx.address(f"LIVE-{folder.replace(' ', '-')}")
    with RunningService(tmp_path / "its own", "--store", address, "--flush-interval", "0.3") as service:
        with service.client() as client:
            assert post(client, *(small("one", START_MS + number * 1000) for number in range(9))).status_code == 202
            wait_until(lambda: "loadlens_journal_behind 0.0" in client.get("/metrics").text, "a flush")
            arguments = ["--from", address, "--to", str(tmp_path / "target"), "--data-dir", str(tmp_path / folder)]
            assert main(arguments) == 0
            shown = capsys.readouterr().out
            assert "Windows copied: 9." in shown
            assert "Verified: " in shown
            assert ("The source's service runs" in shown) == (folder == "its own")
            assert "problem" not in client.get("/readyz").json()


def test_nothing_is_copied_into_a_database_that_a_running_service_has(
    influx: RunningInflux, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "source", recording)
    store = opened(influx, "TAKEN", tmp_path / "service")
    assert copy(tmp_path / "source", influx.address("TAKEN")) == 1
    assert (
        f"is in use by the service on {socket.gethostname()}, folder {tmp_path / 'service'}" in capsys.readouterr().err
    )
    assert store.problem is None
    assert store.users().empty
    store.close()


def test_an_influxdb_that_is_away_is_named_and_the_copy_goes_on_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need()
    recording = Recording()
    recording.cpu(Host("one"), START_MS, np.array([0.5]))
    fill(tmp_path / "source", recording, flushes=1)
    with RunningInflux(tmp_path / "influx") as influx:
        influx.kill()
        assert copy(tmp_path / "source", influx.address()) == 1
        assert f"127.0.0.1:{influx.port}" in capsys.readouterr().err
        influx.start()
        assert copy(tmp_path / "source", influx.address()) == 0


def test_who_is_not_let_in_is_told_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need()
    with RunningInflux(tmp_path / "influx", auth=True) as influx:
        influx.query("CREATE USER admin WITH PASSWORD 'a long one' WITH ALL PRIVILEGES")
        recording = Recording()
        recording.cpu(Host("one"), START_MS, np.array([0.5]))
        fill(tmp_path / "source", recording, flushes=1)
        address = influx.address()
        assert copy(tmp_path / "source", address) == 1
        assert "asks for a token (--store-token), or a user and password" in capsys.readouterr().err
        known = ["--store-user", "admin", "--store-password", "a long one"]
        assert main(["--from", str(tmp_path / "source"), "--to", address, *known]) == 0


def test_a_database_that_is_not_there_is_not_copied_and_not_made(
    influx: RunningInflux, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(influx.address("NOWHERE"), tmp_path / "target") == 1
    assert "there is no database NOWHERE" in capsys.readouterr().err
    assert "NOWHERE" not in str(influx.query("SHOW DATABASES"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("influx://", "a host is missing, as in influx://localhost:8086/METRICS"),
        ("influx://me:secret-word@host/X", "user and password do not belong into the address"),
        ("influx://host:99999999", "the port is a number up to 65535"),
    ],
)
def test_a_wrong_address_of_influxdb_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, said: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        copy(address, tmp_path / "target")
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert "secret-word" not in error
    assert not (tmp_path / "target").exists()


def test_who_used_the_cpu_comes_with_its_windows_and_hours_both_ways(influx: RunningInflux, tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "source", "256MB")
    truth = process_uses.fill(store)
    store.close()
    assert copy(tmp_path / "source", influx.address("WHO")) == 0
    assert copy(influx.address("WHO"), tmp_path / "back") == 0
    for target in (opened(influx, "WHO", tmp_path / "here"), EmbeddedStore(tmp_path / "back", "256MB")):
        process_uses.check(target, truth["a"], "a")
        process_uses.check(target, truth["a"] + truth["b"], None)
        target.close()
