"""The metric of a frame goes where pandas puts its rows, and two metrics never count as one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analytics
from analytics.frames.frame import FrameError, frame_of_values, metric_of


def measured(metric: str, value: float, user: str = "a", start: str = "2026-03-02") -> pd.DataFrame:
    times = pd.date_range(start, periods=72, freq="1h", tz="UTC", name="time")
    return frame_of_values(pd.DataFrame({"user": user, "value": value}, index=times), metric=metric)


CPU, MEMORY, READS = measured("cpuLoadAvg", 0.2), measured("memoryUtilization", 0.8), measured("diskReads", 2.84)


@pytest.mark.parametrize(
    "put_together",
    [
        lambda frame: pd.concat([frame, measured("diskReads", 2.84, "b")]),
        lambda frame: pd.concat([frame, measured("diskReads", 2.84, "b")], ignore_index=False, sort=True),
        lambda frame: frame.reset_index().merge(pd.DataFrame({"user": ["a"], "team": ["x"]})).set_index("time"),
        lambda frame: frame.join(pd.DataFrame({"team": "x"}, index=frame.index)),
        lambda frame: frame.query("user == 'a'").copy(),
        lambda frame: frame.reset_index().set_index("time"),
    ],
)
def test_pandas_may_drop_attrs_and_the_metric_is_still_known(
    put_together: Callable[[pd.DataFrame], pd.DataFrame],
) -> None:
    frame = put_together(READS)
    frame.attrs = {}

    assert metric_of(frame) == "diskReads"
    assert analytics.quantile(frame, 0.95)["value"].to_numpy() == pytest.approx(2.84)
    assert metric_of(analytics.resample(frame, "1d")) == "diskReads"


@pytest.mark.parametrize("other", [MEMORY, READS, MEMORY.drop(columns="metric")])
@pytest.mark.parametrize(
    "method",
    [
        lambda frame: analytics.quantile(frame, 0.95),
        analytics.load_duration_curve,
        lambda frame: analytics.saturation(frame, 0.9),
        lambda frame: analytics.forecast(frame, "24h"),
        analytics.anomalies,
        analytics.change_points,
        lambda frame: analytics.right_size(frame, 8),
        lambda frame: analytics.fit_together(frame, 8),
        lambda frame: analytics.compare(frame, CPU),
        analytics.fleet_trend,
        analytics.hour_of_week_profile,
        analytics.odd_ones_out,
        analytics.to_nixtla,
    ],
)
def test_two_metrics_put_together_are_refused_by_every_method(
    method: Callable[[pd.DataFrame], object], other: pd.DataFrame
) -> None:
    with pytest.raises(FrameError, match="expected rows of one metric, got"):
        method(pd.concat([CPU, other]))


def test_cores_are_advised_of_cpu_alone() -> None:
    with pytest.raises(FrameError, match="expected CPU utilization, got memoryUtilization"):
        analytics.right_size(MEMORY, 8)


def test_resampling_keeps_metrics_apart() -> None:
    days = analytics.resample(pd.concat([CPU, MEMORY]), "1d")

    assert days.groupby("metric", observed=True)["mean"].first().to_dict() == pytest.approx(
        {"cpuLoadAvg": 0.2, "memoryUtilization": 0.8}
    )
    assert (days["count"] == 24).all()


def test_a_file_of_two_metrics_is_refused_and_one_of_one_is_known_by_its_column(tmp_path: Path) -> None:
    both, one = tmp_path / "both.parquet", tmp_path / "one.parquet"
    pd.concat([CPU, MEMORY]).to_parquet(both)
    told = READS.copy()
    told.attrs = {}
    told.to_parquet(one)

    with pytest.raises(FrameError, match="expected one metric a file, got cpuLoadAvg, memoryUtilization"):
        analytics.connect(both)
    with analytics.connect(one) as source:
        assert source.metrics()["metric"].tolist() == ["diskReads"]
        assert np.allclose(source.history("a", "diskReads", rate="1d")["mean"], 2.84)
