"""A DataFrame is judged as a stream is."""

import dask.dataframe as dask_dataframe
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import analytics
from analytics.methods.anomalies import Detector, Tuning, anomalies

SMALL = Tuning(window=4, memory=12, learning=5, neighbours=3, ignored=1, quiet=12)
POINTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 300), st.one_of(st.floats(0, 1), st.just(np.nan))),
    min_size=1,
    max_size=150,
)


def frame_of(points: list[tuple[str, int, float]]) -> pd.DataFrame:
    users, minutes, values = zip(*points, strict=True)
    index = pd.DatetimeIndex(pd.to_datetime(np.array(minutes) * 60, unit="s", utc=True), name="time")
    return pd.DataFrame({"user": users, "mean": np.array(values, float)}, index=index)


def fleet(users: int, rows: int = 600) -> pd.DataFrame:
    index = pd.date_range("2024-01-01", periods=rows, freq="5min", tz="UTC", name="time")
    parts = [
        pd.DataFrame({"user": f"user-{number:03}", "mean": np.random.default_rng(number).beta(2, 5, rows)}, index=index)
        for number in range(users)
    ]
    return pd.concat(parts)


@settings(max_examples=50, deadline=None)
@given(POINTS)
def test_a_batch_gives_the_verdicts_of_the_stream(points: list[tuple[str, int, float]]) -> None:
    frame = frame_of(points)
    judged = anomalies(frame, tuning=SMALL)
    expected = []
    for user, rows in frame.groupby("user"):
        detector = Detector(SMALL)
        for time, value in rows["mean"].sort_index(kind="stable").items():
            verdict = detector.update(int(pd.Timestamp(time).value // 1_000_000), value)
            expected.append(
                (
                    user,
                    verdict.value,
                    verdict.expected,
                    verdict.lower,
                    verdict.upper,
                    verdict.score,
                    verdict.anomaly,
                    verdict.kind,
                )
            )
    columns = ["user", "value", "expected", "lower", "upper", "score", "anomaly", "kind"]
    assert list(judged) == columns
    pd.testing.assert_frame_equal(
        judged.reset_index(drop=True).astype({"user": "str", "kind": "str"}),
        pd.DataFrame(expected, columns=columns),
        check_exact=True,
        check_dtype=False,
    )


def test_a_frame_of_one_user_has_no_user_column() -> None:
    frame = fleet(1).drop(columns="user")
    judged = anomalies(frame)
    assert list(judged) == ["value", "expected", "lower", "upper", "score", "anomaly", "kind"]
    assert judged.index.equals(frame.index)
    assert judged.index.name == "time"


def test_the_package_has_it_too() -> None:
    assert analytics.anomalies is anomalies


def test_many_points_go_to_several_processes_and_are_judged_as_few_are() -> None:
    random = np.random.default_rng(8)
    times = pd.date_range("2025-01-06", periods=26_000, freq="5min", tz="UTC")
    users = {name: pd.DataFrame({"user": name, "mean": random.normal(0.3, 0.05, 26_000)}, times) for name in "ab"}
    judged = anomalies(pd.concat(users.values()))
    # A verdict depends on the past alone, so that the first ones are those of a series that ends there.
    for name, frame in users.items():
        part = judged[judged["user"] == name].drop(columns="user").head(2000)
        pd.testing.assert_frame_equal(part, anomalies(frame.head(2000)).drop(columns="user"), check_freq=False)


def test_another_column_can_be_judged() -> None:
    frame = fleet(1).rename(columns={"mean": "max"})
    assert anomalies(frame, column="max")["value"].tolist() == frame["max"].tolist()


def test_a_dask_frame_gives_the_same_later(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = fleet(5)
    later = anomalies(dask_dataframe.from_pandas(frame.sort_index(), npartitions=4))
    judged = later.compute(scheduler="sync").astype({"user": "str"})
    expected = anomalies(frame).astype({"user": "str"})
    pd.testing.assert_frame_equal(judged.sort_values(["user", "time"]), expected)


def test_of_a_host_with_cores_the_whole_is_judged() -> None:
    frame = fleet(1).assign(core=pd.array([pd.NA] * 600, "Int64"))
    cores = frame.assign(core=pd.array([0] * 600, "Int64"), mean=0.5)
    pd.testing.assert_frame_equal(anomalies(pd.concat([cores, frame])), anomalies(frame))


def test_an_empty_frame_gives_an_empty_frame() -> None:
    judged = anomalies(fleet(2).iloc[:0])
    assert judged.empty
    assert list(judged) == ["user", "value", "expected", "lower", "upper", "score", "anomaly", "kind"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.reset_index(drop=True), "DatetimeIndex with a time zone"),
        (lambda frame: frame.tz_localize(None), "DatetimeIndex with a time zone"),
        (lambda frame: frame.set_index(pd.DatetimeIndex([pd.NaT, *frame.index[1:]])), "NaT"),
        (lambda frame: frame.drop(columns="mean"), "expected a column 'mean', got user"),
        (lambda frame: frame.assign(mean="high"), "expected numbers"),
        (lambda frame: frame.assign(user=None), "no user"),
        (lambda frame: frame.assign(core=range(len(frame))), "several cores"),
    ],
)
def test_what_is_not_right_is_refused(change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(ValueError, match=said):
        anomalies(change(fleet(1)))
