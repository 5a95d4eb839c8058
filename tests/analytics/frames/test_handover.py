"""Frames for other tools: text without bytes, and what Nixtla's forecasters take."""

import io

import numpy as np
import pandas as pd
import pytest

from analytics import FrameError, resample, to_nixtla, to_text
from analytics.frames.frame import frame_of_values

TIMES = pd.date_range("2026-03-02", periods=4, freq="1h", tz="UTC")
FRAME = frame_of_values(pd.DataFrame({"user": ["b", "a", "b", "a"], "value": [0.0, 0.5, 1.0, 0.25]}, index=TIMES))


def test_csv_has_histograms_as_pairs_and_reads_back() -> None:
    text = to_text(FRAME).to_csv()
    assert "b'" not in text
    read = pd.read_csv(io.StringIO(text))
    assert [*read] == ["time", *FRAME.columns] and read.columns[-1] == "histogram"
    assert read["mean"].tolist() == FRAME["mean"].tolist()
    day = to_text(resample(FRAME.drop(columns="user"), "1d"))
    assert sorted(pair.split(":")[1] for pair in day["histogram"].item().split()) == ["1"] * 4
    assert to_text(FRAME.drop(columns="histogram")).columns.tolist() == [*FRAME.columns[:-1]]
    assert to_text(FRAME.iloc[:0]).empty


def test_nixtlas_tools_get_their_columns() -> None:
    told = to_nixtla(FRAME)
    assert [*told] == ["unique_id", "ds", "y"]
    assert told["unique_id"].tolist() == ["a", "a", "b", "b"]
    assert told["y"].tolist() == [0.5, 0.25, 0.0, 1.0]
    assert told["ds"].dt.tz is None and told["ds"].iloc[0] == pd.Timestamp("2026-03-02T01:00")
    assert set(to_nixtla(FRAME.drop(columns="user"), "max")["unique_id"]) == {"all"}


def test_what_cannot_be_handed_over_is_refused() -> None:
    with pytest.raises(FrameError, match="column: expected a column 'p95'"):
        to_nixtla(FRAME, "p95")
    cores = FRAME.assign(core=pd.array(np.arange(4), "Int64"))
    with pytest.raises(FrameError, match="expected rows of whole hosts"):
        to_nixtla(cores)
