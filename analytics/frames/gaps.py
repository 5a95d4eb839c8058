"""Gaps in time, shown as gaps."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go

_WIDE = 1.5
"""Neighbours further apart than so many steps have a gap between them."""

_MARGIN = 0.02
"""How much of a long gap stays on each side, as a share of the time with data; whole steps."""
_MAX_TICKS = 8


def naive(index: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The moments in UTC without a time zone: what Plotly shows as it is."""
    return index if index.tz is None else index.tz_convert("UTC").tz_localize(None)


def step_of(index: pd.DatetimeIndex) -> pd.Timedelta:
    """The usual distance of neighbours: their median; an hour for fewer than two."""
    if len(index) < 2:
        return pd.Timedelta(hours=1)
    return pd.Timedelta(np.median(np.diff(index.as_unit("ms").asi8)), "ms")


def _breaks(index: pd.DatetimeIndex, step: pd.Timedelta) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
    """The places of the rows that come after a gap."""
    distance = np.diff(index.as_unit("ms").asi8)
    return np.flatnonzero(distance > _WIDE * step.total_seconds() * 1000) + 1


def segments(frame: pd.DataFrame, step: pd.Timedelta | None = None) -> Iterator[pd.DataFrame]:
    """The parts of `frame`, which is sorted by time, that have no gap inside; none is empty."""
    index = pd.DatetimeIndex(frame.index)
    bounds = [0, *_breaks(index, step or step_of(index)).tolist(), len(frame)]
    for first, last in itertools.pairwise(bounds):
        if last > first:
            yield frame.iloc[first:last]


def with_gaps(frame: pd.DataFrame, step: pd.Timedelta | None = None) -> pd.DataFrame:
    """`frame`, sorted by time, and a row of NaN in each gap, so that no line is drawn over it."""
    index = pd.DatetimeIndex(frame.index)
    step = step or step_of(index)
    places = _breaks(index, step)
    if not len(places):
        return frame
    inside = index[places - 1] + step
    numbers = frame.select_dtypes("number")
    holes = pd.DataFrame(np.nan, index=inside, columns=numbers.columns)
    return pd.concat([numbers.astype(float), holes]).sort_index(kind="stable")


def lone(values: "pd.Series[float]") -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which values stand alone between gaps (NaN); a line would not show them."""
    there = values.notna().to_numpy()
    before = np.concatenate([[False], there[:-1]])
    after = np.concatenate([there[1:], [False]])
    alone: np.ndarray[tuple[int], np.dtype[np.bool_]] = there & ~before & ~after
    return alone


def shorten(figure: go.Figure, index: pd.DatetimeIndex) -> None:
    """Cut the middle out of long gaps on the axis of time, where gaps take more room than the data; say so on it.

    `index` is that of what the figure shows, in any order.
    """
    moments = index.unique().sort_values()
    step = step_of(moments)
    places = _breaks(moments, step)
    covered = step * len(moments)
    margin = step * math.ceil(_MARGIN * len(moments))
    ends, starts = moments[places - 1] + step, moments[places]
    gaps = [gap for gap in zip(ends, starts, strict=True) if gap[1] - gap[0] > 4 * margin]
    if sum((last - first for first, last in gaps), pd.Timedelta(0)) < covered / 2:
        return
    cuts = [[_text(first + margin), _text(last - margin)] for first, last in gaps]
    ticks = _ticks([moments[0], *(last for _, last in gaps)], [*(first for first, _ in gaps), moments[-1]])
    figure.update_xaxes(
        rangebreaks=[{"bounds": cut} for cut in cuts],
        tickvals=[*map(_text, ticks)],
        ticktext=[*_days(ticks)],
        title_text="time (UTC); gaps without data are shortened",
    )


def _ticks(starts: list[pd.Timestamp], ends: list[pd.Timestamp]) -> list[pd.Timestamp]:
    """Where the data begin behind each gap, and days between as long as there is room."""
    ticks = starts[:: 1 + len(starts) // _MAX_TICKS]
    days = sum((end - start for start, end in zip(starts, ends, strict=True)), pd.Timedelta(0)) / pd.Timedelta("1D")
    stride = pd.Timedelta(days=max(1, math.ceil(days / _MAX_TICKS)))
    for start, end in zip(starts, ends, strict=True):
        if len(ticks) < _MAX_TICKS and end - start > 1.5 * stride:
            ticks += pd.date_range(start, end - stride / 2, freq=stride)[1:].tolist()
    return sorted(ticks)


def _days(moments: list[pd.Timestamp]) -> Iterator[str]:
    """Such as `3 Mar` and, below it, the time of day unless it is midnight, and the year where it is another one."""
    year = 0
    for moment in moments:
        below = [] if moment == moment.normalize() else [f"{moment:%H:%M}"]
        below += [f"{moment:%Y}"] if moment.year != year else []
        year = moment.year
        yield "<br>".join([f"{moment.day} {moment:%b}", *below])


def _text(moment: pd.Timestamp) -> str:
    return f"{moment.tz_convert('UTC') if moment.tz else moment:%Y-%m-%dT%H:%M:%S}"
