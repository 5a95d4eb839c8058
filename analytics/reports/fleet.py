"""The report on a fleet."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analytics.reports.data import Data
from analytics.reports.machines import machines
from analytics.reports.model import Column, Finding, Report, Section, Table
from analytics.reports.parts import change, course, coverage, load, outlook, sizes, unusual, week
from analytics.reports.parts.base import Part, one_or_nothing
from analytics.reports.words import level, moment, plural

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["assembled", "fleet_report"]

_ORDER = ("act", "watch", "note")


def fleet_report(data: Data, *, made_ms: int, source: str) -> Report:
    """What there is to say of a fleet; `source` names where the data come from."""
    table = machines(data)
    needs = one_or_nothing("sizes", lambda: sizes.of_machines(data, table))
    parts = [
        course.of_fleet(data, table),
        one_or_nothing("what changed", lambda: change.of_periods(data)),
        load.of_fleet(data, table, sized=needs.section is not None),
        one_or_nothing("the hours of the week", lambda: week.of_week(data)),
        one_or_nothing("anomalies", lambda: unusual.of_fleet(data, table)),
        one_or_nothing("what is to come", lambda: outlook.of_total(data)),
        needs,
        Part(Section("machines", "All machines", parts=[_all(table, data)])),
    ]
    return assembled(
        parts,
        data,
        title="Fleet report",
        subject=f"{plural(len(table), 'machine')}, {moment(data.start_ms)} to {moment(data.end_ms)}",
        made_ms=made_ms,
        facts=[("Source", source), *coverage.facts(data, table)],
        findings=coverage.findings(data, table),
    )


def assembled(
    parts: Sequence[Part], data: Data, *, title: str, subject: str, made_ms: int, facts: Sequence[tuple[str, str]],
    findings: Sequence[Finding],
) -> Report:  # fmt: skip
    """The report of these parts: findings in order of weight, then in order of the sections."""
    found = [finding for part in parts for finding in part.findings] + list(findings)
    return Report(
        title=title,
        subject=subject,
        made_ms=made_ms,
        start_ms=data.start_ms,
        end_ms=data.end_ms,
        findings=sorted(found, key=lambda finding: _ORDER.index(finding.severity)),
        facts=facts,
        caveats=[*(caveat for part in parts for caveat in part.caveats), *coverage.caveats(data)],
        sections=[part.section for part in parts if part.section is not None],
    )


def _all(table: "pd.DataFrame", data: Data) -> Table:
    columns = [
        Column("machine", "user"), Column("mean", "share"), Column("median", "share"),
        Column("95th percentile", "share"), Column("99th percentile", "share"), Column("highest", "share"),
        Column(f"time above {level(data.target)}", "share"), Column("samples", "number"), Column("last data", "time"),
    ]  # fmt: skip
    shown = table[["mean", "p50", "p95", "p99", "max", "above", "samples", "last"]]
    shown = shown.assign(last=shown["last"] + data.rate_ms)
    rows = [[user, *(value if isinstance(value, int) else float(value) for value in row)]
            for user, *row in shown.itertuples(name=None)]  # fmt: skip
    title = f"All {len(table):,} machines" if len(table) > 1 else "The machine"
    return Table("all-machines", title, columns, rows, folded=len(table) > 1)
