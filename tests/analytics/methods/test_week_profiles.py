"""Profiles of the week are those of the raw samples at the hour of the clock on the wall."""

import numpy as np
import pandas as pd
import pytest

from analytics import hour_of_week_profile, resample
from analytics.frames.frame import FrameError
from tests.support.sampled_fleets import loads, sampled

ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe"]


@pytest.mark.parametrize("tz", ZONES)
def test_a_profile_is_that_of_the_raw_samples_over_a_change_of_the_clock(tz: str) -> None:
    # Berlin sets its clocks forward in these ten days, Lord Howe back, by half an hour.
    fleet = sampled(windows=1500, users=2, start="2024-03-28")
    local = fleet.samples["time"].dt.tz_convert(tz)
    hour = local.dt.day_of_week * 24 + local.dt.hour
    expected = fleet.samples.groupby(hour)["value"].agg(["size", "mean", "min", "max"])
    profile = hour_of_week_profile(fleet.frame, tz)
    assert profile["hour_of_week"].tolist() == list(range(168))
    present = profile[profile["count"] > 0].set_index("hour_of_week")
    assert present["count"].to_dict() == expected["size"].to_dict()
    for column in ("mean", "min", "max"):
        np.testing.assert_allclose(present[column], expected[column], rtol=1e-12)
    exact = fleet.samples.groupby(hour)["value"].agg(lambda values: np.quantile(values, 0.95, method="inverted_cdf"))
    assert (present["p95"] - exact).abs().max() <= 1 / 128


def test_the_hour_that_comes_twice_has_two_hours_and_the_one_left_out_none() -> None:
    autumn = loads(np.full(24, 0.5), start="2024-10-26T22:00Z")  # Sunday in Berlin; 02:00 comes twice
    counts = hour_of_week_profile(autumn, "Europe/Berlin").set_index(["weekday", "hour"])["count"]
    assert counts[(6, 2)] == 200
    assert counts[(6, 1)] == counts[(6, 3)] == 100
    spring = loads(np.full(24, 0.5), start="2024-03-30T23:00Z")  # Sunday in Berlin; 02:00 is left out
    counts = hour_of_week_profile(spring, "Europe/Berlin").set_index(["weekday", "hour"])["count"]
    assert counts[(6, 2)] == 0
    assert counts[(6, 1)] == counts[(6, 3)] == 100


def test_each_user_has_a_profile_of_its_own_with_all_hours() -> None:
    fleet = sampled(windows=50)
    profile = hour_of_week_profile(fleet.frame, by="user")
    assert len(profile) == 3 * 168
    for user in ("user 0", "user 2"):
        alone = fleet.frame[fleet.frame["user"] == user].drop(columns="user")
        own = profile[profile["user"] == user].drop(columns="user").reset_index(drop=True)
        pd.testing.assert_frame_equal(own, hour_of_week_profile(alone))
    assert profile["mean"].isna().sum() == (profile["count"] == 0).sum() > 0


def test_days_have_no_profile_and_places_must_exist() -> None:
    fleet = sampled(windows=1500).frame
    with pytest.raises(FrameError, match="an hour at most"):
        hour_of_week_profile(resample(fleet, "1d"))
    with pytest.raises(FrameError, match="Berlin"):
        hour_of_week_profile(fleet, "Mars/Berlin")
