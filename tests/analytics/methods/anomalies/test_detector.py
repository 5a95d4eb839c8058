"""What a user of the streaming detector may rely on."""

import json
import math
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.methods.anomalies import Detector, Tuning, Verdict

STEP_MS = 300_000
DAY = 288
SMALL = Tuning(window=4, memory=12, learning=5, neighbours=3, ignored=1, quiet=12)
"""Learns soon, so that short series reach every part of the detector."""
VALUES = st.lists(st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.integers(0, 5).map(float)), max_size=120)
GAPS = st.lists(st.sampled_from([0, 1, STEP_MS, STEP_MS, STEP_MS, 100 * STEP_MS]), min_size=120, max_size=120)


def verdicts(values: object, detector: Detector | None = None, start_ms: int = 0) -> list[Verdict]:
    detector = detector or Detector()
    return [
        detector.update(start_ms + place * STEP_MS, value)
        for place, value in enumerate(np.asarray(values, float).tolist())
    ]


def found(values: object) -> list[int]:
    """Where an event begins."""
    return [place for place, verdict in enumerate(verdicts(values)) if verdict.anomaly]


def after(values: object, start: int = 2000, points: int = 144) -> list[int]:
    """Where an event begins in the half day after a moment."""
    return [place for place in found(values) if start <= place < start + points]


def usual(seed: int = 0, days: int = 10) -> np.ndarray:
    """A busy host: 40 %, with noise that lasts some minutes."""
    noise = np.random.default_rng(seed).normal(0, 0.02, days * DAY + 3)
    return 0.4 + np.convolve(noise, [0.4, 0.3, 0.2, 0.1], "valid")


def assert_same(first: list[Verdict], second: list[Verdict]) -> None:
    assert [repr(verdict) for verdict in first] == [repr(verdict) for verdict in second]


@pytest.mark.parametrize("height", [0.3, -0.3])
def test_a_spike_is_found_at_once(height: float) -> None:
    values = usual()
    values[2000] += height
    assert after(values) == [2000]


def test_a_lasting_shift_is_one_event_and_then_usual() -> None:
    values = usual()
    values[2000:] += 0.2
    assert after(values, points=500) == [2000]


def test_a_small_lasting_shift_is_found_although_no_point_is_extreme() -> None:
    values = usual()
    values[2000:] += 0.03
    event = after(values)[0]
    assert event <= 2024
    assert verdicts(values)[event].kind == "level"


def test_a_value_that_sticks_is_found() -> None:
    values = usual()
    values[2000:2100] = 0.4
    (event,) = after(values)
    assert event <= 2024
    assert verdicts(values)[event].kind == "spread"


@pytest.mark.parametrize("level", [None, 0.0])
def test_a_busy_host_that_sticks_or_stops_is_found_although_it_often_rests(level: float | None) -> None:
    rng = np.random.default_rng(3)
    busy = np.repeat(rng.random(10 * 24) < 0.4, 12)
    values = np.rint(100 * np.where(busy, rng.uniform(0.2, 1, len(busy)), rng.uniform(0, 0.05, len(busy)))) / 100
    values[2000:2144] = values[1999] if level is None else level
    event = after(values)[0]
    assert event <= 2030
    assert verdicts(values)[event].kind in ("spread", "value")


def test_falling_still_is_said_although_something_else_was_said_just_before() -> None:
    values = usual()
    values[1980] += 0.4
    values[2000:2100] = 0.4
    assert 1980 in found(values)
    assert after(values)


def test_an_event_of_two_weeks_ago_is_one_again() -> None:
    values = usual(days=20)
    values[1500] += 0.4
    values[4500] += 0.41
    assert after(values, 1500) == [1500]
    assert after(values, 4500) == [4500]


def test_a_score_reaches_the_threshold_where_an_event_begins_and_only_there() -> None:
    values = usual()
    values[2000:2100] += np.linspace(0, 0.5, 100)
    judged = verdicts(values)
    threshold = Tuning().threshold
    assert [verdict.score >= threshold for verdict in judged] == [verdict.anomaly for verdict in judged]
    assert 1 <= len(after(values)) <= 2


def test_a_saturday_that_is_busy_as_a_weekday_is_found_after_three_weeks() -> None:
    values = usual(days=35)
    day = np.arange(len(values)) // DAY % 7
    values[(day >= 5) & (np.arange(len(values)) < 33 * DAY)] -= 0.3
    events = [place for place, verdict in enumerate(verdicts(values)) if verdict.anomaly and verdict.kind == "season"]
    assert [event for event in events if 33 * DAY <= event < 33 * DAY + 100]


