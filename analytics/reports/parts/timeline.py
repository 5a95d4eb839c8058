"""How the load went, who carried it when, and who is hot or idle."""

from typing import Any

import numpy as np
import pandas as pd

from analytics import figures
from analytics.methods.load_distribution import load_duration_curve
from analytics.methods.trends import fleet_trend
from analytics.reports.data import Data
from analytics.reports.model import Cell, Finding, Numbers, Picture, ReportColumn, ReportTable, Section
from analytics.reports.parts.advice import IDLE, RARELY, Advice
from analytics.reports.parts.base import SHOWN, Part, attended_total, in_ms
from analytics.reports.text import all_of, each, level, listed, moment, percent, them
from contract.problems import plural

_BUSIEST = 0.1
"""The busiest of the hosts whose share of the work is told."""
_MAX_ANNOTATIONS = 100
_FEW = 20
"""From so many hosts on, a band that holds 90 of 100 of them leaves one out."""
_Bands = list[tuple[str, str, str]]


def fleet_timeline(data: Data, hosts: pd.DataFrame) -> Part:
    """Trend with bands over the hosts, and all of them as a heat map."""
    quantiles, bands, note = _bands(len(hosts))
    trend = fleet_trend(data.windows, data.rate, quantiles=quantiles)
    first, last = hosts["p50"].quantile([0.25, 0.75])
    mean = float(np.average(data.total["mean"], weights=data.total["count"]))
    title = f"The {_mean_of(data, hosts)} is {percent(mean)}"
    if len(hosts) > 1:
        title += f"; half of the hosts are mostly between {percent(first)} and {percent(last)}"
    picture = Picture(
        "trend",
        figures.trend(trend.frame, title, bands=bands),
        f"A point for each {each(data.rate_ms)}. The line is the {_mean_of(data, hosts)}{note}.",
    )
    parts: list[Picture | ReportTable] = [picture]
    if len(hosts) > 1:
        parts.append(_heat_map(data, hosts))
    parts += _mark_annotations(data, picture, trend.frame.index)
    return Part(Section("course", "How the load went", parts=parts), [_level_finding(data, mean, hosts)])


def _bands(hosts: int) -> tuple[tuple[float, ...], _Bands, str]:
    """The quantiles over the hosts that bound bands, the bands, and what to say of these."""
    if hosts == 1:
        return (0.5,), [], ""
    said = "; the bands are of the means of hosts, each counted once"
    if hosts < _FEW:
        all_of_them = "both hosts" if hosts == 2 else f"all {hosts} hosts"
        return (0.0, 1.0), [("users_0", "users_100", all_of_them)], said.replace("bands are", "band is")
    inner = ("users_25", "users_75", "50 of 100 hosts")
    return (0.05, 0.25, 0.75, 0.95), [("users_5", "users_95", "90 of 100 hosts"), inner], said


def _mean_of(data: Data, hosts: pd.DataFrame) -> str:
    """What a fleet's mean is a mean of."""
    cores = data.host_cores
    if cores is None:
        return f"mean of the {plural(len(hosts), 'host')}"
    return f"share of the {plural(round(cores.sum()), 'core')} that was used"


def host_timeline(data: Data) -> Part:
    """Trend with the extremes and quantiles of the samples."""
    total = data.windows
    mean = float(np.average(total["mean"], weights=total["count"]))
    spread = np.sqrt(total["var"])
    shown = total.assign(
        low=(total["mean"] - spread).clip(lower=total["min"]), high=(total["mean"] + spread).clip(upper=total["max"])
    )
    title = f"The host used {percent(mean)} of its CPU on average, and at most {percent(float(total['max'].max()))}"
    picture = Picture(
        "trend",
        figures.trend(
            shown, title,
            bands=[("min", "max", "lowest to highest sample"), ("low", "high", "mean ± standard deviation")],
        ),
        f"A point is the mean of each {each(data.rate_ms)}; the bands are of the samples within.",
    )  # fmt: skip
    noted = _mark_annotations(data, picture, shown.index)
    return Part(Section("course", "How the load went", parts=[picture, *noted]), [_host_level_finding(data, mean)])


