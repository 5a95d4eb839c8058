"""From a source to a finished report, on the fleet or on one host, in any form."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analytics.frames.columns import merge
from analytics.frames.frame import bins_of, by_user, from_frame
from analytics.frames.statistics import quantiles
from analytics.methods.thresholds import saturation
from analytics.reports.data import Data, ReportQuestion, of_fleet, of_user
from analytics.reports.model import Finding, ReportColumn, ReportDocument, ReportTable, Section
from analytics.reports.parts import capacity, changes, coverage, patterns, peers, timeline, use
from analytics.reports.parts.advice import Advice, advise
from analytics.reports.parts.base import Part, one_or_nothing
from analytics.reports.parts.moves import moves
from analytics.reports.text import all_of, level, moment, named
from contract.problems import plural

if TYPE_CHECKING:
    import pandas as pd

    from analytics.sources.base import Source


def hosts(data: Data) -> pd.DataFrame:
    """A row a host, index `user`, the busiest first.

    Of all samples in the range: `mean`, the quantiles `p50`, `p95` and `p99`, `max`, and `above`, the share of samples
    above the target, which is at least `surely_above`; all shares. `samples`, what they count for (`weight`), and
    `buckets` with data, `first` and `last` (epoch milliseconds of their starts).
    """
    windows, labels = from_frame(data.windows, histograms=True)
    everything = merge(windows, rate_ms=1 << 53)
    bins = bins_of(data.windows)
    table = pd.DataFrame(
        {"mean": everything.mean, **{f"p{q}": quantiles(everything, q / 100, bins) for q in (50, 95, 99)}},
        index=pd.Index([str(user) for user in labels["user"]], name="user"),
    )
    table["max"] = everything.maximum
    series = windows.series
    size = len(table)
    table["samples"] = data.samples["count"].reindex(table.index)
    table["weight"] = everything.count
    table["buckets"] = np.bincount(series, minlength=size)
    table["first"] = pd.Series(windows.time).groupby(series).min().to_numpy()
    table["last"] = pd.Series(windows.time).groupby(series).max().to_numpy()
    above = by_user(saturation(data.windows, data.target)).reindex(table.index)
    table["above"], table["surely_above"] = above["share"], above["lower"]
    return table.sort_values("mean", ascending=False, kind="stable")


_ORDER = ("act", "watch", "note")


def fleet_report(data: Data, *, made_ms: int, source: str) -> ReportDocument:
    """What there is to say of a fleet; `source` names where the data come from."""
    table, moved = hosts(data), moves(data)
    advice = advise(data, table, moved)
    parts = [
        timeline.fleet_timeline(data, table),
        changes.trend_alone(data, moved),
        use.cpu_use(data),
        one_or_nothing("what changed", lambda: changes.what_changed(data, moved)),
        timeline.fleet_load(data, table, advice),
        peers.by_label(data),
        one_or_nothing("the hours of the week", lambda: patterns.hours_of_week(data)),
        one_or_nothing("anomalies", lambda: patterns.fleet_anomalies(data, table)),
        one_or_nothing("what is to come", lambda: capacity.expected_load(data)),
        one_or_nothing("sizes", lambda: capacity.fleet_sizes(data, table, advice)),
        one_or_nothing("which fit together", lambda: capacity.fleet_pairs(data, advice)),
        Part(Section("machines", "All hosts", parts=[_all(table, data, advice)])),
    ]
    return assembled(
        parts,
        data,
        title="Fleet report",
        subject=f"{plural(len(table), 'host')}, {moment(data.start_ms)} to {moment(data.end_ms)}",
        made_ms=made_ms,
        facts=[("Source", source), *coverage.facts(data, table)],
        findings=coverage.findings(data, table),
    )


def assembled(
    parts: Sequence[Part], data: Data, *, title: str, subject: str, made_ms: int, facts: Sequence[tuple[str, str]],
    findings: Sequence[Finding],
) -> ReportDocument:  # fmt: skip
    """The report of these parts: findings in order of weight, then in order of the sections."""
    found = [finding for part in parts for finding in part.findings] + list(findings)
    return ReportDocument(
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


def _all(table: "pd.DataFrame", data: Data, advice: Advice) -> ReportTable:
    columns = [
        ReportColumn("host", "user"),
        ReportColumn("mean", "share"),
        ReportColumn("median", "share"),
        ReportColumn("95th percentile", "share"),
        ReportColumn("99th percentile", "share"),
        ReportColumn("highest", "share"),
        ReportColumn(f"time above {level(data.target)}", "share"),
        ReportColumn("samples", "number"),
        ReportColumn("last data", "time"),
        ReportColumn("advice"),
    ]
    shown = table[["mean", "p50", "p95", "p99", "max", "above", "samples", "last"]]
    shown = shown.assign(last=(shown["last"] + data.rate_ms).clip(upper=data.end_ms), advice=advice.kinds)
    rows = [[user, *(value if isinstance(value, int | str) else float(value) for value in row)]
            for user, *row in shown.itertuples(name=None)]  # fmt: skip
    title = f"{all_of(len(table))} hosts" if len(table) > 1 else "The host"
    return ReportTable("all-machines", title, columns, rows, folded=len(table) > 1)


def user_report(data: Data, *, made_ms: int, source: str) -> ReportDocument:
    """What there is to say of one host; `source` names where the data come from."""
    table, moved = hosts(data), moves(data)
    [user] = table.index
    coming = one_or_nothing("what is to come", lambda: capacity.expected_load(data))
    calm = all(finding.severity == "note" for finding in coming.findings)
    advice = advise(data, table, moved, calm=calm)
    parts = [
        timeline.host_timeline(data),
        use.cpu_use(data),
        one_or_nothing("what changed", lambda: changes.what_changed(data, moved)),
        timeline.host_load(data, table, advice),
        one_or_nothing("cores", lambda: capacity.core_balance(data, advice)),
        one_or_nothing("the hours of the week", lambda: patterns.hours_of_week(data)),
        one_or_nothing("anomalies", lambda: patterns.total_anomalies(data)),
        coming,
        one_or_nothing("its size", lambda: capacity.host_size(data, advice)),
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
    """What the host says of itself, as far as it does."""
    [known] = data.users.to_dict("records")
    told = [("Operating system", ("os_type", "os_version")), ("Cores", ("cores",))]
    facts = []
    for name, columns in told:
        values = [str(known[column]) for column in columns if pd.notna(known.get(column)) and known.get(column)]
        facts += [(name, " ".join(values))] if values else []
    return facts


def fleet(source: "Source", question: ReportQuestion, *, made_ms: int, named: str) -> ReportDocument:
    """The report on all hosts of `source`, which is `named` so. Raises NothingThere, and what the source raises."""
    data: Data = of_fleet(source, question, made_ms)
    return fleet_report(data, made_ms=made_ms, source=named)


def user(source: "Source", user_id: str, question: ReportQuestion, *, made_ms: int, named: str) -> ReportDocument:
    """The report on one host. Raises NothingThere, and what the source raises."""
    data: Data = of_user(source, user_id, question, made_ms)
    return user_report(data, made_ms=made_ms, source=named)
