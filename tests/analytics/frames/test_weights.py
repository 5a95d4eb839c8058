"""Equal weights: who samples more often does not count for more, and what is said of one user stays as it was."""

import numpy as np
import pandas as pd
import pytest

from analytics import equal_weights, load_duration_curve, resample, weigh
from analytics.frames.frame import frame_of_values, from_frame
from analytics.frames.weights import cores_at

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
    with pytest.raises(ValueError, match="weight: expected one of samples, cores or hosts"):
        weigh(frame, "users")  # type: ignore[arg-type]


def test_a_user_weighs_by_the_cores_it_had_in_each_window() -> None:
    """4 cores at 80 %, then 8 at 40 %; beside it 2 at 50 %."""
    frame = fleet(of_user("grown", 0.8, 12), of_user("small", 0.5, 12))
    later = (frame["user"] == "grown") & (frame.index >= frame.index.min() + pd.Timedelta(days=1))
    frame = frame.assign(cores=np.where(frame["user"] == "small", 2.0, np.where(later, 8.0, 4.0)))
    weighed = weigh(frame, "cores").drop(columns="user")
    means = resample(weighed, "1d")["mean"]
    assert means.tolist() == pytest.approx([(4 * 0.8 + 2 * 0.5) / 6, (8 * 0.8 + 2 * 0.5) / 10])
    frame.loc[later, "cores"] = np.nan
    told = resample(weigh(frame, "cores", cores={"grown": 8}).drop(columns="user"), "1d")["mean"]
    assert told.tolist() == pytest.approx(means.tolist())


def test_how_many_cores_there_were_is_told_by_rows_of_single_cores() -> None:
    times = pd.date_range("2026-03-02", periods=6, freq="1h", tz="UTC")
    frame = pd.DataFrame({"user": ["one"] * 6}, index=times)
    rows = [(hour, core) for hour, cores in ((1, 2), (2, 2), (4, 3)) for core in range(cores)]
    single = pd.DataFrame({"user": "one", "core": [core for _, core in rows]}, index=times[[hour for hour, _ in rows]])
    assert cores_at(frame, single).tolist() == [2, 2, 2, 2, 3, 3]
    assert cores_at(frame.assign(user="other"), single).isna().all()
