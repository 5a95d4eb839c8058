"""Lasting changes are found where they are, and noise, seasons and spikes are none."""

import numpy as np
import pandas as pd
import pytest

import analytics
from analytics import change_points

HOURS_A_DAY = 24
SEEDS = 100


def frame_of(values: np.ndarray, step: str = "1h", user: str | None = None) -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=len(values), freq=step, tz="UTC", name="time")
    frame = pd.DataFrame({"mean": values}, index=index)
    return frame if user is None else frame.assign(user=user)


def lasting_noise(seed: int, count: int, memory: float) -> np.ndarray:
    """An AR(1) of variance 1."""
    shocks = np.random.default_rng(seed).normal(0, (1 - memory**2) ** 0.5, count + 200)
    values = np.zeros(count + 200)
    for place in range(1, len(values)):
        values[place] = memory * values[place - 1] + shocks[place]
    return values[200:]


def day(count: int) -> np.ndarray:
    return np.sin(np.arange(count) * 2 * np.pi / HOURS_A_DAY)


def week(count: int) -> np.ndarray:
    """Weekends; 2024 began on a Monday."""
    return -1.0 * (np.arange(count) // HOURS_A_DAY % 7 >= 5)


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "season"), [(0.0, 0.0), (0.9, 0.0), (0.5, 5.0)])
def test_noise_has_no_change_in_95_of_100_seeds(memory: float, season: float) -> None:
    count = 14 * HOURS_A_DAY
    false = sum(
        len(change_points(frame_of(lasting_noise(seed, count, memory) + season * day(count)))) > 0
        for seed in range(SEEDS)
    )
    assert false <= SEEDS * 5 // 100


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_a_change_of_level_is_found_where_it_is(memory: float) -> None:
    count = 14 * HOURS_A_DAY
    for seed in range(20):
        values = 10 + lasting_noise(seed, count, memory)
        values[200:] += 5
        (change,) = change_points(frame_of(values)).itertuples()
        assert change.kind == "level"
        assert abs(change.Index - pd.Timestamp("2024-01-01", tz="UTC") - pd.Timedelta(200, "h")) <= pd.Timedelta(2, "h")
        assert change.before == pytest.approx(10, abs=1.5)
        assert change.after == pytest.approx(15, abs=1.5)
        assert 2.5 < change.effect < 8


def test_a_change_in_a_season_is_found_and_told_without_it() -> None:
    count = 28 * HOURS_A_DAY
    values = 50 + lasting_noise(0, count, 0.5) + 5 * day(count) + 6 * week(count)
    values[400:] -= 4
    (change,) = change_points(frame_of(values)).itertuples()
    assert change.Index == pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(400, "h")
    assert change.after - change.before == pytest.approx(-4, abs=0.5)
    assert change.effect < -2


def test_weekends_are_no_changes_from_three_weeks_on() -> None:
    count = 28 * HOURS_A_DAY
    for seed in range(20):
        values = lasting_noise(seed, count, 0.5) + 3 * day(count) + 4 * week(count)
        assert change_points(frame_of(values)).empty, seed


def test_days_are_those_of_a_place_also_over_a_change_of_its_clocks() -> None:
    rng = np.random.default_rng(5)
    index = pd.date_range("2024-03-18", periods=28 * HOURS_A_DAY, freq="1h", tz="UTC", name="time")
    shown = index.tz_convert("Europe/Berlin")
    # Work from seven to eight, each day: in UTC it moves by an hour on 31 March.
    values = 5.0 * (shown.hour == 7) + rng.normal(0, 0.05, len(index)) + 0.2 * (index >= index[360])
    frame = pd.DataFrame({"mean": values}, index=index)
    found = change_points(frame, tz="Europe/Berlin")
    assert found["kind"].tolist() == ["level"]
    assert abs(found.index[0] - index[360]) <= pd.Timedelta("2h")
    assert found["after"].iloc[0] - found["before"].iloc[0] == pytest.approx(0.2, abs=0.02)
    assert found["effect"].iloc[0] > change_points(frame)["effect"].iloc[0], "in UTC the hour that moves is left over"


def test_a_change_of_spread_is_found() -> None:
    points = 14 * 288
    for seed in range(10):
        values = np.random.default_rng(seed).normal(0.5, 0.02, points)
        values[2400:] = 0.5 + (values[2400:] - 0.5) * 3
        (change,) = change_points(frame_of(values, "5min")).itertuples()
        assert change.kind == "spread"
        assert abs(change.Index - pd.Timestamp("2024-01-01", tz="UTC") - pd.Timedelta(200, "h")) <= pd.Timedelta(1, "h")
        assert change.before == pytest.approx(0.02, rel=0.1)
        assert change.after == pytest.approx(0.06, rel=0.1)
        assert change.effect > 2


