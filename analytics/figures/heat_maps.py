"""Load as colour: many hosts over time, and the hours of the week."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from analytics.figures.style import UTILIZATION, blank, labels, shorten
from analytics.frames.gaps import naive
from contract.times import HOUR_MS

_MAX_ROWS = 150
_MAX_COLUMNS = 320
_BAR_PX = 62
_ALMOST_ALL = 0.995
"""The share of the cells that the colours tell apart: a few very bright ones would leave the others dark."""
_NO_DATA = "#b4bac1"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def users_over_time(frame: pd.DataFrame, title: str, *, column: str = "mean") -> go.Figure:
    """Hosts from the busiest, on top, to the idlest; time to the right; the brighter the busier.

    `frame`: index `time` (UTC), the columns `user` and `column` (a share). More hosts than can be seen are put
    together, neighbours in the order of load, and so are moments; a cell is the mean of what it holds, grey where
    nothing is known.
    """
    cells, order, edges = _matrix(frame, column)
    users = len(order)
    per_row = -(-users // len(cells))
    figure = blank(title, x="time (UTC)", y=_rows_title(per_row), height=min(640, 220 + 14 * len(cells)), head=_BAR_PX)
    figure.add_heatmap(
        z=cells.astype(np.float32),
        x=naive(edges).strftime("%Y-%m-%dT%H:%M:%S"),
        y=labels(order) if per_row == 1 else _ranks(len(cells), per_row, users),
        hovertemplate="%{x|%a %Y-%m-%d %H:%M} UTC<br>" + ("%{y}" if per_row == 1 else "rank %{y}")
        + "<br>%{z:.1%}<extra></extra>",
        hoverongaps=False,
        **_colours(cells, _ALMOST_ALL),
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category", nticks=min(30, len(cells)))
    figure.update_xaxes(showgrid=False, type="date")
    shorten(figure, edges[:-1][~np.isnan(cells).all(axis=0)])
    return _as_map(figure, {"showticklabels": False, "ticks": ""})


def hour_of_week(profile: pd.DataFrame, title: str, *, column: str = "mean") -> go.Figure:
    """A row a day, a column an hour, both of the profile's time zone; the brighter the busier.

    `profile`: the columns `weekday`, Monday 0, and `hour`, and `column`, a share, as `analytics.hour_of_week_profile`
    answers; its `attrs["tz"]` names the zone, UTC without it.
    """
    zone = profile.attrs.get("tz", "UTC")
    cells = profile.pivot_table(index="weekday", columns="hour", values=column, observed=True)
    cells = cells.reindex(index=range(7), columns=range(24))
    figure = blank(title, x=f"hour of the day ({zone})", y=f"day of the week ({zone})", height=370, head=_BAR_PX)
    values = cells.to_numpy(float)
    figure.add_heatmap(
        z=values.astype(np.float32),
        x=list(range(24)),
        y=list(_DAYS),
        hovertemplate=f"%{{y}} %{{x}}:00 {zone}<br>%{{z:.1%}}<extra></extra>",
        hoverongaps=False,
        xgap=1,
        ygap=1,
        **_colours(values, 1.0),
    )
    figure.update_xaxes(tickvals=list(range(0, 24, 3)), ticktext=[f"{hour:02}:00" for hour in range(0, 24, 3)],
                        showgrid=False)  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return _as_map(figure, {"tickvals": list(_DAYS), "ticktext": [day[:3] for day in _DAYS], "title": {"text": ""}})


def _as_map(figure: go.Figure, narrow: dict[str, object]) -> go.Figure:
    """`narrow` is how the vertical axis differs where there is little room, for who shows the figure there."""
    figure.update_layout(
        plot_bgcolor=_NO_DATA, hovermode="closest", meta=figure.layout.meta | {"narrow": {"yaxis": narrow}}
    )
    return figure


def _ranks(rows: int, per_row: int, users: int) -> list[str]:
    first = range(1, rows * per_row + 1, per_row)
    return [f"{place:,} to {min(place + per_row - 1, users):,}" for place in first]


def _rows_title(per_row: int) -> str:
    if per_row == 1:
        return "hosts, the busiest on top"
    return f"rank by load, the busiest on top ({per_row} hosts a row)"


def _colours(cells: npt.NDArray[np.floating], share: float) -> dict[str, object]:
    """The scale from 0 to what the given share of the cells needs; it says so where some are above."""
    known = cells[~np.isnan(cells)]
    high = float(np.quantile(known, share)) if len(known) else 1.0
    top = min(1.0, max(0.02, np.ceil(high * 20) / 20 if high > 0.1 else np.ceil(high * 100) / 100))
    ticks = [0.0, float(top) / 2, float(top)]
    texts = [f"{tick * 100:.3g}%" for tick in ticks]
    if len(known) and known.max() > top:
        texts[-1] += " and more"
    bar = {
        "title": {"text": UTILIZATION, "side": "top"}, "tickvals": ticks, "ticktext": texts,
        "orientation": "h", "len": 0.7, "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "thickness": 12,
        "outlinewidth": 0,
    }  # fmt: skip
    return {"zmin": 0, "zmax": top, "colorscale": "Viridis", "colorbar": bar}


def _matrix(frame: pd.DataFrame, column: str) -> tuple[npt.NDArray[np.floating], list[str], pd.DatetimeIndex]:
    """Cells, the users in order of load, and when each column begins, the end of the last one after it."""
    users = pd.Categorical(frame["user"])
    index = pd.DatetimeIndex(frame.index).tz_convert("UTC").as_unit("ms")
    values = frame[column].to_numpy(float)
    first, last = int(index.asi8.min()), int(index.asi8.max())
    width = _width_ms(index, first, last)
    start = first // width * width
    columns = (index.asi8 - start) // width
    load = _mean(users.codes.astype(np.int64), values, len(users.categories))
    order = np.argsort(-load, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    per_row = -(-len(order) // _MAX_ROWS)
    shape = (-(-len(order) // per_row), (last - start) // width + 1)
    flat = _mean(rank[users.codes] // per_row * shape[1] + columns, values, shape[0] * shape[1])
    edges = pd.DatetimeIndex((start + np.arange(shape[1] + 1) * width).astype("datetime64[ms]")).tz_localize("UTC")
    return flat.reshape(shape), [str(users.categories[place]) for place in order.tolist()], edges


def _width_ms(index: pd.DatetimeIndex, first: int, last: int) -> int:
    """The least width of a column, a multiple of the distance of moments, with which not too many are needed."""
    moments = np.unique(index.asi8)
    step = int(np.diff(moments).min()) if len(moments) > 1 else HOUR_MS
    return step * max(1, -(-((last - first) // step + 1) // _MAX_COLUMNS))


def _mean(place: npt.NDArray[np.int64], values: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.floating]:
    """The mean of the values at each place; NaN where there are none."""
    known = ~np.isnan(values)
    count = np.bincount(place[known], minlength=size)
    total = np.bincount(place[known], values[known], minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: npt.NDArray[np.floating] = total / count
    return means
