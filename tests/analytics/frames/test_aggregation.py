"""What is merged piece by piece, in threads or on a Dask cluster of several processes, is the same as at once."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import pandas as pd
import pytest
from dask.distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

import analytics
from analytics.frames import aggregation
from analytics.frames.frame import FrameError, of_metric
from tests.support.sampled_fleets import sampled

FLEET = sampled().frame
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "resample": lambda frame: analytics.resample(frame, "1h"),
    "fleet_trend": lambda frame: analytics.fleet_trend(frame, "1h").frame,
    "load_duration_curve": analytics.load_duration_curve,
    "load_duration_curve of each": lambda frame: analytics.load_duration_curve(frame, by="user"),
    "hour_of_week_profile": lambda frame: analytics.hour_of_week_profile(frame, "Europe/Berlin"),
    "hour_of_week_profile of each": lambda frame: analytics.hour_of_week_profile(frame, by="user"),
    "saturation": analytics.saturation,
    "saturation over time": lambda frame: analytics.saturation(frame, 0.7, by=None, rate="1h"),
    "compare": lambda frame: analytics.compare(frame, frame, block="6h"),
    "compare each": lambda frame: analytics.compare(frame, frame, block="6h", by="user"),
    "cluster_profiles": lambda frame: analytics.cluster_profiles(frame, clusters=2).members,
    "odd_ones_out": lambda frame: analytics.odd_ones_out(frame).sort_values("user").reset_index(drop=True),
}


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """In one order, without regard to how names are kept."""
    if "user" in frame:
        frame = frame.assign(user=frame["user"].astype("str")).sort_values(["user"], kind="stable")
    return frame


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slices_in_threads_give_what_the_whole_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FUNCTIONS[name](FLEET)
    monkeypatch.setattr(aggregation, "SLICE_ROWS", 37)
    pd.testing.assert_frame_equal(plain(FUNCTIONS[name](FLEET)), plain(whole), rtol=1e-10)


@pytest.mark.parametrize("slices", [1, 2, 8, 9, 64, 200])
def test_no_part_is_merged_again_with_each_that_comes_later(slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "SLICE_ROWS", 1)
    frame = FLEET.iloc[:slices]
    joined: list[int] = []

    def join(parts: Sequence[list[int]]) -> list[int]:
        joined.append(sum(map(len, parts)))
        return [row for part in parts for row in part]

    rows = aggregation.reduced(frame, lambda part: [int(part["count"].sum())], join, "counting")
    assert rows == frame["count"].tolist()
    assert sum(joined) <= slices * (1 + math.log(max(slices, 8), 8)), "each part a time for each level, and at the end"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    """Two processes of Dask."""
    with dask.config.set({"distributed.admin.tick.limit": "60s", "distributed.comm.timeouts.connect": "60s"}):
        with LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
        ) as processes:
            with Client(processes) as client:  # type: ignore[no-untyped-call]
                yield client


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_dask_cluster_gives_what_pandas_gives(name: str, cluster: Client) -> None:
    parts = dd.from_pandas(FLEET.sort_index(), npartitions=5)
    answer = FUNCTIONS[name](parts)
    if isinstance(answer, dd.DataFrame):
        answer = answer.compute().sort_values(["user", "time"])
    pd.testing.assert_frame_equal(plain(answer), plain(FUNCTIONS[name](FLEET)), rtol=1e-10, check_categorical=False)


@pytest.mark.parametrize("is_far", [False, True], ids=["a folder", "where fsspec reaches"])
def test_files_are_read_by_the_cluster_itself(cluster: Client, tmp_path: Path, is_far: bool) -> None:
    for user, part in FLEET.groupby("user", observed=True):
        part.to_parquet(tmp_path / f"{user}.parquet")
    with analytics.connect(tmp_path.as_uri() if is_far else tmp_path) as files:
        parts = files.dask_frame()
    assert parts.npartitions == 3
    fleet = of_metric(FLEET, "cpuLoadAvg")
    for name in ("resample", "fleet_trend", "saturation"):
        answer = FUNCTIONS[name](parts)
        if isinstance(answer, dd.DataFrame):
            answer = answer.compute().sort_values(["user", "time"])
        pd.testing.assert_frame_equal(plain(answer), plain(FUNCTIONS[name](fleet)), rtol=1e-10, check_categorical=False)


def test_cores_are_compared_on_dask_too(cluster: Client) -> None:
    cores = pd.concat([FLEET.assign(core=pd.array([core] * len(FLEET), "Int64")) for core in (0, 1)])
    answer = analytics.core_imbalance(dd.from_pandas(cores.sort_index(), npartitions=5)).compute()
    expected = analytics.core_imbalance(cores)
    pd.testing.assert_frame_equal(plain(answer.sort_index()), plain(expected.sort_index()), rtol=1e-10)


def test_a_dask_frame_without_users_is_resampled(cluster: Client) -> None:
    one = FLEET[FLEET["user"] == "user 1"].drop(columns="user")
    answer = analytics.resample(dd.from_pandas(one, npartitions=4), "1h").compute().sort_index()
    pd.testing.assert_frame_equal(answer, analytics.resample(one, "1h"), rtol=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    st.permutations(["1m", "20m", "1h", "1d"]).map(lambda rates: sorted(rates[:3], key=["1m", "20m", "1h", "1d"].index))
)
def test_resampling_in_steps_equals_resampling_at_once(rates: list[str]) -> None:
    stepped = FLEET
    for rate in rates:
        stepped = analytics.resample(stepped, rate)
    pd.testing.assert_frame_equal(stepped, analytics.resample(FLEET, rates[-1]), rtol=1e-12)


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(1, 599))
def test_any_order_and_any_cut_merge_to_the_same(random: Any, cut: int) -> None:
    rows = list(range(len(FLEET)))
    random.shuffle(rows)
    parts = FLEET.iloc[rows[:cut]], FLEET.iloc[rows[cut:]]
    merged = analytics.resample(pd.concat([analytics.resample(part, "1h") for part in parts]), "1h")
    pd.testing.assert_frame_equal(merged, analytics.resample(FLEET, "1h"), rtol=1e-12)


def test_cores_are_not_counted_beside_their_host() -> None:
    host = FLEET[FLEET["user"] == "user 0"].drop(columns="user")
    cores = [host.assign(core=pd.array([core] * len(host), "Int64"), mean=host["max"]) for core in (None, 0, 1)]
    cores[0]["mean"] = host["mean"]
    pd.testing.assert_frame_equal(analytics.load_duration_curve(pd.concat(cores)), analytics.load_duration_curve(host))
    assert len(analytics.load_duration_curve(cores[1])) == 64
    with pytest.raises(FrameError, match="several cores"):
        analytics.load_duration_curve(pd.concat(cores[1:]))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_frame_of_windows_is_refused(name: str) -> None:
    with pytest.raises(FrameError, match="missing"):
        FUNCTIONS[name](FLEET.drop(columns=["var", "count"]))
    with pytest.raises(FrameError, match="time zone"):
        FUNCTIONS[name](FLEET.tz_localize(None))