def test_several_changes_are_found_in_order() -> None:
    values = np.repeat([1.0, 4.0, 2.0, 8.0], 150) + lasting_noise(3, 600, 0.3) * 0.3
    changes = change_points(frame_of(values))
    hours = (changes.index - pd.Timestamp("2024-01-01", tz="UTC")) / pd.Timedelta(1, "h")
    np.testing.assert_allclose(hours, [150, 300, 450], atol=1)
    np.testing.assert_allclose(changes["before"], [1, 4, 2], atol=0.2)
    np.testing.assert_allclose(changes["after"], [4, 2, 8], atol=0.2)


def test_spikes_and_short_bursts_are_no_changes() -> None:
    values = lasting_noise(0, 336, 0.3)
    values[[50, 120, 300]] += 40
    values[200:204] += 20
    assert change_points(frame_of(values)).empty


def test_the_scale_does_not_matter() -> None:
    values = lasting_noise(0, 336, 0.3)
    values[200:] += 5
    plain = change_points(frame_of(values))
    for scale in (1e-12, 1e12):
        scaled = change_points(frame_of(values * scale))
        assert scaled.index.equals(plain.index)
        np.testing.assert_allclose(scaled["effect"], plain["effect"])


@pytest.mark.parametrize("step", ["1h", "5min"])
@pytest.mark.parametrize("ends", [(0.1, 0.9), (0.9, 0.1), (0.3, 0.31), (0.002, 0.002001), (1e9, 1.1e9)])
def test_a_straight_ramp_has_no_changes(step: str, ends: tuple[float, float]) -> None:
    for days in (7, 14, 28):
        ramp = np.linspace(*ends, days * (24 if step == "1h" else 288))
        season = 0.3 * (ends[1] - ends[0]) * np.sin(np.arange(len(ramp)) * 2 * np.pi / (24 if step == "1h" else 288))
        for values in (ramp, ramp + season):
            assert change_points(frame_of(values, step)).empty


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0.0, 0.5])
@pytest.mark.parametrize("height", [3, 20])
def test_a_ramp_in_noise_has_no_changes_in_95_of_100_seeds(memory: float, height: float) -> None:
    ramp = np.linspace(0, height, 14 * HOURS_A_DAY)
    false = sum(len(change_points(frame_of(lasting_noise(seed, len(ramp), memory) + ramp))) > 0 for seed in range(60))
    assert false <= 3


def test_a_step_beside_a_ramp_is_found() -> None:
    values = np.concatenate([np.full(168, 2.0), np.linspace(2, 4, 168), np.full(168, 9.0)]) + 0.2 * lasting_noise(
        1, 504, 0
    )
    changes = change_points(frame_of(values))
    assert abs(changes.index[-1] - pd.Timestamp("2024-01-15", tz="UTC")) <= pd.Timedelta(2, "h")


@pytest.mark.parametrize("size", [1e-17, 1e-15, 1e-13])
def test_rounding_is_no_change(size: float) -> None:
    random = np.random.default_rng(2)
    shapes = {
        "constant": np.full(14 * 288, 0.3),
        "one hour after the other alike": 0.3 + 0.003 * np.sin(np.arange(14 * 288) * 2 * np.pi / 12),
        "up and down": 0.3 + 0.002088 * (-1.0) ** np.arange(14 * 288),
    }
    for name, values in shapes.items():
        for step in ("5min", "1h"):
            changes = change_points(frame_of(values + random.normal(0, size, len(values)), step))
            assert changes.empty, (name, step)


def test_rounding_to_single_precision_is_no_change_when_it_begins() -> None:
    random = np.random.default_rng(0)
    value = np.float32(0.002088)
    for places in (1, 2):
        rounding = random.integers(-places, places + 1, 14 * 288) * np.spacing(value)
        values = (value + rounding * (np.arange(14 * 288) > 2000)).astype(float)
        for step in ("5min", "1h"):
            assert change_points(frame_of(values, step)).empty


