"""Who used the CPU: over time, and in some ranges beside each other."""

from collections import Counter
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from analytics.figures.axes import TIME, UTILIZATION, as_shares
from analytics.figures.style import GREY, SEQUENCE, blank, labels
from analytics.frames.gaps import naive, step_of
from analytics.sources.service import OTHERS, USE_KEYS, is_others

_MOST = len(SEQUENCE)
"""So many have a colour of their own; further ones are among the others."""
_ROW_PX = 46


def use_over_time(frame: pd.DataFrame, title: str) -> go.Figure:
    """Who used how much of a machine, or of all, stacked up to what was used.

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
