"""Right-sizing: what a capacity planner may rely on."""

from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from analytics import right_size
from analytics.frames.frame import FrameError, frame_of_values, to_frame
from analytics.methods.right_sizing import VERDICTS, size_hosts
from contract.histogram import LINEAR
from tests.support.sampled_windows import windows_of

START = pd.Timestamp("2024-03-04", tz="UTC")


def frame_of(load: dict[str, "np.ndarray[tuple[int], np.dtype[np.float64]]"]) -> pd.DataFrame:
    """Hourly means of some users."""
    parts = [
        pd.DataFrame({"user": user, "mean": values}, pd.date_range(START, periods=len(values), freq="1h", name="time"))
        for user, values in load.items()
    ]
    return pd.concat(parts)


def sizes_of(*arguments: Any, **options: Any) -> pd.DataFrame:
    """What `right_size` answers of several users, to look them up; of one without a name as it is."""
    sized = right_size(*arguments, **options)
    return sized.set_index("user").rename(index=str) if "user" in sized else sized


def noisy(
    level: float, days: int, seed: int = 1, spread: float = 0.02
) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Hours around a level."""
    return np.clip(np.random.default_rng(seed).normal(level, spread, 24 * days), 0, 1)


def test_the_cores_that_keep_the_percentile_under_the_target_are_the_fewest_that_do() -> None:
    load = noisy(0.3, 30)
    sized = sizes_of(frame_of({"a": load}), cores=16, target=0.7, quantile=0.99).loc["a"]
    demand = np.quantile(load, 0.99) * 16
    assert sized["demand"] == pytest.approx(demand, rel=0.02)
    assert sized["needed"] == np.ceil(demand / 0.7)
    assert demand / sized["needed"] <= 0.7 < demand / (sized["needed"] - 1)


def test_verdicts_say_what_to_do_and_what_it_saves() -> None:
    frame = frame_of(
        {"idle": noisy(0.05, 14), "fitting": noisy(0.7, 14), "hot": noisy(0.93, 14), "new": noisy(0.05, 2)}
    )
    sized = sizes_of(frame, cores=8, core_hour_price=0.05)
    assert sized["verdict"].to_dict() == {
        "fitting": "right", "hot": "too small", "idle": "too big", "new": "not enough data"
    }  # fmt: skip
    assert set(sized["verdict"]) < set(VERDICTS)
    idle, hot, new = sized.loc["idle"], sized.loc["hot"], sized.loc["new"]
    assert (idle["recommended"], idle["saved"], idle["saved_share"]) == (1, 7, 7 / 8)
    assert idle["saved_a_month"] == pytest.approx(7 * 0.05 * 730)
    assert "1 core keeps it under 80 %, 7 fewer" in idle["why"]
    assert (hot["recommended"], hot["saved"]) == (10, -2)
    assert "10 cores are needed" in hot["why"]
    assert np.isnan(new["needed"]) and np.isnan(new["saved"]) and "Seen on 2 days: at least 5" in new["why"]
    assert sized["confidence"].loc[["idle", "fitting", "hot"]].min() > 0.9


@pytest.mark.parametrize("sizes", [None, (4, 8, 16)])
def test_nothing_is_promised_of_a_host_that_is_full(sizes: tuple[int, ...] | None) -> None:
    full = sizes_of(frame_of({"full": np.ones(14 * 24)}), cores=4, sizes=sizes).loc["full"]
    assert full["verdict"] == "too small"
    assert full["recommended"] == (5 if sizes is None else 8)
    assert np.isnan(full["confidence"]), "what it would use with more cores nobody has seen"
    assert "confidence" not in full["why"]
    assert "what it would use if it could is not seen while it is full" in full["why"]


def test_a_share_of_a_core_that_is_enough_is_what_is_needed() -> None:
    """A container's, which is no whole number: it had been right, and one core needed."""
    quota = sizes_of(frame_of({"quota": np.full(14 * 24, 0.3)}), cores=0.5).loc["quota"]
    assert quota["verdict"] == "right"
    assert (quota["lower"], quota["needed"], quota["upper"], quota["recommended"]) == (0.5, 0.5, 0.5, 0.5)
    assert "0.15 of 0.5 cores" in quota["why"] and "needed on a day within the next 14: 0.5," in quota["why"]
    single = sizes_of(frame_of({"one": np.full(14 * 24, 0.3)}), cores=1).loc["one"]
    assert "0.3 of 1 core." in single["why"]


