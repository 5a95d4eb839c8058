"""Buckets of a place's clock: days from midnight to midnight, weeks from Monday to Monday."""

import numpy as np
import pandas as pd
import pytest

from analytics import FrameError, resample
from analytics.frames.frame import frame_of_values

HOURS = pd.date_range("2026-03-20", "2026-04-20", freq="1h", tz="UTC", inclusive="left")
FRAME = frame_of_values(pd.DataFrame({"value": np.linspace(0, 1, len(HOURS))}, index=HOURS))


def test_weeks_begin_on_monday_where_a_zone_is_named() -> None:
    weeks = resample(FRAME, "1w", tz="Europe/Berlin")
    assert {moment.tz_convert("Europe/Berlin").strftime("%A %H:%M") for moment in weeks.index} == {"Monday 00:00"}
    assert weeks["count"].sum() == len(HOURS)
    assert resample(FRAME, "1w").index[0].day_name() == "Thursday"


def test_days_follow_the_clock_through_its_changes() -> None:
    days = resample(FRAME, "D", tz="Europe/Berlin")
    local = FRAME.set_axis(FRAME.index.tz_convert("Europe/Berlin"))
    expected = local.groupby(local.index.normalize())["mean"].agg(["size", "mean"])
    assert days["count"].tolist() == expected["size"].tolist() and 23 in days["count"].tolist()
    np.testing.assert_allclose(days["mean"], expected["mean"], rtol=1e-12)


@pytest.mark.parametrize(("offset", "hour"), [("6h", 6), ("-6h", 18), (pd.Timedelta(hours=-6), 18)])
def test_an_offset_moves_where_days_begin(offset: object, hour: int) -> None:
    moved = resample(FRAME, "1d", offset=offset)  # type: ignore[arg-type]
    assert {moment.hour for moment in moved.index} == {hour}
    assert moved["count"].sum() == len(HOURS)


def test_partitions_of_dask_get_the_same_buckets() -> None:
    dataframe = pytest.importorskip("dask.dataframe")
    frame = pd.concat([FRAME.assign(user=name) for name in ("one", "other")])
    frame = frame.assign(user=pd.Categorical(frame["user"])).sort_index()
    parts = dataframe.from_pandas(frame, npartitions=5)
    found = resample(parts, "1w", tz="Europe/Berlin").compute()
    assert found["count"].tolist() == resample(frame, "1w", tz="Europe/Berlin")["count"].tolist()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tz": "Berlin"}, "tz: expected"),
        ({"offset": "2d"}, "offset: expected less than the rate, 1d"),
        ({"offset": "soon"}, "offset: expected a duration"),
    ],
)
def test_wrong_zones_and_offsets_are_refused(arguments: dict[str, str], said: str) -> None:
    with pytest.raises(FrameError, match=said):
        resample(FRAME, "1d", **arguments)  # type: ignore[arg-type]