def _mark_annotations(data: Data, picture: Picture, index: "pd.Index[Any]") -> list[ReportTable]:
    """Mark what was noted in a figure over time of these windows; a table of it, where there is any."""
    start_ms, end_ms = in_ms(index.min()), in_ms(index.max()) + data.rate_ms
    within = [one for one in data.annotations if one.time_ms < end_ms and one.end_ms >= start_ms]
    if not within:
        return []
    shown = within[-_MAX_ANNOTATIONS:]
    moments = pd.DataFrame(
        [(max(one.time_ms, start_ms), min(one.end_ms, end_ms), one.text) for one in shown],
        columns=["start", "end", "text"],
    )
    for name in ("start", "end"):
        moments[name] = pd.to_datetime(moments[name], unit="ms", utc=True)
    figures.mark_moments(picture.figure, moments)
    columns = [
        ReportColumn("when", "time"), ReportColumn("until", "time"), ReportColumn("what"), ReportColumn("hosts"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [one.time_ms, one.end_ms if one.end_ms > one.time_ms else None, one.text, one.user] for one in shown
    ]
    title = f"{plural(len(within), 'annotation')} in this time"
    if len(shown) < len(within):
        title += f", the newest {len(shown)}"
    return [ReportTable("annotations-table", title, columns, rows, note="Marked in the figure of the mean.")]


def _heat_map(data: Data, hosts: pd.DataFrame) -> Picture:
    cores = data.host_cores
    sizes = 1.0 if cores is None else cores.reindex(hosts.index)
    work = (hosts["mean"] * hosts["buckets"] * sizes).sort_values(ascending=False)
    busiest = max(1, round(len(work) * _BUSIEST))
    share = float(work.iloc[:busiest].sum() / max(work.sum(), 1e-12))
    who = "busiest host" if busiest == 1 else f"{busiest:,} busiest hosts"
    title = f"The {who} of {len(work):,} did {percent(share)} of all work"
    if cores is None:
        title += ", were all of one size"
    return Picture(
        "machines-over-time",
        figures.users_over_time(data.windows, title),
        "Rows are ordered by mean load: a bright row is a host, or a group of neighbours in this order, that is "
        "busy all the time; a bright column is a time at which all were. Grey: nothing was reported.",
    )


def _level_finding(data: Data, mean: float, hosts: pd.DataFrame) -> Finding:
    """How busy the fleet was: of all its cores where these are known, otherwise the mean of its hosts."""
    peak, height = _peak(data)
    numbers: dict[str, str | float | int] = {
        "mean": mean, "peak": height, "peak_time": moment(in_ms(peak)), "machines": len(hosts),
    }  # fmt: skip
    cores = data.host_cores
    if cores is None:
        said = f"The mean of the {plural(len(hosts), 'host')} was {percent(mean)}, however large each is"
    else:
        # Of the cores that were there: hosts come and go.
        there = float((cores.reindex(hosts.index) * hosts["buckets"]).sum() / data.total.index.nunique())
        there *= data.total_rate_ms / data.rate_ms
        idle = there * (1 - mean)
        numbers |= {"cores": float(cores.sum()), "idle_cores": idle}
        said = (
            f"{plural(len(hosts), 'host')} used {percent(mean)} of {plural(round(cores.sum()), 'core')} on "
            f"average; {idle:,.1f} were idle"
        )
    sentence = f"{said}; the busiest {each(data.total_rate_ms)} began {moment(in_ms(peak))}, with {percent(height)}."
    return Finding("note", "level", sentence, numbers={**numbers})


def _host_level_finding(data: Data, mean: float) -> Finding:
    peak, height = _peak(data)
    return Finding(
        "note",
        "level",
        f"The host used {percent(mean)} of its CPU on average; the busiest {each(data.total_rate_ms)} began "
        f"{moment(in_ms(peak))}, with {percent(height)}.",
        numbers={"mean": mean, "peak": height, "peak_time": moment(in_ms(peak)), "machines": 1},
    )


def _peak(data: Data) -> tuple[object, float]:
    total = attended_total(data)
    return total["mean"].idxmax(), float(total["mean"].max())


def fleet_load(data: Data, hosts: pd.DataFrame, advice: Advice) -> Part:
    """Load-duration curves, the hottest and the idlest hosts."""
    hot = hosts.loc[advice.who("hot")].sort_values("surely_above", ascending=False, kind="stable")
    idle = hosts.loc[advice.who("idle")].sort_values("p95", kind="stable")
    above = float((hosts["above"] * hosts["weight"]).sum() / hosts["weight"].sum())
    curves = {
        "all hosts": load_duration_curve(data.windows),
        "the busiest host": load_duration_curve(data.windows[data.windows["user"] == hosts.index[0]]),
    }
    title = f"Hosts were above {level(data.target)} for {percent(above)} of the time"
    parts: list[Picture | ReportTable] = [
        Picture(
            "load-duration",
            figures.load_duration(curves if len(hosts) > 1 else {"the host": curves["all hosts"]}, title),
            "Read it from the left: the curve is above a height for so much of the time, over all hosts. Steep on "
            "the left means short peaks; a high plateau means hosts that are always busy.",
        )
    ]
    for name, kind, chosen in (("hottest", "hot", hot), ("idlest", "idle", idle)):
        if len(chosen):
            many = f"The {name} of {len(chosen):,} {kind} hosts" if len(chosen) > 1 else f"The {kind} host"
            parts.append(_load_table(name, many, chosen.head(SHOWN), data))
    intro = (
        f"Hot: more than 5 of 100 samples are above {level(data.target)} for sure. Idle: 95 of 100 samples are below "
        f"{level(IDLE)}. Where the size of a host can be told, what it has now decides whether it is hot. Of a host "
        "that has moved away from that since, nothing is advised."
    )
    findings = []
    if advice.judged:
        changed = _changed_findings(data, hosts, advice)
        findings = [*_hot_findings(data, hosts, hot, advice), *_idle_findings(data, idle), *changed]
    return Part(Section("load", "Who is hot, who is idle", intro, parts), findings, advice.caveats)


def host_load(data: Data, hosts: pd.DataFrame, advice: Advice) -> Part:
    """The host's load-duration curve, and whether it is hot or idle."""
    [host] = hosts.to_dict("records")
    [kind] = advice.kinds
    high, above = float(host["p95"]), float(host["above"])
    curves = {"the host": load_duration_curve(data.windows)}
    often = f"for {percent(above)} of the time" if above > 0 else "at no time"
    title = f"The host was above {level(data.target)} {often}"
    note = "Read it from the left: the curve is above a height for so much of the time."
    section = Section("load", "How much of the time", parts=[
        Picture("load-duration", figures.load_duration(curves, title), note)
    ])  # fmt: skip
    numbers: Numbers = {"p95": high, "above_target": above, "target": data.target}
    if not advice.judged:
        finding = Finding("note", "load", "The host was seen too briefly to call it hot or idle.", numbers=numbers)
    elif kind == "hot":
        often = f"{percent(above)} of its time above {level(data.target)}"
        if float(host["surely_above"]) <= RARELY:
            often = f"too small for what it does, {often}"
        finding = Finding(
            "act", "hot", f"The host is hot: {often}.",
            "Move work away from it, or give it more CPU.", numbers,
        )  # fmt: skip
    elif kind == "changed":
        was, way = ("hot", "fallen") if len(advice.fallen) else ("idle or too large", "risen")
        finding = Finding(
            "watch", "load", f"The host was {was}, and has {way} since: {percent(above)} of its time in the whole "
            f"range was above {level(data.target)}.", "Look again when it is seen what stays.", numbers,
        )  # fmt: skip
    elif kind == "idle":
        finding = Finding(
            "watch", "idle", f"The host is idle: 95 of 100 samples are below {percent(high)}.",
            "Switch it off, or put its work on another.", numbers,
        )  # fmt: skip
    else:
        finding = Finding("note", "load", f"95 of 100 samples are at most {percent(host['p95'])}.", numbers=numbers)
    return Part(section, [finding])


def _hot_findings(data: Data, hosts: pd.DataFrame, hot: pd.DataFrame, advice: Advice) -> list[Finding]:
    height = level(data.target)
    if hot.empty:
        return [Finding("note", "hot", f"No host is hot: {_why_not_hot(hosts, advice, height)}.")]
    names = [*map(str, hot.index)]
    sized = len(advice.sized("hot"))
    where = "" if not sized else f"; “What it needs” says how much{'' if sized == len(hot) else f' for {sized:,}'}"
    often = f"above {height} for more than 5 % of the time"
    if not (hot["surely_above"] > RARELY).all():
        often = f"{often}, or too small for what {'it does' if len(hot) == 1 else 'they do'}"
    return [
        Finding(
            "act",
            "hot",
            f"{plural(len(hot), 'host')} {'is' if len(hot) == 1 else 'are'} hot, {often}: {listed(names)}.",
            f"Move work away from {them(len(hot))}, or give {them(len(hot))} more CPU{where}.",
            {"machines": len(hot), "target": data.target, "names": names},
            _load_table("all-hot", f"{all_of(len(hot))} hot hosts", hot, data) if len(hot) > 1 else None,
        )
    ]


def _why_not_hot(hosts: pd.DataFrame, advice: Advice, height: str) -> str:
    """Why nobody is hot, though some may have been above the target for long."""
    above = hosts.index[hosts["surely_above"] > RARELY]
    if above.empty:
        return f"none has more than 5 of 100 samples above {height}"
    reasons = [
        (len(above.intersection(advice.fallen)), "has fallen since", "have fallen since"),
        (len(above.intersection(advice.unheard)), "is silent, or was hardly seen", "are silent, or were hardly seen"),
    ]
    rest = len(above) - sum(number for number, *_ in reasons)
    reasons.append((rest, "has the size that it needs now", "have the size that they need now"))
    told = [(number, one if number == 1 else many) for number, one, many in reasons if number]
    if len(told) == 1:
        who = "the one" if len(above) == 1 else f"all {len(above):,}"
        return f"{who} with more than 5 of 100 samples above {height} {told[0][1]}"
    parts = ", ".join(f"{number:,} {words}" for number, words in told)
    return f"of {len(above):,} with more than 5 of 100 samples above {height} {parts}"


def _changed_findings(data: Data, hosts: pd.DataFrame, advice: Advice) -> list[Finding]:
    """Who was something in the range that it is not any more."""
    return [
        Finding(
            "watch",
            "load",
            f"{plural(len(who), 'host')} {'was' if len(who) == 1 else 'were'} {what}, and "
            f"{'has' if len(who) == 1 else 'have'} {way} since: {listed([*map(str, who)])}.",
            action.format(them(len(who))),
            {"machines": len(who), "names": [*map(str, who)]},
            _load_table(f"all-{way}", f"{all_of(len(who))} hosts that were {what}", hosts.loc[who], data)
            if len(who) > 1
            else None,
        )
        for who, what, way, action in (
            (advice.fallen, "hot", "fallen", "Nothing is to be done for {} while that stays so."),
            (advice.risen, "idle or too large", "risen", "Leave {} the size until it is seen what stays."),
        )
        if len(who)
    ]


def _idle_findings(data: Data, idle: pd.DataFrame) -> list[Finding]:
    if idle.empty:
        return []
    names = [*map(str, idle.index)]
    cores = data.host_cores
    work = float((idle["mean"] * (1.0 if cores is None else cores.reindex(idle.index))).sum())
    busy = "busy hosts" if cores is None else "busy cores"
    one = len(idle) == 1
    return [
        Finding(
            "watch",
            "idle",
            f"{plural(len(idle), 'host')} {'is' if one else 'are'} idle, below {level(IDLE)} for 95 % of the time: "
            f"{listed(names)}; {'it does' if one else 'together they do'} the work of {work:,.1f} {busy}.",
            "Switch it off, or put its work on another."
            if one
            else "Switch them off, or put their work together on fewer.",
            {"machines": len(idle), "work": work, "names": names},
            None if one else _load_table("all-idle", f"{all_of(len(idle))} idle hosts", idle, data),
        )
    ]


def _load_table(name: str, title: str, chosen: pd.DataFrame, data: Data) -> ReportTable:
    columns = [
        ReportColumn("host", "user"), ReportColumn("mean", "share"), ReportColumn("95th percentile", "share"),
        ReportColumn("highest", "share"), ReportColumn(f"time above {level(data.target)}", "share"),
    ]  # fmt: skip
    rows = [[user, *map(float, row)] for user, *row in chosen[["mean", "p95", "max", "above"]].itertuples(name=None)]
    return ReportTable(name, title, columns, rows)