def test_days_that_differ_make_a_wide_interval_and_no_rash_saving() -> None:
    steady = frame_of({"steady": np.tile(noisy(0.25, 1), 14)})
    bursts = frame_of({"bursts": np.concatenate([noisy(0.7 if day == 4 else 0.05, 1, seed=day) for day in range(14)])})
    sized = pd.concat([sizes_of(frame, cores=16) for frame in (steady, bursts)])
    assert sized.loc["steady", "upper"] - sized.loc["steady", "lower"] <= 2
    assert sized.loc["bursts", "upper"] - sized.loc["bursts", "lower"] >= 8
    assert sized.loc["bursts", "recommended"] >= np.ceil(0.7 * 16 / 0.8)


@pytest.mark.parametrize(("days", "spread"), [(5, 0.02), (5, 0.1), (10, 0.05), (30, 0.02), (30, 0.1)])
@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_what_a_later_day_needs_is_held_as_often_as_is_said(days: int, spread: float, kind: str) -> None:
    rng = np.random.default_rng(days)
    shocks = rng.normal(0, 1, (300, days + 1)) if kind == "normal" else rng.exponential(1, (300, days + 1)) - 1
    levels = rng.uniform(0.1, 0.7, (300, 1)) + spread * shocks
    load = np.clip(np.repeat(levels, 24, axis=1) + rng.normal(0, 0.02, (300, 24 * (days + 1))), 0, 1)
    came = np.quantile(load[:, -24:], 0.95, axis=1, method="inverted_cdf") * 1000 / 0.8
    sized = sizes_of(frame_of({f"m{n:03}": load[n, :-24] for n in range(300)}), cores=1000)
    assert 0.85 <= (came <= sized["upper"]).mean() <= 0.98
    assert 0.85 <= ((came <= sized["upper"]) & (came >= sized["lower"])).mean() <= 0.98
    assert sized["confidence"].mean() == pytest.approx(0.9, abs=0.05)


def test_bounds_may_lie_beyond_the_worst_day_that_was_seen() -> None:
    rng = np.random.default_rng(3)
    load = np.clip(rng.normal(0.4, 0.08, (100, 5, 1)) + rng.normal(0, 0.01, (100, 5, 24)), 0, 1)
    worst = np.quantile(load, 0.95, axis=2, method="inverted_cdf").max(axis=1)
    sized = sizes_of(frame_of({f"m{n:02}": each.ravel() for n, each in enumerate(load)}), cores=1000)
    assert (sized["upper"] > worst * 1000 / 0.8 + 1).mean() > 0.6


def test_a_host_that_got_more_cores_is_sized_in_cores_used() -> None:
    before, after = noisy(0.8, 10, spread=0.001), noisy(0.4, 10, spread=0.0005)
    frame = frame_of({"a": np.concatenate([before, after])})
    had = np.repeat([4, 8], 240)
    noted = sizes_of(frame.assign(cores=had), least_days=5)
    rows = [frame.assign(core=pd.NA), *(frame[had > core].assign(core=core) for core in range(8))]
    counted = sizes_of(pd.concat(rows))
    for sized in (noted, counted, sizes_of(frame.assign(cores=had), cores=8)):
        row = sized.loc["a"]
        assert (row["now"], row["verdict"]) == (8, "too big")
        assert row["demand"] == pytest.approx(3.2, abs=0.02)
        assert row["recommended"] == 5
        assert row["utilization"] == pytest.approx(0.4, abs=0.01)
    sparse = frame.assign(cores=pd.Series(had, frame.index).where(np.arange(480) % 240 == 5))
    pd.testing.assert_frame_equal(sizes_of(sparse), noted)
    fewer = sizes_of(frame.iloc[::-1].set_axis(frame.index).assign(cores=had[::-1]))
    assert fewer.loc["a", "now"] == 4 and fewer.loc["a", "utilization"] == pytest.approx(0.8, abs=0.01)


