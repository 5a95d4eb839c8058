"""Two periods beside each other."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analytics.figures.style import BLUE, GREY, ORANGE, blank, labels
from analytics.figures.trends import UTILIZATION, as_shares

__all__ = ["hours_of_day", "movers"]

_ROW_PX = 24


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
    figure.update_xaxes(type="linear", range=[-0.5, 23.5], tickvals=list(range(0, 24, 3)), hoverformat="d",
                        ticktext=[f"{hour:02}:00" for hour in range(0, 24, 3)])  # fmt: skip
    return figure


def movers(users: pd.DataFrame, title: str, *, before: str = "before", after: str = "after") -> go.Figure:
    """Where each machine stood and where it stands.

    `users`: a row a machine, those to be shown, in order; columns `user`, `before` and `after`, shares.
    """
    figure = blank(title, x=UTILIZATION, y="machine", height=130 + _ROW_PX * max(4, len(users)))
    names = labels([str(user) for user in users["user"]])
    was, now = users["before"].to_numpy(float), users["after"].to_numpy(float)
    ways = np.column_stack([was, now, np.full(len(users), np.nan)]).ravel()
    figure.add_scatter(x=ways, y=[way for name in names for way in (name, name, None)], mode="lines",
                       line={"color": GREY, "width": 2}, hoverinfo="skip", showlegend=False)  # fmt: skip
    figure.add_scatter(x=was, y=names, mode="markers", name=before,
                       marker={"color": GREY, "size": 10, "symbol": "circle-open", "line": {"width": 2}})  # fmt: skip
    figure.add_scatter(x=now, y=names, mode="markers", name=after, marker={
        "color": np.where(now > was, ORANGE, BLUE), "size": 11,
    })  # fmt: skip
    figure.update_layout(hovermode="y unified")
    figure.update_xaxes(tickformat=".0%", rangemode="tozero", hoverformat=".1%")
    figure.update_yaxes(autorange="reversed", type="category", tickmode="linear", dtick=1)
    return figure