@pytest.mark.parametrize("spread", [0.002, 0.004, 0.005, 0.007])
@pytest.mark.parametrize("step", ["1h", "5min"])
def test_noise_in_whole_percent_has_no_changes(spread: float, step: str) -> None:
    count = 14 * (24 if step == "1h" else 288)
    noise = [np.random.default_rng(seed).normal(0.3, spread, count).round(2) for seed in range(30)]
    assert sum(len(change_points(frame_of(values, step))) > 0 for values in noise) <= 2


def test_a_step_between_two_constants_is_found() -> None:
    [change] = change_points(frame_of(np.repeat([0.3, 0.5], 168))).to_dict("records")
    assert (change["kind"], change["before"], change["after"]) == ("level", pytest.approx(0.3), pytest.approx(0.5))
    assert change["effect"] > 1e5


@pytest.mark.parametrize(
    "values", [np.zeros(400), np.full(400, 0.3), np.arange(10.0), np.array([]), np.full(400, np.nan)]
)
def test_what_does_not_vary_or_is_short_has_no_changes(values: np.ndarray) -> None:
    changes = change_points(frame_of(values))
    assert changes.empty
    assert list(changes) == ["kind", "before", "after", "effect"]
    assert str(changes.index.dtype) == "datetime64[ms, UTC]"


def test_missing_values_order_and_other_users_do_not_matter() -> None:
    values = lasting_noise(0, 336, 0.3)
    values[200:] += 5
    alone = change_points(frame_of(values))
    users = [frame_of(lasting_noise(seed, 336, 0.3), user=f"user-{seed}") for seed in range(1, 5)]
    gaps = frame_of(values, user="changed")
    gaps.iloc[[10, 11, 250], 0] = np.nan
    together = change_points(pd.concat([*users, gaps]).sample(frac=1, random_state=0))
    assert together["user"].tolist() == ["changed"]
    assert together.index.equals(alone.index)


def test_many_points_go_to_several_processes_and_give_what_each_user_alone_gives() -> None:
    random = np.random.default_rng(7)
    times = pd.date_range("2025-01-06", periods=26_000, freq="5min", tz="UTC")
    parts = []
    for user in ("a", "b"):
        values = random.normal(0.3, 0.05, len(times))
        values[12_000:] += 0.2
        parts.append(pd.DataFrame({"user": user, "mean": values}, times))
    together = change_points(pd.concat(parts))
    assert set(together["user"]) == {"a", "b"}
    apart = pd.concat(map(change_points, parts))
    pd.testing.assert_frame_equal(together, apart.assign(user=pd.Categorical(apart["user"])))


def test_the_package_has_it() -> None:
    assert callable(analytics.change_points)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.tz_localize(None), "DatetimeIndex with a time zone"),
        (lambda frame: frame.drop(columns="mean"), "expected a column 'mean'"),
        (lambda frame: frame.assign(mean="high"), "expected numbers"),
    ],
)
def test_what_is_not_right_is_refused(change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match=said):
        change_points(change(frame_of(np.zeros(50))))


def test_a_wrong_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="hour"):
        change_points(frame_of(np.zeros(50)), rate="hour")


@pytest.mark.parametrize("size", [0.3, 0.1, -0.15])
def test_a_step_is_told_to_the_value_where_buckets_have_several(size: float) -> None:
    """At 23:35, with a season: an hour's bucket would say 23:00 or 00:00."""
    times = pd.date_range("2026-03-02", periods=14 * 288, freq="5min", tz="UTC")
    step = pd.Timestamp("2026-03-09T23:35", tz="UTC")
    season = 0.1 * np.sin(np.arange(len(times)) / 288 * 2 * np.pi)
    noise = np.random.default_rng(2).normal(0, 0.02, len(times))
    found = change_points(pd.DataFrame({"mean": 0.4 + season + noise + size * (times >= step)}, index=times))
    [level] = found[found["kind"] == "level"].index
    assert abs(level - step) <= pd.Timedelta(minutes=5)


@pytest.mark.parametrize("rate", ["1h", "5min"])
def test_a_level_that_begins_to_rise_steadily_does_not_vary_more(rate: str) -> None:
    times = pd.date_range("2024-03-04", "2024-03-25", freq=rate, tz="UTC", name="time", inclusive="left")
    hours = np.arange(len(times)) * (pd.Timedelta(rate) / pd.Timedelta("1h"))
    for noise in (0.0, 1e-5):
        random = np.random.default_rng(3).normal(0, 1, len(times))
        values = 0.2 + 0.001 * np.maximum(hours - 250, 0) + noise * random
        changes = change_points(pd.DataFrame({"mean": values}, times))
        assert "spread" not in changes["kind"].tolist()