def test_a_host_whose_cores_changed_is_the_same_from_histograms_and_from_dask() -> None:
    values = np.concatenate([noisy(0.8, 10, spread=0.001), noisy(0.4, 10, spread=0.0005)])
    frame = frame_of_values(frame_of({"a": values}), value="mean").assign(cores=np.repeat([4.0, 8.0], 240))
    assert sizes_of(frame).loc["a", "demand"] == pytest.approx(3.2, abs=8 / 64)
    parts = dd.from_pandas(frame, npartitions=3)
    with dask.config.set(scheduler="synchronous"):
        pd.testing.assert_frame_equal(sizes_of(parts), sizes_of(frame), check_index_type=False)


@pytest.mark.parametrize("histograms", [True, False])
def test_a_percentile_at_the_target_is_not_too_small(histograms: bool) -> None:
    for at, verdict in ((0.8, "right"), (0.83, "too small")):
        frame = frame_of_values(frame_of({"a": np.tile(np.linspace(at - 0.05, at, 24), 10).round(3)}), value="mean")
        frame = frame if histograms else frame.drop(columns="histogram")
        assert sizes_of(frame, 8, quantile=0.99).loc["a", "verdict"] == verdict
    constant = frame_of_values(frame_of({"a": np.full(240, 0.8)}), value="mean")
    assert sizes_of(constant, 8).loc["a", ["needed", "demand"]].tolist() == [8, pytest.approx(6.4)]


def test_a_day_needs_samples_to_count() -> None:
    once = frame_of({f"m{n}": noisy(0.02, 1, seed=n)[:1] for n in range(5)})
    for frame in (once, frame_of_values(once, value="mean")):
        assert set(sizes_of(frame, 8, least_days=2)["verdict"]) == {"not enough data"}
    daily = pd.DataFrame({"mean": 0.02}, pd.date_range(START, periods=9, freq="1D", name="time"))
    [row] = sizes_of(daily, 8).to_dict("records")
    assert (row["verdict"], row["days"]) == ("not enough data", 0)
    assert sizes_of(daily.assign(count=20), 8)["days"].tolist() == [9]


def test_where_no_size_fits_that_is_said() -> None:
    frame = frame_of({"a": np.full(240, 0.9)})
    [row] = sizes_of(frame, 8, sizes=(2, 4)).to_dict("records")
    assert row["demand"] == pytest.approx(7.2)
    assert (row["verdict"], row["needed"]) == ("no size fits", np.inf)
    assert np.isnan([row["recommended"], row["saved"], row["confidence"]]).all()
    assert "None of the sizes fits: the largest has 4, at least 9 are needed" in row["why"]
    [kept] = sizes_of(frame_of({"a": np.full(240, 0.5)}), 16, sizes=(2, 4)).to_dict("records")
    assert (kept["verdict"], kept["recommended"]) == ("right", 16)
    assert "None of the sizes would keep it" in kept["why"]
    assert "inf" not in row["why"] + kept["why"]


def test_numbers_in_sentences_are_written_out() -> None:
    frame = frame_of({"a": np.full(240, 120 / 128)})
    assert "used at most 120 of 128 cores" in sizes_of(frame, 128).loc["a", "why"]
    many = sizes_of(frame_of({"a": np.full(240, 0.5), "b": np.full(240, 0.002)}), 3_000_000)
    assert "used at most 1,500,000 of 3,000,000 cores" in many.loc["a", "why"]
    assert not many["why"].str.contains(r"\de[+-]\d").any()
    small = sizes_of(frame_of({"a": np.full(240, 0.03)}), 1.0, sizes=(0.1, 0.25, 1.0)).loc["a", "why"]
    assert "used at most 0.03 of 1 core." in small