def test_a_value_that_flutters_is_found() -> None:
    values = usual()
    values[2000:2100] += np.random.default_rng(1).normal(0, 0.08, 100)
    assert min(found(values)) in range(2000, 2024)


def test_a_spike_that_comes_every_day_is_usual() -> None:
    values = usual(days=14)
    values[100::DAY] += 0.4
    assert [event for event in found(values) if event > 3 * DAY and event % DAY == 100] == []


def test_a_value_between_two_usual_ones_is_found() -> None:
    values = usual(days=14)
    values[100::DAY] += 0.4
    values[3000] += 0.2
    assert after(values, 3000) == [3000]


def test_a_day_without_its_usual_load_is_found() -> None:
    values = usual(days=14) + 0.3 * np.sin(np.arange(14 * DAY) * 2 * np.pi / DAY)
    values[11 * DAY : 12 * DAY] = usual(1, days=1) - 0.1
    events = [event for event in found(values) if event > 3 * DAY]
    assert events
    assert min(events) in range(11 * DAY, 11 * DAY + 72)


def test_a_daily_season_is_usual() -> None:
    seasonal = 0.3 * np.sin(np.arange(14 * DAY) * 2 * np.pi / DAY)
    assert sum(len(found(usual(seed, days=14) + seasonal)) for seed in range(5)) <= 5


def test_noise_raises_about_an_alarm_a_week_at_most() -> None:
    assert sum(len(found(usual(seed, days=14))) for seed in range(10)) <= 20


def test_nothing_is_said_while_it_learns() -> None:
    values = usual()
    values[: 17 * 24] = np.random.default_rng(0).uniform(0, 100, 17 * 24)
    assert found(values[: 17 * 24]) == []


def test_a_constant_series_is_usual_and_its_end_is_not() -> None:
    values = np.full(2000, 0.25)
    assert found(values) == []
    values[1500:] = 0.5
    assert found(values) == [1500]


def test_the_first_load_of_an_idle_host_is_found() -> None:
    values = np.zeros(2000)
    values[1500] = 0.01
    assert found(values) == [1500]


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1e9, 1e200])
def test_the_scale_does_not_matter(scale: float) -> None:
    values = usual()
    values[2000] += 0.3
    plain, scaled = verdicts(values), verdicts(values * scale)
    assert [verdict.anomaly for verdict in plain] == [verdict.anomaly for verdict in scaled]
    np.testing.assert_allclose([verdict.score for verdict in plain], [verdict.score for verdict in scaled], atol=1e-6)


def test_missing_values_get_no_score_and_teach_nothing() -> None:
    values = usual()
    with_gaps = np.insert(values, [500, 1000, 1001], [math.nan, math.inf, -math.inf])
    there = verdicts(with_gaps)
    assert [verdict.score for verdict in there if not math.isfinite(verdict.value)] == [0.0] * 3
    judged = [(verdict.value, verdict.expected) for verdict in there if math.isfinite(verdict.value)]
    assert judged == [(verdict.value, verdict.expected) for verdict in verdicts(values)]


def test_after_a_gap_the_past_is_not_what_is_expected() -> None:
    detector = Detector()
    verdicts(usual(), detector)
    later = detector.update(30 * DAY * STEP_MS, 0.9)
    assert math.isnan(later.expected)
    assert not later.anomaly
    assert detector.update(30 * DAY * STEP_MS + STEP_MS, 0.9).expected == 0.9


def test_a_moment_with_a_time_zone_is_as_good_as_milliseconds() -> None:
    detector = Detector()
    for moment in (
        datetime(2024, 1, 1, tzinfo=UTC), pd.Timestamp("2024-01-01", tz="Europe/Berlin") + pd.Timedelta("1h"),
        np.int64(1_704_067_200_000), 1_704_067_200_000,
    ):  # fmt: skip
        assert detector.update(moment, np.float32(0.5)).time_ms == 1_704_067_200_000
    json.dumps(detector.state())
    with pytest.raises(ValueError, match="with a time zone"):
        detector.update(datetime(2024, 1, 2), 0.5)  # noqa: DTZ001


def test_a_time_before_the_last_one_is_refused() -> None:
    detector = Detector()
    detector.update(1000, 0.5)
    detector.update(1000, 0.5)
    with pytest.raises(ValueError, match="999 comes after 1000"):
        detector.update(999, 0.5)


