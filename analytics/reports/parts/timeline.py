"""How the load went, who carried it when, and who is hot or idle."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analytics import figures
from analytics.methods.load_distribution import load_duration_curve
from analytics.methods.trends import fleet_trend
from analytics.reports.data import Data
from analytics.reports.model import Finding, Numbers, Picture, ReportColumn, ReportTable, Section
from analytics.reports.parts.base import Part, has_day, in_ms
from analytics.reports.text import each, level, listed, moment, percent, plural

if TYPE_CHECKING:
    from analytics.methods.trends import Slope


_QUANTILES = (0.05, 0.25, 0.75, 0.95)
_BANDS = [("users_5", "users_95", "90 of 100 machines"), ("users_25", "users_75", "50 of 100 machines")]
_CHANCE, _SLOW = 0.05, 0.01
_BUSIEST = 0.1
"""The busiest of the machines whose share of the work is told."""
IDLE = 0.1
"""A machine is idle where 95 of 100 of its samples are below this."""
_ROWS = 25
_MIN_SAMPLES = 20
"""With fewer, a 95th percentile is the highest sample."""
_MIN_MS = 600_000
"""How long a machine is seen at least before anything is advised: a few seconds say nothing of what it is for."""


def fleet_timeline(data: Data, machines: pd.DataFrame) -> Part:
    """Trend with bands over the machines, and all of them as a heat map."""
    trend = fleet_trend(data.windows, data.rate, quantiles=_QUANTILES)
    first, last = machines["p50"].quantile([0.25, 0.75])
    mean = float(np.average(data.total["mean"], weights=data.total["count"]))
    title = f"The fleet used {percent(mean)} of its CPU on average"
    if len(machines) > 1:
        title += f"; half of its machines are mostly between {percent(first)} and {percent(last)}"
    parts = [
        Picture(
            "trend",
            figures.trend(trend.frame, title, bands=_BANDS),
            f"A point for each {each(data.rate_ms)}. The line is the mean of all, the bands hold most machines.",
        )
    ]
    if len(machines) > 1:
        parts.append(_heat_map(data, machines))
    slope = _trend_findings(trend.slope) if has_day(data) else []
    return Part(
        Section("course", "How the load went", parts=parts), [_level_finding(data, mean, len(machines)), *slope]
    )


def machine_timeline(data: Data) -> Part:
    """Trend with the extremes and quantiles of the samples."""
    total = data.windows
    mean = float(np.average(total["mean"], weights=total["count"]))
    spread = np.sqrt(total["var"])
    shown = total.assign(
        low=(total["mean"] - spread).clip(lower=total["min"]), high=(total["mean"] + spread).clip(upper=total["max"])
    )
    title = f"The machine used {percent(mean)} of its CPU on average, and at most {percent(float(total['max'].max()))}"
    picture = Picture(
        "trend",
        figures.trend(
            shown, title,
            bands=[("min", "max", "lowest to highest sample"), ("low", "high", "mean ± standard deviation")],
        ),
        f"A point is the mean of each {each(data.rate_ms)}; the bands are of the samples within.",
    )  # fmt: skip
    return Part(Section("course", "How the load went", parts=[picture]), [_level_finding(data, mean, 1)])


def _trend_findings(slope: "Slope") -> list[Finding]:
    """Where the fleet goes; nothing where that cannot be told from chance, or is too slow to matter."""
    if slope.p_value > _CHANCE or abs(slope.per_week) < _SLOW:
        return []
    way = "rises" if slope.per_week > 0 else "falls"
    low, high = sorted([abs(slope.lower), abs(slope.upper)])
    return [
        Finding(
            "watch",
            "trend",
            f"The fleet's mean {way} by {abs(slope.per_week) * 100:.1f} points a week "
            f"({level(slope.confidence)} interval: {low * 100:.1f} to {high * 100:.1f}).",
            "“What is to come” says whether that goes on." if slope.per_week > 0 else "",
            {"per_week": slope.per_week, "lower": slope.lower, "upper": slope.upper, "p_value": slope.p_value},
        )
    ]


def _heat_map(data: Data, machines: pd.DataFrame) -> Picture:
    work = (machines["mean"] * machines["buckets"]).sort_values(ascending=False)
    busiest = max(1, round(len(work) * _BUSIEST))
    share = float(work.iloc[:busiest].sum() / max(work.sum(), 1e-12))
    title = f"The {plural(busiest, 'busiest machine')} of {len(work):,} did {percent(share)} of all work"
    return Picture(
        "machines-over-time",
        figures.users_over_time(data.windows, title),
        "Rows are ordered by mean load: a bright row is a machine, or a group of neighbours in this order, that is "
        "busy all the time; a bright column is a time at which all were. Grey: nothing was reported.",
    )


def _level_finding(data: Data, mean: float, machines: int) -> Finding:
    total = data.total
    peak = total["mean"].idxmax()
    height = float(total["mean"].max())
    who = plural(machines, "machine") if data.is_fleet else "The machine"
    whose = "their" if data.is_fleet and machines > 1 else "its"
    return Finding(
        "note",
        "level",
        f"{who} used {percent(mean)} of {whose} CPU on average; the busiest {each(data.total_rate_ms)} began "
        f"{moment(in_ms(peak))}, with {percent(height)}.",
        numbers={"mean": mean, "peak": height, "peak_time": moment(in_ms(peak)), "machines": machines},
    )


def fleet_load(data: Data, machines: pd.DataFrame, *, sized: bool) -> Part:
    """Load-duration curves, the hottest and the idlest machines. `sized`: the report says what they need."""
    judged = machines[_long_enough(machines, data)]
    hot = judged[judged["p95"] >= data.target].sort_values("above", ascending=False)
    idle = judged[judged["p95"] < IDLE].sort_values("p95")
    above = float((machines["above"] * machines["weight"]).sum() / machines["weight"].sum())
    curves = {
        "all machines": load_duration_curve(data.windows),
        "the busiest machine": load_duration_curve(data.windows[data.windows["user"] == machines.index[0]]),
    }
    parts: list[Picture | ReportTable] = [
        Picture(
            "load-duration",
            figures.load_duration(curves, f"Machines were above {level(data.target)} for {percent(above)} of the time"),
            "Read it from the left: the curve is above a height for so much of the time, over all machines. Steep on "
            "the left means short peaks; a high plateau means machines that are always busy.",
        )
    ]
    if len(hot):
        parts.append(_load_table("hottest", f"The hottest of {plural(len(hot), 'hot machine')}", hot, data))
    if len(idle):
        parts.append(_load_table("idlest", f"The idlest of {plural(len(idle), 'idle machine')}", idle, data))
    intro = f"Hot: at least 5 of 100 samples above {level(data.target)}. Idle: 95 of 100 samples below {level(IDLE)}."
    findings = [*_hot_findings(data, hot, sized=sized), *_idle_findings(idle)] if len(judged) else []
    few = len(machines) - len(judged)
    seen = f"seen for less than ten minutes, or in fewer than {_MIN_SAMPLES} samples, got no advice."
    caveats = [f"{plural(few, 'machine')} {seen}"] if few else []
    return Part(Section("load", "Who is hot, who is idle", intro, parts), findings, caveats)


def machine_load(data: Data, machines: pd.DataFrame) -> Part:
    """The machine's load-duration curve, and whether it is hot or idle."""
    [machine] = machines.to_dict("records")
    high, above = float(machine["p95"]), float(machine["above"])
    curves = {"the machine": load_duration_curve(data.windows)}
    often = f"for {percent(above)} of the time" if above > 0 else "at no time"
    title = f"The machine was above {level(data.target)} {often}"
    note = "Read it from the left: the curve is above a height for so much of the time."
    section = Section("load", "How much of the time", parts=[
        Picture("load-duration", figures.load_duration(curves, title), note)
    ])  # fmt: skip
    numbers: Numbers = {"p95": high, "above_target": above, "target": data.target}
    if not _long_enough(machines, data).all():
        finding = Finding("note", "load", "The machine was seen too briefly to call it hot or idle.", numbers=numbers)
    elif high >= data.target:
        finding = Finding(
            "act", "hot", f"The machine is hot: {percent(above)} of its time above {level(data.target)}.",
            "Move work away from it, or give it more CPU.", numbers,
        )  # fmt: skip
    elif high < IDLE:
        finding = Finding(
            "watch", "idle", f"The machine is idle: 95 of 100 samples are below {percent(high)}.",
            "Switch it off, or put its work on another.", numbers,
        )  # fmt: skip
    else:
        finding = Finding("note", "load", f"95 of 100 samples are at most {percent(machine['p95'])}.", numbers=numbers)
    return Part(section, [finding])


