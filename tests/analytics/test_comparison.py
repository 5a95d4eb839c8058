"""A comparison says how large a difference is, and calls chance chance."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from analytics import compare
from analytics.frames.frame import FrameError
from analytics.methods.comparison import _tested
from tests.analytics.fleets import loads, sampled
from tests.analytics.samples import Samples

RANDOM = np.random.default_rng(6)
DAYS = 14


def noise(correlation: float, series: int, hours: int) -> Samples:
    """Stretches of noise in which an hour is like the one before."""
    return lfilter([1], [1, -correlation], RANDOM.normal(size=(series, hours + 500)), axis=1)[:, 500:]


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 0.97])
def test_noise_is_called_a_difference_as_seldom_as_promised(correlation: float) -> None:
    days = noise(correlation, 600, 2 * DAYS * 24).reshape(600, 2 * DAYS, 24).mean(axis=2)
    found = np.mean([_tested(one[:DAYS], one[DAYS:], 0.95)[1] < 0.05 for one in days])
    assert found <= 0.075


def test_the_same_noise_taken_as_independent_hours_would_often_be_a_difference() -> None:
    from scipy.stats import ttest_ind

    hours = noise(0.9, 300, 2 * DAYS * 24)
    assert np.mean([ttest_ind(one[: DAYS * 24], one[DAYS * 24 :]).pvalue < 0.05 for one in hours]) > 0.4


def test_whole_frames_of_noise_are_compared_by_the_day() -> None:
    found = []
    for one in 0.5 + 0.03 * np.clip(noise(0.9, 40, 2 * DAYS * 24), -8, 8):
        frame = loads(one)
        halves = frame.iloc[: DAYS * 24], frame.iloc[DAYS * 24 :]
        found.append(compare(*halves)["p_value"].iloc[0] < 0.05)
    assert np.mean(found) <= 0.15
    assert compare(*halves)["blocks_before"].tolist() == [DAYS]


def test_a_difference_is_found_and_told_in_words() -> None:
    base = 0.3 + 0.02 * np.clip(noise(0.7, 1, 2 * DAYS * 24)[0], -4, 4)
    base[DAYS * 24 :] += 0.15
    frame = loads(base)
    [row] = compare(frame.iloc[: DAYS * 24], frame.iloc[DAYS * 24 :], names=("May", "June")).to_dict("records")
    assert row["difference"] == pytest.approx(row["mean_June"] - row["mean_May"])
    assert row["lower"] < 0.15 < row["upper"]
    assert row["p_value"] < 0.001
    assert row["hedges_g"] > 0.8
    assert row["cliffs_delta"] > 0.8
    assert row["verdict"].startswith("June is higher than May: 0.4")
    assert row["verdict"].endswith("a large effect")


def test_effects_are_those_of_the_raw_samples() -> None:
    fleet = sampled(users=2, windows=400)
    first, second = (fleet.frame[fleet.frame["user"] == f"user {user}"] for user in (0, 1))
    a, b = (fleet.samples.loc[fleet.samples["user"] == f"user {user}", "value"].to_numpy() for user in (0, 1))
    [row] = compare(first, second, block="6h").to_dict("records")
    pooled = np.sqrt((len(a) * a.var() + len(b) * b.var()) / (len(a) + len(b) - 2))
    correction = 1 - 3 / (4 * (len(a) + len(b) - 2) - 1)
    assert row["hedges_g"] == pytest.approx((b.mean() - a.mean()) / pooled * correction, rel=1e-9)
    binned = [np.minimum((part * 64).astype(int), 63) for part in (a, b)]
    delta = np.sign(binned[1][:, None] - binned[0][None, :]).mean()
    assert row["cliffs_delta"] == pytest.approx(delta, rel=1e-9)


def test_users_are_compared_one_by_one() -> None:
    calm = [loads(0.3 + 0.01 * noise(0.5, 1, 2 * DAYS * 24)[0].clip(-4, 4), user=f"calm {n}") for n in range(9)]
    load = 0.3 + 0.01 * noise(0.5, 1, 2 * DAYS * 24)[0].clip(-4, 4)
    load[DAYS * 24 :] += 0.2
    fleet = pd.concat([*calm, loads(load, user="grown")])
    middle = pd.Timestamp("2024-01-15", tz="UTC")
    answer = compare(fleet[fleet.index < middle], fleet[fleet.index >= middle], by="user")
    assert answer["user"].iloc[0] == "grown"
    assert answer["verdict"].str.startswith("after is higher").tolist() == [True] + [False] * 9
    with pytest.raises(FrameError, match="no user in common"):
        compare(calm[0], calm[1], by="user")
    with pytest.raises(FrameError, match="no users to compare"):
        compare(calm[0].drop(columns="user"), calm[1], by="user")
    with pytest.raises(FrameError, match="no samples"):
        compare(calm[0].iloc[:0], calm[1])


def test_too_little_is_not_compared() -> None:
    frame = loads(np.full(6, 0.5))
    [row] = compare(frame.iloc[:3], frame.iloc[3:]).to_dict("records")
    assert row["p_value"] == 1.0
    assert row["verdict"].startswith("too little to compare")
    [same] = compare(frame, frame).to_dict("records")
    assert same["verdict"].startswith("no difference")
    assert (same["hedges_g"], same["cliffs_delta"]) == (0.0, 0.0)
