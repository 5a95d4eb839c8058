"""Whether a copy of an original database has every value of it: the original's fields, one by one.

The original writes six fields into each point. What InfluxDB itself counts and adds up of each, for each host and
day, is compared with what the target has: InfluxDB's own sums again, or those of the windows of an embedded store.
Only days that have points of the original are looked at; `verifying` compares the windows that they stand for too.
"""

import math
from collections.abc import Iterator, Sequence

from contract.influx import ORIGINAL_FIELDS
from contract.metrics import Cpu
from contract.report import Report
from contract.times import DAY_MS
from service.commands.copy.stores import DayRange, day_name
from service.commands.copy.verifying import CopyCheck
from service.stores.base import Store
from service.stores.influx.dump import FieldDay, FieldSummary
from service.stores.influx.queries import InfluxQueries

_TOLERANCE = 1e-9
"""Sums are made in another order; all else is equal to the bit."""


def compare_fields(source: Store, target: Store, span: DayRange, check: CopyCheck) -> None:
    """Compare the original's fields of a span, where the source is an InfluxDB."""
    if not isinstance(source, InfluxQueries):
        return
    days = source.original_days(span.start_ms, span.end_ms)
    users = sorted({user_id for user_id, _ in days})
    if not users:
        return
    wanted = source.field_summaries(users, span.start_ms, span.end_ms)
    found = _summaries(target, users, span)
    for key in sorted(wanted):
        if (key.user_id, key.day_ms) in days:
            check.fields += 1
            words = _difference(wanted[key], found.get(key))
            if words:
                check.differ(f"{key.user_id}, {key.field}, {day_name(key.day_ms)}: {words}")


def _summaries(target: Store, users: Sequence[str], span: DayRange) -> dict[FieldDay, FieldSummary]:
    if isinstance(target, InfluxQueries):
        return target.field_summaries(users, span.start_ms, span.end_ms)
    found: dict[FieldDay, FieldSummary] = {}
    for page in target.reports(users, span.start_ms, span.end_ms):
        for report in page:
            for name, value in _values(report):
                key = FieldDay(report.user_id, name, report.end_timestamp // DAY_MS * DAY_MS)
                one = FieldSummary(1, value, value, value)
                found[key] = found[key].joined(one) if key in found else one
    return found


def _values(report: Report) -> Iterator[tuple[str, float]]:
    """The original's fields of a report, with their values."""
    for metric in report.metrics:
        if isinstance(metric, Cpu):
            means, variances = metric.avg_utilization_by_core, metric.var_utilization_by_core
            over = [max(means), min(means)] if means else []
            over += [max(variances), min(variances)] if variances else []
            yield from zip(ORIGINAL_FIELDS, [metric.avg_utilization, metric.var_utilization, *over], strict=False)


def _difference(wanted: FieldSummary, found: FieldSummary | None) -> str:
    """What differs; nothing where the target has all, and where it has more from elsewhere."""
    if found is None or found.values < wanted.values:
        return f"{wanted.values} values in the source, {found.values if found else 0} in the target"
    if found.values > wanted.values:
        return ""
    names = {"sum": "total", "minimum": "least", "maximum": "greatest"}
    pairs = {name: (getattr(wanted, attribute), getattr(found, attribute)) for name, attribute in names.items()}
    return "; ".join(
        f"{name} {one!r} in the source, {other!r} in the target"
        for name, (one, other) in pairs.items()
        if not (math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=1e-15) if name == "sum" else one == other)
    )
