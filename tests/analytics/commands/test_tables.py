"""Tables on a terminal of 80 characters: every column readable, whatever hosts are called."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from analytics.commands.output import show_groups
from analytics.commands.tables import show_rows

LONG = "planetlab1_with_a_name_longer_than_any_terminal_is_wide.dsl.example.org_uw_oneswarm"
MOMENT = pd.Timestamp("2026-11-29T11:45:30Z")


def shown(show: object, frame: pd.DataFrame, *arguments: object, width: int = 80, **options: object) -> list[str]:
    assert callable(show)
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show(console, frame, *arguments, **options)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def users(names: list[str]) -> pd.DataFrame:
    columns = {"user": names, "os_type": "Linux", "cores": 64, "first_seen": MOMENT, "last_seen": MOMENT, "note": None}
    return pd.DataFrame(columns, index=range(len(names)))


def test_a_long_name_goes_on_below_and_cuts_no_other_column() -> None:
    lines = shown(show_rows, users([LONG, "web-1"]), "nothing")
    assert not any("…" in line for line in lines)
    assert lines[0].split() == ["user", "os_type", "cores", "first_seen", "last_seen"]
    assert sum("2026-11-29 11:45  2026-11-29 11:45" in line for line in lines) == 2
    assert "".join(line.split()[0] for line in lines[1:-1]) == LONG


def test_names_that_people_copy_are_not_broken() -> None:
    name = "6a:d6:96:d3:45:35"
    frame = users([name]).assign(os_version="6.18.44-generic-and-more", labels="role=web,zone=eu-west-1,team=data")
    for width in (60, 80):
        assert any(line.startswith(f"{name} ") for line in shown(show_rows, frame, "nothing", width=width))


def test_columns_without_a_value_are_left_out_and_flags_are_words() -> None:
    frame = users(["web-1"]).assign(hot=True)
    lines = shown(show_rows, frame, "nothing")
    assert "note" not in lines[0] and lines[1].rstrip().endswith("yes")


def test_nothing_is_said_in_words() -> None:
    assert shown(show_rows, users([]), "Nothing has been reported yet.") == ["Nothing has been reported yet."]


def test_what_a_host_is_called_tells_the_terminal_nothing() -> None:
    assert not any("\x1b" in line for line in shown(show_rows, users(["\x1b[31mred [bold]x[/]"]), "nothing"))


@pytest.mark.parametrize("width", [80, 120])
def test_groups_have_their_whole_timeline_and_every_number(width: int) -> None:
    times = pd.date_range("2026-11-28", periods=96, freq="15min", tz="UTC")
    frame = pd.concat(
        [pd.DataFrame({"user": name, "value": np.linspace(0.1, 0.9, 96)}, index=times) for name in (LONG, "web-1")]
    )
    frame.attrs = {"unit": "1", "stat": "mean", "metric": "cpuLoadAvg"}
    lines = shown(show_groups, frame, "user", "15m", width=width)
    assert not any("…" in line for line in lines)
    assert max(map(len, lines)) <= width
    assert lines[2].split() == ["user", "over", "time", "lowest", "highest", "last"]
    assert sum(line.rstrip().endswith("10.0%    90.0%  90.0%") and "█" in line for line in lines) == 2
