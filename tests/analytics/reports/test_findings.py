"""Findings: they name who it is about, and nobody else."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analytics import connect
from analytics.frames.frame import to_frame
from analytics.reports import making
from analytics.reports.data import NothingThere, ReportQuestion
from analytics.reports.model import Finding, ReportDocument
from contract.histogram import LINEAR
from contract.times import DAY_MS
from tests.support.sampled_windows import windows_of

SAMPLE = Path(__file__).parents[3] / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
START = pd.Timestamp("2026-03-02")
STEPS = 10 * 24 * 4
GAP = slice(300, 420)
SILENT_FROM = STEPS - 3 * 24 * 4
STEP_AT = START + pd.Timedelta(days=5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten days in steps of 15 minutes, with a gap of 30 hours, of machines that each are something of their own."""
    random = np.random.default_rng(3)
    times = pd.date_range(START, periods=STEPS, freq="15min")
    day = 0.05 * np.sin(np.arange(STEPS) / 96 * 2 * np.pi)
    kept = np.ones(STEPS, bool)
    kept[GAP] = False
    levels = {
        "hot": np.full(STEPS, 0.9),
        "idle": np.full(STEPS, 0.03),
        "steps": np.where(times < STEP_AT, 0.2, 0.55),
        "silent": np.full(STEPS, 0.3),
        "plain-1": np.full(STEPS, 0.3),
        "plain-2": np.full(STEPS, 0.4),
    }
    parts = []
    for name, level in levels.items():
        value = (level + (day if name.startswith("plain") else 0) + random.normal(0, 0.01, STEPS)).clip(0, 1)
        chosen = kept & (np.arange(STEPS) < SILENT_FROM) if name == "silent" else kept
        parts.append(pd.DataFrame({"time": times, "user": name, "value": value})[chosen])
    path = tmp_path_factory.mktemp("findings") / "fleet.parquet"
    pd.concat(parts).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def fleet(path: Path) -> ReportDocument:
    """The report on all of them."""
    with connect(path) as source:
        return making.fleet(source, ReportQuestion(), made_ms=0, named="a test")


def of_machine(path: Path, name: str) -> ReportDocument:
    with connect(path) as source:
        return making.user(source, name, ReportQuestion(), made_ms=0, named="a test")


def found(report: ReportDocument, kind: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == kind]


def named(report: ReportDocument, kind: str) -> list[object]:
    return [finding.numbers["names"] for finding in found(report, kind) if "names" in finding.numbers]


def test_the_hot_and_the_idle_are_named(fleet: ReportDocument) -> None:
    assert named(fleet, "hot") == [["hot"]]
    assert named(fleet, "idle") == [["idle"]]
    assert found(fleet, "hot")[0].severity == "act"


@pytest.mark.parametrize("last_ms", [1000, 900_000, 4 * 3_600_000])
def test_nobody_is_called_hot_or_idle_who_was_hardly_seen(path: Path, last_ms: int) -> None:
    with connect(path) as source:
        report = making.fleet(source, ReportQuestion(last_ms=last_ms), made_ms=0, named="a test")
        alone = making.user(source, "idle", ReportQuestion(last_ms=last_ms), made_ms=0, named="a test")
    assert not [finding for kind in ("hot", "idle", "size") for finding in found(report, kind) + found(alone, kind)]
    assert any("got no advice" in caveat for caveat in report.caveats)


