"""Advice: each host gets one, the same in findings and tables, and none that its load does not bear."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analytics import connect
from analytics.reports import making
from analytics.reports.data import ReportQuestion
from analytics.reports.model import ReportDocument
from tests.support.fleet_reports import START, found, noise, report_on


@pytest.fixture(scope="module")
def advised(tmp_path_factory: pytest.TempPathFactory) -> ReportDocument:
    """Ten days of hosts of four cores: some hot, some idle, some too large, some gone, some at the target."""
    gone = noise(0.95)
    gone[150:] = np.nan
    loads = {f"hot-{number:02}": noise(0.9) for number in range(30)}
    loads |= {f"idle-{number}": noise(0.03) for number in range(3)} | {
        f"large-{number}": noise(0.2) for number in range(28)
    }
    loads |= {"at-target": np.full(240, 0.8), "gone": gone, "right": noise(0.7)}
    return report_on(tmp_path_factory.mktemp("advised"), loads, cores=dict.fromkeys(loads, 4))


def column(report: ReportDocument, table: str, name: str) -> dict[object, object]:
    """The cells of a column, by host."""
    [chosen] = [one for one in report.tables() if one.name == table]
    place = [column.name for column in chosen.columns].index(name)
    return {row[0]: row[place] for row in chosen.rows}


def test_a_host_gets_one_advice_the_same_in_findings_and_tables(advised: ReportDocument) -> None:
    advice = column(advised, "all-machines", "advice")
    for kind, said in (("hot", "hot"), ("idle", "idle"), ("size", "too big")):
        named_so = [set(finding.numbers["names"]) for finding in found(advised, kind)]  # type: ignore[arg-type]
        assert {name for name, what in advice.items() if what == said} in named_so
    assert [advice[name] for name in ("at-target", "gone", "right")] == ["", "", ""]
    [hot] = found(advised, "hot")
    small, big = (set(finding.numbers["names"]) for finding in found(advised, "size"))  # type: ignore[arg-type]
    [idle] = found(advised, "idle")
    assert small == set(hot.numbers["names"])  # type: ignore[arg-type]
    assert not big & small and not big & set(idle.numbers["names"])  # type: ignore[arg-type]
    assert any("1 silent host got no advice." in caveat for caveat in advised.caveats)


def test_what_it_needs_shows_first_who_needs_more(advised: ReportDocument) -> None:
    verdicts = [*column(advised, "sizes-table", "verdict").values()]
    assert verdicts == ["too small"] * 25
    [picture] = [picture for picture in advised.pictures() if picture.name == "sizes"]
    assert str(picture.figure.layout.title.text).startswith("30 hosts should be larger, by ")


def test_everyone_is_listed_behind_a_finding_that_names_some(advised: ReportDocument) -> None:
    for finding in advised.findings:
        names = finding.numbers.get("names")
        if isinstance(names, list) and len(names) > 1:
            assert finding.everyone is not None
            assert {row[0] for row in finding.everyone.rows} == set(names)
            assert finding.everyone.title.startswith(f"All {len(names)} ")


@pytest.mark.parametrize(
    ("hosts", "bands"),
    [
        (1, []),
        (2, ["both hosts"]),
        (7, ["all 7 hosts"]),
        (20, ["90 of 100 hosts", "50 of 100 hosts"]),
    ],
)
def test_a_band_is_called_what_it_is(tmp_path: Path, hosts: int, bands: list[str]) -> None:
    report = report_on(tmp_path, {f"machine-{number:02}": noise(0.2 + 0.02 * number, 48) for number in range(hosts)})
    [trend] = [picture for picture in report.pictures() if picture.name == "trend"]
    assert [trace.name for trace in trend.figure.data] == [*bands, "mean"]
    assert ("bands are" in trend.note) == (len(bands) == 2) and ("band is" in trend.note) == (len(bands) == 1)


def test_a_host_whose_load_may_reach_the_target_is_not_told_to_shrink(tmp_path: Path) -> None:
    rising = {"rises": (np.linspace(0.05, 0.75, 480) + np.random.default_rng(1).normal(0, 0.01, 480)).clip(0, 1)}
    times = pd.date_range(START, periods=480, freq="1h")
    pd.DataFrame({"time": times, "user": "rises", "value": rising["rises"]}).to_parquet(tmp_path / "one.parquet")
    with connect(tmp_path / "one.parquet") as source:
        report = making.user(source, "rises", ReportQuestion(target=0.9), made_ms=0, named="a test")
    coming = [finding.severity for finding in found(report, "forecast")]
    told = " ".join(finding.action for finding in report.findings)
    assert coming in (["watch"], ["act"]) and "Make it smaller" not in told


def test_one_host_is_it_and_several_are_they(tmp_path: Path) -> None:
    loads = {"hot": noise(0.9), "idle": noise(0.03), "plain": noise(0.4), "large": noise(0.2)}
    report = report_on(tmp_path, loads, cores=dict.fromkeys(loads, 4))
    said = " ".join(
        [*(f"{finding.sentence} {finding.action}" for finding in report.findings), *report.caveats]
        + [table.title for table in report.tables()]
        + [str(picture.figure.layout.title.text) for picture in report.pictures()]
    )
    assert re.findall(r"\b1 (?:hosts|cores|anomalies|busiest|days)\b", said) == []
    assert "Switch it off" in said and "The hot host" in said and "away from it" in said
