"""Equal weights: who samples more often does not count for more, and what is said of one user stays as it was."""

import numpy as np
import pandas as pd

from analytics import equal_weights, load_duration_curve, resample
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
