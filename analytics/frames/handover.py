"""Frames of windows for other tools: CSV and spreadsheets, and Nixtla's forecasters."""

from typing import Any

import numpy as np
import pandas as pd

from analytics.frames.checking import number_column, with_samples
from analytics.frames.frame import FrameError, histograms_of, metric_of


def to_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its histograms as texts, `bin:count` pairs with blanks between, as the service's CSV has them.

    `analytics.to_text(frame).to_csv("windows.csv")` writes what any tool reads; printed, the frame shows its numbers.
    The column `histogram` stays the last one. Raises FrameError for what is no frame of windows.
    """
    frame = with_samples(frame)
    if "histogram" not in frame:
        return frame
    found = histograms_of(frame)
    pairs = pd.Series([f"{bin_}:{count}" for bin_, count in zip(found.bin.tolist(), found.count.tolist(), strict=True)],
                      index=found.row, dtype="str")  # fmt: skip
    texts = pairs.groupby(level=0).agg(" ".join).reindex(np.arange(len(frame)), fill_value="")
    told = frame.drop(columns="histogram")
    return told.assign(histogram=texts.to_numpy())


def to_nixtla(frame: pd.DataFrame, column: str = "mean") -> pd.DataFrame:
    """The frame as Nixtla's tools (statsforecast, mlforecast, neuralforecast) take it: `unique_id`, `ds`, `y`.

    `unique_id` is the user, `all` where the frame names none; `ds` the moment in UTC, without a time zone, as those
    tools want it; `y` the values of `column`. Sorted by both. Resample first: they expect steps of one width. Raises
    FrameError for what is no frame of windows, for a frame of several metrics or with rows of single cores, and for an
    unknown column.
    """
    frame = with_samples(frame)
    values = number_column(frame, column)
    metric_of(frame)
    for name in ("core", "device"):
        if name in frame and frame[name].notna().any():
            raise FrameError(f"expected rows of whole machines, got rows of single {name}s: they would be mixed")
    names: Any = frame["user"].astype("str").to_numpy() if "user" in frame else "all"
    moments = pd.DatetimeIndex(frame.index).tz_localize(None)
    told = pd.DataFrame({"unique_id": names, "ds": moments, "y": values.to_numpy()})
    return told.sort_values(["unique_id", "ds"], kind="stable", ignore_index=True)
