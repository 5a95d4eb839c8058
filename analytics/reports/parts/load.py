"""Who is hot and who is idle."""

import pandas as pd

from analytics import figures
from analytics.reports.data import Data
from analytics.reports.model import Column, Finding, Numbers, Picture, Section, Table
from analytics.reports.parts.base import Part
from analytics.reports.words import level, listed, percent, plural

__all__ = ["IDLE", "of_fleet", "of_machine"]

IDLE = 0.1
"""A machine is idle where 95 of 100 of its samples are below this."""
_ROWS = 25
_LEAST_SAMPLES = 20
"""With fewer, a 95th percentile is the highest sample."""
_LEAST_MS = 600_000
"""How long a machine is seen at least before anything is advised: a few seconds say nothing of what it is for."""


def of_fleet(data: Data, machines: pd.DataFrame, *, sized: bool) -> Part:
    """Load-duration curves, the hottest and the idlest machines. `sized`: the report says what they need."""
    import analytics

    judged = machines[_long_enough(machines, data)]
    hot = judged[judged["p95"] >= data.target].sort_values("above", ascending=False)
    idle = judged[judged["p95"] < IDLE].sort_values("p95")
    above = float((machines["above"] * machines["weight"]).sum() / machines["weight"].sum())
    curves = {
        "all machines": analytics.load_duration_curve(data.windows),
        "the busiest machine": analytics.load_duration_curve(data.windows[data.windows["user"] == machines.index[0]]),
    }
    parts: list[Picture | Table] = [
        Picture(
            "load-duration",
            figures.load_duration(curves, f"Machines were above {level(data.target)} for {percent(above)} of the time"),
            "Read it from the left: the curve is above a height for so much of the time, over all machines. Steep on "
            "the left means short peaks; a high plateau means machines that are always busy.",
        )
    ]
    if len(hot):
        parts.append(_table("hottest", f"The hottest of {plural(len(hot), 'hot machine')}", hot, data))
    if len(idle):
        parts.append(_table("idlest", f"The idlest of {plural(len(idle), 'idle machine')}", idle, data))
    intro = f"Hot: at least 5 of 100 samples above {level(data.target)}. Idle: 95 of 100 samples below {level(IDLE)}."
    findings = [*_hot(data, hot, sized=sized), *_idle(idle)] if len(judged) else []
    few = len(machines) - len(judged)
    seen = f"seen for less than ten minutes, or in fewer than {_LEAST_SAMPLES} samples, got no advice."
    caveats = [f"{plural(few, 'machine')} {seen}"] if few else []
    return Part(Section("load", "Who is hot, who is idle", intro, parts), findings, caveats)


def of_machine(data: Data, machines: pd.DataFrame) -> Part:
    """The machine's load-duration curve, and whether it is hot or idle."""
    import analytics

    [machine] = machines.to_dict("records")
    high, above = float(machine["p95"]), float(machine["above"])
    curves = {"the machine": analytics.load_duration_curve(data.windows)}
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
    return (machines["samples"] >= _LEAST_SAMPLES) & (machines["buckets"] * data.rate_ms >= _LEAST_MS)


def _hot(data: Data, hot: pd.DataFrame, *, sized: bool) -> list[Finding]:
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


def _idle(idle: pd.DataFrame) -> list[Finding]:
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


def _table(name: str, title: str, chosen: pd.DataFrame, data: Data) -> Table:
    columns = [
        Column("machine", "user"), Column("mean", "share"), Column("95th percentile", "share"),
        Column("highest", "share"), Column(f"time above {level(data.target)}", "share"),
    ]  # fmt: skip
    picked = chosen[["mean", "p95", "max", "above"]].head(_ROWS)
    rows = [[user, *map(float, row)] for user, *row in picked.itertuples(name=None)]
    return Table(name, title, columns, rows)
