"""What changed: one period beside the one before, the level for good, and the machines that moved most."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.frames.gaps import naive
from analytics.frames.resampling import resample
from analytics.methods.change_points import change_points
from analytics.methods.comparison import compare
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture, ReportColumn, ReportTable, Section
from analytics.reports.parts.base import Part, check_day, in_ms, period, subject
from analytics.reports.text import listed, moment, percent, plural, points, times
from contract.times import HOUR_MS

_NOTEWORTHY = 0.02
"""A mean that moved by less is not worth a look, whatever a test says."""
_CHANCE = 0.05
"""Below this a p-value counts as more than chance."""
_SHOWN = 12
_ROWS = 25
_LEAP = 0.2
_MAX_MACHINES = 5000
"""Machines that are compared; each takes a millisecond."""


def what_changed(data: Data) -> Part:
    """The two periods: hour by hour, and the machines that moved most.

    Raises TooFewData where one has no data, or both together are less than a day.
    """
    check_day(data)
    before = period(data.total, data.before_ms, data.split_ms)
    after = period(data.total, data.split_ms, data.end_ms)
    if before.empty or after.empty:
        raise TooFewData("only one of the two periods has data")
    was, now = (float(np.average(part["mean"], weights=part["count"])) for part in (before, after))
    [compared] = compare(before, after).to_dict("records")
    names = (f"{moment(data.before_ms)} to {moment(data.split_ms)}", f"from then to {moment(data.end_ms)}")
    stepped, told = _level_changes(data)
    moved, leaped = _top_changes(data) if data.is_fleet else ([], [])
    parts = [_hours_of_day(before, after, was, now), *stepped, *moved]
    intro = f"Before: {names[0]}. After: {names[1]}."
    return Part(Section("change", "What changed", intro, parts), [_change_of_mean(data, compared), *told, *leaped])


def _hours_of_day(before: pd.DataFrame, after: pd.DataFrame, was: float, now: float) -> Picture:
    hours = pd.DataFrame({"before": _by_hour(before), "after": _by_hour(after)}).reindex(range(24))
    title = f"The mean of the two periods: {percent(was)}, then {percent(now)} ({points(now - was)})"
    return Picture("hours", figures.hours_of_day(hours, title), "The mean of each hour of the day in both periods.")


def _by_hour(part: pd.DataFrame) -> "pd.Series[float]":
    hour = naive(pd.DatetimeIndex(part.index)).hour
    return (part["mean"] * part["count"]).groupby(hour).sum() / part["count"].groupby(hour).sum()


def _change_of_mean(data: Data, compared: Mapping[Hashable, Any]) -> Finding:
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


def _level_changes(data: Data) -> tuple[list[Picture], list[Finding]]:
    """The lasting changes of the fleet's level, or of the machine's; nothing where there are none."""
    changes = change_points(data.total)
    changes = changes[changes["kind"] == "level"]
    if changes.empty:
        return [], []
    hourly = data.total if data.total_rate_ms >= HOUR_MS else resample(data.total, "1h")
    picture = Picture(
        "levels",
        figures.levels(hourly, changes, f"The level changed {times(len(changes))}, for half a day or longer"),
        "Orange: the level between changes, without the pattern of the day; dotted: when it changed.",
    )
    return [picture], [_last_level_change(data, changes)]


def _last_level_change(data: Data, changes: pd.DataFrame) -> Finding:
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


def _top_changes(data: Data) -> tuple[list[Picture | ReportTable], list[Finding]]:
    """The machines that were seen in both periods, those that moved most first; nothing for less than two."""
    before = period(data.windows, data.before_ms, data.split_ms)
    after = period(data.windows, data.split_ms, data.end_ms)
    both = sorted(set(before["user"]) & set(after["user"]))[:_MAX_MACHINES]
    if len(both) < 2:
        return [], []
    moved = compare(before[before["user"].isin(both)], after[after["user"].isin(both)], by="user")
    moved = moved.rename(columns={"mean_before": "before", "mean_after": "after"})
    moved["user"] = moved["user"].astype(str)
    sure = int((moved["p_value"] < _CHANCE).sum())
    title = f"Of {plural(len(moved), 'machine')} seen in both periods {sure:,} changed by more than chance would"
    parts: list[Picture | ReportTable] = [
        Picture(
            "movers",
            figures.top_changes(moved.head(_SHOWN), title),
            "Those that moved most: from the open circle (before) to the filled one (after).",
        ),
        _top_changes_table(moved),
    ]
    return parts, _leap_findings(moved)


def _top_changes_table(moved: pd.DataFrame) -> ReportTable:
    columns = [
        ReportColumn("machine", "user"),
        ReportColumn("before", "share"),
        ReportColumn("after", "share"),
        ReportColumn("change", "change"),
        ReportColumn("more than chance"),
    ]
    rows = [
        [user, float(before), float(after), float(change), "yes" if p_value < _CHANCE else "no"]
        for user, before, after, change, p_value in moved[["user", "before", "after", "difference", "p_value"]]
        .head(_ROWS)
        .itertuples(index=False, name=None)
    ]
    return ReportTable(
        "movers-table", "The machines that moved most", columns, rows,
        note="More than chance: by a test that knows that neighbouring hours are alike, adjusted for so many machines.",
    )  # fmt: skip


def _leap_findings(moved: pd.DataFrame) -> list[Finding]:
    risen = moved[(moved["difference"] >= _LEAP) & (moved["p_value"] < _CHANCE)]
    if risen.empty:
        return []
    names = risen["user"].tolist()
    return [
        Finding(
            "watch",
            "change",
            f"{plural(len(risen), 'machine')} rose by {_LEAP * 100:.0f} points or more: {listed(names)}.",
            "Ask what was put on them.",
            {"machines": len(risen), "names": names[:_ROWS]},
        )
    ]
