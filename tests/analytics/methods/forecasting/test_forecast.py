"""Forecasts: what a caller of `forecast` may rely on."""

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from analytics import forecast
from analytics.frames.frame import FrameError, frame_of_values
from analytics.methods.forecasting import Forecast
from analytics.methods.forecasting.intervals import HORIZON_BINS, Pool

DAY = 24
START = pd.Timestamp("2024-03-04", tz="UTC")


def frame_of(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", rate: str = "1h") -> pd.DataFrame:
    """A frame of one user (shape (T,)) or of several (shape (n, T)), gaps left out."""
    rows = np.atleast_2d(values)
    index = pd.date_range(START, periods=rows.shape[1], freq=rate, unit="ms", name="time")
    parts = [pd.DataFrame({"user": f"host-{n:04}", "mean": row}, index=index) for n, row in enumerate(rows)]
    frame = pd.concat(parts).dropna()
    return frame.drop(columns="user") if values.ndim == 1 else frame


def simulated(series: int, days: int, seed: int = 7) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Shares with a known daily pattern, of different sizes, and autocorrelated noise around it."""
    rng = np.random.default_rng(seed)
    hours = np.arange(days * DAY)
    size = rng.uniform(0.05, 0.3, (series, 1))
    noise = rng.normal(0.0, 0.1, (series, len(hours)))
    for hour in range(1, len(hours)):
        noise[:, hour] += 0.6 * noise[:, hour - 1]
    pattern = 1.0 + 0.6 * np.sin(2 * np.pi * (hours - rng.uniform(0, DAY, (series, 1))) / DAY)
    return np.clip(size * (pattern + noise), 0.0, 1.0)


def test_a_known_daily_pattern_is_found_and_beats_the_day_before() -> None:
    values = simulated(1, 15)[0]
    made = forecast(frame_of(values[:-DAY]), "24h")
    came = values[-DAY:]
    assert np.abs(made.frame["mean"] - came).mean() < 0.8 * np.abs(values[-2 * DAY : -DAY] - came).mean()
    assert made.models["skill"].iloc[0] > 0.15
    assert made.models["error"].iloc[0] < made.models["naive_error"].iloc[0]
    share = 100 * made.models["skill"].iloc[0]
    assert f"of the seasonal naive (the same time of the day before): {share:.0f} % less." in str(made)


def test_the_weekend_is_known_after_three_weeks() -> None:
    rng = np.random.default_rng(3)
    hours = np.arange(28 * DAY)
    working = (hours // DAY) % 7 < 5
    values = np.where(working, 0.5 + 0.2 * np.sin(2 * np.pi * hours / DAY), 0.1) + rng.normal(0, 0.01, len(hours))
    made = forecast(frame_of(values[: 26 * DAY]), "24h").frame["mean"]
    assert np.abs(made - values[26 * DAY : 27 * DAY]).mean() < 0.03
    assert "week" in forecast(frame_of(values[: 26 * DAY]), "24h").models["model"].iloc[0]


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_hold_the_share_that_they_promise(level: float) -> None:
    values = simulated(300, 9)
    made = forecast(frame_of(values[:, :-DAY]), "24h", levels=[level]).frame
    came = values[:, -DAY:].ravel()
    held = (came >= made[f"lower_{100 * level:g}"]) & (came <= made[f"upper_{100 * level:g}"])
    assert held.mean() == pytest.approx(level, abs=0.04)


@pytest.mark.slow
def test_a_single_series_has_intervals_that_hold_too() -> None:
    values = simulated(25, 15, seed=2)
    held = []
    for row in values:
        made = forecast(frame_of(row[:-DAY]), "24h", levels=[0.8]).frame
        held.append(((row[-DAY:] >= made["lower_80"]) & (row[-DAY:] <= made["upper_80"])).mean())
    assert np.mean(held) == pytest.approx(0.8, abs=0.06)


def test_intervals_are_ordered_hold_each_other_and_stay_within_shares() -> None:
    values = simulated(20, 5)
    values[0] = 0.0
    values[1, -5:] = 1.0
    made = forecast(frame_of(values), "3d", levels=[0.95, 0.5, 0.8]).frame
    names = ["lower_95", "lower_80", "lower_50", "mean", "upper_50", "upper_80", "upper_95"]
    assert (np.diff(made[names].to_numpy(), axis=1) >= 0).all()
    assert (made[names].to_numpy() >= 0).all() and (made[names].to_numpy() <= 1).all()


def test_the_frame_has_the_documented_shape() -> None:
    made = forecast(frame_of(simulated(3, 4)), "36h")
    assert isinstance(made, Forecast)
    assert list(made.frame) == ["user", "mean", "lower_80", "upper_80", "lower_95", "upper_95"]
    assert str(made.frame.index.dtype) == "datetime64[ms, UTC]"
    assert made.frame.index[0] == START + pd.Timedelta(days=4)
    assert made.frame.groupby("user", observed=True).size().tolist() == [36, 36, 36]
    assert list(made.models["user"]) == ["host-0000", "host-0001", "host-0002"]
    assert "user" not in forecast(frame_of(simulated(1, 4)[0]), "36h").frame


def test_a_series_is_forecast_like_a_frame() -> None:
    frame = frame_of(simulated(1, 4)[0])
    pd.testing.assert_frame_equal(forecast(frame["mean"], "24h").frame, forecast(frame, "24h").frame)


def test_a_dask_frame_gives_what_pandas_gives() -> None:
    values = simulated(5, 4)
    frame = frame_of_values(frame_of(values), value="mean")
    parts = dd.from_pandas(frame.sort_index(), npartitions=3)
    with dask.config.set(scheduler="synchronous"):
        made = forecast(parts, "24h")
    expected = forecast(frame, "24h")
    numbers = ["mean", "lower_80", "upper_80"]
    pd.testing.assert_frame_equal(made.frame[numbers], expected.frame[numbers])
    assert list(made.models["user"]) == list(expected.models["user"])


def test_what_comes_later_changes_neither_the_forecast_nor_the_tries_before() -> None:
    values = simulated(5, 8)
    changed = values.copy()
    changed[:, 6 * DAY :] = 0.9
    moment = START + pd.Timedelta(days=6)
    expected = forecast(frame_of(values[:, : 6 * DAY]), "24h")
    for later in (values, changed):
        made = forecast(frame_of(later), "24h", start=moment)
        pd.testing.assert_frame_equal(made.frame, expected.frame)
        pd.testing.assert_frame_equal(made.models, expected.models)


def test_the_same_frame_in_any_order_gives_the_same_answer() -> None:
    frame = frame_of(simulated(4, 5))
    shuffled = frame.sample(frac=1.0, random_state=np.random.default_rng(1))
    pd.testing.assert_frame_equal(forecast(shuffled, "24h").frame, forecast(frame, "24h").frame)


def test_gaps_stay_gaps_and_cost_little() -> None:
    values = simulated(40, 10)
    holed = values.copy()
    holed[:, 3 * DAY : 5 * DAY] = np.nan
    holed[np.random.default_rng(4).random(holed.shape) < 0.2] = np.nan
    whole, gappy = (forecast(frame_of(each[:, :-DAY]), "24h").frame for each in (values, holed))
    came = values[:, -DAY:].ravel()
    assert np.isfinite(gappy["mean"]).all()
    assert np.abs(gappy["mean"] - came).mean() < 1.15 * np.abs(whole["mean"] - came).mean()


def test_a_host_that_was_not_seen_lately_has_wider_intervals() -> None:
    values = simulated(30, 12)
    values[10:, 8 * DAY : 9 * DAY] = np.nan
    values[0, 9 * DAY :] = np.nan
    made = forecast(frame_of(values), "24h").frame
    known = forecast(frame_of(np.vstack([values[:1, : 9 * DAY], values[1:, : 9 * DAY]])), "24h").frame
    width = {
        name: (each["upper_80"] - each["lower_80"])[each["user"] == "host-0000"].mean()
        for name, each in (("gone", made), ("here", known))
    }
    assert width["gone"] > width["here"]


def test_irregular_windows_are_weighed_by_their_samples() -> None:
    index = pd.date_range(START, periods=6 * DAY * 60, freq="60s", unit="ms", name="time")
    mean = np.tile([0.2, 0.8], len(index) // 2)
    count = np.tile([300, 100], len(index) // 2)
    made = forecast(pd.DataFrame({"mean": mean, "count": count}, index=index), "24h")
    assert len(made.frame) == DAY
    np.testing.assert_allclose(made.frame["mean"], 0.35)


def test_a_constant_series_is_forecast_as_what_it_is() -> None:
    made = forecast(frame_of(np.full(5 * DAY, 0.25)), "24h")
    np.testing.assert_allclose(made.frame, 0.25)
    assert "nothing ever differed" in str(made)


def test_a_level_that_wanders_is_followed() -> None:
    wandering = 5.0 + np.random.default_rng(8).normal(0, 0.1, 12 * DAY).cumsum()
    made = forecast(frame_of(wandering), "24h")
    assert made.frame["mean"].iloc[0] == pytest.approx(wandering[-1], abs=0.5)
    assert made.models["skill"].iloc[0] > 0.2


def test_a_rise_from_day_to_day_is_followed_for_a_while() -> None:
    rising = np.linspace(1.0, 2.0, 12 * DAY)
    made = forecast(frame_of(rising), "24h")
    assert made.frame["mean"].iloc[-1] == pytest.approx(2.0 + DAY / len(rising), abs=0.03)
    assert made.models["skill"].iloc[0] > 0.7


def test_five_minutes_are_forecast_in_their_own_step() -> None:
    values = np.repeat(simulated(2, 4), 12, axis=1)
    made = forecast(frame_of(values, "5min"), "6h").frame
    assert len(made) == 2 * 72
    assert made.index[1] - made.index[0] == pd.Timedelta("5min")


def test_percent_and_other_units_are_not_cut_to_shares() -> None:
    made = forecast(frame_of(100 * simulated(1, 6)[0] - 50), "24h").frame
    assert made["mean"].min() < -10
    cut = forecast(frame_of(100 * simulated(1, 6)[0]), "24h", bounds=(10, 20)).frame
    assert cut.min().min() >= 10 and cut.max().max() <= 20


@pytest.mark.parametrize("steps", [3, 6, 12, 30, 47])
def test_a_short_history_is_forecast_and_said_to_be_short(steps: int) -> None:
    made = forecast(frame_of(simulated(1, 2)[0][:steps]), "24h")
    assert np.isfinite(made.frame.to_numpy()).all()
    assert (made.frame["upper_80"] > made.frame["lower_80"]).all()
    assert "too short" in str(made)


def test_a_series_that_is_too_short_alone_is_left_out_or_refused() -> None:
    values = simulated(3, 4)
    values[1, 2:] = np.nan
    assert list(forecast(frame_of(values), "24h").models["user"]) == ["host-0000", "host-0002"]
    with pytest.raises(ValueError, match="no series has 3 steps of 1h"):
        forecast(frame_of(np.array([0.1, 0.2])), "24h", rate="1h")


def test_what_cannot_be_forecast_is_refused_with_what_would_be_right() -> None:
    frame = frame_of(simulated(1, 4)[0])
    with pytest.raises(ValueError, match="with a unit such as 24s"):
        forecast(frame, "24")
    with pytest.raises(ValueError, match="expected 1h to 52w"):
        forecast(frame, "5m")
    with pytest.raises(ValueError, match="take a shorter one, or a coarser rate"):
        forecast(frame_of(simulated(250, 2)), "52w", rate="5m")
    with pytest.raises(ValueError, match=r"levels: expected shares between 0 and 1 such as 0\.8, got 80"):
        forecast(frame, "24h", levels=[80])
    with pytest.raises(ValueError, match="divides a day, such as 5m, 15m or 1h, got 7h"):
        forecast(frame, "24h", rate="7h")
    with pytest.raises(ValueError, match="expected a moment later"):
        forecast(frame, "24h", start="2024-03-03")
    with pytest.raises(ValueError, match="at most a year"):
        forecast(frame, "24h", start="2054-03-03")
    with pytest.raises(FrameError, match="expected a column 'p95'"):
        forecast(frame, "24h", column="p95")
    with pytest.raises(FrameError, match="time zone"):
        forecast(frame.tz_localize(None), "24h")
    with pytest.raises(FrameError, match="expected numbers"):
        forecast(frame.assign(mean="much"), "24h")
    with pytest.raises(FrameError, match="expected at least one value"):
        forecast(frame.assign(mean=np.nan), "24h")
    with pytest.raises(FrameError, match="rows of single cores alone"):
        forecast(frame.assign(core=1), "24h")


def test_the_second_days_band_stays_above_0_for_a_load_that_always_was() -> None:
    rng = np.random.default_rng(11)
    hours = np.arange(66)
    values = 0.12 + 0.04 * np.sin(2 * np.pi * hours / DAY) + rng.exponential(0.06, (60, 66)) ** 1.5
    values[:, 48:] += 0.05 * rng.exponential(1, (60, 1))
    assert values.min() > 0.07
    made = forecast(frame_of(values), "48h").frame
    second = made[made.index >= START + pd.Timedelta(hours=66 + 24)]
    assert second["lower_80"].min() > 0.01
    assert second["lower_95"].min() > 0


@pytest.mark.parametrize("kind", ["high", "low", "bursty", "wandering"])
def test_intervals_hold_their_share_at_each_horizon_whatever_the_fleet(kind: str) -> None:
    values = np.concatenate([fleet_of(kind, seed) for seed in range(3)])
    made = forecast(frame_of(values[:, :-48]), "48h").frame
    came = values[:, -48:]
    for level, least, most in ((80, 0.75, 0.85), (95, 0.92, 0.98)):
        lower, upper = (made[f"{side}_{level}"].to_numpy().reshape(-1, 48) for side in ("lower", "upper"))
        held = (came >= lower) & (came <= upper)
        for span in (slice(0, 3), slice(3, 24), slice(24, 48)):
            assert least <= held[:, span].mean() <= most, (kind, level, span)


def fleet_of(kind: str, seed: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """A hundred hosts, nine days, hourly."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (100, 9 * DAY))
    for hour in range(1, 9 * DAY):
        noise[:, hour] = 0.6 * noise[:, hour - 1] + 0.8 * noise[:, hour]
    day = np.sin(2 * np.pi * (np.arange(9 * DAY) - rng.uniform(0, DAY, (100, 1))) / DAY)
    values = {
        "high": lambda: 0.8 + 0.08 * day + 0.05 * noise,
        "low": lambda: 0.06 + 0.02 * day + 0.02 * noise,
        "bursty": lambda: 0.1 + 0.03 * day + 0.02 * rng.exponential(1, noise.shape) ** 2,
        "wandering": lambda: 0.5 + 0.02 * rng.normal(0, 1, noise.shape).cumsum(axis=1),
    }[kind]()
    return np.clip(values, 0, 1)


def test_the_weekend_is_known_as_soon_as_two_weeks_are_there() -> None:
    rng = np.random.default_rng(3)
    hours = np.arange(21 * DAY)
    working = (hours // DAY) % 7 < 5
    values = np.where(working, 0.5 + 0.2 * np.sin(2 * np.pi * hours / DAY), 0.1) + rng.normal(0, 0.01, len(hours))
    made = forecast(frame_of(values[: 14 * DAY]), "7d").frame["mean"]
    assert np.abs(made - values[14 * DAY :]).mean() < 0.05


def test_bands_do_not_remember_the_time_before_the_week_was_known() -> None:
    hours = np.arange(21 * DAY)
    working = (hours // DAY) % 7 < 5
    held, widths = [], []
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(0, 0.02, len(hours))
        values = np.where(working, 0.4 + 0.2 * np.sin(2 * np.pi * hours / DAY), 0.1) + noise
        made = forecast(frame_of(values[: 14 * DAY]), "7d").frame
        came = values[14 * DAY :]
        held.append(((made["lower_80"] <= came) & (came <= made["upper_80"])).mean())
        widths.append((made["upper_80"] - made["lower_80"]).mean())
    assert np.mean(widths) < 0.2  # 0.44 where errors from before the first week was over count
    assert np.mean(held) > 0.7


def test_days_are_those_of_the_time_zone_where_clocks_change() -> None:
    """Office hours in Berlin; clocks are set forward on 2024-03-31, back on 2024-10-27."""
    for begin, change in (("2024-03-10", "2024-03-31"), ("2024-10-06", "2024-10-27")):
        times = pd.date_range(begin, pd.Timestamp(change) + pd.Timedelta(days=3), freq="1h", tz="Europe/Berlin")
        busy = (times.hour >= 8) & (times.hour < 18)
        frame = pd.DataFrame({"mean": np.where(busy, 0.6, 0.1)}, index=times.tz_convert("UTC").as_unit("ms"))
        before = frame[frame.index < pd.Timestamp(f"{change} 00:00", tz="Europe/Berlin")]
        made = forecast(before, "3d", tz="Europe/Berlin").frame
        assert len(made) == 72
        np.testing.assert_allclose(made["mean"], frame["mean"].reindex(made.index), atol=1e-9)
        in_utc = forecast(before, "3d").frame
        assert np.abs(in_utc["mean"] - frame["mean"].reindex(in_utc.index)).max() > 0.3
        later = forecast(before, "3d", tz="Europe/Berlin", start=made.index[30]).frame
        np.testing.assert_allclose(later["mean"].iloc[:40], frame["mean"].reindex(later.index[:40]), atol=1e-9)


@pytest.mark.parametrize("tz", ["Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo"])
def test_a_zone_without_changes_moves_nothing(tz: str) -> None:
    frame = frame_of(np.repeat(simulated(2, 6), 4, axis=1), "15min")
    there, here = forecast(frame, "24h", tz=tz, rate="15m").frame, forecast(frame, "24h", rate="15m").frame
    assert there.index.equals(here.index)
    np.testing.assert_allclose(there["mean"], here["mean"], atol=0.05)


def test_the_summary_says_what_intervals_are_for() -> None:
    frame = frame_of(simulated(1, 4)[0])
    assert "Intervals are for each step of 1h by itself" in str(forecast(frame, "24h"))
    assert "Intervals are for the mean of each day" in str(forecast(frame, "2d", rate="1d"))


@pytest.mark.parametrize(("count", "share"), [(30, 0.8), (45, 0.8), (48, 0.8), (88, 0.8), (45, 0.95), (88, 0.95)])
def test_of_few_errors_a_band_holds_its_share_and_no_more(count: int, share: float) -> None:
    random, tail, held = np.random.default_rng(7), 0.5 * (1 - share), []
    for _ in range(1000):
        scores = np.sort(random.uniform(size=count))
        low, high = Pool((scores,) * HORIZON_BINS).quantiles(tail)
        held.append(high[0] - low[0])
    assert np.mean(held) == pytest.approx(share, abs=0.01)