def test_histograms_show_peaks_that_means_hide() -> None:
    rng = np.random.default_rng(2)
    windows = [(0, time) for time in pd.date_range(START, periods=24 * 7, freq="1h", unit="ms").asi8.tolist()]
    samples = [np.where(rng.random(200) < 0.1, 0.9, 0.1) for _ in windows]
    frame = to_frame(windows_of(windows, samples, LINEAR), pd.DataFrame({"user": ["a"]}))
    by_samples, by_means = sizes_of(frame, 8), sizes_of(frame.drop(columns="histogram"), 8)
    assert by_samples.loc["a", "utilization"] == pytest.approx(0.9, abs=1 / 64)
    assert by_means.loc["a", "utilization"] == pytest.approx(0.2, abs=0.05)
    assert (by_samples.loc["a", "basis"], by_means.loc["a", "basis"]) == ("samples", "means of windows")


def test_sizes_are_chosen_from_what_there_is() -> None:
    frame = frame_of({"a": noisy(0.3, 10), "b": noisy(0.98, 10)})
    sized = sizes_of(frame, cores={"a": 16, "b": 16}, sizes=[16, 4, 2, 8])
    assert sized["recommended"].dropna().to_dict() == {"a": 8}
    assert sized.loc["b", "verdict"] == "no size fits"
    between = sizes_of(frame_of({"a": noisy(0.6, 10)}), cores=6, sizes=[4, 8])
    assert between.loc["a", "verdict"] == "right"


def test_growth_counts_where_there_is_a_trend_and_headroom_where_it_is_asked_for() -> None:
    rising = np.linspace(0.2, 0.5, 24 * 30) + np.random.default_rng(0).normal(0, 0.02, 24 * 30)
    frame = frame_of({"flat": noisy(0.3, 30), "rising": rising, "sinking": rising[::-1]})
    plain, ahead = sizes_of(frame, 16), sizes_of(frame, 16, ahead="30d")
    assert ahead.loc["rising", "demand"] > 1.5 * plain.loc["rising", "demand"]
    assert "with what is to come" in ahead.loc["rising", "why"]
    assert ahead.loc[["flat", "sinking"], "demand"].equals(plain.loc[["flat", "sinking"], "demand"])
    roomy = sizes_of(frame, 16, headroom=0.25)
    pd.testing.assert_series_equal(roomy["demand"], plain["demand"] * 1.25)


def test_cores_are_counted_where_the_frame_has_them() -> None:
    whole = frame_of({"a": noisy(0.1, 10)})
    frame = pd.concat([whole.assign(core=pd.NA), *(whole.assign(core=core) for core in range(4))])
    assert sizes_of(frame).loc["a", "now"] == 4


def test_users_without_known_cores_are_left_out() -> None:
    frame = frame_of({"a": noisy(0.1, 10), "b": noisy(0.1, 10)})
    assert list(sizes_of(frame, {"b": 2}).index) == ["b"]
    assert list(sizes_of(frame, pd.Series({"a": 4})).index) == ["a"]


def test_one_user_needs_no_name_and_order_does_not_matter() -> None:
    frame = frame_of({"a": noisy(0.2, 10), "b": noisy(0.4, 8)})
    shuffled = frame.sample(frac=1.0, random_state=np.random.default_rng(3))
    pd.testing.assert_frame_equal(sizes_of(shuffled, 8), sizes_of(frame, 8))
    alone = sizes_of(frame[frame["user"] == "a"].drop(columns="user"), 8)
    assert alone["needed"].tolist() == sizes_of(frame, 8).loc[["a"], "needed"].tolist()


def test_a_dask_frame_gives_what_pandas_gives() -> None:
    frame = frame_of_values(frame_of({"b": noisy(0.2, 10), "a": noisy(0.4, 8)}), value="mean")
    parts = dd.from_pandas(frame.sort_index(), npartitions=3)
    with dask.config.set(scheduler="synchronous"):
        pd.testing.assert_frame_equal(sizes_of(parts, 8), sizes_of(frame, 8), check_index_type=False)


def test_gaps_and_empty_windows_do_not_count() -> None:
    frame = frame_of({"a": noisy(0.2, 10)}).assign(count=100)
    idle = frame.assign(count=0, mean=np.nan).iloc[:50].set_axis(frame.index[:50] + pd.Timedelta(days=30))
    pd.testing.assert_frame_equal(sizes_of(pd.concat([frame, idle]), 8), sizes_of(frame, 8))


