"""Two periods beside each other."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analytics.figures.style import BLUE, GREY, ORANGE, blank, labels, rows_of_machines
from analytics.figures.trends import UTILIZATION, as_shares

__all__ = ["hours_of_day", "movers"]


def hours_of_day(hours: pd.DataFrame, title: str, *, before: str = "before", after: str = "after") -> go.Figure:
    """The mean of each hour of the day in two periods.

    `hours`: index the hour (0 to 23, UTC), columns `before` and `after`, shares; the names say what the periods are.
    """
    figure = blank(title, x="hour of the day (UTC)", y=UTILIZATION)
    for column, name, colour, dash in (("before", before, GREY, "dash"), ("after", after, BLUE, "solid")):
        figure.add_scatter(
            x=hours.index.to_numpy(), y=hours[column].round(5).to_numpy(), mode="lines+markers", name=name,
            line={"color": colour, "width": 2, "dash": dash},
        )  # fmt: skip
    as_shares(figure, hours, ["before", "after"])
    figure.update_xaxes(range=[-0.5, 23.5], tickvals=list(range(0, 24, 3)), hoverformat="d",
                        ticktext=[f"{hour:02}:00" for hour in range(0, 24, 3)])  # fmt: skip
    return figure


def movers(users: pd.DataFrame, title: str, *, before: str = "before", after: str = "after") -> go.Figure:
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
