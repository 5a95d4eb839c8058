"""Hosts that grow, come and go: each counts by the cores that it had and the time it was seen."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analytics import connect
from analytics.frames.frame import frame_of_values
from analytics.reports import making
from analytics.reports.data import ReportQuestion
from tests.support.fleet_reports import START, found, noise, report_on


def test_what_a_fleet_used_is_of_its_cores_where_these_are_known(tmp_path: Path) -> None:
    loads = {"large": np.full(240, 0.1), "small": np.full(240, 0.9)}
    report = report_on(tmp_path, loads, cores={"large": 64, "small": 2})
    [finding] = found(report, "level")
    assert "used 12.4 % of 66 cores" in finding.sentence
    assert finding.numbers["mean"] == pytest.approx((64 * 0.1 + 2 * 0.9) / 66)
    assert finding.numbers["idle_cores"] == pytest.approx(66 - (64 * 0.1 + 2 * 0.9))
    [heat] = [picture for picture in report.pictures() if picture.name == "machines-over-time"]
    assert "did 78.0 % of all work" in str(heat.figure.layout.title.text)


def grown(folder: Path) -> Path:
    """A file of a host of 4 cores at 80 %, then of 8 at 40 %, beside one of 2 at 50 %, with the single cores."""
    times = pd.date_range(START, periods=240, freq="1h", name="time", tz="UTC")
    rows = []
    for name, load, cores in (
        ("grown", np.repeat([0.8, 0.4], 120), np.repeat([4, 8], 120)),
        ("small", np.full(240, 0.5), np.full(240, 2)),
    ):
        for core in (None, *range(8)):
            there = np.full(240, True) if core is None else core < cores
            single = pd.DataFrame({"user": name, "value": load[there]}, times[there])
            rows.append(frame_of_values(single).assign(core=pd.array([core] * len(single), "Int64")))
    pd.concat(rows).astype({"user": "category"}).to_parquet(folder / "grown.parquet")
    return folder / "grown.parquet"


def test_hosts_weigh_by_the_cores_that_they_had_at_the_time(tmp_path: Path) -> None:
    with connect(grown(tmp_path)) as source:
        report = making.fleet(source, ReportQuestion(), made_ms=0, named="a test")
    [level] = found(report, "level")
    assert level.numbers["mean"] == pytest.approx(4.2 / 8)
    assert (level.numbers["cores"], level.numbers["idle_cores"]) == (8, pytest.approx(3.8))
    [change] = [finding for finding in found(report, "change") if "before" in finding.numbers]
    assert (change.numbers["before"], change.numbers["after"]) == (pytest.approx(4.2 / 6), pytest.approx(4.2 / 10))
    [table] = [table for table in report.tables() if table.name == "sizes-table"]
    sizes = {row[0]: row for row in table.rows}
    needed = [column.name for column in table.columns].index("needed")
    assert (sizes["grown"][needed], sizes["small"][needed]) == (4, 2)


def test_a_host_that_grew_is_sized_by_the_cores_that_it_used(tmp_path: Path) -> None:
    with connect(grown(tmp_path)) as source:
        report = making.user(source, "grown", ReportQuestion(), made_ms=0, named="a test")
    [picture] = [picture for picture in report.pictures() if picture.name == "sizes"]
    assert "has 8 cores and needs 4" in str(picture.figure.layout.title.text)


@pytest.mark.parametrize("cores", [{}, {"large": 64}])
def test_where_cores_are_not_known_it_is_the_mean_of_the_hosts(tmp_path: Path, cores: dict[str, int]) -> None:
    loads = {"large": np.full(240, 0.1), "small": np.full(240, 0.9)}
    report = report_on(tmp_path, loads, cores={"small": None, **cores})
    [finding] = found(report, "level")
    assert finding.sentence.startswith("The mean of the 2 hosts was 50.0 %")
    assert any("the cores of some are not known" in caveat for caveat in report.caveats)


def test_a_time_with_few_of_the_hosts_says_nothing_of_the_fleet(tmp_path: Path) -> None:
    alone = np.concatenate([np.full(240, np.nan), [1.0, 1.0]])
    others = np.append(noise(0.2), [np.nan, np.nan])
    report = report_on(tmp_path, {f"plain-{number}": others for number in range(6)} | {"alone": alone})
    [level] = found(report, "level")
    assert level.numbers["peak"] < 0.4
    assert "Nothing unusual in the mean of the 6 hosts seen throughout" in found(report, "anomaly")[0].sentence


def test_who_comes_and_goes_is_no_change_of_load(tmp_path: Path) -> None:
    """Busy hosts join halfway: the mean of whoever reports rises, and no host does more than before."""
    late = noise(0.8)
    late[:120] = np.nan
    loads = {f"old-{number}": noise(0.2) for number in range(4)} | {f"new-{number}": late for number in range(4)}
    report = report_on(tmp_path, loads)
    [change] = found(report, "change")
    assert "hardly changed" in change.sentence
    assert not found(report, "trend")
    assert any("4 hosts seen in both" in section.intro for section in report.sections)


def test_hosts_that_join_are_no_anomaly_of_the_fleet(tmp_path: Path) -> None:
    """The mean of whoever reports jumps by 12 points when they do."""
    late = noise(0.8, 480)
    late[:400] = np.nan
    loads = {f"old-{number}": noise(0.2, 480) for number in range(8)} | {f"new-{number}": late for number in range(2)}
    [anomaly] = found(report_on(tmp_path, loads), "anomaly")
    assert "Nothing unusual in the mean of the 8 hosts seen throughout" in anomaly.sentence
    # What happens to all of these is one still.
    for number in range(8):
        loads[f"old-{number}"][440:] += 0.5
    [anomaly] = found(report_on(tmp_path, loads), "anomaly")
    assert "The fleet was unlike itself" in anomaly.sentence


def test_nothing_is_told_of_a_trend_where_nobody_is_there_throughout(tmp_path: Path) -> None:
    loads = {}
    for number in range(8):
        load = noise(0.1 * number)
        load[: 20 * number] = np.nan
        load[20 * number + 100 :] = np.nan
        loads[f"machine-{number}"] = load
    report = report_on(tmp_path, loads)
    assert not found(report, "trend")
    assert any("No trend is told" in caveat for caveat in report.caveats)


def test_who_comes_and_goes_is_no_forecast(tmp_path: Path) -> None:
    late = noise(0.9)
    late[:120] = np.nan
    loads = {f"old-{number}": noise(0.2) for number in range(4)} | {f"new-{number}": late for number in range(8)}
    report = report_on(tmp_path, loads)
    [coming] = found(report, "forecast")
    assert coming.sentence.startswith("The mean of the 4 hosts seen throughout is expected to stay below 2")
