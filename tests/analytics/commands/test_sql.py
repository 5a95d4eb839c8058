"""`loadlens-analytics sql`: questions in SQL to files and to a service, which reach nothing else."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

import analytics
from analytics.cli import main
from analytics.sources.sql import SqlError, ask
from tests.support.small_fleet import HOUR, SAMPLES, USERS


def frame_of(values: list[float], user: str = "web-1", metric: str = "cpuUtilization") -> pd.DataFrame:
    times = pd.date_range("2026-03-01T10:00Z", periods=len(values), freq="1min", name="time")
    users = pd.Categorical([user] * len(values))
    return analytics.frame_of_values(pd.DataFrame({"value": values, "user": users}, times), metric=metric)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A folder with CPU of two hosts and load of one."""
    cpu = pd.concat([frame_of([0.25, 0.5, 0.75]), frame_of([1.0, 0.0], "web-2")])
    cpu["user"] = cpu["user"].astype("category")
    cpu.attrs = {"metric": "cpuUtilization"}
    cpu.to_parquet(tmp_path / "cpu.parquet")
    frame_of([3.0], metric="load1m").to_parquet(tmp_path / "load.parquet")
    return tmp_path


def answered(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, str]]:
    assert main(["sql", *map(str, arguments)]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_files_are_asked_in_sql(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "SELECT user, avg(mean) AS mean FROM windows WHERE metric = 'cpuUtilization' GROUP BY 1 ORDER BY 1"
    assert answered(capsys, query, "--data", fleet) == [
        {"user": "web-1", "mean": "0.5"}, {"user": "web-2", "mean": "0.5"},
    ]  # fmt: skip
    query = "SELECT min(time) AS first, max(max) AS load FROM windows WHERE metric LIKE 'load%'"
    assert answered(capsys, query, "--data", fleet) == [{"first": "2026-03-01T10:00:00Z", "load": "3.0"}]


def test_histograms_are_numbers(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = (
        "SELECT sum(count) FILTER (value >= 0.5) AS hot, sum(count) AS every FROM bins WHERE metric = 'cpuUtilization'"
    )
    assert answered(capsys, query, "--data", fleet) == [{"hot": "3", "every": "5"}]


def test_answers_are_written_as_parquet(fleet: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "answer.parquet"
    out.parent.mkdir()
    assert main(["sql", "SELECT time, mean FROM windows ORDER BY mean", "--data", str(fleet), "--out", str(out)]) == 0
    found = pd.read_parquet(out)
    assert found["mean"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 3.0]
    assert str(found["time"].dtype) == "datetime64[ms, UTC]"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DROP TABLE windows", "expected one SELECT"),
        ("SELECT 1; SELECT 2", "expected one SELECT, got 2 statements"),
        ("COPY windows TO '{folder}/stolen.csv'", "expected one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("SELECT * FROM '/etc/passwd'", "does not exist"),
        ("SELECT content FROM read_text('/etc/passwd')", "disabled"),
        ("ATTACH '{folder}/other.db'", "expected one SELECT"),
        ("INSTALL httpfs", "expected one SELECT"),
        ("SET enable_external_access = true", "expected one SELECT"),
        ("INSERT INTO windows SELECT * FROM windows", "expected one SELECT"),
        ("SELECT * FROM frames", "does not exist"),
        ("SELEKT", "syntax error"),
        ("SELECT nothing FROM windows", "nothing"),
        ("", "expected one SELECT, got 0 statements"),
    ],
)
def test_a_question_reads_no_file_and_changes_nothing(tmp_path: Path, query: str, said: str) -> None:
    with pytest.raises(SqlError, match=said):
        ask(query.format(folder=tmp_path), [frame_of([0.5])])
    assert [*tmp_path.iterdir()] == []


def test_a_wrong_question_is_one_failure(fleet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "SELECT nothing FROM windows", "--data", str(fleet)]) == 1
    assert capsys.readouterr().err.startswith("loadlens-analytics: error: ")


@pytest.mark.server
def test_a_service_is_asked_in_sql(service_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    query = "SELECT user, sum(count) AS samples FROM windows GROUP BY 1 ORDER BY 1"
    found = answered(capsys, query, "--url", service_url, "--start", HOUR["start"], "--end", HOUR["end"])
    samples = {user: sum(map(len, SAMPLES[user])) for user in USERS}
    assert {row["user"]: float(row["samples"]) for row in found} == {user: samples[user] for user in USERS}


def test_every_column_has_a_name_of_its_own() -> None:
    found = ask("SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a", [])
    assert list(found.columns) == ["a", "a_1_", "a_1", "a_3"]
    assert found.iloc[0].tolist() == [1, 2, 3, 4]
