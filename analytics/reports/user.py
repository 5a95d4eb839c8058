"""The report on one machine."""

import pandas as pd

from analytics.reports.data import Data
from analytics.reports.fleet import assembled
from analytics.reports.machines import machines
from analytics.reports.model import Report
from analytics.reports.parts import change, cores, course, coverage, load, outlook, sizes, unusual, week
from analytics.reports.parts.base import one_or_nothing
from analytics.reports.words import moment, named

__all__ = ["user_report"]


def user_report(data: Data, *, made_ms: int, source: str) -> Report:
    """What there is to say of one machine; `source` names where the data come from."""
    table = machines(data)
    [user] = table.index
    parts = [
        course.of_machine(data),
        one_or_nothing("what changed", lambda: change.of_periods(data)),
        load.of_machine(data, table),
        one_or_nothing("cores", lambda: cores.of_machine(data)),
        one_or_nothing("the hours of the week", lambda: week.of_week(data)),
        one_or_nothing("anomalies", lambda: unusual.of_machine(data)),
        one_or_nothing("what is to come", lambda: outlook.of_total(data)),
        one_or_nothing("its size", lambda: sizes.of_machines(data, table)),
    ]
    return assembled(
        parts,
        data,
        title=f"Report on {named(user)}",
        subject=f"{moment(data.start_ms)} to {moment(data.end_ms)}",
        made_ms=made_ms,
        facts=[("Source", source), *_itself(data), *coverage.facts(data, table)],
        findings=coverage.findings(data, table),
    )


def _itself(data: Data) -> list[tuple[str, str]]:
    """What the machine says of itself, as far as it does."""
    [known] = data.users.to_dict("records")
    told = [("Operating system", ("os_type", "os_version")), ("Cores", ("cores",))]
    facts = []
    for name, columns in told:
        values = [str(known[column]) for column in columns if pd.notna(known.get(column)) and known.get(column)]
        facts += [(name, " ".join(values))] if values else []
    return facts
