"""What broke the pattern: anomalies, and lasting changes of level."""

import itertools

import pandas as pd
import plotly.graph_objects as go

from analytics.figures.gaps import naive, step_of
from analytics.figures.style import BLUE, GREY, ORANGE, RED, blank
from analytics.figures.trends import TIME, UTILIZATION, add_band, add_line, as_shares

__all__ = ["anomalies", "levels"]


def anomalies(frame: pd.DataFrame, title: str) -> go.Figure:
    """Values, what was expected, and a mark on each value that is an anomaly.

    `frame`: index time (UTC), sorted; columns `value`, `lower`, `upper` (shares) and `anomaly` (bool), as
    `analytics.anomalies` answers for one user.
    """
    figure = blank(title, x=TIME, y=UTILIZATION)
    expected = frame[["lower", "upper"]].clip(0, 1)
    add_band(figure, expected, "lower", "upper", name="expected range", colour=GREY, opacity=0.28)
    add_line(figure, frame["value"], name="utilization", width=1.5)
    odd = frame[frame["anomaly"].astype(bool)]
    figure.add_scatter(
        x=naive(pd.DatetimeIndex(odd.index)).strftime("%Y-%m-%dT%H:%M:%S"), y=odd["value"].round(5).to_numpy(),
        mode="markers", name="anomaly",
        marker={"color": RED, "size": 10, "symbol": "x-thin", "line": {"color": RED, "width": 3}},
    )  # fmt: skip
    shown = frame.assign(upper=expected["upper"].clip(upper=2 * frame["value"].max()))
    return as_shares(figure, shown, ["value", "upper"])


def levels(frame: pd.DataFrame, changes: pd.DataFrame, title: str, *, column: str = "mean") -> go.Figure:
    """Values, and the level between lasting changes.

    `frame`: index time (UTC), sorted, and `column` (a share). `changes`: columns `time` (UTC), `before` and `after`,
    the mean levels around each change, in order of time.
    """
    figure = blank(title, x=TIME, y=UTILIZATION)
    add_line(figure, frame[column], name="utilization", width=1.2)
    index = pd.DatetimeIndex(frame.index)
    times = pd.DatetimeIndex(changes["time"])
    bounds = [index[0], *times, index[-1] + step_of(index)]
    heights = [*changes["before"].head(1), *changes["after"]]
    steps = naive(pd.DatetimeIndex(bounds)).strftime("%Y-%m-%dT%H:%M:%S").tolist()
    figure.add_scatter(
        x=[moment for first, last in itertools.pairwise(steps) for moment in (first, last)],
        y=[round(float(height), 5) for height in heights for _ in range(2)],
        mode="lines", name="level", line={"color": ORANGE, "width": 3},
    )  # fmt: skip
    for moment in steps[1:-1]:
        figure.add_vline(x=moment, line={"color": BLUE, "width": 1, "dash": "dot"})
    return as_shares(figure, frame, [column])
