"""From a source to a finished report, on the fleet or on one machine, in any form."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from analytics.frames.columns import merge
from analytics.frames.frame import bins_of, from_frame
from analytics.frames.statistics import quantiles
from analytics.reports.data import Data, Question, of_fleet, of_user
from analytics.reports.model import Column, Finding, Report, Section, Table
from analytics.reports.parts import change, cores, course, coverage, load, outlook, sizes, unusual, week
from analytics.reports.parts.base import Part, one_or_nothing
from analytics.reports.words import level, moment, named, plural

if TYPE_CHECKING:
    import pandas as pd

    from analytics.sources.base import Source


def machines(data: Data) -> pd.DataFrame:
    """A row a machine, index `user`, the busiest first.

    Of all samples in the range: `mean`, the quantiles `p50`, `p95` and `p99`, `max`, and `above`, the share of samples
    above the target; all shares. `samples`, what they count for (`weight`), and `buckets` with data, `first` and `last`
    (epoch milliseconds of their starts).
    """
    import analytics

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
    above = analytics.saturation(data.windows, data.target).set_index("user")["share"]
    table["above"] = above.rename(index=str).reindex(table.index)
    return table.sort_values("mean", ascending=False, kind="stable")


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


Form = Literal["html", "pdf", "png", "md", "json"]
FORMS: tuple[Form, ...] = ("html", "pdf", "png", "md", "json")


def fleet(source: "Source", question: Question, *, made_ms: int, named: str) -> Report:
    """The report on all machines of `source`, which is `named` so. Raises NothingThere, and what the source raises."""
    data: Data = of_fleet(source, question)
    return fleet_report(data, made_ms=made_ms, source=named)


def user(source: "Source", user_id: str, question: Question, *, made_ms: int, named: str) -> Report:
    """The report on one machine. Raises NothingThere, and what the source raises."""
    data: Data = of_user(source, user_id, question)
    return user_report(data, made_ms=made_ms, source=named)


def encoded(report: Report, form: Form, *, user_path: str | None = None) -> bytes:
    """The report in a form; on a page names of machines link to `user_path` and the name.

    Raises analytics.reports.browser.BrowserError where a PDF or PNG cannot be made.
    """
    from analytics.reports import browser, html, texts

    match form:
        case "html":
            return html.render(report, user_path=user_path).encode()
        case "pdf":
            return browser.print_pdf(html.render(report, theme="light"))
        case "png":
            return browser.photograph(html.render(report, theme="light"))
        case "md":
            return texts.render_markdown(report).encode()
        case "json":
            return texts.render_json(report)
