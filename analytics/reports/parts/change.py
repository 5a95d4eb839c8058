"""What changed: one period beside the one before."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analytics import figures
from analytics.figures.gaps import naive
from analytics.reports.data import Data
from analytics.reports.model import Column, Finding, Picture, Section, Table
from analytics.reports.parts.base import Part, in_ms, subject
from analytics.reports.words import listed, moment, percent, plural, points, times
from analytics.resampling import resample

__all__ = ["of_periods"]

_MOVERS = 12
_ROWS = 25
_NOTEWORTHY = 0.02
"""A mean that moved by less is not worth a look, whatever a test says."""
_HOUR_MS = 3_600_000
_CHANCE = 0.05
_LEAP = 0.2


def of_periods(data: Data, machines: pd.DataFrame) -> Part:
    """The two periods: hour by hour, and the machines that moved most. Raises ValueError where one has no data."""
    import analytics

    index = pd.DatetimeIndex(data.total.index).as_unit("ms").asi8
    before = data.total[(index >= data.before_ms) & (index < data.split_ms)]
    after = data.total[(index >= data.split_ms) & (index < data.end_ms)]
    if before.empty or after.empty:
        raise ValueError("only one of the two periods has data")
    was, now = (float(np.average(part["mean"], weights=part["count"])) for part in (before, after))
    [compared] = analytics.compare(before, after).to_dict("records")
    names = (f"{moment(data.before_ms)} to {moment(data.split_ms)}", f"from then to {moment(data.end_ms)}")
    parts: list[Picture | Table] = [_hours(before, after, was, now, names)]
    findings = [_moved(data, compared)]
    changes = analytics.change_points(data.total)
    changes = changes[changes["kind"] == "level"]
    if len(changes):
        parts.append(_levels(data, changes))
        findings.append(_level_finding(data, changes))
    both = machines.dropna(subset=["before", "after"]).assign(change=lambda table: table["after"] - table["before"])
    if data.is_fleet and len(both) > 1:
        order = both["change"].abs().sort_values(ascending=False).index
        parts += _movers(both.loc[order], names)
        findings += _leaps(both.loc[order])
    intro = f"Before: {names[0]}. After: {names[1]}."
    return Part(Section("change", "What changed", intro, parts), findings)


def _hours(before: pd.DataFrame, after: pd.DataFrame, was: float, now: float, names: tuple[str, str]) -> Picture:
    hours = pd.DataFrame({"before": _by_hour(before), "after": _by_hour(after)}).reindex(range(24))
    title = f"The mean of the two periods: {percent(was)}, then {percent(now)} ({points(now - was)})"
    return Picture("hours", figures.hours_of_day(hours, title), "The mean of each hour of the day in both periods.")


def _by_hour(part: pd.DataFrame) -> "pd.Series[float]":
    hour = naive(pd.DatetimeIndex(part.index)).hour
    return (part["mean"] * part["count"]).groupby(hour).sum() / part["count"].groupby(hour).sum()


def _levels(data: Data, changes: pd.DataFrame) -> Picture:
    title = f"The level changed {times(len(changes))}, for half a day or longer"
    hourly = data.total if data.total_rate_ms >= _HOUR_MS else resample(data.total, "1h")
    return Picture(
        "levels",
        figures.levels(hourly, changes, title),
        "Orange: the level between changes, without the pattern of the day; dotted: when it changed.",
    )


def _level_finding(data: Data, changes: pd.DataFrame) -> Finding:
    [*_, last] = changes.to_dict("records")
    before, after = float(last["before"]), float(last["after"])
    when = moment(in_ms(last["time"]))
    return Finding(
        "watch" if abs(after - before) >= _NOTEWORTHY else "note",
        "change",
        f"{subject(data)}'s level changed lastingly {when}: from {percent(before)} to {percent(after)}.",
        "Ask what was done then.",
        {"changes": len(changes), "time": when, "before": before, "after": after},
    )


def _movers(both: pd.DataFrame, names: tuple[str, str]) -> list[Picture | Table]:
    shown = both.head(_MOVERS).reset_index()
    up = int((both["change"] > _NOTEWORTHY).sum())
    down = int((both["change"] < -_NOTEWORTHY).sum())
    title = (
        f"Of {plural(len(both), 'machine')} seen in both periods {up:,} rose and {down:,} fell by more than "
        f"{_NOTEWORTHY * 100:.0f} points; these moved most"
    )
    columns = [
        Column("machine", "user"),
        Column("before", "share"),
        Column("after", "share"),
        Column("change", "change"),
    ]
    rows = [
        [user, *map(float, row)] for user, *row in both[["before", "after", "change"]].head(_ROWS).itertuples(name=None)
    ]
    return [
        Picture("movers", figures.movers(shown, title), "From the open circle (before) to the filled one (after)."),
        Table("movers-table", "The machines that moved most", columns, rows),
    ]


def _moved(data: Data, compared: Mapping[Hashable, Any]) -> Finding:
    was, now, p_value = (float(compared[name]) for name in ("mean_before", "mean_after", "p_value"))
    numbers = {
        "before": was, "after": now, "change": now - was, "p_value": p_value, "hedges_g": float(compared["hedges_g"]),
    }  # fmt: skip
    if abs(now - was) < _NOTEWORTHY:
        sentence = f"{subject(data)}'s load hardly changed: {percent(was)} before, {percent(now)} after."
        return Finding("note", "change", sentence, numbers=numbers)
    way = "rose" if now > was else "fell"
    sentence = f"{subject(data)}'s load {way} from {percent(was)} to {percent(now)} ({points(now - was)})."
    if p_value > _CHANCE:
        return Finding("note", "change", f"{sentence} Its usual ups and downs would explain that.", numbers=numbers)
    return Finding(
        "watch",
        "change",
        sentence,
        "See “What changed” for who moved." if data.is_fleet else "Ask what was done meanwhile.",
        numbers,
    )


def _leaps(both: pd.DataFrame) -> list[Finding]:
    risen = both[both["change"] >= _LEAP]
    if risen.empty:
        return []
    return [
        Finding(
            "watch",
            "change",
            f"{plural(len(risen), 'machine')} rose by {_LEAP * 100:.0f} points or more: {listed(list(risen.index))}.",
            "Ask what was put on them.",
            {"machines": len(risen), "names": [*risen.index[:_ROWS]]},
        )
    ]
