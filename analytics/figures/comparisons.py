"""Things beside each other: two periods, the cores of a machine, the cores there are and those that are needed."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analytics.figures.axes import UTILIZATION, as_shares
from analytics.figures.style import BLUE, GREEN, GREY, ORANGE, blank, labels, rows_of_machines


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
    """Where each machine stood and where it stands.

    `users`: a row a machine, those to be shown, in order; columns `user`, `before` and `after`, shares.
    """
    names = labels([str(user) for user in users["user"]])
    figure = rows_of_machines(title, names, x=UTILIZATION)
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
    figure = blank(title, x="core (number)", y=UTILIZATION.replace("machine", "core"))
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
    """For each machine what it has, what it needs, and how sure that is.

    `sizes`: a row a machine, those to be shown, in order; columns `user`, `now`, `needed`, `lower`, `upper`, in `unit`.
    """
    names = labels([str(user) for user in sizes["user"]])
    figure = rows_of_machines(title, names, x=f"size ({unit})")
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
