"""The command line, run as a person or a script runs it, against a running service."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analytics import cli, connect
from contract import __version__
from contract.metrics import NAMES
from tests.support import preloaded
from tests.support.small_fleet import HOUR, OLD, SAMPLES, USERS
from tests.support.terminals import environment, run_on_terminal

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[3]
USER = next(iter(USERS))
RANGE = ("--start", HOUR["start"], "--end", HOUR["end"])
COMMANDS = ("history", "fleet", "users", "metrics")
Finished = subprocess.CompletedProcess[str]


def run(*arguments: str, **variables: str) -> Finished:
    return preloaded.run("analytics", *arguments, environment=environment(**variables))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_piped_history_is_csv(service_url: str) -> None:
    finished = run("history", USER, *RANGE, "--rate", "15m", "--url", service_url)
    assert finished.returncode == 0
    assert finished.stderr == ""
    answered = rows(finished.stdout)
    assert [row["time"] for row in answered] == [f"2018-07-12T12:{minute:02}:00Z" for minute in (0, 15, 30, 45)]
    first = sum(part.sum() for part in SAMPLES[USER][:15]) / sum(map(len, SAMPLES[USER][:15]))
    assert float(answered[0]["value"]) == pytest.approx(first, rel=1e-12)


def test_the_range_may_be_said_by_its_length(service_url: str) -> None:
    finished = run("history", USER, "--end", HOUR["end"], "--last", "30m", "--rate", "90s", LOADLENS_URL=service_url)
    answered = rows(finished.stdout)
    assert (answered[0]["time"], answered[-1]["time"]) == ("2018-07-12T12:30:00Z", "2018-07-12T12:58:30Z")


@pytest.mark.parametrize(("last", "every"), [("10m", "1m"), ("1h", "1m"), ("6h", "5m"), ("1d", "15m")])
def test_buckets_are_as_wide_as_fits_the_range(service_url: str, last: str, every: str) -> None:
    finished = run("fleet", "--last", last, "--end", HOUR["end"], LOADLENS_URL=service_url)
    times = pd.to_datetime([row["time"] for row in rows(finished.stdout)])
    assert times.diff().min() == pd.Timedelta(every)  # windows come once a minute


def test_every_form_holds_the_same_numbers(service_url: str, tmp_path: Path) -> None:
    question = ("fleet", "--by", "user", "--top", "2", "--stat", "p95", *RANGE, "--url", service_url)
    for name in ("a.csv", "a.json", "a.parquet"):
        assert run(*question, "--out", str(tmp_path / name)).returncode == 0
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert str(frame.index.dtype) == "datetime64[ms, UTC]"
    from_json = json.loads((tmp_path / "a.json").read_text())
    from_csv = rows((tmp_path / "a.csv").read_text())
    assert [row["value"] for row in from_json] == [float(row["value"]) for row in from_csv] == frame["value"].tolist()
    assert [row["user"] for row in from_json] == [row["user"] for row in from_csv] == frame["user"].tolist()
    assert [row["time"] for row in from_json] == [row["time"] for row in from_csv]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "a.parquet"]


def test_windows_go_into_a_file_that_the_library_reads(service_url: str, tmp_path: Path) -> None:
    out = tmp_path / "fleet.parquet"
    assert run("fleet", "--windows", "--by", "user", *RANGE, "--url", service_url, "--out", str(out)).returncode == 0
    frame = connect(out).fleet(rate="1h", by="user")
    assert frame["user"].tolist() == sorted(USERS)
    assert frame["count"].sum() == sum(len(part) for parts in SAMPLES.values() for part in parts)
    [row] = rows(run("fleet", "--windows", "--rate", "1h", *RANGE, "--url", service_url).stdout)
    assert [*row] == ["time", "metric", "count", "mean", "var", "min", "max", "approximated"]


def test_users_and_metrics_are_listed(service_url: str) -> None:
    users = json.loads(run("users", "--format", "json", "--url", service_url).stdout)
    assert {user["user"]: user["os_type"] for user in users} == {**USERS, OLD: "Linux"}
    assert users[0]["last_seen"] == "2018-07-12T12:59:00Z"
    metrics = rows(run("metrics", "--url", service_url).stdout)
    assert [metric["metric"] for metric in metrics] == list(NAMES)


def test_a_terminal_shows_a_chart_and_a_table(service_url: str) -> None:
    shown = run_on_terminal(service_url, "history", USER, *RANGE, "--rate", "1m")
    assert shown.startswith(f"cpuLoadAvg (mean) of {USER}, every 1m\n")
    assert "█" in shown
    assert re.search(r"2018-07-12T12:00:00Z +\d+\.\d%", shown)
    assert "... 36 more" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_a_terminal_shows_the_course_of_each_group(service_url: str) -> None:
    shown = run_on_terminal(service_url, "fleet", *RANGE, "--by", "user", "--rate", "1m")
    lines = [line for line in shown.splitlines() if re.search("[▁-█]", line)]
    assert [line.split()[0] for line in lines] == ["..", "büro/3", USER]


def test_no_host_can_tell_the_terminal_what_to_do(service_url: str) -> None:
    assert "[red]9[/red]" in run_on_terminal(service_url, "users")


@pytest.mark.parametrize("command", [("users",), ("metrics",), ("fleet", "--by", "user", *RANGE), ("history", USER)])
def test_a_narrow_terminal_without_blocks_is_enough(service_url: str, command: tuple[str, ...]) -> None:
    shown = run_on_terminal(service_url, *command, columns=60, PYTHONIOENCODING="ascii")
    assert shown.isascii()
    assert max(map(len, shown.splitlines())) <= 60


def test_approximate_answers_say_so_beside_the_data(service_url: str) -> None:
    finished = run(
        "history", OLD, "--start", "2018-07-12", "--end", "2018-07-13", "--stat", "p95", "--url", service_url
    )
    assert [row["time"] for row in rows(finished.stdout)] == ["2018-07-12T13:30:00Z"]
    assert finished.stderr.startswith("Approximate: ")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("history",), "USER_ID"),
        (("history", USER, "--rate", "15M"), "months"),
        (("history", USER, "--stat", "p42"), "p50"),
        (("history", USER, "--start", "yesterday"), "ISO 8601"),
        (("history", USER, "--last", "1d", "--start", "0"), "--start"),
        (("history", USER, "--windows", "--stat", "p95"), "--windows"),
        (("history", USER, "--windows", "--format", "table"), "--out"),
        (("history", USER, "--start", "2018-07-13", "--end", "2018-07-12"), "before"),
        (("fleet", "--top", "3"), "--by"),
        (("fleet", "--by", "colour"), "os_type"),
        (("users", "--url", "localhost:8888"), "http://"),
        (("users", "--token", "two words"), "--token"),
        (("users", "--format", "table", "--out", "x"), "terminals"),
        (("users", "--out", "/no/such/folder/x.csv"), "a folder that is there, got /no/such/folder/x.csv"),
        (("sql", "SELECT 1", "--out", "/tmp"), "a file as --out"),
        (("user",), "did you mean users"),
        (("--config", os.devnull), "a command is missing"),
    ],
)
def test_a_wrong_setting_gives_one_line_and_exit_code_2(arguments: tuple[str, ...], reason: str) -> None:
    finished = run(*arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    assert reason in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("history", "nobody"), "'nobody' has come in. `loadlens-analytics users` lists"),
        (("history", USER, "--metric", "cpuLoadAvgg"), "did you mean cpuLoadAvg"),
        (("history", USER, "--last", "3650d", "--rate", "1s"), "would do"),
        (("users", "--url", "http://127.0.0.1:9"), "cannot be reached"),
    ],
)
def test_a_failure_is_told_and_gives_exit_code_1(service_url: str, arguments: tuple[str, ...], reason: str) -> None:
    finished = run(*arguments, LOADLENS_URL=service_url)
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert reason in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_refusal_is_said_once(service_url: str) -> None:
    finished = run("fleet", "--metric", "cpuCoreLoadAvgMax", LOADLENS_URL=service_url)
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1, finished.stderr


def test_a_reader_that_has_seen_enough_is_no_failure(service_url: str) -> None:
    script = f"{sys.executable} -m analytics history {USER} {' '.join(RANGE)} --rate 1s | true"
    finished = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], cwd=ROOT, env=environment(LOADLENS_URL=service_url),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_without_loading_pandas(command: str) -> None:
    code = (
        "import sys; from analytics.cli import main\n"
        f"try: main(['{command}', '--help'])\n"
        "finally: assert not {'pandas', 'numpy', 'httpx'} & set(sys.modules)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert f"usage: loadlens-analytics {command}" in finished.stdout
    assert "LOADLENS_TOKEN" in finished.stdout


def test_help_lists_the_commands_and_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in shown
    assert "examples:" in shown
    assert "usage: loadlens-analytics COMMAND [settings]" in shown
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"loadlens-analytics {__version__}\n"


def test_settings_come_from_a_file_too(service_url: str, tmp_path: Path) -> None:
    config = tmp_path / "loadlens.toml"
    config.write_text(f'[analytics]\nurl = "{service_url}"\n[analytics.history]\nrate = "30m"\nstat = "count"\n')
    finished = run("history", USER, *RANGE, "--config", str(config))
    assert [float(row["value"]) for row in rows(finished.stdout)] == [
        sum(map(len, SAMPLES[USER][first : first + 30])) for first in (0, 30)
    ]