def test_what_cannot_be_sized_is_refused_with_what_would_be_right() -> None:
    frame = frame_of({"a": noisy(0.1, 10)})
    with pytest.raises(FrameError, match="expected the cores of at least one host"):
        sizes_of(frame, {"b": 4})
    with pytest.raises(FrameError, match="numbers above 0 in the column cores"):
        sizes_of(frame.assign(cores=0))
    with pytest.raises(FrameError, match="a DataFrame of pandas or Dask, got a list"):
        sizes_of([1, 2], 4)
    with pytest.raises(FrameError, match="say how many each host has"):
        sizes_of(frame)
    with pytest.raises(ValueError, match=r"target: expected a share of utilization in \(0, 1\]"):
        sizes_of(frame, 4, target=80)
    with pytest.raises(ValueError, match="quantile: expected a share"):
        sizes_of(frame, 4, quantile=95)
    with pytest.raises(ValueError, match="a number above 0"):
        sizes_of(frame, 0)
    with pytest.raises(ValueError, match="sizes: expected numbers"):
        sizes_of(frame, 4, sizes=[])
    with pytest.raises(ValueError, match="headroom"):
        sizes_of(frame, 4, headroom=-1)
    with pytest.raises(FrameError, match="expected in mean utilization as a share"):
        sizes_of(frame.assign(mean=frame["mean"] * 100), 4)
    with pytest.raises(FrameError, match="expected at least one row with a value"):
        sizes_of(frame.iloc[:0], 4)
    with pytest.raises(FrameError, match="time zone"):
        sizes_of(frame.tz_localize(None), 4)


def test_hosts_of_unknown_cores_are_named_or_all_are_sized_in_times_what_they_have() -> None:
    load = {name: noisy(0.3, 10) for name in ("a", "b", "c")}
    frame = frame_of(load)
    users = pd.DataFrame({"user": ["a", "b", "c"], "cores": pd.array([8, 8, None], "Int64")})
    most = size_hosts(frame, users)
    assert (most.in_cores, most.left_out) == (True, ("c",))
    assert most.caveat == "1 host is left out, whose number of cores is not known: c."
    assert most.table["user"].tolist() == ["a", "b"]
    few = size_hosts(frame, users.assign(cores=pd.array([8, None, None], "Int64")))
    assert (few.in_cores, few.left_out, few.unit) == (False, (), "times the present size")
    assert few.table["user"].tolist() == ["a", "b", "c"]
    assert few.table["needed"].tolist() == [0.5] * 3
    priced = size_hosts(frame, users.assign(cores=pd.array([8, None, None], "Int64")), core_hour_price=1.0)
    assert (priced.in_cores, priced.left_out) == (True, ("b", "c"))
    with pytest.raises(FrameError, match="say it with --cores"):
        size_hosts(frame, users.assign(cores=pd.array([None] * 3, "Int64")), sizes=(2, 4))


def test_what_is_known_of_cores_counts_although_those_of_one_host_are_not_known() -> None:
    frame = frame_of({"grown": np.repeat([0.8, 0.4], 120), "other": np.full(240, 0.4)})
    cores = pd.array([*[4] * 120, *[8] * 120, *[None] * 240], "Int64")
    sizes = size_hosts(frame.assign(cores=cores), pd.DataFrame({"user": ["grown"], "cores": [8]}), sizes=(2, 4, 8))
    assert sizes.table["needed"].tolist() == [4]
    assert sizes.table["demand"].tolist() == pytest.approx([3.2])


def test_a_chance_is_no_more_than_certain() -> None:
    sized = right_size(frame_of({str(number): noisy(0.05, 30, seed=number) for number in range(20)}), 16)
    assert sized["confidence"].max() <= 1.0


@pytest.mark.parametrize(
    "wrong", [{"headroom": np.nan}, {"headroom": np.inf}, {"sizes": (2, np.nan)}, {"core_hour_price": np.nan},
              {"cores": np.inf}, {"cores": np.nan}]
)  # fmt: skip
def test_what_is_no_number_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(FrameError, match=r"expected|numbers of cores above 0"):
        right_size(frame_of({"a": noisy(0.1, 10)}), **{"cores": 4} | wrong)
