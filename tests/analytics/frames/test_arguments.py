"""What the functions take as durations, time zones, groupings and frames, and what they say of anything else."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

import analytics
from analytics.frames.arguments import duration_ms
from analytics.frames.frame import FrameError, frame_of_values


def frame_of(values: Any, metric: str = "cpuUtilization", freq: str = "1min") -> pd.DataFrame:
    times = pd.date_range("2026-03-02", periods=len(values), freq=freq, tz="UTC", name="time")
    return frame_of_values(pd.DataFrame({"value": values, "user": "a"}, index=times), metric=metric)


@pytest.mark.parametrize(
    ("duration", "minutes"),
    [
        ("15m", 15),
        ("1h30m", 90),
        ("15min", 15),
        ("2h", 120),
        ("D", 24 * 60),
        ("7D", 7 * 24 * 60),
        (pd.Timedelta("15min"), 15),
        (timedelta(minutes=15), 15),
        (pd.offsets.Minute(15), 15),
        (pd.offsets.Day(2), 2 * 24 * 60),
        ("W", 7 * 24 * 60),
        ("2W", 14 * 24 * 60),
        ("1week", 7 * 24 * 60),
        ("90 minutes", 90),
        ("P1D", 24 * 60),
    ],
)
def test_durations_are_those_of_influxql_of_pandas_and_of_python(duration: Any, minutes: int) -> None:
    assert duration_ms(duration, "rate") == minutes * 60_000


@pytest.mark.parametrize("duration", [24, 1.5, None, "soon", "", "ME", "W-MON", [1], "-5min", pd.NaT])
def test_anything_else_is_refused_by_the_arguments_name(duration: Any) -> None:
    with pytest.raises(FrameError, match=r"^rate: expected "):
        duration_ms(duration, "rate")


def test_weeks_of_pandas_are_from_monday_to_sunday() -> None:
    frame = frame_of(np.linspace(0.1, 0.9, 15 * 24), freq="1h")
    starts = [f"2026-03-{day:02}" for day in (2, 9, 16)]
    assert analytics.resample(frame, "W").index.strftime("%Y-%m-%d").tolist() == starts
    assert analytics.resample(frame, "1w").index[0].day_name() == "Thursday"
    pd.testing.assert_frame_equal(analytics.resample(frame, "1w", tz="UTC"), analytics.resample(frame, "W"))


@pytest.mark.parametrize("offset", ["0h", "-0s", pd.Timedelta(0)])
def test_an_offset_of_nothing_moves_nothing(offset: Any) -> None:
    pd.testing.assert_frame_equal(analytics.resample(WEEK, "1d", offset=offset), analytics.resample(WEEK, "1d"))


def test_resampling_takes_the_frequencies_of_pandas() -> None:
    frame = frame_of(np.linspace(0.1, 0.9, 120))
    pd.testing.assert_frame_equal(analytics.resample(frame, "15min"), analytics.resample(frame, "15m"))
    pd.testing.assert_frame_equal(analytics.resample(frame, pd.Timedelta(hours=1)), analytics.resample(frame, "1h"))


WEEK = frame_of(np.tile(np.linspace(0.1, 0.9, 24), 14), freq="1h")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: analytics.forecast(WEEK, horizon=24), "^horizon: expected a duration such as 15m or 24h, got 24"),
        (lambda: analytics.forecast(WEEK, horizon="soon"), "^horizon: "),
        (lambda: analytics.hour_of_week_profile(WEEK, tz="Mars/Olympus"), "^tz: expected the name of a time zone"),
        (lambda: analytics.hour_of_week_profile(WEEK, tz=7), "^tz: expected the name of a time zone"),
        (lambda: analytics.hour_of_week_profile(WEEK, by="host"), "^by: expected one of user or None, got 'host'"),
        (lambda: analytics.saturation(WEEK, by="host"), "^by: "),
        (lambda: analytics.saturation(WEEK, 90), "^threshold: expected a share in"),
        (lambda: analytics.load_duration_curve(WEEK, by="host"), "^by: "),
        (lambda: analytics.quantile(WEEK, 95), "^q: expected a share in"),
        (lambda: analytics.forecast(WEEK, levels=(80,)), "^levels: expected shares between"),
        (lambda: analytics.forecast(WEEK, rate="7h"), "^rate: expected what divides a day"),
        (lambda: analytics.forecast(WEEK, start="1970-01-01"), "^start: expected a moment later"),
        (lambda: analytics.right_size(WEEK, 4, target=80), "^target: expected a share"),
        (lambda: analytics.right_size(WEEK, 4, quantile=95), "^quantile: expected a share"),
        (lambda: analytics.right_size(WEEK, 0), "^cores: expected a number above 0"),
        (lambda: analytics.compare(WEEK, WEEK, confidence=95), "^confidence: expected a share"),
        (lambda: analytics.fleet_trend(WEEK, quantiles=(90,)), "^quantiles: expected shares"),
        (lambda: analytics.fleet_trend(WEEK, confidence=95), "^confidence: expected a share"),
        (lambda: analytics.weigh(WEEK, "size"), "^weight: expected one of samples, cores or hosts, got 'size'"),
        (lambda: analytics.resample(WEEK["mean"], "1h"), "got a Series"),
        (lambda: analytics.resample([1, 2], "1h"), "got a list"),
        (lambda: analytics.saturation(WEEK["mean"]), "got a Series"),
        (lambda: analytics.change_points([1, 2]), "got a list"),
        (lambda: analytics.anomalies([1, 2]), "got a list"),
        (lambda: analytics.fleet_trend([1, 2]), "got a list"),
        (lambda: analytics.right_size([1, 2]), "got a list"),
        (lambda: analytics.quantile([1, 2], 0.5), "got a list"),
        (lambda: analytics.compare([1, 2], WEEK), "got a list"),
        (lambda: analytics.cluster_profiles(WEEK["mean"]), "got a Series"),
    ],
)
def test_a_wrong_argument_is_a_frame_error_that_says_what_was_expected(wrong: Any, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        wrong()


def test_a_time_zone_may_be_pythons() -> None:
    named = analytics.hour_of_week_profile(WEEK, "Europe/Berlin")
    pd.testing.assert_frame_equal(analytics.hour_of_week_profile(WEEK, ZoneInfo("Europe/Berlin")), named)


@pytest.mark.parametrize("q", [0.0, 0.5, 0.95, 1.0])
def test_a_quantile_is_that_of_all_samples_of_a_window(q: float) -> None:
    values = np.random.default_rng(7).beta(2, 5, 600)
    hours = analytics.resample(frame_of(values), "1h")
    found = analytics.quantile(hours, q)
    assert found.columns.tolist() == ["user", "value"]
    assert found.attrs["stat"] == f"p{100 * q:g}"
    for index, value in enumerate(found["value"]):
        samples = np.sort(values[60 * index : 60 * index + 60])
        exact = samples[max(int(np.ceil(q * 60)), 1) - 1]
        assert abs(value - exact) <= 1 / 64


def test_a_metric_that_pandas_has_dropped_is_not_taken_for_a_share() -> None:
    frame = frame_of(np.linspace(0.5, 40.0, 60), metric="diskReads").drop(columns="metric")
    labels = pd.DataFrame({"user": ["a"], "role": ["db"]})
    joined = frame.reset_index().merge(labels, on="user").set_index("time")
    joined.attrs = {}
    with pytest.raises(FrameError, match=r"expected the metric's name in the column"):
        analytics.quantile(joined, 0.95)
    joined["metric"] = "diskReads"
    assert analytics.quantile(joined, 0.95)["value"].tolist() == analytics.quantile(frame, 0.95)["value"].tolist()


@pytest.mark.parametrize("level", [0.9, 40.0])
def test_a_frame_that_lost_its_metric_is_refused_and_one_that_kept_it_is_right(level: float) -> None:
    """Also where all its values could be shares: its histograms are not."""
    times = pd.date_range("2026-03-02", periods=48, freq="30min", tz="UTC")
    load = np.random.default_rng(1).uniform(0.1, 1.0, 48)
    disk = analytics.frame_of_values(pd.DataFrame({"value": level * load}, index=times), metric="diskReads")
    cpu = analytics.frame_of_values(pd.DataFrame({"value": load}, index=times))
    disk, cpu = disk.drop(columns="metric"), cpu.drop(columns="metric")
    note = pd.DataFrame({"note": 1}, index=times)
    right = float(np.quantile(level * load, 0.95, method="inverted_cdf"))
    for kept in (disk, pd.concat([disk, disk]), disk.reset_index().set_index("time"), disk.assign(note=1)):
        found = analytics.quantile(analytics.resample(kept, "1d"), 0.95)["value"].item()
        assert found == pytest.approx(right, rel=0.011)
    lost = [
        disk.join(note), disk.merge(note, left_index=True, right_index=True), pd.concat([disk, cpu]),
        pd.concat([disk.assign(user="a"), cpu.assign(user="b")]),
    ]  # fmt: skip
    for frame in lost:
        with pytest.raises(analytics.FrameError, match="the metric's name in the column"):
            analytics.quantile(frame, 0.95)


PERCENT = pd.DataFrame(
    {"value": np.linspace(0.1, 0.9, 600), "user": "a"},
    index=pd.date_range("2024-03-04", periods=600, freq="15min", tz="UTC", name="time"),
)


def in_percent(*, named: str) -> pd.DataFrame:
    """Windows whose means somebody has multiplied by 100; the metric is named in `attrs` or in the column alone."""
    frame = frame_of_values(PERCENT).drop(columns="histogram")
    frame = frame.assign(**{column: frame[column] * 100 for column in ("mean", "min", "max")})
    frame.attrs = frame.attrs if named == "attrs" else {}
    return frame.drop(columns="metric") if named == "attrs" else frame


@pytest.mark.parametrize("named", ["attrs", "column"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda frame: analytics.resample(frame, "1h"),
        lambda frame: analytics.quantile(frame, 0.95),
        lambda frame: analytics.saturation(frame, 0.8),
        analytics.load_duration_curve,
        analytics.fleet_trend,
        analytics.hour_of_week_profile,
        analytics.anomalies,
        analytics.change_points,
        analytics.forecast,
    ],
)
def test_shares_in_percent_are_refused(ask: Any, named: str) -> None:
    with pytest.raises(FrameError, match="divide percent by 100"):
        ask(in_percent(named=named))


def test_of_several_metrics_only_the_shares_must_be_shares() -> None:
    rates = frame_of_values(PERCENT.assign(value=PERCENT["value"] * 1e6), metric="diskReadBytes")
    both = pd.concat([frame_of_values(PERCENT), rates])
    assert len(analytics.resample(both, "1h")) == 2 * 150


def test_numbers_of_arrow_are_numbers() -> None:
    frame = frame_of_values(PERCENT)
    arrow = frame.astype({"count": "int64[pyarrow]", "approximated": "int64[pyarrow]", "mean": "double[pyarrow]"})
    pd.testing.assert_frame_equal(analytics.resample(arrow, "1h"), analytics.resample(frame, "1h"))


def test_a_row_that_names_no_host_among_others_is_refused() -> None:
    """As an outer join leaves it."""
    frame = frame_of_values(PERCENT)
    frame = frame.assign(user=frame["user"].where(frame.index != frame.index[3]))
    with pytest.raises(FrameError, match="user is missing in a row that has samples"):
        analytics.resample(frame, "1h")
    # A regular grid has rows without anything.
    grid = frame_of_values(PERCENT.iloc[[0, 3]]).asfreq("15min")
    assert len(analytics.resample(grid, "15m")) == 2
