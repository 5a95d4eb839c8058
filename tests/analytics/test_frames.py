"""Frames of windows resample exactly."""

import numpy as np
import pandas as pd
import pytest

from analytics.frames import FrameError, from_frame, resample, to_frame
from analytics.windows import merge
from contract.histogram import LINEAR
from tests.analytics.samples import Samples, windows_of

RANDOM = np.random.default_rng(5)
SAMPLES: list[Samples] = [RANDOM.beta(2, 5, RANDOM.integers(1, 200)) for _ in range(240)]
TIMES = pd.date_range("2018-07-12T12:00Z", periods=60, freq="7s", unit="ms")
USERS = ["b", "a"]


@pytest.fixture
def fleet() -> pd.DataFrame:
    """Two users, each with the whole machine and core 1, sixty windows each."""
    labels = pd.DataFrame({"user": np.repeat(USERS, 2), "core": pd.array([None, 1] * 2, "Int64")})
    epoch_ms = TIMES.asi8.tolist()
    windows = windows_of([(series, time) for series in range(4) for time in epoch_ms], SAMPLES, LINEAR)
    return to_frame(windows, labels)


def test_a_frame_has_the_documented_shape(fleet: pd.DataFrame) -> None:
    assert fleet.index.name == "time"
    assert str(fleet.index.dtype) == "datetime64[ms, UTC]"
    assert {column: str(dtype) for column, dtype in fleet.dtypes.items()} == {
        "user": "str", "core": "Int64", "count": "int64", "mean": "float64", "var": "float64",
        "min": "float64", "max": "float64", "approximated": "int64",
    }  # fmt: skip


def test_resampling_is_that_of_the_raw_samples(fleet: pd.DataFrame) -> None:
    buckets = resample(fleet, "1m")
    raw = pd.DataFrame(
        {
            "user": np.repeat(np.repeat(USERS, 120), [len(part) for part in SAMPLES]),
            "core": np.repeat(np.tile(np.repeat([-1, 1], 60), 2), [len(part) for part in SAMPLES]),
            "value": np.concatenate(SAMPLES),
        },
        index=np.repeat(np.tile(TIMES, 4), [len(part) for part in SAMPLES]),
    )
    expected = (
        raw.groupby(["user", "core", pd.Grouper(freq="1min")])["value"]
        .agg(count="count", mean="mean", var=lambda values: values.var(ddof=0), min="min", max="max")
        .rename_axis(["user", "core", "time"])
    )
    answered = buckets.assign(core=buckets["core"].fillna(-1).astype(int)).set_index(["user", "core"], append=True)
    answered = answered.reorder_levels(["user", "core", "time"]).sort_index().drop(columns="approximated")
    assert answered.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(answered.to_numpy(float), expected.to_numpy(float), rtol=1e-12)


def test_a_frame_of_one_user_needs_no_labels() -> None:
    windows = windows_of([(0, time) for time in TIMES.asi8.tolist()], SAMPLES[:60], LINEAR)
    frame = to_frame(windows)
    assert list(frame) == ["count", "mean", "var", "min", "max", "approximated"]
    assert resample(frame, "52w")["mean"].iloc[0] == pytest.approx(np.concatenate(SAMPLES[:60]).mean(), rel=1e-12)


def test_coarser_buckets_may_be_made_from_finer_ones(fleet: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(resample(resample(fleet, "30s"), "1m"), resample(fleet, "1m"), rtol=1e-12)


def test_windows_come_back_from_their_frame(fleet: pd.DataFrame) -> None:
    windows, labels = from_frame(fleet)
    assert labels["user"].tolist() == ["a", "a", "b", "b"]
    assert labels["core"].tolist() == [1, pd.NA, 1, pd.NA]
    pd.testing.assert_frame_equal(to_frame(windows, labels), fleet)
    assert merge(windows).histograms is None


def test_other_time_zones_count_as_the_moments_they_are(fleet: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(resample(fleet.tz_convert("Asia/Kolkata"), "1h"), resample(fleet, "1h"))


def test_rows_without_samples_add_nothing(fleet: pd.DataFrame) -> None:
    grid = fleet[fleet["user"] == "a"].query("core == 1").drop(columns=["user", "core"])
    holed = pd.concat([grid, grid.iloc[:3].assign(count=0, mean=np.nan), grid.iloc[:3].assign(count=np.nan)])
    pd.testing.assert_frame_equal(resample(holed, "1m"), resample(grid, "1m"))


def test_an_empty_frame_stays_one(fleet: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(resample(fleet.iloc[:0], "1m"), fleet.iloc[:0])


def test_what_is_not_a_frame_of_windows_is_refused(fleet: pd.DataFrame) -> None:
    with pytest.raises(FrameError, match="var, approximated missing"):
        resample(fleet.drop(columns=["var", "approximated"]), "1m")
    with pytest.raises(FrameError, match="time zone"):
        resample(fleet.tz_localize(None), "1m")
    with pytest.raises(FrameError, match="DatetimeIndex"):
        resample(fleet.reset_index(), "1m")
    with pytest.raises(FrameError, match="mean: numbers"):
        resample(fleet.assign(mean="a lot"), "1m")
    with pytest.raises(FrameError, match="mean is missing"):
        resample(fleet.assign(mean=np.nan), "1m")
    with pytest.raises(ValueError, match="15"):
        resample(fleet, "15")
