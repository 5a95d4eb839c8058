"""Equal weights: who samples more often does not count for more, and what is said of one user stays as it was."""

import numpy as np
import pandas as pd
import pytest

from analytics import equal_weights, load_duration_curve, resample, weigh
from analytics.frames.frame import frame_of_values, from_frame

HOURS = 48


def of_user(user: str, level: float, samples: int) -> pd.DataFrame:
    times = pd.date_range("2026-03-02", periods=HOURS * samples, freq=pd.Timedelta("1h") / samples, tz="UTC")
    spread = np.tile(np.linspace(-0.05, 0.05, samples), HOURS)
    return resample(frame_of_values(pd.DataFrame({"user": user, "value": level + spread}, index=times)), "1h")


def fleet(*parts: pd.DataFrame) -> pd.DataFrame:
    frame = pd.concat(parts)
    return frame.assign(user=pd.Categorical(frame["user"].astype(str)))


def test_who_samples_more_often_does_not_count_for_more() -> None:
    frame = fleet(of_user("often", 0.9, 1200), of_user("seldom", 0.1, 12))
    weighted = equal_weights(frame)
    together = resample(weighted.drop(columns="user"), "1d")
    np.testing.assert_allclose(together["mean"], 0.5)
    curve = load_duration_curve(weighted)
    assert curve.loc[curve["load"] == 0.5, "share"].item() == 0.5


def test_what_is_said_of_one_user_stays_as_it_was() -> None:
    frame = fleet(of_user("often", 0.9, 1200), of_user("seldom", 0.1, 12))
    weighted = equal_weights(frame)
    columns = ["user", "mean", "var", "min", "max"]
    pd.testing.assert_frame_equal(weighted[columns], frame[columns], check_freq=False)
    was, now = from_frame(frame)[0], from_frame(weighted)[0]
    assert was.histograms is not None
    assert now.histograms is not None
    factor = np.where(np.arange(2 * HOURS) < HOURS, 1, 100)
    np.testing.assert_array_equal(now.histograms.count, was.histograms.count * factor[was.histograms.row])
    np.testing.assert_array_equal(now.count, was.count * factor)


def test_where_all_sample_about_alike_nothing_changes() -> None:
    frame = fleet(of_user("one", 0.9, 12), of_user("other", 0.1, 10))
    assert equal_weights(frame) is frame
    assert equal_weights(frame.iloc[:0]).empty
    alone = frame.drop(columns="user")
    assert equal_weights(alone) is alone


def test_by_cores_a_mean_is_the_share_of_all_cores_that_was_used() -> None:
    """The two hosts sample unequally, by no whole number."""
    frame = fleet(of_user("large", 0.1, 12), of_user("small", 0.9, 30))
    weighted = weigh(frame, "cores", cores={"large": 64, "small": 2})
    together = resample(weighted.drop(columns="user"), "1d")
    np.testing.assert_allclose(together["mean"], (64 * 0.1 + 2 * 0.9) / 66, rtol=1e-9)
    hosts = resample(weigh(frame, "hosts").drop(columns="user"), "1d")
    np.testing.assert_allclose(hosts["mean"], 0.5, rtol=1e-9)
    assert weigh(frame, "samples") is frame
    same = fleet(of_user("one", 0.1, 12), of_user("other", 0.9, 12))
    assert weigh(same, "cores", cores=pd.Series({"one": 8, "other": 8})) is same


def test_cores_that_are_not_known_are_asked_for() -> None:
    frame = fleet(of_user("large", 0.1, 12), of_user("small", 0.9, 12))
    for cores in (None, {"large": 64}, {"large": 64, "small": 0}, pd.Series({"large": 64, "small": pd.NA})):
        with pytest.raises(ValueError, match="expected the cores of each user"):
            weigh(frame, "cores", cores=cores)
    with pytest.raises(ValueError, match="expected a weight, one of samples, cores, hosts"):
        weigh(frame, "users")  # type: ignore[arg-type]
