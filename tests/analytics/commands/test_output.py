"""Charts keep peaks, show gaps, and fit their width."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.commands.output import chart, condensed, formatter, sparkline, write


def test_a_sparkline_shows_zero_the_highest_and_a_gap() -> None:
    assert sparkline(np.array([0.0, 0.5, np.nan, 1.0]), 1.0) == "▁▄ █"


def test_a_chart_of_several_lines_stacks_its_blocks() -> None:
    assert chart(np.array([0.25, 0.5, 0.75, 1.0]), 1.0, 2) == ["  ▄█", "▄███"]


def test_nothing_but_zeros_is_a_flat_line() -> None:
    assert sparkline(np.zeros(3), 0.0) == "▁▁▁"


@given(
    st.dictionaries(st.integers(0, 5000), st.floats(0, 1e12), min_size=1).map(lambda items: sorted(items.items())),
    st.integers(8, 200),
)
def test_no_peak_is_lost_however_narrow_the_chart(entries: list[tuple[int, float]], width: int) -> None:
    bucket, value = (np.array(column) for column in zip(*entries, strict=True))
    columns = condensed(bucket.astype(np.int64) * 60_000, value, 60_000, width)
    assert len(columns) <= width
    assert np.nanmax(columns) == value.max()
    assert columns[0] >= value[0]
    assert not np.isnan(columns[-1])


def test_few_values_are_drawn_wide() -> None:
    assert condensed(np.array([0, 2000]), np.array([1.0, 2.0]), 1000, 80).tolist()[::8][1:] == [
        pytest.approx(np.nan, nan_ok=True),
        2.0,
    ]


@pytest.mark.parametrize(
    ("unit", "stat", "value", "text"),
    [
        ("1", "mean", 0.2148, "21.5%"),
        ("1", "var", 0.005718669350831782, "0.005719"),
        ("By/s", "p99", 999.4, "999 B/s"),
        ("By/s", "p99", 999.6, "1 kB/s"),
        ("By/s", "mean", 123_456_789.0, "123 MB/s"),
        ("By/s", "mean", 5e18, "5e+03 PB/s"),
        ("By", "mean", 16_000_000_000.0, "16 GB"),
        ("Hz", "max", 2_600_000_000.0, "2.6 GHz"),
        ("Cel", "max", 71.5, "71.5 °C"),
        ("{operation}/s", "max", 12.5, "12.5 operation/s"),
        ("{process}", "mean", 0.25, "0.25 process"),
        ("1", "count", 12345.0, "12,345"),
    ],
)
def test_numbers_are_written_as_people_read_them(unit: str, stat: str, value: float, text: str) -> None:
    assert formatter(unit, stat)(value) == text


NAMES = ("=HYPERLINK(1)", "+1-2", "-x", "@SUM(A1)", "\tx", "web-1", "a=1", "", "'quoted")


def test_texts_in_csv_are_no_formulas_and_numbers_stay_numbers(tmp_path: Path) -> None:
    named = pd.Categorical([f"{name}!" for name in NAMES])
    frame = pd.DataFrame({"user": named, "group": NAMES, "value": [-0.5] * len(NAMES)})
    write(frame, "csv", tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["user", "group", "value"]
    for name, (user, group, value) in zip(NAMES, rows, strict=True):
        before = "'" if name[:1] in ("=", "+", "-", "@", "\t") else ""
        assert (user, group) == (f"{before}{name}!", f"{before}{name}")
        assert float(value) == -0.5


def test_names_are_as_they_are_where_no_spreadsheet_reads_them(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": pd.Categorical(NAMES), "value": [0.5] * len(NAMES)})
    write(frame, "json", tmp_path / "table.json")
    write(frame, "parquet", tmp_path / "table.parquet")
    assert [row["user"] for row in json.loads((tmp_path / "table.json").read_text())] == [*NAMES]
    assert pd.read_parquet(tmp_path / "table.parquet")["user"].tolist() == [*NAMES]
