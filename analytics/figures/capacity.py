"""Cores: how evenly they are used, and how many are needed."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analytics.figures.style import BLUE, GREEN, GREY, ORANGE, blank, labels, rows_of_machines
from analytics.figures.trends import UTILIZATION

__all__ = ["core_imbalance", "right_sizing"]


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