def test_how_far_off_shares_of_time_may_be_is_said_and_holds(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    times = pd.date_range(START, periods=200, freq="5min", tz="UTC", unit="ms").asi8.tolist()
    samples = {name: [random.uniform(low, high, 50) for _ in times]
               for name, low, high in (("at", 0.798, 0.801), ("around", 0.3, 0.9), ("below", 0.1, 0.3))}  # fmt: skip
    labels = [(user, time) for user in range(len(samples)) for time in times]
    windows = windows_of(labels, [part for parts in samples.values() for part in parts], LINEAR)
    to_frame(windows, pd.DataFrame({"user": [*samples]})).to_parquet(tmp_path / "fleet.parquet")
    with connect(tmp_path / "fleet.parquet") as source:
        report = making.fleet(source, ReportQuestion(), made_ms=0, named="a test")
    [said] = [caveat for caveat in report.caveats if "share of time above 80 %" in caveat]
    one, everyone = (float(number) for number in re.findall(r"within ([\d.]+) points", said))
    [table] = [table for table in report.tables() if table.name == "all-machines"]
    off = [100 * abs(float(row[6]) - (np.concatenate(samples[str(row[0])]) >= 0.8).mean()) for row in table.rows]
    assert max(off) <= one and np.mean(off) <= everyone <= one
    with connect(SAMPLE) as source:
        plain = making.fleet(source, ReportQuestion(), made_ms=0, named="a test")
    assert "The share of time above 80 % is exact." not in said
    assert any("share of time above 80 %" in caveat for caveat in plain.caveats)


def test_who_rose_is_named(fleet: ReportDocument) -> None:
    assert named(fleet, "change") == [["steps"]]
    [table] = [table for table in fleet.tables() if table.name == "movers-table"]
    assert table.rows[0][0] == "steps"
    assert table.rows[0][3] == pytest.approx(0.35, abs=0.03)
    assert table.rows[0][4] == "yes"


def test_who_fell_silent_is_named_and_gaps_are_stated(fleet: ReportDocument) -> None:
    assert named(fleet, "coverage") == [["silent"]]
    assert dict(fleet.facts)["Gaps without any data"] == "2026-03-05 03:00 UTC to 2026-03-06 09:00 UTC"
    shares = [finding.numbers["share_missing"] for finding in found(fleet, "coverage") if "gaps" in finding.numbers]
    assert shares == [pytest.approx(120 / STEPS, rel=0.01)]


def test_what_is_missing_at_the_ends_of_the_range_is_a_gap_too(path: Path) -> None:
    start, end = (int((START + pd.Timedelta(days=days)).timestamp() * 1000) for days in (-30, 30))
    with connect(path) as source:
        report = making.fleet(source, ReportQuestion(start_ms=start, end_ms=end), made_ms=0, named="a test")
    stated = dict(report.facts)["Gaps without any data"].split("; ")
    assert [stated[0], stated[-1]] == [
        "2026-01-31 00:00 UTC to 2026-03-02 00:00 UTC", "2026-03-12 00:00 UTC to 2026-04-01 00:00 UTC",
    ]  # fmt: skip
    [share] = [finding.numbers["share_missing"] for finding in found(report, "coverage") if "gaps" in finding.numbers]
    assert share == pytest.approx(1 - (STEPS - 120) / 96 / 60, rel=0.01)


def test_findings_come_in_order_of_weight(fleet: ReportDocument) -> None:
    order = [["act", "watch", "note"].index(finding.severity) for finding in fleet.findings]
    assert order == sorted(order)


def test_a_machines_lasting_change_is_dated(path: Path) -> None:
    report = of_machine(path, "steps")
    [change] = [finding for finding in found(report, "change") if "time" in finding.numbers]
    assert change.numbers["time"] == "2026-03-07 00:00 UTC"
    assert change.numbers["before"] == pytest.approx(0.2, abs=0.02)
    assert change.numbers["after"] == pytest.approx(0.55, abs=0.02)


def test_a_machine_that_does_nothing_new_has_nothing_to_act_on(path: Path) -> None:
    report = of_machine(path, "plain-1")
    assert [finding.sentence for finding in report.findings if finding.severity == "act"] == []
    assert found(report, "load")


def test_periods_are_those_asked_for(path: Path) -> None:
    with connect(path) as source:
        question = ReportQuestion(compare_ms=DAY_MS, start_ms=int(START.value // 1_000_000))
        report = making.fleet(source, question, made_ms=0, named="a test")
    [section] = [section for section in report.sections if section.name == "change"]
    assert section.intro.startswith("Before: 2026-03-10 00:00 UTC to 2026-03-11 00:00 UTC.")


def test_a_lower_target_makes_more_machines_hot(path: Path) -> None:
    with connect(path) as source:
        report = making.fleet(source, ReportQuestion(target=0.5), made_ms=0, named="a test")
    assert set(named(report, "hot")[0]) == {"hot", "steps"}  # type: ignore[call-overload]


def test_nothing_is_reported_on_nothing(path: Path) -> None:
    with connect(path) as source, pytest.raises(NothingThere, match="no machine reported in this time"):
        making.fleet(source, ReportQuestion(start_ms=0, end_ms=300_000_000_000), made_ms=0, named="a test")


def test_a_machine_counts_by_the_time_it_was_seen_however_often_it_samples(tmp_path: Path) -> None:
    seldom = pd.date_range(START, periods=4 * 24 * 12, freq="5min")
    often = pd.date_range(START + pd.Timedelta(days=2), periods=2 * 24 * 120, freq="30s")
    quiet = pd.concat([pd.DataFrame({"time": seldom, "user": f"quiet-{n}", "value": 0.1}) for n in range(4)])
    busy = pd.DataFrame({"time": often, "user": "busy", "value": 0.6})
    file = tmp_path / "mixed.parquet"
    pd.concat([quiet, busy]).to_parquet(file)
    with connect(file) as source:
        report = making.fleet(source, ReportQuestion(), made_ms=0, named="a test")
    [level] = found(report, "level")
    assert level.numbers["mean"] == pytest.approx((4 * 4 * 0.1 + 2 * 0.6) / (4 * 4 + 2), abs=0.01)
    [moved] = [finding for finding in found(report, "change") if "hedges_g" in finding.numbers]
    assert moved.numbers["after"] == pytest.approx(0.2, abs=0.01)
    [table] = [table for table in report.tables() if table.name == "all-machines"]
    samples = [column.name for column in table.columns].index("samples")
    assert {row[0]: row[samples] for row in table.rows} == {
        "busy": len(often), **{f"quiet-{n}": len(seldom) for n in range(4)}
    }  # fmt: skip
    assert dict(report.facts)["Samples"].startswith(f"{len(quiet) + len(busy):,}, in ")
    assert any("counts by the time it was seen, however often it samples" in caveat for caveat in report.caveats)


def short(folder: Path, *parts: pd.DataFrame) -> ReportDocument:
    file = folder / "short.parquet"
    pd.concat(parts).to_parquet(file)
    with connect(file) as source:
        return making.fleet(source, ReportQuestion(), made_ms=0, named="a test")


def steady(periods: int, freq: str, start: pd.Timestamp = START) -> pd.DataFrame:
    times = pd.date_range(start, periods=periods, freq=freq)
    return pd.DataFrame({"time": times, "user": "one", "value": np.linspace(0.9, 0.99, periods)})


@pytest.mark.parametrize(
    ("periods", "freq"), [(1, "5s"), (9, "5s"), (12, "5min"), (100, "10min"), (2, "7D"), (9, "1D")]
)
def test_what_needs_more_data_is_left_out_in_words_of_ours(tmp_path: Path, periods: int, freq: str) -> None:
    report = short(tmp_path, steady(periods, freq))
    told = " ".join([*report.caveats, *(finding.sentence + finding.action for finding in report.findings)])
    assert "unpack" not in told
    assert "There is nothing on the hours of the week: " in told
    if freq in ("5s", "5min", "10min"):
        assert "There is nothing on what changed: there is less than a day of data." in told
        assert not {finding.kind for finding in report.findings} & {"change", "trend", "forecast"}
        assert "What it needs" not in told
    shown = " ".join(str(figure.figure.layout.title.text) for figure in report.pictures())
    assert "half of its machines" not in shown
    assert all("1 machines" not in table.title for table in report.tables())
    assert not dict(report.facts)["Samples"].endswith("in 1 buckets of 10 seconds")


def test_the_range_begins_with_the_data_whatever_is_far_older(tmp_path: Path) -> None:
    old = steady(1, "1h", pd.Timestamp("2018-07-12"))
    report = short(tmp_path, old, steady(6 * 24, "1h"))
    assert pd.Timestamp(report.start_ms, unit="ms") == START
    [section] = [section for section in report.sections if section.name == "change"]
    assert section.intro.startswith("Before: 2026-03-02 00:00 UTC to 2026-03-05 00:00 UTC.")
    file = tmp_path / "short.parquet"
    with connect(file) as source:
        alone = making.user(source, "one", ReportQuestion(), made_ms=0, named="a test")
    assert pd.Timestamp(alone.start_ms, unit="ms") == START
