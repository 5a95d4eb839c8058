"""Right-sizing: what a capacity planner may rely on."""

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from analytics import right_size
from analytics.frames.frame import FrameError, frame_of_values, to_frame
from analytics.methods.right_sizing import VERDICTS
from contract.histogram import LINEAR
from tests.analytics.samples import windows_of

START = pd.Timestamp("2024-03-04", tz="UTC")


def frame_of(load: dict[str, "np.ndarray[tuple[int], np.dtype[np.float64]]"]) -> pd.DataFrame:
    """Hourly means of some users."""
    parts = [
        pd.DataFrame({"user": user, "mean": values}, pd.date_range(START, periods=len(values), freq="1h", name="time"))
        for user, values in load.items()
    ]
    return pd.concat(parts)


def noisy(
    level: float, days: int, seed: int = 1, spread: float = 0.02
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Hours around a level."""
    return np.clip(np.random.default_rng(seed).normal(level, spread, 24 * days), 0, 1)


def test_the_cores_that_keep_the_percentile_under_the_target_are_the_fewest_that_do() -> None:
    load = noisy(0.3, 30)
    sized = right_size(frame_of({"a": load}), cores=16, target=0.7, quantile=0.99).loc["a"]
    demand = np.quantile(load, 0.99) * 16
    assert sized["demand"] == pytest.approx(demand, rel=0.02)
    assert sized["needed"] == np.ceil(demand / 0.7)
    assert demand / sized["needed"] <= 0.7 < demand / (sized["needed"] - 1)


def test_verdicts_say_what_to_do_and_what_it_saves() -> None:
    frame = frame_of(
        {"idle": noisy(0.05, 14), "fitting": noisy(0.7, 14), "hot": noisy(0.93, 14), "new": noisy(0.05, 2)}
    )
    sized = right_size(frame, cores=8, core_hour_price=0.05)
    assert sized["verdict"].to_dict() == {
        "fitting": "right", "hot": "too small", "idle": "too big", "new": "not enough data"
    }  # fmt: skip
    assert set(sized["verdict"]) == set(VERDICTS)
    idle, hot, new = sized.loc["idle"], sized.loc["hot"], sized.loc["new"]
    assert (idle["recommended"], idle["saved"], idle["saved_share"]) == (1, 7, 7 / 8)
    assert idle["saved_a_month"] == pytest.approx(7 * 0.05 * 730)
    assert "1 core keeps it under 80 %, 7 fewer" in idle["why"]
    assert (hot["recommended"], hot["saved"]) == (10, -2)
    assert "10 cores are needed" in hot["why"]
    assert np.isnan(new["needed"]) and np.isnan(new["saved"]) and "Seen on 2 days: at least 5" in new["why"]
    assert sized["confidence"].loc[["idle", "fitting", "hot"]].min() > 0.9


def test_days_that_differ_make_a_wide_interval_and_no_rash_saving() -> None:
    steady = np.tile(noisy(0.25, 1), 14)
    bursts = np.concatenate([noisy(0.7 if day == 4 else 0.05, 1, seed=day) for day in range(14)])
    sized = right_size(frame_of({"steady": steady, "bursts": bursts}), cores=16)
    assert sized.loc["steady", "upper"] - sized.loc["steady", "lower"] <= 1
    assert sized.loc["bursts", "upper"] - sized.loc["bursts", "lower"] >= 8
    assert sized.loc["bursts", "recommended"] >= np.ceil(0.7 * 16 / 0.8)


def test_the_interval_holds_the_need_of_other_months_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    truth = np.quantile(np.clip(np.repeat(rng.normal(0.4, 0.1, 20_000), 24) + rng.normal(0, 0.03, 480_000), 0, 1), 0.8)
    load = {
        f"m{n:03}": np.clip(np.repeat(rng.normal(0.4, 0.1, 30), 24) + rng.normal(0, 0.03, 720), 0, 1)
        for n in range(200)
    }
    sized = right_size(frame_of(load), cores=1000, quantile=0.8)
    held = (sized["lower"] <= truth * 1000 / 0.8) & (sized["upper"] >= truth * 1000 / 0.8)
    assert 0.8 <= held.mean() <= 0.97


def test_histograms_show_peaks_that_means_hide() -> None:
    rng = np.random.default_rng(2)
    windows = [(0, time) for time in pd.date_range(START, periods=24 * 7, freq="1h", unit="ms").asi8.tolist()]
    samples = [np.where(rng.random(200) < 0.1, 0.9, 0.1) for _ in windows]
    frame = to_frame(windows_of(windows, samples, LINEAR), pd.DataFrame({"user": ["a"]}))
    by_samples, by_means = right_size(frame, 8), right_size(frame.drop(columns="histogram"), 8)
    assert by_samples.loc["a", "utilization"] == pytest.approx(0.9, abs=1 / 64)
    assert by_means.loc["a", "utilization"] == pytest.approx(0.2, abs=0.05)
    assert (by_samples.loc["a", "basis"], by_means.loc["a", "basis"]) == ("samples", "means of windows")


def test_sizes_are_chosen_from_what_there_is() -> None:
    frame = frame_of({"a": noisy(0.3, 10), "b": noisy(0.98, 10)})
    sized = right_size(frame, cores={"a": 16, "b": 16}, sizes=[16, 4, 2, 8])
    assert sized["recommended"].to_dict() == {"a": 8, "b": 16}
    assert sized.loc["b", "verdict"] == "too small"
    assert "At least 16" in sized.loc["b", "why"]
    between = right_size(frame_of({"a": noisy(0.6, 10)}), cores=6, sizes=[4, 8])
    assert between.loc["a", "verdict"] == "right"


def test_growth_counts_where_there_is_a_trend_and_headroom_where_it_is_asked_for() -> None:
    rising = np.linspace(0.2, 0.5, 24 * 30) + np.random.default_rng(0).normal(0, 0.02, 24 * 30)
    frame = frame_of({"flat": noisy(0.3, 30), "rising": rising, "sinking": rising[::-1]})
    plain, ahead = right_size(frame, 16), right_size(frame, 16, ahead="30d")
    assert ahead.loc["rising", "demand"] > 1.5 * plain.loc["rising", "demand"]
    assert "with what is to come" in ahead.loc["rising", "why"]
    assert ahead.loc[["flat", "sinking"], "demand"].equals(plain.loc[["flat", "sinking"], "demand"])
    roomy = right_size(frame, 16, headroom=0.25)
    pd.testing.assert_series_equal(roomy["demand"], plain["demand"] * 1.25)


def test_cores_are_counted_where_the_frame_has_them() -> None:
    whole = frame_of({"a": noisy(0.1, 10)})
    frame = pd.concat([whole.assign(core=pd.NA), *(whole.assign(core=core) for core in range(4))])
    assert right_size(frame).loc["a", "now"] == 4


def test_users_without_known_cores_are_left_out() -> None:
    frame = frame_of({"a": noisy(0.1, 10), "b": noisy(0.1, 10)})
    assert list(right_size(frame, {"b": 2}).index) == ["b"]
    assert list(right_size(frame, pd.Series({"a": 4})).index) == ["a"]


def test_one_user_needs_no_name_and_order_does_not_matter() -> None:
    frame = frame_of({"a": noisy(0.2, 10), "b": noisy(0.4, 8)})
    shuffled = frame.sample(frac=1.0, random_state=np.random.default_rng(3))
    pd.testing.assert_frame_equal(right_size(shuffled, 8), right_size(frame, 8))
    alone = right_size(frame[frame["user"] == "a"].drop(columns="user"), 8)
    assert alone["needed"].tolist() == right_size(frame, 8).loc[["a"], "needed"].tolist()


def test_a_dask_frame_gives_what_pandas_gives() -> None:
    frame = frame_of_values(frame_of({"b": noisy(0.2, 10), "a": noisy(0.4, 8)}), value="mean")
    parts = dd.from_pandas(frame.sort_index(), npartitions=3)
    with dask.config.set(scheduler="synchronous"):
        pd.testing.assert_frame_equal(right_size(parts, 8), right_size(frame, 8), check_index_type=False)


def test_gaps_and_empty_windows_do_not_count() -> None:
    frame = frame_of({"a": noisy(0.2, 10)}).assign(count=100)
    idle = frame.assign(count=0, mean=np.nan).iloc[:50].set_axis(frame.index[:50] + pd.Timedelta(days=30))
    pd.testing.assert_frame_equal(right_size(pd.concat([frame, idle]), 8), right_size(frame, 8))


def test_what_cannot_be_sized_is_refused_with_what_would_be_right() -> None:
    frame = frame_of({"a": noisy(0.1, 10)})
    with pytest.raises(FrameError, match="say how many each machine has"):
        right_size(frame)
    with pytest.raises(ValueError, match=r"target is a share of utilization in \(0, 1\]"):
        right_size(frame, 4, target=80)
    with pytest.raises(ValueError, match="quantile is a share"):
        right_size(frame, 4, quantile=95)
    with pytest.raises(ValueError, match="a number above 0"):
        right_size(frame, 0)
    with pytest.raises(ValueError, match="sizes are numbers"):
        right_size(frame, 4, sizes=[])
    with pytest.raises(ValueError, match="headroom"):
        right_size(frame, 4, headroom=-1)
    with pytest.raises(FrameError, match=r"mean reaches from"):
        right_size(frame.assign(mean=frame["mean"] * 100), 4)
    with pytest.raises(FrameError, match="no row has a value"):
        right_size(frame.iloc[:0], 4)
    with pytest.raises(FrameError, match="time zone"):
        right_size(frame.tz_localize(None), 4)
