"""Frames of windows resample exactly."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analytics
from analytics.frames.columns import NUMBERS, merge
from analytics.frames.frame import FrameError, frame_of_values, from_frame, to_frame
from analytics.frames.labels import factorize_labels
from analytics.frames.resampling import resample, resample_at, resample_rows
from contract.histogram import LINEAR
from contract.times import MINUTE_MS
from tests.support.sampled_windows import Samples, windows_of

RANDOM = np.random.default_rng(5)
SAMPLES: list[Samples] = [RANDOM.beta(2, 5, RANDOM.integers(1, 200)) for _ in range(240)]
TIMES = pd.date_range("2018-07-12T12:00Z", periods=60, freq="7s", unit="ms")
USERS = ["b", "a"]


@pytest.fixture
def fleet() -> pd.DataFrame:
    """Two users, each with the whole host and core 1, sixty windows each."""
    labels = pd.DataFrame({"user": np.repeat(USERS, 2), "core": pd.array([None, 1] * 2, "Int64")})
    epoch_ms = TIMES.asi8.tolist()
    windows = windows_of([(series, time) for series in range(4) for time in epoch_ms], SAMPLES, LINEAR)
    return to_frame(windows, labels)


def test_a_frame_has_the_documented_shape(fleet: pd.DataFrame) -> None:
    assert fleet.index.name == "time"
    assert str(fleet.index.dtype) == "datetime64[ms, UTC]"
    assert {column: str(dtype) for column, dtype in fleet.dtypes.items()} == {
        "user": "category", "core": "Int64", "count": "int64", "mean": "float64", "var": "float64",
        "min": "float64", "max": "float64", "approximated": "int64", "histogram": "large_binary[pyarrow]",
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
    answered = answered.reorder_levels(["user", "core", "time"]).sort_index()
    answered = answered.drop(columns=["approximated", "histogram"])
    assert answered.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(answered.to_numpy(float), expected.to_numpy(float), rtol=1e-12)


@pytest.mark.parametrize("edges", [None, [TIMES.asi8[0] - 1, TIMES.asi8[7], TIMES.asi8[30]]])
@pytest.mark.parametrize(
    "kept", [("count", "mean"), ("count", "mean", "var"), ("count", "max", "approximated"), NUMBERS]
)
def test_rows_that_were_numbered_before_are_resampled_to_the_same_bits(
    fleet: pd.DataFrame, kept: tuple[str, ...], edges: list[int] | None
) -> None:
    fleet.iloc[[3, 77], fleet.columns.get_loc("count")] = 0
    fleet = fleet.drop(columns="histogram")
    expected = resample(fleet, "1m") if edges is None else resample_at(fleet, edges)
    series, labels = factorize_labels(fleet)
    answered = resample_rows(fleet[[*kept]], series, labels, MINUTE_MS, edges)
    pd.testing.assert_frame_equal(answered, expected[[*labels.columns, *kept]], check_exact=True)


@pytest.mark.parametrize("users", [1, 2])
@pytest.mark.parametrize("width", [1, 3, 700, 5000])
def test_histograms_of_many_rows_add_up_as_they_do_all_at_once(users: int, width: int) -> None:
    rows = 3000
    samples = [RANDOM.beta(2, 5, RANDOM.integers(1, 12)) for _ in range(users * rows)]
    at = [(series, MINUTE_MS * row) for series in range(users) for row in range(rows)]
    windows = windows_of(at, samples, LINEAR)
    labels = pd.DataFrame({"user": USERS[:users]}) if users > 1 else None
    for frame in (to_frame(windows, labels), to_frame(windows, labels).iloc[::-1]):
        answered, _ = from_frame(resample(frame, width * MINUTE_MS))
        expected = merge(from_frame(frame)[0], rate_ms=width * MINUTE_MS)
        assert answered.histograms is not None
        assert expected.histograms is not None
        for name in ("row", "bin", "count"):
            np.testing.assert_array_equal(getattr(answered.histograms, name), getattr(expected.histograms, name))


def test_a_histogram_of_other_samples_than_its_row_has_is_refused_among_many() -> None:
    windows = windows_of([(0, MINUTE_MS * row) for row in range(2000)], [RANDOM.random(5) for _ in range(2000)], LINEAR)
    frame = to_frame(windows)
    frame.iloc[1500, frame.columns.get_loc("count")] = 6
    with pytest.raises(FrameError, match="as many samples as count says"):
        resample(frame, "1h")


def test_a_frame_of_one_user_needs_no_labels() -> None:
    windows = windows_of([(0, time) for time in TIMES.asi8.tolist()], SAMPLES[:60], LINEAR)
    frame = to_frame(windows)
    assert list(frame) == ["count", "mean", "var", "min", "max", "approximated", "histogram"]
    assert resample(frame, "52w")["mean"].iloc[0] == pytest.approx(np.concatenate(SAMPLES[:60]).mean(), rel=1e-12)


def test_coarser_buckets_may_be_made_from_finer_ones(fleet: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(resample(resample(fleet, "30s"), "1m"), resample(fleet, "1m"), rtol=1e-12)


def test_windows_come_back_from_their_frame(fleet: pd.DataFrame) -> None:
    windows, labels = from_frame(fleet)
    assert labels["user"].tolist() == ["a", "a", "b", "b"]
    assert labels["core"].tolist() == [1, pd.NA, 1, pd.NA]
    pd.testing.assert_frame_equal(to_frame(windows, labels), fleet)
    assert windows.histograms is not None
    assert windows.histograms.count.sum() == sum(map(len, SAMPLES))


def test_histograms_may_be_left_out(fleet: pd.DataFrame) -> None:
    windows, labels = from_frame(fleet, histograms=False)
    assert windows.histograms is None
    pd.testing.assert_frame_equal(to_frame(windows, labels), fleet.drop(columns="histogram"))
    assert from_frame(fleet.drop(columns="histogram"))[0].histograms is None


def test_a_row_without_histogram_stands_for_samples_with_its_mean_and_variance_between_its_extremes() -> None:
    frame = pd.DataFrame(
        {
            "count": [4, 1],
            "mean": [0.5, 0.25],
            "var": [0.01, 0.0],
            "min": [0.4, 0.25],
            "max": [0.6, 0.25],
            "approximated": 0,
        },
        index=TIMES[:2],
    )
    windows, _ = from_frame(frame, histograms=True)
    assert windows.histograms is not None
    assert windows.histograms.row.tolist() == [0, 0, 1]
    assert windows.histograms.count.tolist() == [2, 2, 1]
    assert windows.histograms.bin.tolist() == [25, 38, 16]
    assert windows.approximated.tolist() == [4, 0]


def test_users_may_be_any_kind_of_text_in_any_order(fleet: pd.DataFrame) -> None:
    shuffled = fleet.sample(frac=1, random_state=1)
    expected = resample(fleet, "1m")
    for dtype in ("str", "object", pd.CategoricalDtype(["z", "b", "a"])):
        pd.testing.assert_frame_equal(resample(shuffled.astype({"user": dtype}), "1m"), expected, rtol=1e-12)


def test_a_frame_goes_through_arrow_and_parquet_as_it_is(fleet: pd.DataFrame, tmp_path: Path) -> None:
    fleet.to_parquet(tmp_path / "fleet.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "fleet.parquet"), fleet)


def test_plain_measurements_are_windows_of_one_sample() -> None:
    values = pd.DataFrame({"user": ["a", "a", "b"], "value": [0.25, np.nan, 1.0]}, index=TIMES[:3])
    frame = frame_of_values(values)
    assert frame["count"].tolist() == [1, 1]
    assert frame["max"].tolist() == [0.25, 1.0]
    windows, _ = from_frame(frame)
    assert windows.histograms is not None
    assert windows.histograms.bin.tolist() == [16, 64]
    with pytest.raises(FrameError, match="divide percent by 100"):
        frame_of_values(values.assign(value=[25.0, 1.0, 3.0]))


def test_other_time_zones_count_as_the_moments_they_are(fleet: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(resample(fleet.tz_convert("Asia/Kolkata"), "1h"), resample(fleet, "1h"))


def test_rows_without_samples_add_nothing(fleet: pd.DataFrame) -> None:
    grid = fleet[fleet["user"] == "a"].query("core == 1").drop(columns=["user", "core"])
    holed = pd.concat([grid, grid.iloc[:3].assign(count=0, mean=np.nan), grid.iloc[:3].assign(count=np.nan)])
    pd.testing.assert_frame_equal(resample(holed, "1m"), resample(grid, "1m"))


def test_an_empty_frame_stays_one(fleet: pd.DataFrame) -> None:
    empty = resample(fleet.iloc[:0], "1m")
    pd.testing.assert_frame_equal(empty, fleet.iloc[:0], check_categorical=False)
    assert empty["user"].dtype == "category"


def test_what_is_not_a_frame_of_windows_is_refused(fleet: pd.DataFrame) -> None:
    with pytest.raises(FrameError, match="var, approximated missing"):
        resample(fleet.drop(columns=["var", "approximated"]), "1m")
    with pytest.raises(FrameError, match="time zone"):
        resample(fleet.tz_localize(None), "1m")
    with pytest.raises(FrameError, match="DatetimeIndex"):
        resample(fleet.reset_index(), "1m")
    with pytest.raises(FrameError, match="expected numbers in mean"):
        resample(fleet.assign(mean="a lot"), "1m")
    with pytest.raises(FrameError, match="mean is missing"):
        resample(fleet.assign(mean=np.nan), "1m")
    with pytest.raises(ValueError, match="15"):
        resample(fleet, "15")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("count", -1, "count: expected whole numbers of at least 0, got -1 in row 1 "),
        ("count", 1.5, "count: expected whole numbers of at least 0, got 1.5 in row 1 "),
        ("approximated", -1, "approximated: expected at least 0, got -1 in row 1 "),
        ("approximated", 0.5, "approximated: expected whole numbers, got 0.5 in row 1 "),
        ("mean", np.inf, "mean: expected finite numbers, got inf in row 1 "),
        ("max", np.inf, "max: expected finite numbers, got inf in row 1 "),
        ("var", -1.0, "var: expected at least 0, got -1.0 in row 1 "),
        ("min", 2.0, "min: expected no more than max, got 2.0 in row 1 "),
        ("mean", 0.51, "mean: expected a mean between min and max, got 0.51 in row 1 "),
        ("mean", 0.0, "mean: expected a mean between min and max, got 0.0 in row 1 "),
        ("count", 2, "histogram: expected as many samples as count says, got 1 in row 1 "),
    ],
)
def test_numbers_that_no_samples_have_are_refused_by_their_row(column: str, value: float, words: str) -> None:
    times = pd.date_range("2026-03-01", periods=3, freq="1h", tz="UTC", name="time")
    frame = frame_of_values(pd.DataFrame({"value": [0.1, 0.5, 0.9]}, index=times))
    wrong = frame[column].astype(float if isinstance(value, float) else int)
    wrong.iloc[1] = value
    functions = (
        lambda frame: analytics.resample(frame, "1d"), lambda frame: analytics.quantile(frame, 0.5),
        analytics.from_frame, analytics.saturation,
    )  # fmt: skip
    for function in functions:
        with pytest.raises(FrameError, match=re.escape(words + "(2026-03-01 01:00:00+00:00)")):
            function(frame.assign(**{column: wrong}))


def test_rounding_is_no_fault() -> None:
    times = pd.date_range("2026-03-01", periods=3, freq="1h", tz="UTC", name="time")
    frame = frame_of_values(pd.DataFrame({"value": [0.1, 0.5, 0.9]}, index=times))
    near = frame.assign(var=-1e-17, min=frame["min"] + 1e-17, count=frame["count"].astype(float))
    assert analytics.resample(near, "1d")["count"].item() == 3
    off = frame.assign(min=frame["min"] + 1e-9, max=frame["max"] - 1e-9)
    assert analytics.resample(off, "1d")["count"].item() == 3


def test_what_is_approximate_may_disagree_by_half_a_bin() -> None:
    times = pd.date_range("2026-03-01", periods=1, freq="1h", tz="UTC", name="time")
    row = {"count": 9, "mean": 0.298, "var": 0.02, "min": 0.305, "max": 0.31, "approximated": 9}
    assert analytics.resample(pd.DataFrame(row, times), "1d")["mean"].item() == 0.298
    with pytest.raises(FrameError, match=re.escape("expected a mean between min and max")):
        analytics.resample(pd.DataFrame(row | {"mean": 0.2}, times), "1d")


def test_bins_that_the_metric_does_not_have_are_refused() -> None:
    times = pd.date_range("2026-03-01", periods=1, freq="1h", tz="UTC", name="time")
    frame = frame_of_values(pd.DataFrame({"value": [200.0]}, times), metric="diskReads")
    named = frame.assign(metric="cpuLoadAvg", mean=1.0, min=1.0, max=1.0)
    named.attrs = {}
    with pytest.raises(FrameError, match="expected bins from -1 to 64"):
        analytics.quantile(named, 0.5)


@pytest.mark.parametrize("name", ["host", "machine_id", "pod"])
def test_hosts_that_another_column_tells_apart_do_not_become_one(name: str) -> None:
    times = pd.date_range("2026-03-01", periods=4, freq="1h", tz="UTC", name="time")
    values = pd.DataFrame({"value": [0.1, 0.2, 0.9, 1.0], name: list("aabb")}, index=times)
    frame = frame_of_values(values.drop(columns=name)).assign(**{name: list("aabb")})
    calls = (
        lambda: frame_of_values(values),
        lambda: analytics.resample(frame, "1d"),
        lambda: analytics.change_points(frame),
        lambda: analytics.forecast(frame),
        lambda: analytics.quantile(frame, 0.5),
        lambda: analytics.right_size(frame, 4),
    )
    for call in calls:
        with pytest.raises(FrameError, match=f"the column user, got '{name}': .*rename"):
            call()
    named = frame_of_values(values.rename(columns={name: "user"}))
    assert analytics.resample(named, "1d")["user"].tolist() == ["a", "b"]
    assert analytics.resample(frame.assign(**{name: "a"}), "1d")["count"].item() == 4


@pytest.mark.parametrize("core", ["x", 0.5])
def test_cores_are_whole_numbers(core: object) -> None:
    times = pd.date_range("2026-03-01", periods=2, freq="1h", tz="UTC", name="time")
    frame = frame_of_values(pd.DataFrame({"value": [0.1, 0.5]}, index=times)).assign(core=core)
    with pytest.raises(FrameError, match="expected whole numbers, or none, in core"):
        analytics.resample(frame, "1d")
