"""Saturation: for how much of the time machines are at or above a threshold."""

from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame, bucket, gather, of_machines
from analytics.frames.frame import to_frame
from analytics.methods.load_distribution import BINS, counts_of, shares_only
from contract.times import parse_duration


def saturation(
    frame: AnyFrame, threshold: float = 0.9, *, by: Literal["user"] | None = "user", rate: str | None = None
) -> pd.DataFrame:
    """The share of time at or above `threshold`, a load in [0, 1], of each user or, without `by`, of all together.

    Columns: `user` (with `by`, where the frame names users), `share`, between its bounds `lower` and `upper`, all in
    [0, 1], and `count`, of how many samples. From histograms, so a peak of 50 ms counts for 50 ms, whatever the mean
    around it. At a multiple of 1/64 the bounds meet and the share is exact; within a bin the samples are taken as
    evenly spread, and the bounds say how far off that may be. Highest share first. With `rate` (InfluxQL duration)
    there is one row for each bucket instead, with the index `time` (UTC), in order of user and time.

    Takes a frame of windows of any size, pandas' or Dask's; raises FrameError for another, and for a metric that is
    no share, ValueError for a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"the threshold is a share in [0, 1], not {threshold:g}")
    shares_only(frame)
    key = None if rate is None else partial(bucket, rate_ms=parse_duration(rate))
    windows, labels = gather(of_machines(frame), key, labels=("user",) if by else (), what="saturation")
    counts = counts_of(windows)
    total = np.maximum(windows.count, 1)
    place = threshold * BINS
    inside = min(int(place), BINS - 1)
    surely = counts[:, inside + 1 :].sum(axis=1)
    perhaps = surely + counts[:, inside]
    answer = to_frame(windows, labels if "user" in labels else None)
    answer["lower"] = (
        np.where(windows.minimum >= threshold, windows.count, surely if place > inside else perhaps) / total
    )
    answer["upper"] = np.where(windows.maximum < threshold, 0, perhaps) / total
    even = surely + counts[:, inside] * (inside + 1 - place)
    answer["share"] = np.clip(even / total, answer["lower"], answer["upper"])
    answer = answer[[*(["user"] if "user" in labels else []), "share", "lower", "upper", "count"]]
    if rate is not None:
        return answer
    return answer.sort_values("share", ascending=False, kind="stable").reset_index(drop=True)
