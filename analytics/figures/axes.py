"""Axes of shares and of time: labelled with their unit, and shortened where gaps would take more room than data."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analytics.frames.gaps import after_gaps, step_of

UTILIZATION = "CPU utilization (% of the machine)"
TIME = "time (UTC)"
_MARGIN = 0.02
"""How much of a long gap stays on each side, as a share of the time with data; whole steps."""
_MAX_TICKS = 8


def as_shares(figure: go.Figure, frame: pd.DataFrame, columns: Sequence[str]) -> go.Figure:
    """Label the vertical axis in percent, from 0 to what the columns need."""
    highest = float(np.nanmax(frame[list(columns)].to_numpy(float), initial=0.01))
    top = min(1.02, highest * 1.08) if highest <= 1 else highest * 1.08
    figure.update_yaxes(tickformat=".0%" if top > 0.08 else ".1%", range=[0, top], hoverformat=".1%")
    if isinstance(frame.index, pd.DatetimeIndex):
        figure.update_xaxes(type="date", hoverformat="%a %Y-%m-%d %H:%M UTC")
        shorten(figure, frame.index)
    return figure


def shorten(figure: go.Figure, index: pd.DatetimeIndex) -> None:
    """Cut the middle out of long gaps on the axis of time, where gaps take more room than the data; say so on it.

    `index` is that of what the figure shows, in any order.
    """
    moments = index.unique().sort_values()
    step = step_of(moments)
    places = after_gaps(moments, step)
    covered = step * len(moments)
    margin = step * math.ceil(_MARGIN * len(moments))
    ends, starts = moments[places - 1] + step, moments[places]
    gaps = [gap for gap in zip(ends, starts, strict=True) if gap[1] - gap[0] > 4 * margin]
    if sum((last - first for first, last in gaps), pd.Timedelta(0)) < covered / 2:
        return
    cuts = [[_moment_text(first + margin), _moment_text(last - margin)] for first, last in gaps]
    ticks = _ticks([moments[0], *(last for _, last in gaps)], [*(first for first, _ in gaps), moments[-1]])
    figure.update_xaxes(
        rangebreaks=[{"bounds": cut} for cut in cuts],
        tickvals=[*map(_moment_text, ticks)],
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


def _moment_text(moment: pd.Timestamp) -> str:
    return f"{moment.tz_convert('UTC') if moment.tz else moment:%Y-%m-%dT%H:%M:%S}"
