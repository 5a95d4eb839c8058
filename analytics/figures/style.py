"""How all figures look: colours, fonts, axes, and texts that are never taken for markup."""

import html
import textwrap
from collections.abc import Sequence

import plotly.graph_objects as go

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
        # It would upload the names and the load of machines to a service of Plotly's.
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
    figure = go.Figure()
    figure.update_layout(
        template=LIGHT,
        title={"text": "<br>".join(html.escape(line, quote=False) for line in lines)},
        height=height,
        margin={"l": 10, "r": 28, "t": 18 + head + _TITLE_LINE_PX * len(lines), "b": 10},
        meta={"head": head},
        hovermode="x unified",
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def rows_of_machines(title: str, names: Sequence[str], *, x: str) -> go.Figure:
    """A figure without data that has a row for each of `names`, the first on top."""
    figure = blank(title, x=x, y="machine", height=130 + _ROW_PX * max(4, len(names)))
    figure.update_layout(hovermode="y unified", meta=figure.layout.meta | {"rows": True})
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=list(names), autorange="reversed", tickmode="linear",
        dtick=1,
    )  # fmt: skip
    return figure


def label(name: str, characters: int = _LABEL_CHARACTERS) -> str:
    """A machine's name for an axis, a legend or a hover text: shortened in its middle, never markup."""
    text = display(name)
    if len(text) > characters:
        half = (characters - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return html.escape(text, quote=False)


def labels(names: Sequence[str]) -> list[str]:
    """The labels of many machines, each told apart from the others."""
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
