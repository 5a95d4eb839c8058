"""Whatever a fleet does, what a report says of a host, of the fleet and of its range does not contradict itself."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics import connect
from analytics.reports import making
from analytics.reports.data import ReportQuestion
from analytics.reports.model import Finding, ReportDocument
from tests.support.fleet_reports import START, Loads, found, noise, report_on

HOURS = 240
HALF = np.arange(HOURS) < HOURS // 2


def who(report: ReportDocument, kind: str, **numbers: str) -> set[str]:
    """The hosts that findings of a kind name, those with such `numbers`."""
    return {
        str(name)
        for finding in found(report, kind)
        if numbers.items() <= finding.numbers.items()
        for name in finding.numbers.get("names", [])  # type: ignore[union-attr]
    }


def said(report: ReportDocument) -> str:
    return " ".join(f"{finding.sentence} {finding.action}" for finding in report.findings)


def one_host(folder: Path, load: "np.ndarray[Any, Any]") -> ReportDocument:
    times = pd.date_range(START, periods=len(load), freq="1h")
    pd.DataFrame({"time": times, "user": "it", "value": load}).dropna().to_parquet(folder / "one.parquet")
    with connect(folder / "one.parquet") as source:
        return making.user(source, "it", ReportQuestion(), made_ms=0, named="a test")


def test_nobody_is_told_to_relieve_a_host_that_has_fallen(tmp_path: Path) -> None:
    loads = {"falls": noise(0.1) + np.where(HALF, 0.8, 0.2), "hot": noise(0.9), "plain": noise(0.6)}
    report = report_on(tmp_path, loads)
    assert who(report, "change", way="fell") == {"falls"}
    assert who(report, "hot") == {"hot"} and who(report, "size") <= {"hot"}
    [told] = [finding for finding in found(report, "load") if "falls" in finding.sentence]
    assert told.sentence == "1 host was hot, and has fallen since: “falls”."
    advice = {row[0]: row[-1] for table in report.tables() if table.name == "all-machines" for row in table.rows}
    assert advice == {"falls": "changed", "hot": "hot", "plain": ""}
    alone = one_host(tmp_path, loads["falls"])
    assert not found(alone, "hot") and not found(alone, "size")
    assert "was hot" in found(alone, "load")[0].sentence


def test_a_host_that_fell_shortly_before_the_end_counts_as_fallen(tmp_path: Path) -> None:
    """Most of its later half is hot; its last day is not."""
    loads = {"falls": np.where(np.arange(HOURS) < 150, noise(0.9), noise(0.2)), "plain": noise(0.3)}
    report = report_on(tmp_path, loads)
    assert who(report, "load") == {"falls"} and not who(report, "hot")


def test_a_host_that_fell_and_is_hot_still_is_hot(tmp_path: Path) -> None:
    peaks = np.where(np.arange(HOURS) % 8 == 0, 0.95, 0.3)
    loads = {"falls": np.where(HALF, noise(0.95), peaks), "plain": noise(0.3)}
    report = report_on(tmp_path, loads)
    assert who(report, "change", way="fell") == {"falls"} and who(report, "hot") == {"falls"}


def test_nobody_is_told_to_shrink_or_end_a_host_that_has_risen(tmp_path: Path) -> None:
    loads = {"rises": noise(0.02) + np.where(HALF, 0.0, 0.25), "large": noise(0.1), "plain": noise(0.6)}
    report = report_on(tmp_path, loads, cores=dict.fromkeys(loads, 16))
    assert who(report, "change", way="rose") == {"rises"}
    assert "rises" not in who(report, "size") | who(report, "idle")
    alone = one_host(tmp_path, loads["rises"])
    assert not re.search(r"Switch it off|Make it smaller", said(alone))


def test_of_a_silent_host_it_is_said_that_it_is_and_nothing_else(tmp_path: Path) -> None:
    silent = noise(0.95)
    silent[-10:] = np.nan
    report = report_on(tmp_path, {"silent": silent, "plain": noise(0.5)})
    assert who(report, "coverage") == {"silent"}
    assert "silent" not in who(report, "hot") | who(report, "size")
    assert "1 silent host got no advice." in report.caveats


def test_no_host_is_hot_is_not_said_to_mean_that_none_was_above(tmp_path: Path) -> None:
    report = report_on(tmp_path, {"falls": np.where(HALF, noise(0.9), noise(0.3)), "plain": noise(0.3)})
    [hot] = found(report, "hot")
    assert hot.sentence == "No host is hot: the one with more than 5 of 100 samples above 80 % has fallen since."


def test_a_host_that_needs_more_shares_with_nobody(tmp_path: Path) -> None:
    hours = np.arange(12 * 24) % 24
    loads = {"by day": np.where((hours >= 8) & (hours < 16), 0.97, 0.1), "by night": np.where(hours < 8, 0.6, 0.05)}
    report = report_on(tmp_path, loads, cores={"by day": 8, "by night": 16})
    assert who(report, "hot") == {"by day"} and not found(report, "pairs")


def test_a_mean_that_rises_week_by_week_is_not_called_alike(tmp_path: Path) -> None:
    """Both periods differ by less than is worth a look, and the trend is told all the same."""
    rising = np.linspace(0.1, 0.13, HOURS)
    report = report_on(tmp_path, {f"machine-{number}": noise(0) + rising for number in range(4)})
    assert found(report, "trend")
    [change] = found(report, "change")
    assert change.sentence.startswith("The fleet's load rose a little, from 11.")
    assert not re.search("hardly|alike|would explain", change.sentence)


def test_no_trend_is_told_against_what_the_periods_say(tmp_path: Path) -> None:
    """Those that were there throughout rise; what others did, who came and went, weighs more."""
    loads = {f"lasting-{number}": noise(0) + np.linspace(0.2, 0.3, HOURS) for number in range(3)}
    for number in range(9):
        load = np.where(HALF, noise(0.6), noise(0.3))
        load[40 : 40 + 60] = load[150 : 150 + 60] = np.nan
        loads[f"falling-{number}"] = load
    report = report_on(tmp_path, loads)
    [change] = [finding for finding in found(report, "change") if "hedges_g" in finding.numbers]
    assert change.numbers["change"] < -0.02 and not found(report, "trend")  # type: ignore[operator]
    assert any("No trend is told" in caveat for caveat in report.caveats)


def test_the_range_that_is_told_ends_with_the_data(tmp_path: Path) -> None:
    """Buckets are of 15 minutes here; the last has begun, and is not over."""
    times = pd.date_range(START, periods=8 * 24 * 60 + 5, freq="1min")
    frame = pd.DataFrame({"time": times, "user": "it", "value": 0.3})
    frame.to_parquet(tmp_path / "short.parquet")
    last_ms = times[-1].value // 1_000_000
    with connect(tmp_path / "short.parquet") as source:
        reports = [
            making.fleet(source, ReportQuestion(), made_ms=last_ms, named="a test"),
            making.user(source, "it", ReportQuestion(), made_ms=last_ms, named="a test"),
            making.fleet(source, ReportQuestion(last_ms=7 * 86_400_000), made_ms=last_ms, named="a test"),
        ]
    for report in reports:
        assert report.end_ms <= last_ms + 60_000
        moments = re.findall(r"2026-\d\d-\d\d \d\d:\d\d(?::\d\d)? UTC", " ".join(
            [report.subject, *(text for _, text in report.facts), *(section.intro for section in report.sections)]
        ))  # fmt: skip
        assert max(moments) <= "2026-03-10 00:05 UTC"
        columns = [
            (row, place) for table in report.tables() for place, column in enumerate(table.columns)
            if column.name == "last data" for row in table.rows
        ]  # fmt: skip
        assert all(row[place] <= last_ms + 60_000 for row, place in columns)  # type: ignore[operator]
        assert re.search(r"(100\.0|9\d\.\d) % of", dict(report.facts)["Coverage"])


LEVEL = st.sampled_from([0.02, 0.1, 0.3, 0.6, 0.85, 0.97])


@st.composite
def load(draw: st.DrawFn) -> "np.ndarray[Any, Any]":
    """Hours of a host: two levels with a step or a slope between them, perhaps busy by day, perhaps silent at last."""
    first, last = draw(LEVEL), draw(LEVEL)
    at, width = draw(st.integers(20, HOURS - 20)), draw(st.sampled_from([1, 60, 2 * HOURS]))
    way = ((np.arange(HOURS) - at) / width + 0.5).clip(0, 1)
    day = draw(st.sampled_from([0.0, 0.05, 0.3])) * np.sin(np.arange(HOURS) / 24 * 2 * np.pi)
    random = np.random.default_rng(draw(st.integers(0, 99)))
    load = (first + (last - first) * way + day + random.normal(0, 0.01, HOURS)).clip(0, 1)
    silent = draw(st.sampled_from([0, 0, 0, 12, 60]))
    load[HOURS - silent :] = np.nan
    return np.asarray(load)


def check(report: ReportDocument) -> None:
    """What no report may say."""
    hot, idle, silent = who(report, "hot"), who(report, "idle"), who(report, "coverage")
    small, big = (
        {str(name) for finding in found(report, "size") if key in finding.numbers for name in finding.numbers["names"]}  # type: ignore[union-attr]
        for key in ("missing", "saved")
    )
    rose = who(report, "change", way="rose")
    assert small <= hot and not hot & idle and not big & (hot | idle)
    assert not (hot | idle | big) & silent or len(silent) == len(report_rows(report))
    assert not (idle | big) & rose
    pairs = [row for table in report.tables() if table.name == "pairs" for row in table.rows]
    paired = {str(name) for row in pairs for name in row[:2]}
    assert not paired & (hot | silent)
    for name, row in report_rows(report).items():
        told = "hot" if name in hot else "idle" if name in idle else "too big" if name in big else ""
        assert row[-1] == told or (not told and row[-1] == "changed")
    check_course(report)
    sections = {section.title for section in report.sections} | {"The data"}
    assert {name for finding in report.findings for name in re.findall("“([A-Z][^”]*)”", finding.action)} <= sections


def report_rows(report: ReportDocument) -> dict[str, Any]:
    [rows] = [table.rows for table in report.tables() if table.name == "all-machines"]
    return {str(row[0]): row for row in rows}


def check_course(report: ReportDocument) -> None:
    """Trend, periods and level agree on where the fleet goes, or one of them is not told."""
    changes: list[Finding] = [finding for finding in found(report, "change") if "hedges_g" in finding.numbers]
    for trend in found(report, "trend"):
        for change in changes:
            assert trend.numbers["per_week"] * change.numbers["change"] > 0  # type: ignore[operator]
            assert not re.search("hardly|alike|would explain", change.sentence)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(load(), min_size=1, max_size=5), st.booleans())
def test_a_report_on_any_fleet_agrees_with_itself(loads: list["np.ndarray[Any, Any]"], sized: bool) -> None:
    named: Loads = {f"host-{number}": load for number, load in enumerate(loads)}
    with tempfile.TemporaryDirectory() as folder:
        check(report_on(Path(folder), named, **({"cores": dict.fromkeys(named, 8)} if sized else {})))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(load())
def test_a_report_on_any_host_agrees_with_itself(load: "np.ndarray[Any, Any]") -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = one_host(Path(folder), load)
    kinds = {finding.kind for finding in report.findings}
    assert not {"hot", "idle"} <= kinds
    [change] = [finding for finding in found(report, "change") if "hedges_g" in finding.numbers]
    more = re.search("Give it|Move work away", said(report))
    less = re.search("Switch it off|Make it smaller", said(report))
    assert not (more and less)
    if change.numbers["change"] < -0.2 and load[~np.isnan(load)][-24:].max() < 0.7:  # type: ignore[operator]
        assert not found(report, "hot")
    if [finding for finding in found(report, "forecast") if finding.severity != "note"]:
        assert not less


@pytest.mark.parametrize("number", [1, 2])
def test_one_is_one_and_several_are_several(tmp_path: Path, number: int) -> None:
    falls = {f"falls-{place}": np.where(HALF, noise(0.9), noise(0.3)) for place in range(number)}
    report = report_on(tmp_path, {**falls, "plain": noise(0.3), "other": noise(0.35)})
    assert not re.search(r"\b1 (?:hosts|\w+ hosts|samples|windows)\b|\b1 host (?:were|have)\b", said(report))
