"""Who used the CPU: over the range, and in its spikes."""

from collections import Counter
from typing import NamedTuple

import pandas as pd

from analytics.reports.data import Data
from analytics.reports.model import Cell, Finding, ReportColumn, ReportTable, Section
from analytics.reports.parts.base import Part, in_ms, subject
from analytics.reports.text import moment, percent, quoted
from analytics.sources.service_answers import OTHERS, is_others
from contract.problems import plural
from contract.times import HOUR_MS

_SPIKES = 0.05
"""So large a part of the buckets, those with the most load, may be spikes."""
_ABOVE = 0.1
"""They stand so far above the usual load, a share."""
_SAME_HOUR = 0.5
"""From so many of the spikes on that fall into one hour of the day, it is named."""
_LEAST = 0.2
"""Who used less of them is not named for them."""
_NO_UNIT = "(no unit)"


class Spikes(NamedTuple):
    """The buckets that stand out, and who did most in them."""

    number: int
    hour: int | None
    """The hour of the day, UTC, that most of them fall into."""
    first_ms: int
    name: str
    share: float
    """Of the CPU time that was used in them."""


def cpu_use(data: Data) -> Part:
    """A table of those that used most, and whose the spikes are; nothing where no host said who."""
    use = data.use
    if use is None:
        return Part()
    columns = [
        ReportColumn("process"), ReportColumn("unit"), ReportColumn("of user"), ReportColumn("command"),
        ReportColumn("of all that was used", "share"), ReportColumn("CPU hours", "number"),
        ReportColumn("at most", "number"), ReportColumn("memory, MB", "number"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            str(one["name"]), str(one["unit"]) or None, str(one["user"]) or None, str(one["command"]) or None,
            float(one["share"]), round(float(one["cpu_s"]) / 3600, 2),
            None if pd.isna(one["at_most_s"]) else round(float(one["at_most_s"]) / 3600, 2),
            None if pd.isna(one["resident_bytes"]) else round(int(one["resident_bytes"]) / 1e6),
        ]
        for one in use.processes.to_dict("records")
    ]  # fmt: skip
    if not any(row[3] for row in rows):
        columns = [column for place, column in enumerate(columns) if place != 3]
        rows = [row[:3] + row[4:] for row in rows]
    told = f" of {plural(use.hosts, 'host')}" if data.is_fleet else ""
    table = ReportTable(
        "who", f"Those that used most of the CPU{told}", columns, rows,
        note="Each window names those that used most in it. So each used at least what stands here, and at most what "
        "stands beside it; all together are the whole.",
    )  # fmt: skip
    first = use.processes.iloc[0]
    findings = []
    if first["name"] != OTHERS:
        name, share = quoted(str(first["name"])), percent(float(first["share"]))
        findings.append(
            Finding(
                "note", "who", f"{name} used most of the CPU: {share} of all that was used{told}.",
                numbers={"name": str(first["name"]), "unit": str(first["unit"]), "share": float(first["share"])},
            )
        )  # fmt: skip
    found = None if data.is_fleet else spikes(use.over_time, use.units_over_time)
    if found is not None:
        findings.insert(0, _finding(data, found))
    return Part(Section("who", "Who used the CPU", parts=[table]), findings)


def _finding(data: Data, found: Spikes) -> Finding:
    if found.hour is not None and found.number > 1:
        which = f"The {found.hour:02}:00 UTC spikes are"
    elif found.number > 1:
        which = f"The {found.number:,} spikes are"
    else:
        which = f"The spike of {moment(found.first_ms)} is"
    used = f"{percent(found.share)} of what {subject(data).lower()} used then"
    return Finding(
        "watch", "who", f"{which} {quoted(found.name)}, {used}.",
        "Move it to a quieter time, or give it less of the CPU.",
        {"name": found.name, "share": found.share, "spikes": found.number, "hour": found.hour},
    )  # fmt: skip


def spikes(processes: pd.DataFrame, units: pd.DataFrame) -> Spikes | None:
    """The buckets that stand out, and whose they are: a unit's where one did half of them, otherwise a process's.

    A bucket stands out if it is among the highest `_SPIKES` of all and `_ABOVE` above their median. Both frames are of
    the same range and rate. None where there is no such bucket, and where nobody did much of them.
    """
    whole = processes.groupby(level=0)[["busy_s", "core_s"]].first()
    load = (whole["busy_s"] / whole["core_s"]).sort_values(ascending=False, kind="stable")
    if len(load) < 1 / _SPIKES:
        return None
    highest = load.iloc[: max(1, int(len(load) * _SPIKES))]
    highest = highest[highest > load.median() + _ABOVE]
    if highest.empty:
        return None
    unit, of_unit = _most(units, highest.index, but=_NO_UNIT)
    name, share = (unit, of_unit) if of_unit >= 0.5 else _most(processes, highest.index)
    if share < _LEAST:
        return None
    moments = [in_ms(at) for at in highest.index]
    hour, often = Counter(at // HOUR_MS % 24 for at in moments).most_common(1)[0]
    return Spikes(len(moments), hour if often >= _SAME_HOUR * len(moments) else None, min(moments), name, share)


def _most(frame: pd.DataFrame, buckets: "pd.Index[pd.Timestamp]", but: str = "") -> tuple[str, float]:
    """Who did most in some buckets, and how much of all that was done in them."""
    chosen = frame[frame.index.isin(buckets)]
    busy_s = float(chosen.groupby(level=0)["busy_s"].first().sum())
    used = chosen[~is_others(chosen) & (chosen["name"] != but)].groupby("name")["cpu_s"].sum()
    if used.empty or busy_s <= 0.0:
        return "", 0.0
    return str(used.idxmax()), float(used.max()) / busy_s
