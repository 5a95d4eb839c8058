"""Gaps in time: where a frame that is sorted by time has none of its usual steps, and how it is cut or filled there."""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

_WIDE = 1.5
"""Neighbours further apart than so many steps have a gap between them."""


def naive(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The moments in UTC without a time zone: what Plotly shows as it is."""
    return index if index.tz is None else index.tz_convert("UTC").tz_localize(None)


def step_of(index: pd.DatetimeIndex) -> pd.Timedelta:
    """The usual distance of neighbours: their median; an hour for fewer than two."""
    if len(index) < 2:
        return pd.Timedelta(hours=1)
    return pd.Timedelta(np.median(np.diff(index.as_unit("ms").asi8)), "ms")


def after_gaps(index: pd.DatetimeIndex, step: pd.Timedelta) -> npt.NDArray[np.intp]:
    """The places of the moments that come after a gap; `index` is sorted and usually goes by `step`."""
    distance = np.diff(index.as_unit("ms").asi8)
    return np.flatnonzero(distance > _WIDE * step.total_seconds() * 1000) + 1


def segments(frame: pd.DataFrame, step: pd.Timedelta | None = None) -> Iterator[pd.DataFrame]:
    """The parts of `frame`, which is sorted by time, that have no gap inside; none is empty."""
    index = pd.DatetimeIndex(frame.index)
    bounds = [0, *after_gaps(index, step or step_of(index)).tolist(), len(frame)]
    for first, last in itertools.pairwise(bounds):
        if last > first:
            yield frame.iloc[first:last]


def with_gaps(frame: pd.DataFrame, step: pd.Timedelta | None = None) -> pd.DataFrame:
    """`frame`, sorted by time, and a row of NaN in each gap, so that no line is drawn over it."""
    index = pd.DatetimeIndex(frame.index)
    step = step or step_of(index)
    places = after_gaps(index, step)
    if not len(places):
        return frame
    inside = index[places - 1] + step
    numbers = frame.select_dtypes("number")
    holes = pd.DataFrame(np.nan, index=inside, columns=numbers.columns)
    return pd.concat([numbers.astype(float), holes]).sort_index(kind="stable")


def lone(values: "pd.Series[float]") -> npt.NDArray[np.bool_]:
    """Which values stand alone between gaps (NaN); a line would not show them."""
    there = values.notna().to_numpy()
    before = np.concatenate([[False], there[:-1]])
    after = np.concatenate([there[1:], [False]])
    alone: npt.NDArray[np.bool_] = there & ~before & ~after
    return alone
