"""How load goes over time, how much of the time it is how high, what is to come, and what broke the pattern."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analytics.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SEQUENCE,
    TIME,
    UTILIZATION,
    as_shares,
    blank,
    label,
    see_through,
)
from analytics.frames.gaps import lone, naive, segments, step_of, with_gaps

_NOTE_CHARACTERS = 80
"""So much of a text is shown under the pointer."""


def trend(
    frame: pd.DataFrame,
    title: str,
    *,
    line: str = "mean",
    bands: Sequence[tuple[str, str, str]] = (),
    y: str = UTILIZATION,
    line_name: str = "mean",
) -> go.Figure:
    """A line with bands around it.

    `frame` has a DatetimeIndex (UTC), sorted, the column `line` and those of `bands`, each (lower column, upper column,
    what it holds), the widest first; all are shares in [0, 1].
    """
    figure = blank(title, x=TIME, y=y)
    for place, (lower, upper, name) in enumerate(bands):
        add_band(figure, frame, lower, upper, name=name, opacity=0.16 + 0.2 * place)
    add_line(figure, frame[line], name=line_name)
    return as_shares(figure, frame, [line, *(upper for _, upper, _ in bands)])


def mark_moments(figure: go.Figure, moments: pd.DataFrame) -> None:
    """Mark moments and stretches of time in a figure of shares over time; their texts show under the pointer.

    `moments` has the columns `start` and `end` (UTC; the same for a moment) and `text`, which is never taken for
    markup.
    """
    if moments.empty:
        return
    starts, ends = (
        naive(pd.DatetimeIndex(moments[name])).strftime("%Y-%m-%dT%H:%M:%S").tolist() for name in ("start", "end")
    )
    for start, end in zip(starts, ends, strict=True):
        figure.add_vline(x=start, line={"color": PURPLE, "width": 1, "dash": "dot"})
        if end != start:
            figure.add_vrect(x0=start, x1=end, fillcolor=PURPLE, opacity=0.12, line={"width": 0})
    figure.add_scatter(
        x=starts, y=[figure.layout.yaxis.range[1]] * len(starts), mode="markers", name="annotation", cliponaxis=False,
        marker={"color": PURPLE, "size": 9, "symbol": "triangle-down"},
        text=[label(text, _NOTE_CHARACTERS) for text in moments["text"]], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def add_band(
    figure: go.Figure,
    frame: pd.DataFrame,
    lower: str,
    upper: str,
    *,
    name: str,
    colour: str = BLUE,
    opacity: float = 0.18,
) -> None:
    """Fill between two columns; nothing is filled over a gap."""
    times: list[object] = []
    values: list[float | None] = []
    step = step_of(pd.DatetimeIndex(frame.index))
    for part in segments(frame[[lower, upper]].dropna(), step):
        index = naive(pd.DatetimeIndex(part.index)).strftime("%Y-%m-%dT%H:%M:%S").tolist()
        times += [*index, *reversed(index), None]
        values += [*part[upper].round(5).tolist(), *reversed(part[lower].round(5).tolist()), None]
    figure.add_scatter(
        x=times, y=values, fill="toself", fillcolor=see_through(colour, opacity), mode="lines",
        line={"width": 0}, hoverinfo="skip", name=name,
    )  # fmt: skip


def add_line(
    figure: go.Figure,
    values: "pd.Series[float]",
    *,
    name: str,
    colour: str = BLUE,
    dash: str = "solid",
    width: float = 2,
) -> None:
    """A line that is broken at gaps; a value between two gaps is a dot."""
    gapped = with_gaps(values.to_frame("value"))["value"]
    alone = lone(gapped)
    figure.add_scatter(
        x=naive(pd.DatetimeIndex(gapped.index)).strftime("%Y-%m-%dT%H:%M:%S"),
        y=gapped.round(5).to_numpy(),
        mode="lines+markers" if alone.any() else "lines",
        line={"color": colour, "width": width, "dash": dash},
        marker={"color": colour, "size": np.where(alone, 6, 0)} if alone.any() else None,
        connectgaps=False,
        name=name,
    )  # fmt: skip


def load_duration(curves: Mapping[str, pd.DataFrame], title: str) -> go.Figure:
    """Load-duration curves: for how much of the time load was at least so high.

    `curves`: by name, each with the columns `load` (utilizations, ascending) and `share` (of the time at or above it),
    both shares, as `analytics.load_duration_curve` answers them.
    """
    figure = blank(title, x="share of the time (%)", y=UTILIZATION)
    for colour, (name, curve) in zip(SEQUENCE * 4, curves.items(), strict=False):
        figure.add_scatter(
            x=curve["share"].round(5).to_numpy(), y=curve["load"].round(5).to_numpy(), mode="lines", name=label(name),
            line={"color": colour, "width": 2},
        )  # fmt: skip
    reached = pd.concat([curve[curve["share"] > 0] for curve in curves.values()])
    as_shares(figure, reached, ["load"])
    figure.update_xaxes(tickformat=".0%", range=[0, 1], hoverformat=".1%")
    return figure


def forecast(history: pd.DataFrame, coming: pd.DataFrame, title: str, *, threshold: float | None = None) -> go.Figure:
    """The past, and the forecast with its intervals.

    `history`: index time (UTC), sorted, column `mean`. `coming`: index or column `time`, columns `mean` and pairs
    `lower_80`, `upper_80` and the like for any levels (percent). All shares; `threshold` is drawn as a line.
    """
    coming = (coming.set_index("time") if "time" in coming else coming).copy()
    pairs = sorted(
        (int(name.removeprefix("lower_")) for name in map(str, coming) if name.startswith("lower_")), reverse=True
    )
    bounds = [f"{side}_{level}" for level in pairs for side in ("lower", "upper")]
    coming[bounds] = coming[bounds].clip(0, 1)
    figure = blank(title, x=TIME, y=UTILIZATION)
    for place, level in enumerate(pairs):
        add_band(
            figure, coming, f"lower_{level}", f"upper_{level}", name=f"{level} of 100 times within", colour=ORANGE,
            opacity=0.16 + 0.2 * place,
        )  # fmt: skip
    add_line(figure, history["mean"], name="measured", colour=BLUE)
    add_line(figure, coming["mean"], name="forecast", colour=ORANGE, dash="dash")
    if threshold is not None:
        figure.add_hline(y=threshold, line={"color": RED, "width": 1.5, "dash": "dot"},
                         annotation={"text": f"{threshold:.0%}", "font": {"color": RED}})  # fmt: skip
    shown = pd.concat([history[["mean"]], coming[["mean", *bounds]]])
    return as_shares(figure, shown, ["mean", *bounds])


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

    `frame`: index time (UTC), sorted, and `column` (a share). `changes`: index time (UTC), columns `before` and
    `after`, the mean levels around each change, in order of time, as `analytics.change_points` answers for one user.
    """
    figure = blank(title, x=TIME, y=UTILIZATION)
    add_line(figure, frame[column], name="utilization", width=1.2)
    index = pd.DatetimeIndex(frame.index)
    times = pd.DatetimeIndex(changes.index)
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
