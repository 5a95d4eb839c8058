"""A report as JSON, for programs: findings and tables with their numbers as they are."""

from typing import Any

import msgspec

from analytics.reports.html import title_of
from analytics.reports.model import Cell, Column, Kind, Report, Table
from contract.times import format_instant

__all__ = ["render"]

_UNITS: dict[Kind, str | None] = {
    "text": None, "user": None, "share": "1", "change": "1", "number": None, "time": "ISO 8601",
}  # fmt: skip


def render(report: Report) -> bytes:
    """The document; see docs/reports.md for its members."""
    document = {
        "title": report.title,
        "subject": report.subject,
        "made": format_instant(report.made_ms),
        "start": format_instant(report.start_ms),
        "end": format_instant(report.end_ms),
        "findings": report.findings,
        "figures": {picture.name: title_of(picture) for picture in report.pictures()},
        "tables": {table.name: _table(table) for table in report.tables()},
        "facts": dict(report.facts),
        "caveats": report.caveats,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def _table(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": [
            {"name": column.name, "kind": column.kind, "unit": _UNITS[column.kind]} for column in table.columns
        ],
        "rows": [
            [_value(value, column) for value, column in zip(row, table.columns, strict=True)] for row in table.rows
        ],
    }


def _value(value: Cell, column: Column) -> Cell:
    if isinstance(value, float) and value != value:
        return None
    if column.kind == "time" and isinstance(value, int | float):
        return format_instant(int(value))
    return value
