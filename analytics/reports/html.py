"""A report as one HTML file that needs nothing else: no network, no other file.

What comes from outside, names above all, goes through Jinja's escaping into text, or as JSON into data blocks that no
browser runs. Beyond that the page's own policy (Content-Security-Policy) lets only the scripts of the page run, each by
its hash, and lets nothing be loaded or sent.
"""

import base64
import functools
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from analytics.reports.model import Cell, Finding, Kind, Picture, ReportDocument
from analytics.reports.text import cell, moment

if TYPE_CHECKING:
    import jinja2


Theme = Literal["auto", "light", "dark"]
_PAGE = Path(__file__).with_name("page")
_SEVERITIES = {"act": "Act", "watch": "Watch", "note": "Note"}
_RIGHT: tuple[Kind, ...] = ("share", "number", "change", "time")


def render(report: ReportDocument, *, theme: Theme = "auto", user_path: str | None = None) -> str:
    """The page.

    `theme` is what it looks like at first; `auto` follows the reader's system. Names of hosts in tables become links
    where `user_path` says to where: it is followed by the name.
    """
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            theme=theme,
            user_path=user_path,
            policy=policy(),
            style=style(),
            scripts=[*_scripts()],
            figures=_data_block({picture.name: _figure(picture) for picture in report.pictures()}),
            templates=_data_block(_templates()),
        )
    )


def policy() -> str:
    """The page's Content-Security-Policy: its own scripts and nothing from elsewhere.

    Plotly writes styles into elements, so these are allowed inline; `data:` and `blob:` images are figures to save.
    """
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in _scripts())
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def style() -> str:
    """The style sheet of the page, for other pages that look alike."""
    return _text("report.css")


def title_of(picture: Picture) -> str:
    """What the figure says there is to see, as plain text."""
    return html.unescape(str(picture.figure.layout.title.text or "").replace("<br>", " "))


def _figure(picture: Picture) -> Any:
    """The figure for the page, which has its title beside it and its template for all figures once."""
    from plotly.io.json import to_json_plotly

    document = json.loads(to_json_plotly(picture.figure, engine="json"))
    layout = document["layout"]
    layout.pop("template", None)
    layout.pop("title", None)
    layout["margin"] = {**layout.get("margin", {}), "t": layout.get("meta", {}).get("head", 34)}
    return {"data": document["data"], "layout": layout}


def _templates() -> Mapping[str, Any]:
    from analytics.figures.style import DARK, LIGHT

    return {"light": LIGHT.to_plotly_json(), "dark": DARK.to_plotly_json()}


def _data_block(document: Any) -> str:
    """JSON for a `<script type="application/json">`: nothing in it can end the element or begin a comment."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def _scripts() -> tuple[str, str]:
    return _text("plotly-cartesian.min.js"), _text("report.js")


@functools.cache
def _text(name: str) -> str:
    text = (_PAGE / name).read_text(encoding="utf-8")
    if re.search(r"</(script|style)", text, re.IGNORECASE):
        raise ValueError(f"{name} cannot stand inside a page: it holds an end tag")
    return text


@functools.cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@functools.cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": cell, "moment": moment, "path": lambda name: quote(str(name), safe=""), "title_of": title_of,
        "sort_key": _sort_key, "kept": _kept_together,
    }  # fmt: skip
    environment.tests |= {"right": lambda kind: kind in _RIGHT, "picture": lambda part: isinstance(part, Picture)}
    environment.globals |= {"severity": _severity}
    return environment


def _kept_together(text: str) -> str:
    """The text, in which no line ends between a number and its percent sign."""
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)


def _severity(finding: Finding) -> str:
    return _SEVERITIES[finding.severity]


def _sort_key(value: Cell) -> str:
    """What a browser sorts by: the number itself; nothing where there is none."""
    return repr(value) if isinstance(value, int | float) and value == value else ""
