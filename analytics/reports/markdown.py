"""A report as Markdown: findings, facts and tables. Figures are named by what they show.

What comes from outside cannot become markup: every character that CommonMark or GitHub's tables, links and mentions
give a meaning to is escaped.
"""

import re
from collections.abc import Iterator

from analytics.figures.names import display
from analytics.reports.html import title_of
from analytics.reports.model import Picture, Report, Table
from analytics.reports.words import cell, moment

__all__ = ["escaped", "render"]

_MARKUP = re.compile(r"([\\`*_\[\]<>#|!&~@$^{}])")
_LINK = re.compile(r"(:)(//)|(?i:(www)(\.))")
_ROWS = 50
_RIGHT = ("share", "number", "change", "time")


def render(report: Report) -> str:
    """The whole report; of a table that is folded on the page, the first rows."""
    lines = [f"# {escaped(report.title)}", "", escaped(report.subject), "", "## Findings", ""]
    for finding in report.findings:
        action = f" *{escaped(finding.action)}*" if finding.action else ""
        lines.append(f"- **{finding.severity}**: {escaped(finding.sentence)}{action}")
    for section in report.sections:
        lines += ["", f"## {escaped(section.title)}", ""]
        lines += [escaped(section.intro), ""] if section.intro else []
        for part in section.parts:
            lines += [*(_picture(part) if isinstance(part, Picture) else _table(part)), ""]
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


def _table(table: Table) -> Iterator[str]:
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