def _long_enough(machines: pd.DataFrame, data: Data) -> "pd.Series[bool]":
    return (machines["samples"] >= _MIN_SAMPLES) & (machines["buckets"] * data.rate_ms >= _MIN_MS)


def _hot_findings(data: Data, hot: pd.DataFrame, *, sized: bool) -> list[Finding]:
    if hot.empty:
        return [Finding("note", "hot", f"No machine is hot: none has 5 of 100 samples above {level(data.target)}.")]
    numbers: Numbers = {"machines": len(hot), "target": data.target, "names": [*hot.index[:_ROWS]]}
    verb, them = ("is", "it") if len(hot) == 1 else ("are", "them")
    where = "; “What it needs” says how much" if sized else ""
    return [
        Finding(
            "act",
            "hot",
            f"{plural(len(hot), 'machine')} {verb} hot, above {level(data.target)} for 5 % of the time or more: "
            f"{listed(list(hot.index))}.",
            f"Move work away from {them}, or give {them} more CPU{where}.",
            numbers,
        )
    ]


def _idle_findings(idle: pd.DataFrame) -> list[Finding]:
    if idle.empty:
        return []
    work = float(idle["mean"].sum())
    numbers: Numbers = {"machines": len(idle), "work": work, "names": [*idle.index[:_ROWS]]}
    verb = "is" if len(idle) == 1 else "are"
    return [
        Finding(
            "watch",
            "idle",
            f"{plural(len(idle), 'machine')} {verb} idle, below {level(IDLE)} for 95 % of the time; together they do "
            f"the work of {work:,.1f} busy ones.",
            "Switch them off, or put their work together on fewer.",
            numbers,
        )
    ]


def _load_table(name: str, title: str, chosen: pd.DataFrame, data: Data) -> ReportTable:
    columns = [
        ReportColumn("machine", "user"), ReportColumn("mean", "share"), ReportColumn("95th percentile", "share"),
        ReportColumn("highest", "share"), ReportColumn(f"time above {level(data.target)}", "share"),
    ]  # fmt: skip
    picked = chosen[["mean", "p95", "max", "above"]].head(_ROWS)
    rows = [[user, *map(float, row)] for user, *row in picked.itertuples(name=None)]
    return ReportTable(name, title, columns, rows)
