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
from analytics.reports.model import ReportDocument
from contract.histogram import LINEAR
from contract.times import DAY_MS
from tests.support.fleet_reports import START, found, named, noise, of_host, report_on, short, steady
from tests.support.sampled_windows import windows_of

SAMPLE = Path(__file__).parents[3] / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
STEPS = 10 * 24 * 4
GAP = slice(300, 420)
SILENT_FROM = STEPS - 3 * 24 * 4
STEP_AT = START + pd.Timedelta(days=5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten days in steps of 15 minutes, with a gap of 30 hours, of hosts that each are something of their own."""
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


def test_a_hosts_lasting_change_is_dated(path: Path) -> None:
    report = of_host(path, "steps")
    [change] = [finding for finding in found(report, "change") if "level_time" in finding.numbers]
    assert change.numbers["level_time"] == "2026-03-07 00:00 UTC"
    assert change.numbers["before"] == pytest.approx(0.2, abs=0.02)
    assert change.numbers["after"] == pytest.approx(0.55, abs=0.02)


def test_a_host_that_does_nothing_new_has_nothing_to_act_on(path: Path) -> None:
    report = of_host(path, "plain-1")
    assert [finding.sentence for finding in report.findings if finding.severity == "act"] == []
    assert found(report, "load")


def test_periods_are_those_asked_for(path: Path) -> None:
    with connect(path) as source:
        question = ReportQuestion(compare_ms=DAY_MS, start_ms=int(START.value // 1_000_000))
        report = making.fleet(source, question, made_ms=0, named="a test")
    [section] = [section for section in report.sections if section.name == "change"]
    assert section.intro.startswith("Before: 2026-03-10 00:00 UTC to 2026-03-11 00:00 UTC.")


def test_a_lower_target_makes_more_hosts_hot(path: Path) -> None:
    with connect(path) as source:
        report = making.fleet(source, ReportQuestion(target=0.5), made_ms=0, named="a test")
    assert set(named(report, "hot")[0]) == {"hot", "steps"}  # type: ignore[call-overload]


def test_nothing_is_reported_on_nothing(path: Path) -> None:
    with connect(path) as source, pytest.raises(NothingThere, match="no host reported in this time"):
        making.fleet(source, ReportQuestion(start_ms=0, end_ms=300_000_000_000), made_ms=0, named="a test")


def test_a_host_counts_by_the_time_it_was_seen_however_often_it_samples(tmp_path: Path) -> None:
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
    # Who came in the second period only is no change of those that were there.
    assert moved.numbers["after"] == pytest.approx(0.1, abs=0.01)
    [table] = [table for table in report.tables() if table.name == "all-machines"]
    samples = [column.name for column in table.columns].index("samples")
    assert {row[0]: row[samples] for row in table.rows} == {
        "busy": len(often), **{f"quiet-{n}": len(seldom) for n in range(4)}
    }  # fmt: skip
    assert dict(report.facts)["Samples"].startswith(f"{len(quiet) + len(busy):,}, in ")
    assert any("counts by the time it was seen, however often it samples" in caveat for caveat in report.caveats)


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
    assert "half of its hosts" not in shown
    assert all("1 hosts" not in table.title for table in report.tables())
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


def test_a_level_that_moved_and_came_back_is_one_finding(tmp_path: Path) -> None:
    hours = np.arange(480)
    moved = np.where((hours >= 120) & (hours < 360), 0.3, 0.0)
    report = report_on(tmp_path, {f"machine-{number}": noise(0.2, 480) + moved for number in range(3)})
    sentences = " ".join(finding.sentence for finding in report.findings)
    assert not ("hardly changed" in sentences and "lastingly" in sentences)
    assert "alike in both periods" in sentences and "its level moved within" in sentences


def test_an_id_that_several_hosts_share_is_named(tmp_path: Path) -> None:
    shared = {"alone": pd.NaT, "twin": pd.Timestamp(START, tz="UTC") + pd.Timedelta(days=3)}
    loads = {"alone": noise(0.2), "twin": noise(0.3)}
    report = report_on(tmp_path, loads, shared_windows={"alone": 0, "twin": 22}, shared_at=shared)
    [finding] = found(report, "identity")
    assert finding.severity == "act"
    assert finding.numbers["names"] == ["twin"]
    assert "twin" in finding.sentence and "22 windows overlap" in finding.sentence


def test_the_fall_of_a_host_is_a_finding_as_its_rise_is(tmp_path: Path) -> None:
    half = np.arange(240) < 120
    loads = {"falls": noise(0.1) + np.where(half, 0.4, 0), "rises": noise(0.1) + np.where(half, 0, 0.4)}
    report = report_on(tmp_path, loads | {f"plain-{number}": noise(0.3) for number in range(4)})
    leaps = {finding.numbers["way"]: finding for finding in found(report, "change") if "way" in finding.numbers}
    assert {way: finding.numbers["names"] for way, finding in leaps.items()} == {"fell": ["falls"], "rose": ["rises"]}
    assert leaps["fell"].sentence == "1 host fell by 20 points or more: “falls”."
    assert leaps["fell"].action == "Ask what was taken from it."


def test_a_report_of_a_place_has_the_hours_of_its_clock_and_the_forecast_changes_with_it(tmp_path: Path) -> None:
    """Clocks change on 29 March 2026: what repeats at nine in Berlin is at 08:00 UTC before, and at 07:00 after."""
    times = pd.date_range("2026-03-02", "2026-03-28 23:00", freq="1h")
    here = times.tz_localize("UTC").tz_convert("Europe/Berlin")
    noisy = np.random.default_rng(4).normal(0, 0.01, len(times))
    load = np.where(here.hour == 9, 0.8, 0.1) + noisy
    pd.DataFrame({"time": times, "user": "office", "value": load.clip(0, 1)}).to_parquet(tmp_path / "place.parquet")
    with connect(tmp_path / "place.parquet") as source:
        question = ReportQuestion(tz="Europe/Berlin")
        report = making.user(source, "office", question, made_ms=0, named="a test")
    [week] = found(report, "week")
    assert str(week.numbers["busiest"]).endswith("09:00 Europe/Berlin")
    pictures = {picture.name: picture.figure for picture in report.pictures()}
    for name in ("hours-of-week", "hours"):
        assert "Europe/Berlin" in str(pictures[name].layout.xaxis.title.text)
    [coming] = [trace for trace in pictures["forecast"].data if trace.name == "forecast"]  # fmt: skip
    after = {str(time): value for time, value in zip(coming.x, coming.y, strict=True) if "2026-03-30" in str(time)}
    assert max(after, key=after.__getitem__).startswith("2026-03-30T07")


def test_hosts_are_told_by_label_and_who_is_unlike_the_others_of_it(tmp_path: Path) -> None:
    loads = {f"web-{place}": noise(0.3 + 0.01 * place) for place in range(9)} | {"web-odd": noise(0.7)}
    loads |= {"db-1": noise(0.8), "<b>none": noise(0.1)}
    labels = {name: f"role={name[: name.index('-')]},rack={name}" for name in loads if "-" in name}
    report = report_on(tmp_path, loads, labels=labels)
    [finding] = found(report, "peers")
    assert "“web-odd” differs from the 9 other hosts with role “web” day after day: higher by" in finding.sentence
    [table] = [table for table in report.tables() if table.name == "label-role"]
    assert table.title.startswith("By role: “db” is the busiest, 80.")
    assert [row[:2] for row in table.rows] == [["db", 1], ["web", 10]]
    assert table.rows[1][2] == pytest.approx(np.mean([load.mean() for name, load in loads.items() if "web" in name]))


def test_without_labels_nothing_is_said_of_them(fleet: ReportDocument) -> None:
    assert found(fleet, "peers") == []
    assert not [section for section in fleet.sections if section.name == "labels"]


def test_hosts_with_complementary_days_are_told_with_what_later_days_say(tmp_path: Path) -> None:
    hours = np.arange(12 * 24) % 24
    loads = {"by day": np.where((hours >= 8) & (hours < 16), 0.7, 0.1), "by night": np.where(hours < 8, 0.7, 0.1)}
    report = report_on(tmp_path, loads, cores={"by day": 8, "by night": 8})
    [finding] = found(report, "pairs")
    assert finding.sentence.startswith("1 pair of hosts could share one, and save 6 cores: “by day” and ")
    [table] = [table for table in report.tables() if table.name == "pairs"]
    [[*words, apart, together, saved, held, held_apart]] = table.rows
    assert words == ["by day", "by night", "08:00 to 12:00 UTC", "00:00 to 04:00 UTC"]
    assert [apart, together, saved, held, held_apart] == pytest.approx([14, 8, 6 / 14, 1, 1])
    assert "the last 4 days" in table.note


def test_hosts_that_are_busy_together_are_no_pair(fleet: ReportDocument) -> None:
    assert found(fleet, "pairs") == []
