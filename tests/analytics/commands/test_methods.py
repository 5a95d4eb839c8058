"""The commands that run a method, on a file: the same frames as the library gives, and tables that fit a terminal."""

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import analytics
from analytics.cli import main
from contract import times
from tests.support.reports import post, small
from tests.support.running import RunningService
from tests.support.terminals import ROOT, environment, main_on_terminal

SAMPLE = ROOT / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
USER = "planetlab-1_cs_uh_edu_due_test"
HOSTS = 4


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with four of the hosts."""
    frame = pd.read_parquet(SAMPLE)
    [name] = {"user", "user_id", "group", "host"} & set(frame.columns)
    users = [USER, *sorted(set(frame[name].astype(str)) - {USER})[: HOSTS - 1]]
    path = tmp_path_factory.mktemp("data") / "few.parquet"
    frame[frame[name].astype(str).isin(users)].to_parquet(path)
    return path


def answered(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, str]]:
    """The rows of the CSV that a command prints where nobody looks on."""
    assert main([str(argument) for argument in arguments]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_a_forecast_is_that_of_the_library(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = answered(capsys, "forecast", "--data", few, "--horizon", "1d")
    with analytics.connect(few) as source:
        made = analytics.forecast(source.fleet(rate="1h", by="user", histograms=False), "1d", rate="1h")
    assert len(rows) == len(made.frame) == 24 * HOSTS
    assert [float(row["mean"]) for row in rows] == pytest.approx(made.frame["mean"].tolist(), abs=1e-12)
    assert {"time", "user", "lower_80", "upper_95"} <= rows[0].keys()


def test_anomalies_are_events_or_with_all_every_point(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = answered(capsys, "anomalies", "--data", few)
    points = answered(capsys, "anomalies", "--data", few, "--all")
    assert 0 < len(events) < len(points)
    assert sum(row["anomaly"] == "True" for row in points) == len(events)
    late = answered(capsys, "anomalies", "--data", few, "--start", "2011-04-01", "--learn", "30d")
    assert [row["time"] for row in late] == [row["time"] for row in events if row["time"] >= "2011-04-01"]


def test_sizes_come_with_the_most_to_save_first(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = answered(capsys, "right-size", "--data", few, "--cores", "4", "--price", "0.04")
    saved = [float(row["saved"]) for row in rows]
    assert saved == sorted(saved, reverse=True)
    assert len(rows) == HOSTS and float(rows[0]["saved_a_month"]) == pytest.approx(saved[0] * 0.04 * 730)


def test_hosts_whose_cores_are_not_known_are_sized_in_times_what_they_have(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["right-size", "--data", str(few)]) == 0
    said = capsys.readouterr()
    assert "With --cores they are in cores" in said.err
    assert [row["now"] for row in csv.DictReader(io.StringIO(said.out))] == ["1.0"] * HOSTS
    assert main(["right-size", "--data", str(few), "--price", "0.04"]) == 1
    assert "say it with --cores" in capsys.readouterr().err


def test_a_file_is_compared_by_its_halves_and_two_hosts_by_the_same_time(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [halves] = answered(capsys, "compare", "--data", few)
    assert {"mean_before", "mean_after", "p_value", "verdict"} <= halves.keys()
    assert len(answered(capsys, "compare", "--data", few, "--by", "user")) == HOSTS
    with analytics.connect(few) as source:
        other = next(user for user in source.users()["user"] if user != USER)
    [two] = answered(capsys, "compare", USER, other, "--data", few)
    assert USER in two["verdict"] and f"mean_{other}" in two


def test_a_comparison_without_data_on_one_side_says_what_there_is(
    few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--data", str(few), "--end", "2011-03-05", "--last", "7d"]) == 1
    said = capsys.readouterr().err
    assert "nothing was reported in the earlier time, 2011-02-19" in said
    assert "there are reports from 2011-03-0" in said
    assert "--last" in said


def test_saturation_is_that_of_the_library(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = answered(capsys, "saturation", "--data", few, "--threshold", "0.75")
    with analytics.connect(few) as source:
        found = analytics.saturation(source.fleet(rate="1h", by="user"), 0.75)
    assert [float(row["share"]) for row in rows] == pytest.approx(found["share"].tolist(), abs=1e-12)
    days = answered(capsys, "saturation", USER, "--data", few, "--every", "1d")
    assert len({row["time"] for row in days}) == len(days) > 3


def test_odd_ones_are_those_of_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    rows = answered(capsys, "odd-ones", "--data", SAMPLE)
    with analytics.connect(SAMPLE) as source:
        found = analytics.odd_ones_out(source.fleet(rate="1h", by="user", histograms=False))
    assert [row["user"] for row in rows] == found[found["odd"]]["user"].tolist() == [USER, rows[1]["user"]]
    everyone = answered(capsys, "odd-ones", "--data", SAMPLE, "--all", "--by", "label:role")
    assert {(row["odd"], row["peers"], row["group"]) for row in everyone} == {("False", "0", "")}


def test_the_windows_of_a_file_stream_in_order_of_time(few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stream", "--data", str(few), "--format", "json", "--most", "50", "--above", "0.3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 50
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert all(row["mean"] > 0.3 for row in rows)
    assert len(answered(capsys, "stream", "--data", few, "--user", USER, "--most", "3")) == 3


def test_a_file_that_names_no_host_is_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = pd.date_range("2026-01-01", periods=96 * 7, freq="15min", tz="UTC", name="time")
    pd.DataFrame({"value": [0.25, 0.5] * (48 * 7)}, index=index).to_parquet(tmp_path / "web-1.parquet")
    [size] = answered(capsys, "right-size", "--data", tmp_path / "web-1.parquet", "--cores", "4")
    assert size["user"] == "web-1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "a", "b", "--by", "user"], "two hosts share one time"),
        (["anomalies", "--rate", "5s"], "--rate: expected 1m to 1h"),
        (["stream", "--format", "parquet"], "a stream has no end"),
        (["stream", "--metric", "cpu"], "--metric: expected a name"),
        (["odd-ones", "--by", "role"], "--by: expected clusters or a label such as label:role"),
        (["forecast", "--last", "7d", "--start", "2026-01-01"], "got both"),
    ],
)
def test_wrong_settings_are_said(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["forecast"], "Forecast of 4 series"),
        (["forecast", USER, "--horizon", "2d"], "day (UTC)"),
        (["anomalies"], "points of 4 hosts were judged"),
        (["right-size", "--cores", "4"], "cores could be saved"),
        (["right-size", USER, "--cores", "4"], "95 % of the samples used at most"),
        (["compare"], "before"),
        (["compare", "--by", "user"], "difference"),
        (["saturation"], "a day"),
        (["stream", "--most", "5"], "time (UTC)"),
        (["users"], "first_seen"),
    ],
)
def test_a_terminal_of_80_characters_shows_every_column(few: Path, arguments: list[str], words: str) -> None:
    shown = main_on_terminal(main, *arguments, "--data", str(few), columns=80)
    lines = [line for line in shown.splitlines() if not line.startswith(("looking", "reading"))]
    assert words in shown
    assert max(len(line.rsplit("\r", 1)[-1]) for line in lines) <= 80


@pytest.mark.parametrize("command", ["forecast", "anomalies", "right-size", "compare", "saturation", "stream"])
def test_help_teaches_by_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out and "--data PATH" in out
    assert out.count(f"loadlens-analytics {command}") >= 4


@pytest.mark.server
def test_reports_stream_as_they_come(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data") as service, service.client() as client:
        command = [sys.executable, "-m", "analytics", "stream", "--user", "web-*", "--most", "2", "--above", "0.4"]
        with subprocess.Popen(
            command, cwd=ROOT, env=environment(LOADLENS_URL=service.url), stdout=subprocess.PIPE, text=True
        ) as process:
            # Whoever follows begins with what is acknowledged next, so reports go on until it has seen enough.
            end = time.monotonic() + 120.0
            while process.poll() is None and time.monotonic() < end:
                for user, mean in (("web-1", 0.5), ("web-2", 0.25), ("db-1", 0.75)):
                    post(client, small(user, times.now_ms(), mean=mean))
                time.sleep(0.05)
            process.kill()
            assert process.stdout is not None
            rows = list(csv.DictReader(process.stdout))
        assert process.returncode == 0
    assert [(row["user"], row["mean"]) for row in rows] == [("web-1", "0.5")] * 2