@pytest.mark.parametrize("event", [0.0, 0.5])
def test_a_value_is_an_anomaly_outside_of_its_band_and_only_there(event: float) -> None:
    values = usual()
    values[1500] += event
    past = verdicts(values)[-1]
    for value in (past.lower - 1e-3, past.upper + 1e-3):
        detector = Detector()
        verdicts(values[:-1], detector)
        assert detector.update((len(values) - 1) * STEP_MS, value).score >= detector.tuning.threshold
    for value in (past.lower + 1e-3, past.upper - 1e-3):
        detector = Detector()
        verdicts(values[:-1], detector)
        assert not detector.update((len(values) - 1) * STEP_MS, value).anomaly


@settings(max_examples=60, deadline=None)
@given(VALUES, GAPS)
def test_a_verdict_is_well_formed_whatever_comes(values: list[float], gaps: list[int]) -> None:
    detector = Detector(SMALL)
    time_ms = 0
    for value, gap in zip(values, gaps, strict=False):
        time_ms += gap
        verdict = detector.update(time_ms, value)
        assert 0 <= verdict.score <= 1
        assert not verdict.anomaly or verdict.score >= SMALL.threshold
        assert math.isnan(verdict.lower) or verdict.lower <= verdict.upper
        assert bool(verdict.kind) == (verdict.score > 0)


@settings(max_examples=40, deadline=None)
@given(VALUES, GAPS, st.integers(0, 119))
def test_a_restored_detector_continues_exactly(values: list[float], gaps: list[int], place: int) -> None:
    times = np.cumsum(gaps).tolist()
    points = list(zip(times, values, strict=False))
    detector = Detector(SMALL)
    for point in points[:place]:
        detector.update(*point)
    restored = Detector.from_state(json.loads(json.dumps(detector.state())))
    assert_same(
        [detector.update(*point) for point in points[place:]], [restored.update(*point) for point in points[place:]]
    )


def test_a_long_stream_is_restored_exactly_and_its_state_does_not_grow() -> None:
    values = usual(days=50)
    detector = Detector()
    restored = Detector()
    sizes = []
    for day in range(0, 50, 10):
        part = values[day * DAY : (day + 10) * DAY]
        judged = verdicts(part, detector, day * DAY * STEP_MS)
        if day:
            assert_same(judged, verdicts(part, restored, day * DAY * STEP_MS))
        text = json.dumps(detector.state())
        restored = Detector.from_state(json.loads(text))
        sizes.append(len(text))
    assert max(sizes) < 120_000
    assert all(after < before * 1.02 for before, after in pairwise(sizes[2:]))


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a state of version 2, got version 1"):
        Detector.from_state({**Detector().state(), "version": 1})


@settings(max_examples=40, deadline=None)
@given(VALUES, VALUES)
def test_what_comes_later_changes_no_verdict(past: list[float], future: list[float]) -> None:
    alone = verdicts(past, Detector(SMALL))
    assert_same(alone, verdicts([*past, *future], Detector(SMALL))[: len(past)])


def test_other_steps_keep_the_window_of_two_hours() -> None:
    assert Tuning.for_step(STEP_MS) == Tuning()
    assert Tuning.for_step(60_000).window == 120
    assert Tuning.for_step(1).window == 120
    assert Tuning.for_step(3_600_000).window == 12
    with pytest.raises(ValueError, match="at least 1 ms"):
        Tuning.for_step(0)


def test_hours_have_a_season_too() -> None:
    count = 60 * 24
    values = 0.5 + 0.3 * np.sin(np.arange(count) * 2 * np.pi / 24)
    values += np.random.default_rng(0).normal(0, 0.02, count)
    values[1000:1024] = values[988:1012]
    detector = Detector(Tuning.for_step(3_600_000))
    judged = [detector.update(place * 3_600_000, value) for place, value in enumerate(values.tolist())]
    events = [place for place, verdict in enumerate(judged) if verdict.anomaly]
    assert 1000 <= events[0] < 1012


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threshold": 1.0}, "between 0 and 1"),
        ({"window": 3}, "window: expected a whole number of at least 4, got 3"),
        ({"neighbours": 15}, "neighbours \\+ ignored < learning"),
        ({"learning": 169}, "learning <= memory"),
        ({"grain": 0.0}, "above 0"),
        ({"quiet": 0}, "quiet: expected a whole number of at least 1, got 0"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Tuning(**wrong)  # type: ignore[arg-type]
