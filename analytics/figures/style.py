"""How all figures look: colours, fonts, axes with their unit and without long gaps, texts that are never markup."""

import html
import math
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analytics.frames.gaps import after_gaps, step_of
from contract.problems import display

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#2a86c8", "#d98a00", "#0a9b76", "#d9581c", "#b8609a", "#4aa8dd", "#8b939c",
)  # fmt: skip
"""The colours of Okabe and Ito (2008), of middle lightness, so that they stand out on white and on black."""
SEQUENCE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
_TITLE_COLUMNS = 88
_LABEL_CHARACTERS = 34
_TITLE_LINE_PX = 20
_ROW_PX = 24


def _template(ink: str, faint: str, grid: str, paper: str) -> go.layout.Template:
    axis = {
        "gridcolor": grid, "linecolor": faint, "zeroline": False, "ticks": "outside", "tickcolor": faint,
        "automargin": True, "title": {"standoff": 10},
    }  # fmt: skip
    layout = go.Layout(
        font={"family": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif", "size": 13, "color": ink},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        colorway=SEQUENCE,
        xaxis=axis,
        yaxis=axis,
        hoverlabel={"bgcolor": paper, "bordercolor": faint, "font": {"color": ink}, "namelength": -1},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        title={"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 16}},
        colorscale={"sequential": "Viridis"},
        # It would upload the names and the load of hosts to a service of Plotly's.
        modebar={"remove": ["sendChartToCloud"]},
    )
    return go.layout.Template(layout=layout)


LIGHT = _template("#1c2126", "#8b939c", "#e4e7ea", "#ffffff")
DARK = _template("#e6e9ec", "#767e87", "#2e353c", "#1b2026")


def blank(title: str, *, x: str, y: str, height: int = 380, head: int = 34) -> go.Figure:
    """A figure without data: `title` says what there is to see, `x` and `y` what the axes show, with the unit.

    `head` is the height in pixels of what stands between title and plot, a legend mostly. It is in the layout's `meta`
    too, for who shows the title elsewhere.
    """
    lines = textwrap.wrap(display(title), _TITLE_COLUMNS)
    # Given with the rest, our template is the only one: a figure without one gets Plotly's first, which takes longer.
    return go.Figure(
        layout={
            "template": LIGHT,
            "title": {"text": "<br>".join(html.escape(line, quote=False) for line in lines)},
            "height": height,
            "margin": {"l": 10, "r": 28, "t": 18 + head + _TITLE_LINE_PX * len(lines), "b": 10},
            "meta": {"head": head},
            "hovermode": "x unified",
            "xaxis": {"title": {"text": x}},
            "yaxis": {"title": {"text": y}},
        }
    )


def rows_of_hosts(title: str, names: Sequence[str], *, x: str) -> go.Figure:
    """A figure without data that has a row for each of `names`, the first on top."""
    figure = blank(title, x=x, y="host", height=130 + _ROW_PX * max(4, len(names)))
    figure.update_layout(hovermode="y unified", meta=figure.layout.meta | {"rows": True})
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=list(names), autorange="reversed", tickmode="linear",
        dtick=1,
    )  # fmt: skip
    return figure


def label(name: str, characters: int = _LABEL_CHARACTERS) -> str:
    """A host's name for an axis, a legend or a hover text: shortened in its middle, never markup."""
    text = display(name)
    if len(text) > characters:
        half = (characters - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return html.escape(text, quote=False)


def labels(names: Sequence[str]) -> list[str]:
    """The labels of many hosts, each told apart from the others."""
    shortened = [label(name) for name in names]
    seen: dict[str, int] = {}
    for place, text in enumerate(shortened):
        seen[text] = seen.get(text, 0) + 1
        if seen[text] > 1:
            shortened[place] = f"{text} ({seen[text]})"
    return shortened


def see_through(colour: str, opacity: float) -> str:
    """A colour such as `#2a86c8`, `opacity` in [0, 1] of it."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


UTILIZATION = "CPU utilization (% of the host)"
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
