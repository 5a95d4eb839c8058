"""Things beside each other: periods, cores of a host, cores there are and those that are needed, who used the CPU."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analytics.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SEQUENCE,
    TIME,
    UTILIZATION,
    as_shares,
    blank,
    labels,
    rows_of_hosts,
)
from analytics.frames.gaps import naive, step_of
from analytics.sources.service_answers import OTHERS, USE_KEYS, is_others


def hours_of_day(hours: pd.DataFrame, title: str, *, before: str = "before", after: str = "after") -> go.Figure:
    """The mean of each hour of the day in two periods.

    `hours`: index the hour (0 to 23) of the time zone that `attrs["tz"]` names, UTC without it, columns `before` and
    `after`, shares; the names say what the periods are.
    """
    figure = blank(title, x=f"hour of the day ({hours.attrs.get('tz', 'UTC')})", y=UTILIZATION)
    for column, name, colour, dash in (("before", before, GREY, "dash"), ("after", after, BLUE, "solid")):
        figure.add_scatter(
            x=hours.index.to_numpy(), y=hours[column].round(5).to_numpy(), mode="lines+markers", name=name,
            line={"color": colour, "width": 2, "dash": dash},
        )  # fmt: skip
    as_shares(figure, hours, ["before", "after"])
    figure.update_xaxes(range=[-0.5, 23.5], tickvals=list(range(0, 24, 3)), hoverformat="d",
                        ticktext=[f"{hour:02}:00" for hour in range(0, 24, 3)])  # fmt: skip
    return figure


def top_changes(users: pd.DataFrame, title: str, *, before: str = "before", after: str = "after") -> go.Figure:
    """Where each host stood and where it stands.

    `users`: a row a host, those to be shown, in order; columns `user`, `before` and `after`, shares.
    """
    names = labels([str(user) for user in users["user"]])
    figure = rows_of_hosts(title, names, x=UTILIZATION)
    was, now = users["before"].to_numpy(float), users["after"].to_numpy(float)
    ways = np.column_stack([was, now, np.full(len(users), np.nan)]).ravel()
    figure.add_scatter(x=ways, y=[way for name in names for way in (name, name, None)], mode="lines",
                       line={"color": GREY, "width": 2}, hoverinfo="skip", showlegend=False)  # fmt: skip
    figure.add_scatter(x=was, y=names, mode="markers", name=before,
                       marker={"color": GREY, "size": 10, "symbol": "circle-open", "line": {"width": 2}})  # fmt: skip
    for way, chosen, colour in (("up", now > was, ORANGE), ("down", now <= was, BLUE)):
        if chosen.any():
            figure.add_scatter(
                x=now[chosen], y=[name for name, kept in zip(names, chosen, strict=True) if kept], mode="markers",
                name=f"{after}, {way}", marker={"color": colour, "size": 11},
            )  # fmt: skip
    figure.update_xaxes(
        tickformat=".0%", range=[0, 1.05 * float(np.nanmax([was, now], initial=0.01))], hoverformat=".1%"
    )
    return figure


def core_imbalance(cores: pd.DataFrame, title: str, *, user: str | None = None) -> go.Figure:
    """A bar for each core's mean, with a line from its lowest to its highest value.

    `cores`: a row a core; columns `core` (number), `mean` and, where known, `low` and `high`, all shares.
    """
    figure = blank(title, x="core (number)", y=UTILIZATION.replace("host", "core"))
    spread = {}
    if {"low", "high"} <= set(cores):
        spread = {"error_y": {
            "type": "data", "symmetric": False, "array": (cores["high"] - cores["mean"]).round(5).to_numpy(),
            "arrayminus": (cores["mean"] - cores["low"]).round(5).to_numpy(), "color": GREY, "thickness": 1.5,
        }}  # fmt: skip
    names = [str(core) for core in cores["core"]]
    figure.add_bar(
        x=names, y=cores["mean"].round(5).to_numpy(), marker={"color": BLUE}, name="mean of the core", **spread
    )
    mean = round(float(cores["mean"].mean()), 5)
    figure.add_scatter(x=names, y=[mean] * len(names), mode="lines", name="mean of all cores",
                       line={"color": ORANGE, "width": 2, "dash": "dash"})  # fmt: skip
    figure.update_xaxes(type="category")
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", hoverformat=".1%")
    return figure


def right_sizing(sizes: pd.DataFrame, title: str, *, unit: str = "cores") -> go.Figure:
    """For each host what it has, what it needs, and how sure that is.

    `sizes`: a row a host, those to be shown, in order; columns `user`, `now`, `needed`, `lower`, `upper`, in `unit`.
    """
    names = labels([str(user) for user in sizes["user"]])
    figure = rows_of_hosts(title, names, x=f"size ({unit})")
    needed, now = sizes["needed"].to_numpy(float), sizes["now"].to_numpy(float)
    ways_x = np.column_stack([now, needed, np.full(len(sizes), np.nan)]).ravel()
    ways_y = [way for name in names for way in (name, name, None)]
    figure.add_scatter(x=ways_x, y=ways_y, mode="lines", line={"color": GREY, "width": 2}, hoverinfo="skip",
                       showlegend=False)  # fmt: skip
    figure.add_scatter(x=now, y=names, mode="markers", name="now", marker={"color": GREY, "size": 11})
    figure.add_scatter(
        x=needed, y=names, mode="markers", name="needed, with its interval",
        marker={"color": GREEN, "size": 11, "symbol": "diamond"},
        error_x={
            "type": "data", "symmetric": False, "array": sizes["upper"].to_numpy(float) - needed,
            "arrayminus": needed - sizes["lower"].to_numpy(float), "color": GREEN, "thickness": 1.5,
        },
    )  # fmt: skip
    highest = float(np.nanmax([now, needed, sizes["upper"].to_numpy(float)], initial=1e-9))
    figure.update_xaxes(range=[0, 1.05 * highest], hoverformat=".3~g")
    return figure


_MOST = len(SEQUENCE)
"""So many have a colour of their own; further ones are among the others."""
_ROW_PX = 46


def use_over_time(frame: pd.DataFrame, title: str) -> go.Figure:
    """Who used how much of a host, or of all, stacked up to what was used.

    `frame` is one of `service.who(..., rate=...)`: its index is the start of each bucket (UTC).
    """
    figure = blank(title, x=TIME, y=UTILIZATION, head=54)
    whole = frame.groupby(level=0)[["busy_s", "core_s"]].first()
    index = pd.DatetimeIndex(whole.index)
    left = whole["busy_s"] / whole["core_s"]
    step_ms = step_of(index) / pd.Timedelta("1ms") if len(index) > 1 else None
    names = _names(frame.groupby([*USE_KEYS], sort=False)["cpu_s"].sum().sort_values(ascending=False))
    drawn = []
    for (key, name), colour in zip(names.items(), SEQUENCE, strict=False):
        mine = frame[(frame[[*USE_KEYS]] == list(key)).all(axis=1)]
        drawn.append((name, (mine["cpu_s"] / mine["core_s"]).reindex(whole.index, fill_value=0.0), colour))
        left = left - drawn[-1][1]
    for name, values, colour in (*drawn, (OTHERS, left.clip(lower=0.0), GREY)):
        figure.add_bar(
            x=naive(index), y=values.round(5).to_numpy(), name=name, width=step_ms,
            offset=0, marker={"color": colour, "line": {"width": 0}}, hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0, legend={"traceorder": "normal"})
    load = pd.DataFrame({"load": (whole["busy_s"] / whole["core_s"]).to_numpy()}, index=index)
    return as_shares(figure, load, ["load"])


def use_compared(ranges: Mapping[str, pd.DataFrame], title: str) -> go.Figure:
    """Whose the CPU time of some ranges was, a bar each: what differs between them did it.

    `ranges` has frames of `analytics.who` by the names of what they are of; the last says which colour is whose, as it
    is in `use_over_time` of the same range.
    """
    rows = labels([*ranges])
    figure = blank(title, x="of all CPU time that was used (%)", y="range", height=150 + _ROW_PX * len(rows), head=54)
    frames = [frame[~is_others(frame)].set_index([*USE_KEYS])["share"] for frame in ranges.values()]
    order = pd.concat(frames[::-1]).groupby(level=[*range(len(USE_KEYS))], sort=False).first()
    names = _names(order)
    left = [1.0] * len(rows)
    for (key, name), colour in zip(names.items(), SEQUENCE, strict=False):
        values = [float(frame.get(key, 0.0)) for frame in frames]
        left = [rest - value for rest, value in zip(left, values, strict=True)]
        _add_row(figure, rows, values, name, colour)
    _add_row(figure, rows, [max(0.0, rest) for rest in left], OTHERS, GREY)
    figure.update_layout(barmode="stack", bargap=0.3, hovermode="closest", legend={"traceorder": "normal"})
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    figure.update_yaxes(type="category", autorange="reversed")
    return figure


def _add_row(figure: go.Figure, rows: list[str], values: list[float], name: str, colour: str) -> None:
    figure.add_bar(
        x=[round(value, 5) for value in values], y=rows, orientation="h", name=name,
        marker={"color": colour, "line": {"width": 0}},
        text=[f"{value:.0%}" if value >= 0.04 else "" for value in values], textposition="inside",
        insidetextanchor="middle", textfont={"color": "#ffffff"}, hovertemplate=f"{name}: %{{x:.1%}}<extra></extra>",
    )  # fmt: skip


def _names(used: "pd.Series[float]") -> dict[tuple[str, ...], str]:
    """Those that have a colour, by their keys, in order; of one name several are told apart by unit or user."""
    keys = [key for key in used.index if key != (OTHERS, "", "", "")][:_MOST]
    often = Counter(key[0] for key in keys)
    told = [
        key[0] if often[key[0]] == 1 else ", ".join(part for part in (key[0], key[2], key[1]) if part) for key in keys
    ]
    return dict(zip(keys, labels(told), strict=True))
