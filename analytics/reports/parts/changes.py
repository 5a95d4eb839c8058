"""What changed: one period beside the one before, the level for good, and the hosts that moved most."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.frames.resampling import resample
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture, ReportColumn, ReportTable, Section
from analytics.reports.parts.base import SHOWN, Part, after_annotation, in_ms, subject
from analytics.reports.parts.moves import CHANCE, LEAP, NOTEWORTHY, Moves, Periods, covers
from analytics.reports.text import all_of, each, level, listed, moment, percent, points, them, times
from contract.problems import plural
from contract.times import HOUR_MS

_SHOWN = 12


def what_changed(data: Data, moves: Moves) -> Part:
    """The two periods: hour by hour, and the hosts that moved most.

    Raises TooFewData where one has no data, or both together are less than a day.
    """
    periods = moves.periods
    if periods is None:
        raise TooFewData(moves.why_no_periods)
    names = (f"{moment(data.before_ms)} to {moment(data.split_ms)}", f"from then to {moment(data.end_ms)}")
    moved, leaped = _top_changes(moves) if data.is_fleet else ([], [])
    parts = [_hours_of_day(periods, data.tz), *_level_changes(moves), *moved]
    intro = f"Before: {names[0]}. After: {names[1]}. {periods.who}".rstrip()
    found = [*_trend(data, moves), _change_of_mean(data, moves, periods), *leaped]
    return Part(Section("change", "What changed", intro, parts), found, moves.level_caveats)


def trend_alone(data: Data, moves: Moves) -> Part:
    """What there is to say of the trend where there is nothing on two periods."""
    return Part(None, _trend(data, moves) if moves.periods is None else [], moves.trend_caveats)


def _trend(data: Data, moves: Moves) -> list[Finding]:
    """Where the fleet goes; nothing where that is not told."""
    slope = moves.slope
    if slope is None:
        return []
    some = moves.throughout < len(data.samples)
    whose = f"mean of the {moves.throughout:,} hosts that were seen throughout" if some else "mean"
    way = "rises" if slope.per_week > 0 else "falls"
    low, high = sorted([abs(slope.lower), abs(slope.upper)])
    return [
        Finding(
            "watch",
            "trend",
            f"The fleet's {whose} {way} by {abs(slope.per_week) * 100:.1f} points a week "
            f"({level(slope.confidence)} interval: {low * 100:.1f} to {high * 100:.1f}).",
            "“What is to come” says whether that goes on." if slope.per_week > 0 else "",
            {"per_week": slope.per_week, "lower": slope.lower, "upper": slope.upper, "p_value": slope.p_value},
        )
    ]


def _hours_of_day(periods: Periods, tz: str) -> Picture:
    was, now = periods.was, periods.now
    sides = {"before": periods.before, "after": periods.after}
    hours = pd.DataFrame({name: _by_hour(side, tz) for name, side in sides.items()}).reindex(range(24))
    hours.attrs = {"tz": tz}
    title = f"The mean of the two periods: {percent(was)}, then {percent(now)} ({points(now - was)})"
    return Picture("hours", figures.hours_of_day(hours, title), "The mean of each hour of the day in both periods.")


def _by_hour(part: pd.DataFrame, tz: str) -> "pd.Series[float]":
    hour = pd.DatetimeIndex(part.index).tz_convert(tz).hour
    return (part["mean"] * part["count"]).groupby(hour).sum() / part["count"].groupby(hour).sum()


def _change_of_mean(data: Data, moves: Moves, periods: Periods) -> Finding:
    """One finding on the two periods and on the last lasting change, where there is one worth a look."""
    was, now, p_value = periods.was, periods.now, periods.p_value
    numbers: dict[str, Any] = {
        "before": was, "after": now, "change": now - was, "p_value": p_value, "hedges_g": periods.hedges_g,
    }  # fmt: skip
    lasting, said = _lasting(data, moves)
    numbers |= said
    whose, slope = f"{subject(data)}'s", moves.slope
    if not covers(data):
        whose, slope = f"In the last {each(data.end_ms - data.split_ms)}, beside as much before, {whose.lower()}", None
    small, means = abs(now - was) < NOTEWORTHY, f"from {percent(was)} to {percent(now)} ({points(now - was)})"
    if small and slope is None:
        means = f"{percent(was)} before, {percent(now)} after"
        if lasting:
            sentence = f"{whose} mean is alike in both periods ({means}), but its level moved within{lasting}"
            return Finding("watch", "change", sentence, "Ask what was done then.", numbers)
        return Finding("note", "change", f"{whose} load hardly changed: {means}.", numbers=numbers)
    way = f"{'rose' if now > was else 'fell'}{' a little,' if small else ''}"
    sentence = f"{whose} load {way} {means}."
    if lasting:
        [before, after] = [numbers["level_before"], numbers["level_after"]]
        against = (after - before) * (now - was) < 0
        said_so = "Its last lasting change went the other way:" if against else "Its level changed lastingly"
        return Finding("watch", "change", f"{sentence} {said_so}{lasting}", "Ask what was done then.", numbers)
    if small:
        return Finding("note", "change", sentence, numbers=numbers)
    if p_value > CHANCE and slope is None:
        return Finding("note", "change", f"{sentence} Its usual ups and downs would explain that.", numbers=numbers)
    return Finding(
        "watch",
        "change",
        sentence,
        "See “What changed” for who moved." if data.is_fleet else "Ask what was done meanwhile.",
        numbers,
    )


def _lasting(data: Data, moves: Moves) -> tuple[str, dict[str, Any]]:
    """The end of a sentence on the last lasting change, and its numbers; nothing without one."""
    last: Mapping[Hashable, Any] | None = moves.level
    if last is None or moves.levels_of is None:
        return "", {}
    time_ms = in_ms(last["time"])
    when, after = moment(time_ms), after_annotation(data, time_ms, moves.levels_of[1])
    before_level, after_level = float(last["before"]), float(last["after"])
    numbers = {"level_time": when, "level_before": before_level, "level_after": after_level}
    when = ", ".join(filter(None, [when, after]))
    lasting = f" {when}, from {percent(before_level)} to {percent(after_level)}."
    return lasting, {**numbers, **({"level_follows": after} if after else {})}


def _level_changes(moves: Moves) -> list[Picture]:
    """The lasting changes of the level of a host, or of those that were there throughout."""
    if moves.levels.empty or moves.levels_of is None:
        return []
    total, rate_ms = moves.levels_of
    hourly = total if rate_ms >= HOUR_MS else resample(total, "1h")
    return [
        Picture(
            "levels",
            figures.levels(
                hourly, moves.levels, f"The level changed {times(len(moves.levels))}, for half a day or longer"
            ),
            "Orange: the level between changes, without the pattern of the day; dotted: when it changed.",
        )
    ]


def _top_changes(moves: Moves) -> tuple[list[Picture | ReportTable], list[Finding]]:
    """The hosts that were seen in both periods, those that moved most first; nothing for less than two."""
    moved = moves.hosts
    if len(moved) < 2:
        return [], []
    sure = int((moved["p_value"] < CHANCE).sum())
    title = f"Of {plural(len(moved), 'host')} seen in both periods {sure:,} changed by more than chance would"
    shown = moved.head(_SHOWN).reset_index().rename(columns={"change": "difference"})
    parts: list[Picture | ReportTable] = [
        Picture(
            "movers",
            figures.top_changes(shown, title),
            "Those that moved most: from the open circle (before) to the filled one (after).",
        ),
        _top_changes_table("movers-table", "The hosts that moved most", moved.head(SHOWN)),
    ]
    return parts, _leap_findings(moves)


def _top_changes_table(name: str, title: str, moved: pd.DataFrame) -> ReportTable:
    columns = [
        ReportColumn("host", "user"),
        ReportColumn("before", "share"),
        ReportColumn("after", "share"),
        ReportColumn("change", "change"),
        ReportColumn("more than chance"),
    ]
    rows = [
        [user, float(before), float(after), float(change), "yes" if p_value < CHANCE else "no"]
        for user, before, after, change, p_value in moved.itertuples(name=None)
    ]
    return ReportTable(
        name, title, columns, rows,
        note="More than chance: by a test that knows that neighbouring hours are alike, adjusted for so many hosts.",
    )  # fmt: skip


def _leap_findings(moves: Moves) -> list[Finding]:
    """The hosts that rose, and those that fell, by much and more than chance would."""
    rose, fell = moves.by(LEAP)
    return [*_leaps("rose", rose, "Ask what was put on {}."), *_leaps("fell", fell, "Ask what was taken from {}.")]


def _leaps(way: str, leaped: pd.DataFrame, action: str) -> list[Finding]:
    if leaped.empty:
        return []
    names, many = [*map(str, leaped.index)], len(leaped)
    everyone = _top_changes_table(f"all-that-{way}", f"{all_of(many)} hosts that {way}", leaped)
    return [
        Finding(
            "watch",
            "change",
            f"{plural(many, 'host')} {way} by {LEAP * 100:.0f} points or more: {listed(names)}.",
            action.format(them(many)),
            {"machines": many, "way": way, "names": names},
            everyone if many > 1 else None,
        )
    ]
