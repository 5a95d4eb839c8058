"""Hosts by their labels: what those with each value do together, and which differ from the others."""

from typing import Any, Final

import pandas as pd

from analytics.frames.columns import merge
from analytics.frames.frame import bins_of, by_user, from_frame
from analytics.frames.statistics import quantiles
from analytics.methods.odd_one_out import odd_ones_out
from analytics.methods.thresholds import saturation
from analytics.reports.data import Data
from analytics.reports.model import Cell, Finding, Numbers, ReportColumn, ReportTable, Section
from analytics.reports.parts.base import SHOWN, Part
from analytics.reports.text import level, listed, percent, quoted
from contract.problems import plural
from contract.selectors import read_labels
from contract.times import HOUR_MS

_MAX_LABELS: Final = 3
_MAX_VALUES: Final = 50
"""A label with more is no table for people."""


def by_label(data: Data) -> Part:
    """A table for each label that tells hosts apart, and who is unlike others with the same value.

    Nothing where no host has a label.
    """
    known = pd.DataFrame([read_labels(text) for text in data.users["labels"]], index=data.users.index)
    # A label that no two hosts share names hosts.
    chosen = [
        name for name in known
        if 2 <= known[name].nunique() <= _MAX_VALUES and known[name].dropna().duplicated().any()
    ]  # fmt: skip
    # What most hosts have says most.
    chosen.sort(key=lambda name: (-int(known[name].notna().sum()), known[name].nunique(), name))
    if not chosen:
        return Part()
    tables = [_table(data, known[name], str(name)) for name in chosen[:_MAX_LABELS]]
    findings = _odd(data, known[chosen[0]], str(chosen[0])) if data.rate_ms <= HOUR_MS else []
    intro = "Each host is where its labels say now, with all its history."
    left = len(chosen) - len(tables)
    caveats = [f"{plural(left, 'more label')} tell hosts apart; tables are of those that most have."] if left else []
    return Part(Section("labels", "By label", intro, tables), findings, caveats)


def _table(data: Data, label: "pd.Series[Any]", name: str) -> ReportTable:
    """What the hosts with each value did, the busiest first."""
    values = data.windows["user"].astype(str).map(label)
    chosen = data.windows[values.notna()].assign(user=pd.Categorical(values[values.notna()]))
    windows, labels = from_frame(chosen, histograms=True)
    together = merge(windows, rate_ms=1 << 53)
    above = by_user(saturation(chosen, data.target))["share"]
    names = labels["user"].astype(str).tolist()
    # A host that came while the data were asked for has no row in `users`.
    hosts = label.reindex(sorted({*data.windows["user"].astype(str)})).value_counts()
    high = quantiles(together, 0.95, bins_of(data.windows))
    rows: list[list[Cell]] = [
        [value, int(hosts[value]), float(mean), float(p95), float(highest), float(above[value])]
        for value, mean, p95, highest in zip(names, together.mean, high, together.maximum, strict=True)
    ]
    rows.sort(key=lambda row: -float(row[2] or 0))
    columns = [
        ReportColumn(name), ReportColumn("hosts", "number"), ReportColumn("mean", "share"),
        ReportColumn("95th percentile", "share"), ReportColumn("highest", "share"),
        ReportColumn(f"time above {level(data.target)}", "share"),
    ]  # fmt: skip
    busiest = f"{quoted(str(rows[0][0]))} is the busiest, {percent(float(rows[0][2] or 0))}"
    return ReportTable(
        f"label-{name.replace('.', '-').replace('_', '-').lower()}", f"By {name}: {busiest}", columns, rows
    )


def _odd(data: Data, label: "pd.Series[Any]", name: str) -> list[Finding]:
    found = odd_ones_out(data.windows, label, data.tz)
    odd = found[found["odd"]]
    if odd.empty:
        return []
    names = odd["user"].astype(str).tolist()
    columns = [
        ReportColumn("host", "user"), ReportColumn(name), ReportColumn("peers", "number"),
        ReportColumn("times as far", "number"), ReportColumn("mean", "share"), ReportColumn("theirs", "share"),
        ReportColumn("differs"),
    ]  # fmt: skip
    rows: list[list[Cell]] = odd[["user", "group", "peers", "times", "mean", "peers_mean", "differs"]].astype(
        {"user": str, "group": str}
    ).to_numpy(object).tolist()  # fmt: skip
    first = odd.iloc[0]
    if len(odd) == 1:
        sentence = (
            f"{listed(names)} differs from the {int(first['peers']):,} other hosts with {name} "
            f"{quoted(str(first['group']))} day after day: {first['differs']}."
        )
    else:
        sentence = f"{len(odd):,} hosts differ from others with the same {name} day after day: {listed(names)}."
    table = ReportTable("all-odd", f"Hosts unlike others with the same {name}", columns, rows)
    numbers: Numbers = {"machines": len(odd), "names": names[:SHOWN], "label": name}
    return [Finding("watch", "peers", sentence, "Ask what it does that they do not." if len(odd) == 1 else
                    "Ask what they do that the others do not.", numbers, table)]  # fmt: skip
