"""Load-duration curves and saturation are those of the raw samples."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import load_duration_curve, resample, saturation
from analytics.frames.frame import FrameError, frame_of_values, from_frame, to_frame
from contract.histogram import LINEAR
from tests.support.sampled_fleets import loads, sampled
from tests.support.sampled_windows import windows_of

FLEET = sampled()
VALUES = FLEET.samples["value"].to_numpy()


def test_a_curve_is_exact_at_the_edges_of_bins() -> None:
    curve = load_duration_curve(FLEET.frame)
    assert curve["load"].tolist() == [place / 64 for place in range(64)]
    np.testing.assert_allclose(curve["share"], [(load <= VALUES).mean() for load in curve["load"]], rtol=1e-12)
    assert curve.attrs == {"approximated": 0.0}


def test_each_user_has_a_curve_of_its_own() -> None:
    curves = load_duration_curve(FLEET.frame, by="user").set_index("user")
    for user, samples in FLEET.samples.groupby("user"):
        share = [(samples["value"] >= place / 64).mean() for place in range(64)]
        np.testing.assert_allclose(curves.loc[user, "share"], share, rtol=1e-12)


@given(st.floats(0, 1))
def test_saturation_is_within_its_bounds_and_these_are_a_bin_apart(threshold: float) -> None:
    [row] = saturation(FLEET.frame, threshold, by=None).to_dict("records")
    assert row["lower"] <= (threshold <= VALUES).mean() <= row["upper"]
    assert row["lower"] <= row["share"] <= row["upper"]
    inside = min(int(threshold * 64), 63)
    assert row["upper"] - row["lower"] <= (np.minimum((VALUES * 64).astype(int), 63) == inside).mean() + 1e-12


@pytest.mark.parametrize("place", [0, 1, 45, 63])
def test_saturation_is_exact_at_the_edges_of_bins(place: int) -> None:
    for row in saturation(FLEET.frame, place / 64).itertuples():
        exact = (FLEET.samples.set_index("user").loc[row.user, "value"] >= place / 64).mean()
        assert row.lower == row.share == row.upper == pytest.approx(exact, rel=1e-12)


def test_the_most_saturated_come_first_and_buckets_in_order_of_time() -> None:
    shares = saturation(FLEET.frame, 0.5)["share"]
    assert shares.is_monotonic_decreasing
    hours = saturation(FLEET.frame, 0.5, rate="1h")
    expected = FLEET.samples.groupby(["user", pd.Grouper(key="time", freq="1h")])["value"].agg(
        lambda v: (v >= 0.5).mean()
    )
    np.testing.assert_allclose(hours["share"], expected, rtol=1e-12)
    assert hours["user"].tolist() == expected.index.get_level_values("user").tolist()
    assert hours.index.tolist() == expected.index.get_level_values("time").tolist()


@pytest.mark.parametrize("threshold", [1.0, 0.999, 0.99, 0.8, 0.5, 1e-9])
def test_single_measurements_are_exact_at_any_threshold(threshold: float) -> None:
    values = np.where(np.random.default_rng(4).random(1000) < 0.29, 1.0, np.linspace(0, 0.995, 1000).round(3))
    times = pd.date_range("2024", periods=1000, freq="5min", tz="UTC")
    frame = frame_of_values(pd.DataFrame({"value": values}, times))
    [row] = saturation(frame, threshold, by=None).to_dict("records")
    assert row["lower"] == row["share"] == row["upper"] == pytest.approx((values >= threshold).mean(), rel=1e-12)


def test_how_often_hosts_are_flat_out_is_answered_with_bounds() -> None:
    random = np.random.default_rng(5)
    parts = [np.where(random.random(100) < 0.29, 1.0, random.uniform(0, 0.9, 100)) for _ in range(50)]
    times = pd.date_range("2024", periods=50, freq="5s", unit="ms", tz="UTC").asi8.tolist()
    frame = to_frame(windows_of([(0, time) for time in times], parts, LINEAR))
    exact = (np.concatenate(parts) == 1.0).mean()
    [row] = saturation(frame, 1.0).to_dict("records")
    assert row["lower"] == row["share"] == row["upper"] == pytest.approx(exact, rel=1e-12)
    # As agents counted at first: exactly 1 in the bin below it.
    windows, labels = from_frame(frame)
    assert windows.histograms is not None
    at_first = replace(windows.histograms, bin=np.minimum(windows.histograms.bin, 63).astype(np.int32))
    [row] = saturation(to_frame(replace(windows, histograms=at_first), labels), 1.0).to_dict("records")
    assert row["share"] == row["upper"] == pytest.approx(exact, rel=1e-12)
    assert row["lower"] == pytest.approx(0.01)
    below = [np.where(part == 1.0, 1.0, part + 0.0999) for part in parts]
    [row] = saturation(to_frame(windows_of([(0, time) for time in times], below, LINEAR)), 1.0).to_dict("records")
    assert row["lower"] == row["share"] == row["upper"] == pytest.approx(exact, rel=1e-12)
    almost = [np.minimum(part, 0.999) for part in parts]
    [row] = saturation(to_frame(windows_of([(0, time) for time in times], almost, LINEAR)), 1.0).to_dict("records")
    assert (row["lower"], row["share"], row["upper"]) == (0, 0, 0)


def test_idle_time_is_never_taken_for_a_little_load() -> None:
    parts = [np.repeat([0.0, 0.012], [90, 10])]
    [row] = saturation(to_frame(windows_of([(0, 1000)], parts, LINEAR)), 0.001).to_dict("records")
    assert row["lower"] <= 0.1 <= row["upper"] == 0.1


VALUE = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.8, 51 / 64, 63 / 64, 1.0]))


@given(st.lists(st.lists(VALUE, min_size=1, max_size=6), min_size=1, max_size=5), VALUE, st.booleans())
def test_bounds_hold_whatever_the_samples_are(samples: list[list[float]], threshold: float, together: bool) -> None:
    parts = [np.array(part) for part in samples]
    frame = to_frame(windows_of([(0, 1000 * place) for place in range(len(parts))], parts, LINEAR))
    [row] = saturation(resample(frame, "1h") if together else frame, threshold).to_dict("records")
    exact = (np.concatenate(parts) >= threshold).mean()
    assert row["lower"] - 1e-12 <= exact <= row["upper"] + 1e-12
    assert row["lower"] <= row["share"] <= row["upper"]


def test_what_came_without_histograms_is_told() -> None:
    frame = loads(np.full(10, 0.66)).assign(var=0.09, max=0.96, min=0.36)
    assert saturation(frame, 0.9).attrs == {"approximated": 1.0}
    assert saturation(FLEET.frame, 0.9).attrs == {"approximated": 0.0}


def test_a_peak_counts_though_the_mean_hides_it() -> None:
    # Half of the samples at 0.96, half at 0.36: the mean is 0.66, never above the threshold.
    frame = loads(np.full(10, 0.66)).assign(var=0.09, max=0.96, min=0.36)
    assert saturation(frame, 0.9, by=None)["share"].tolist() == [0.5]
    assert load_duration_curve(frame).attrs == {"approximated": 1.0}


def test_what_is_no_share_is_refused() -> None:
    values = pd.DataFrame({"value": [3.0, 4.0]}, index=pd.date_range("2024", periods=2, tz="UTC"))
    frame = frame_of_values(values, metric="load1m")
    for function in (load_duration_curve, saturation):
        with pytest.raises(FrameError, match="got load1m"):
            function(frame)
    with pytest.raises(ValueError, match=r"share in \[0, 1\]"):
        saturation(FLEET.frame, 90)
