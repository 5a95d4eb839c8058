"""A report in any of its forms: HTML, PDF, PNG, Markdown, or JSON for programs.

Markdown and JSON name figures by what they show.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from analytics.reports import browser
from analytics.reports.html import render as render_html
from analytics.reports.html import title_of
from analytics.reports.model import Cell, Finding, Kind, Picture, ReportColumn, ReportDocument, ReportForm, ReportTable
from analytics.reports.text import cell, moment
from contract.problems import display
from contract.times import format_instant


def encoded(report: ReportDocument, form: ReportForm, *, user_path: str | None = None) -> bytes:
    """The report in a form; on a page names of hosts link to `user_path` and the name.

    Raises analytics.reports.browser.BrowserError where a PDF or PNG cannot be made.
    """
    match form:
        case "html":
            return render_html(report, user_path=user_path).encode()
        case "pdf":
            return browser.print_pdf(render_html(report, theme="light"))
        case "png":
            return browser.photograph(render_html(report, theme="light"))
        case "md":
            return render_markdown(report).encode()
        case "json":
            return render_json(report)


_UNITS: dict[Kind, str | None] = {
    "text": None, "user": None, "share": "1", "change": "1", "number": None, "time": "ISO 8601",
}  # fmt: skip
_KEYS_OF_FACTS = {"Hosts": "Machines"}
"""What programs know a fact by, where people are told another name."""


def render_json(report: ReportDocument) -> bytes:
    """The document; see docs/reports.md for its members."""
    document = {
        "title": report.title,
        "subject": report.subject,
        "made": format_instant(report.made_ms),
        "start": format_instant(report.start_ms),
        "end": format_instant(report.end_ms),
        "findings": [_json_finding(finding) for finding in report.findings],
        "figures": {picture.name: title_of(picture) for picture in report.pictures()},
        "tables": {table.name: _json_table(table) for table in report.tables()},
        "facts": {_KEYS_OF_FACTS.get(name, name): value for name, value in report.facts},
        "caveats": report.caveats,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _json_finding(finding: Finding) -> dict[str, Any]:
    members: dict[str, Any] = {"severity": finding.severity, "kind": finding.kind, "sentence": finding.sentence}
    members |= {"action": finding.action, "numbers": finding.numbers}
    return members if finding.everyone is None else {**members, "everyone": _json_table(finding.everyone)}


def _json_table(table: ReportTable) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": [
            {"name": column.name, "kind": column.kind, "unit": _UNITS[column.kind]} for column in table.columns
        ],
        "rows": [
            [_value(value, column) for value, column in zip(row, table.columns, strict=True)] for row in table.rows
        ],
    }


def _value(value: Cell, column: ReportColumn) -> Cell:
    if isinstance(value, float) and value != value:
        return None
    if column.kind == "time" and isinstance(value, int | float):
        return format_instant(int(value))
    return value


_MARKUP = re.compile(r"([\\`*_\[\]<>#|!&~@$^{}])")
_LINK = re.compile(r"(:)(//)|(?i:(www)(\.))")
_ROWS = 50
_RIGHT = ("share", "number", "change", "time")


def render_markdown(report: ReportDocument) -> str:
    """The whole report; of a table that is folded on the page, the first rows."""
    lines = [f"# {escaped(report.title)}", "", escaped(report.subject), "", "## Findings", ""]
    for finding in report.findings:
        action = f" *{escaped(finding.action)}*" if finding.action else ""
        lines.append(f"- **{finding.severity}**: {escaped(finding.sentence)}{action}")
    for section in report.sections:
        lines += ["", f"## {escaped(section.title)}", ""]
        lines += [escaped(section.intro), ""] if section.intro else []
        for part in section.parts:
            lines += [*(_picture(part) if isinstance(part, Picture) else _markdown_table(part)), ""]
    lines += ["## The data", "", *(f"- {escaped(name)}: {escaped(value)}" for name, value in report.facts), ""]
    lines += [f"- {escaped(caveat)}" for caveat in report.caveats]
    lines += ["", f"Made {moment(report.made_ms)} by Loadlens. All times are UTC.", ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def escaped(text: str) -> str:
    """The text, to be read as it is."""
    plain = _MARKUP.sub(r"\\\1", display(text))
    return _LINK.sub(lambda match: f"\\{match[1]}{match[2]}" if match[1] else f"{match[3]}\\{match[4]}", plain)


def _picture(picture: Picture) -> Iterator[str]:
    yield f"**{escaped(title_of(picture))}** (a figure of the HTML report)"


def _markdown_table(table: ReportTable) -> Iterator[str]:
    yield f"### {escaped(table.title)}"
    yield ""
    if table.note:
        yield escaped(table.note)
        yield ""
    yield f"| {' | '.join(escaped(column.name) for column in table.columns)} |"
    yield f"| {' | '.join('---:' if column.kind in _RIGHT else '---' for column in table.columns)} |"
    for row in table.rows[:_ROWS]:
        texts = (cell(value, column.kind) for value, column in zip(row, table.columns, strict=True))
        yield f"| {' | '.join(map(escaped, texts))} |"
    if len(table.rows) > _ROWS:
        yield ""
        yield f"{len(table.rows) - _ROWS:,} more rows are in the HTML and JSON forms."
