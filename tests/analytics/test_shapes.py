"""One rule for every answer: what a row is of is a column, never the index, and `user` is a category."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import analytics
from analytics.frames.frame import frame_of_values
from analytics.frames.labels import LABELS

START = pd.Timestamp("2024-03-04", tz="UTC")
NAMES = ("db", "web-1", "web-2", "web-10")
IDENTITIES = {*LABELS, "group", "cluster", "clusters", "representative"}


def fleet() -> pd.DataFrame:
    """Three weeks of four hosts; two have a busy night, and all change their level after two weeks."""
    times = pd.date_range(START, periods=21 * 24, freq="1h", name="time")
    hours = np.arange(len(times))
    random = np.random.default_rng(1)
    parts = []
    for place, name in enumerate(NAMES):
        wave = 0.15 * np.cos(2 * np.pi * (hours - 12 * (place % 2)) / 24)
        load = np.clip(0.3 + wave + 0.3 * (hours >= 14 * 24) + random.normal(0, 0.02, len(hours)), 0, 1)
        parts.append(pd.DataFrame({"user": name, "value": load}, times))
    return frame_of_values(pd.concat(parts))


FLEET = fleet()
FIRST, SECOND = FLEET[FLEET.index < START + pd.Timedelta(days=7)], FLEET[FLEET.index >= START + pd.Timedelta(days=7)]
CORES = pd.concat([FIRST.assign(core=pd.array([core] * len(FIRST), "Int64")) for core in (0, 1)])

METHODS: dict[str, Callable[[], pd.DataFrame]] = {
    "anomalies": lambda: analytics.anomalies(FIRST),
    "change_points": lambda: analytics.change_points(FLEET),
    "cluster_profiles, members": lambda: analytics.cluster_profiles(FLEET, clusters=2).members,
    "compare": lambda: analytics.compare(FIRST, SECOND, by="user"),
    "core_imbalance": lambda: analytics.core_imbalance(CORES),
    "equal_weights": lambda: analytics.equal_weights(FIRST),
    "forecast, frame": lambda: analytics.forecast(FLEET, "1d").frame,
    "forecast, models": lambda: analytics.forecast(FLEET, "1d").models,
    "hour_of_week_profile": lambda: analytics.hour_of_week_profile(FLEET, by="user"),
    "load_duration_curve": lambda: analytics.load_duration_curve(FLEET, by="user"),
    "odd_ones_out": lambda: analytics.odd_ones_out(FLEET),
    "quantile": lambda: analytics.quantile(FIRST, 0.95),
    "resample": lambda: analytics.resample(FLEET, "1d"),
    "right_size": lambda: analytics.right_size(FLEET, 4),
    "saturation": lambda: analytics.saturation(FLEET),
    "saturation by time": lambda: analytics.saturation(FLEET, rate="1d"),
    "to_frame": lambda: analytics.to_frame(*analytics.from_frame(FLEET)),
    "to_text": lambda: analytics.to_text(FIRST),
    "weigh": lambda: analytics.weigh(FIRST, "cores", cores=dict(zip(NAMES, (1, 2, 3, 4), strict=True))),
}
WITHOUT_USERS: dict[str, Callable[[], pd.DataFrame]] = {
    "cluster_profiles, profiles": lambda: analytics.cluster_profiles(FLEET, clusters=2).profiles,
    "cluster_profiles, silhouettes": lambda: analytics.cluster_profiles(FLEET, clusters=2).silhouettes,
    "compare together": lambda: analytics.compare(FIRST, SECOND),
    "fleet_trend": lambda: analytics.fleet_trend(FLEET).frame,
    "hour_of_week_profile together": lambda: analytics.hour_of_week_profile(FLEET),
    "load_duration_curve together": lambda: analytics.load_duration_curve(FLEET),
    "right_size of one": lambda: analytics.right_size(FLEET[FLEET["user"] == "db"].drop(columns="user"), 4),
}
ELSEWHERE = {
    "connect",
    "connect_async",
    "fit_together",
    "frame_of_values",
    "from_frame",
    "labels",
    "stream",
    "to_nixtla",
    "who",
}
"""Public functions that answer no frames of users: other tools' columns, accounts, streams, sources, pairs."""


def check(frame: pd.DataFrame, *, users: bool) -> None:
    """Raise AssertionError for a frame that keeps to another rule."""
    assert frame.index.nlevels == 1
    assert frame.index.name in (None, "time")
    if frame.index.name == "time":
        assert str(frame.index.dtype) == "datetime64[ms, UTC]"
        assert "time" not in frame
    else:
        assert frame.index.equals(pd.RangeIndex(len(frame)))
        assert not any(pd.api.types.is_datetime64_any_dtype(dtype) for dtype in frame.dtypes)
    assert ("user" in frame) == users
    if users:
        assert isinstance(frame["user"].dtype, pd.CategoricalDtype)
        assert set(frame["user"].unique()) == set(NAMES)


@pytest.mark.parametrize("name", METHODS)
def test_user_is_a_column_and_a_category_in_every_answer(name: str) -> None:
    check(METHODS[name](), users=True)


@pytest.mark.parametrize("name", WITHOUT_USERS)
def test_an_answer_without_users_has_no_identity_in_its_index_either(name: str) -> None:
    check(WITHOUT_USERS[name](), users=False)


def test_no_public_function_is_left_out_here() -> None:
    walked = {name.partition(",")[0].partition(" ")[0] for name in (*METHODS, *WITHOUT_USERS)}
    functions = {
        name for name in analytics.__all__
        if callable(value := getattr(analytics, name)) and not isinstance(value, type)
    }  # fmt: skip
    assert walked | ELSEWHERE == functions


def test_sources_answer_users_metrics_and_values_by_the_same_rule(tmp_path: Path) -> None:
    path = tmp_path / "fleet.parquet"
    FLEET.to_parquet(path)
    with analytics.connect(path) as source:
        check(source.fleet(rate="1d", by="user"), users=True)
        check(source.fleet(rate="1d", by="user", stat="p95"), users=True)
        check(source.fleet(rate="1d", stat="p95"), users=False)
        check(source.history("db", rate="1d"), users=False)
        users, metrics = source.users(), source.metrics()
    check(users.drop(columns=["first_seen", "last_seen", "shared_at"]), users=True)
    assert metrics["metric"].tolist()[0] == "cpuLoadAvg"
    assert metrics.index.equals(pd.RangeIndex(len(metrics)))


def test_what_users_says_of_cores_is_taken_as_it_is() -> None:
    users = pd.DataFrame({"user": pd.Categorical(NAMES), "cores": pd.array([4, 8, 16, pd.NA], "Int64")})
    sized = analytics.right_size(FLEET, users)
    assert dict(zip(sized["user"], sized["now"], strict=True)) == {"db": 4, "web-1": 8, "web-2": 16}
    known = FIRST[FIRST["user"] != "web-10"]
    by_users: Any = analytics.weigh(known, "cores", cores=users)
    pd.testing.assert_frame_equal(by_users, analytics.weigh(known, "cores", cores={"db": 4, "web-1": 8, "web-2": 16}))
    with pytest.raises(analytics.FrameError, match="expected the columns user and cores, got cores"):
        analytics.right_size(FLEET, users[["cores"]])
