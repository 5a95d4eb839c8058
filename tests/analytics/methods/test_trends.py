"""A fleet's trend is that of the raw samples, and its slope is robust and honest."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from analytics import fleet_trend, frame_of_values
from analytics.methods.trends import slope
from tests.support.sampled_fleets import loads, sampled

FLEET = sampled()
RANDOM = np.random.default_rng(4)


def test_every_column_is_that_of_the_raw_samples() -> None:
    trend = fleet_trend(FLEET.frame, "1h", quantiles=(0.25, 0.5)).frame
    hours = FLEET.samples.groupby(pd.Grouper(key="time", freq="1h"))
    expected = hours["value"].agg(["size", "mean", "min", "max"])
    assert trend.index.tolist() == expected.index.tolist()
    assert trend["count"].tolist() == expected["size"].tolist()
    for column in ("mean", "min", "max"):
        np.testing.assert_allclose(trend[column], expected[column], rtol=1e-12)
    assert (trend["users"] == 3).all()
    means = FLEET.samples.groupby(["user", pd.Grouper(key="time", freq="1h")])["value"].mean().unstack("user")
    for share in (0.25, 0.5):
        np.testing.assert_allclose(trend[f"users_{100 * share:g}"], means.quantile(share, axis=1), rtol=1e-12)
        exact = [np.quantile(part, share, method="inverted_cdf") for _, part in hours["value"]]
        assert (trend[f"samples_{100 * share:g}"] - exact).abs().max() <= 1 / 128


def test_users_come_and_go() -> None:
    early, late = loads(np.full(48, 0.2), user="early"), loads(np.full(48, 0.6), start="2024-01-02", user="late")
    trend = fleet_trend(pd.concat([early, late]), "1d").frame
    assert trend["users"].tolist() == [1, 2, 1]
    np.testing.assert_allclose(trend["users_50"], [0.2, 0.4, 0.6])


def test_many_users_who_are_each_seen_for_an_hour_or_two_are_answered_as_few_are() -> None:
    # Users times hours are far more than windows: nothing of that size is made.
    times = pd.date_range("2024", periods=1200, freq="1h", tz="UTC")
    once = pd.DataFrame(
        {"mean": np.random.default_rng(5).random(1200), "user": [f"u{number}" for number in range(1200)]}, times
    )
    frame = frame_of_values(pd.concat([once, once.shift(freq="1h")]).rename_axis("time"), value="mean")
    trend = fleet_trend(frame, "1h", quantiles=(0.5,)).frame
    means = frame.groupby(level=0)["mean"]
    assert trend["users"].tolist() == [1, *[2] * 1199, 1]
    np.testing.assert_allclose(trend["users_50"], means.median(), rtol=1e-12)
    np.testing.assert_allclose(trend["mean"], means.mean(), rtol=1e-12)


def test_a_rise_is_found_though_days_differ_from_nights() -> None:
    hours = np.arange(28 * 24)
    load = 0.3 + 0.0002 * hours + 0.1 * np.sin(hours / 24 * 2 * np.pi) + RANDOM.normal(0, 0.01, len(hours))
    trend = fleet_trend(loads(load), "1h")
    assert trend.slope.lower < 0.0002 * 168 < trend.slope.upper
    assert trend.slope.p_value < 1e-6
    assert str(trend).startswith("The fleet's mean: rising by 0.033")


def test_an_outlier_does_not_bend_the_slope() -> None:
    values = pd.Series(np.linspace(0.2, 0.5, 29), pd.date_range("2024", periods=29, tz="UTC"))
    values.iloc[[3, 20]] = 1.0
    assert slope(values).per_week == pytest.approx(0.075, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("correlation", "most"), [(0.0, 0.08), (0.3, 0.10), (0.6, 0.12)])
def test_noise_is_no_trend_however_it_lingers(correlation: float, most: float) -> None:
    days = pd.date_range("2024", periods=60, tz="UTC")
    noise = lfilter([1], [1, -correlation], RANDOM.normal(size=(300, 200)), axis=1)[:, 140:]
    found = [slope(pd.Series(values, days)).p_value < 0.05 for values in noise]
    assert np.mean(found) < most


def test_too_little_is_no_trend_and_says_so() -> None:
    trend = fleet_trend(loads(np.full(30, 0.5)), "1d")
    assert str(trend) == "The fleet's mean: too few values to tell a trend."
    flat = slope(pd.Series(0.5, pd.date_range("2024", periods=10, tz="UTC")))
    assert (flat.per_week, flat.p_value) == (0.0, 1.0)
    with pytest.raises(ValueError, match="shares from 0 to 1"):
        fleet_trend(FLEET.frame, quantiles=[95])


def test_who_comes_and_goes_is_no_trend() -> None:
    """Busy users join one after the other: the mean of whoever reports rises, and nobody does more."""
    days = 28
    steady = [loads(0.2 + RANDOM.normal(0, 0.01, 24 * days), user=f"steady-{number}") for number in range(4)]
    joined = [
        loads(np.full(24 * (days - 2 * number), 0.8), start=f"2024-01-{1 + 2 * number:02}", user=f"late-{number}")
        for number in range(2, 13)
    ]
    trend = fleet_trend(pd.concat([*steady, *joined]), "1h")
    assert trend.frame["mean"].iloc[-1] > 0.6 > 0.3 > trend.frame["mean"].iloc[0]
    assert trend.users == 4 and trend.slope.p_value > 0.05
    assert str(trend).startswith("The mean of the 4 users seen throughout: ")
    one_by_one = [loads(np.full(240, 0.2), user="first"), loads(np.full(240, 0.6), start="2024-01-11", user="second")]
    nobody = fleet_trend(pd.concat(one_by_one), "1h")
    assert (nobody.users, nobody.slope.p_value) == (0, 1.0)
    assert "fewer than two users were seen throughout" in str(nobody)
