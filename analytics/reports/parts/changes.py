"""What changed: one period beside the one before, the level for good, and the hosts that moved most."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.frames.resampling import resample
from analytics.methods.change_points import change_points
from analytics.methods.comparison import compare
from analytics.reports.data import Data, mean_cores
from analytics.reports.model import Finding, Picture, ReportColumn, ReportTable, Section
from analytics.reports.parts.base import SHOWN, Part, after_annotation, check_day, in_ms, period, same_hosts, subject
from analytics.reports.text import all_of, listed, moment, percent, plural, points, them, times
from contract.times import HOUR_MS

_NOTEWORTHY = 0.02
"""A mean that moved by less is not worth a look, whatever a test says."""
_CHANCE = 0.05
"""Below this a p-value counts as more than chance."""
_SHOWN = 12
_LEAP = 0.2
_MAX_HOSTS = 5000
"""Hosts that are compared; each takes a millisecond."""


def what_changed(data: Data) -> Part:
    """The two periods: hour by hour, and the hosts that moved most.

    Raises TooFewData where one has no data, or both together are less than a day.
    """
    check_day(data)
    periods = _Periods.of(data)
    names = (f"{moment(data.before_ms)} to {moment(data.split_ms)}", f"from then to {moment(data.end_ms)}")
    stepped, level, caveats = _level_changes(data)
    moved, leaped = _top_changes(data) if data.is_fleet else ([], [])
    parts = [_hours_of_day(periods, data.tz), *stepped, *moved]
    intro = f"Before: {names[0]}. After: {names[1]}. {periods.who}".rstrip()
    found = [_change_of_mean(data, periods, level), *leaped]
    return Part(Section("change", "What changed", intro, parts), found, caveats)


@dataclass(frozen=True, slots=True)
class _Periods:
    """The two periods, of the same hosts: a mean over whoever happens to report moves with who does."""

    before: pd.DataFrame
    after: pd.DataFrame
    was: float
    now: float
    p_value: float
    hedges_g: float
    who: str = ""
    """Which hosts these are, where not all were seen in both periods."""

    @classmethod
    def of(cls, data: Data) -> "_Periods":
        """Raises TooFewData where one period has no data, or no host was seen in both."""
        frame = data.windows if data.is_fleet else data.total
        before, after = (
            period(frame, data.before_ms, data.split_ms),
            period(frame, data.split_ms, data.end_ms),
        )
        if before.empty or after.empty:
            raise TooFewData("only one of the two periods has data")
        if not data.is_fleet:
            was, now = (float(np.average(part["mean"], weights=part["count"])) for part in (before, after))
            [compared] = compare(before, after).to_dict("records")
            return cls(before, after, was, now, float(compared["p_value"]), float(compared["hedges_g"]))
        both = sorted({*before["user"].unique()} & {*after["user"].unique()})
        if not both:
            raise TooFewData("no host was seen in both periods")
        before, after = before[before["user"].isin(both)], after[after["user"].isin(both)]
        was, now = (_mean_of(part, both) for part in (before, after))
        [compared] = compare(before, after, weight="samples").to_dict("records")
        seen = len(data.samples)
        who = f"The mean is that of the {plural(len(both), 'host')} seen in both." if len(both) < seen else ""
        return cls(before, after, was, now, float(compared["p_value"]), float(compared["hedges_g"]), who)


def _mean_of(part: pd.DataFrame, users: list[str]) -> float:
    """The mean of a period, in which each host counts alike however long it was there: by its cores at that time."""
    cores = mean_cores(part)
    weight = None if cores is None else cores.reindex([str(user) for user in users]).to_numpy()
    return float(np.average(_means(part).reindex(users), weights=weight))


def _means(part: pd.DataFrame) -> "pd.Series[float]":
    """The mean of each host."""
    sums = part.assign(load=part["mean"] * part["count"]).groupby("user", observed=True)[["load", "count"]].sum()
    return sums["load"] / sums["count"]


def _hours_of_day(periods: _Periods, tz: str) -> Picture:
    was, now = periods.was, periods.now
    sides = {"before": periods.before, "after": periods.after}
    hours = pd.DataFrame({name: _by_hour(side, tz) for name, side in sides.items()}).reindex(range(24))
    hours.attrs = {"tz": tz}
    title = f"The mean of the two periods: {percent(was)}, then {percent(now)} ({points(now - was)})"
    return Picture("hours", figures.hours_of_day(hours, title), "The mean of each hour of the day in both periods.")


def _by_hour(part: pd.DataFrame, tz: str) -> "pd.Series[float]":
    hour = pd.DatetimeIndex(part.index).tz_convert(tz).hour
    return (part["mean"] * part["count"]).groupby(hour).sum() / part["count"].groupby(hour).sum()


def _change_of_mean(data: Data, periods: _Periods, level: Mapping[Hashable, Any] | None) -> Finding:
    """One finding on the two periods and on `level`, the last lasting change, where there is one worth a look."""
    was, now, p_value = periods.was, periods.now, periods.p_value
    numbers: dict[str, Any] = {
        "before": was, "after": now, "change": now - was, "p_value": p_value, "hedges_g": periods.hedges_g,
    }  # fmt: skip
    lasting = ""
    if level is not None:
        time_ms = in_ms(level["time"])
        when, after = moment(time_ms), after_annotation(data, time_ms, level["width_ms"])
        numbers |= {"level_time": when, "level_before": float(level["before"]), "level_after": float(level["after"])}
        numbers |= {"level_follows": after} if after else {}
        when = ", ".join(filter(None, [when, after]))
        lasting = f" {when}, from {percent(float(level['before']))} to {percent(float(level['after']))}."
    if abs(now - was) < _NOTEWORTHY:
        means = f"{percent(was)} before, {percent(now)} after"
        if lasting:
            sentence = f"{subject(data)}'s mean is alike in both periods ({means}), but its level moved within{lasting}"
            return Finding("watch", "change", sentence, "Ask what was done then.", numbers)
        return Finding("note", "change", f"{subject(data)}'s load hardly changed: {means}.", numbers=numbers)
    way = "rose" if now > was else "fell"
    sentence = f"{subject(data)}'s load {way} from {percent(was)} to {percent(now)} ({points(now - was)})."
    if lasting:
        sentence = f"{sentence} Its level changed lastingly{lasting}"
        return Finding("watch", "change", sentence, "Ask what was done then.", numbers)
    if p_value > _CHANCE:
        return Finding("note", "change", f"{sentence} Its usual ups and downs would explain that.", numbers=numbers)
    return Finding(
        "watch",
        "change",
        sentence,
        "See “What changed” for who moved." if data.is_fleet else "Ask what was done meanwhile.",
        numbers,
    )


_Level = Mapping[Hashable, Any]
"""A row of `change_points`, and how exactly its time is known: to a bucket of `width_ms`."""


def _level_changes(data: Data) -> tuple[list[Picture], _Level | None, list[str]]:
    """The lasting changes of the level of a host, or of those that were there throughout.

    The last of them, where one is worth a look; and what limits them.
    """
    total, rate_ms = data.total, data.total_rate_ms
    if data.is_fleet:
        try:
            windows, hosts = same_hosts(data)
        except TooFewData as error:
            return [], None, [f"No lasting change of level is told: {error}."]
        if hosts < len(data.samples):
            total, rate_ms = resample(windows.drop(columns="user"), data.rate), data.rate_ms
    changes = change_points(total, tz=data.tz)
    changes = changes[changes["kind"] == "level"]
    changes = changes[(changes["after"] - changes["before"]).abs() >= _NOTEWORTHY]
    if changes.empty:
        return [], None, []
    hourly = total if rate_ms >= HOUR_MS else resample(total, "1h")
    picture = Picture(
        "levels",
        figures.levels(hourly, changes, f"The level changed {times(len(changes))}, for half a day or longer"),
        "Orange: the level between changes, without the pattern of the day; dotted: when it changed.",
    )
    [*_, last] = changes.reset_index().to_dict("records")
    return [picture], last | {"width_ms": rate_ms}, []


def _top_changes(data: Data) -> tuple[list[Picture | ReportTable], list[Finding]]:
    """The hosts that were seen in both periods, those that moved most first; nothing for less than two."""
    before = period(data.windows, data.before_ms, data.split_ms)
    after = period(data.windows, data.split_ms, data.end_ms)
    both = sorted(set(before["user"]) & set(after["user"]))[:_MAX_HOSTS]
    if len(both) < 2:
        return [], []
    moved = compare(before[before["user"].isin(both)], after[after["user"].isin(both)], by="user")
    moved = moved.rename(columns={"mean_before": "before", "mean_after": "after"})
    moved["user"] = moved["user"].astype(str)
    sure = int((moved["p_value"] < _CHANCE).sum())
    title = f"Of {plural(len(moved), 'host')} seen in both periods {sure:,} changed by more than chance would"
    parts: list[Picture | ReportTable] = [
        Picture(
            "movers",
            figures.top_changes(moved.head(_SHOWN), title),
            "Those that moved most: from the open circle (before) to the filled one (after).",
        ),
        _top_changes_table("movers-table", "The hosts that moved most", moved.head(SHOWN)),
    ]
    return parts, _leap_findings(moved)


def _top_changes_table(name: str, title: str, moved: pd.DataFrame) -> ReportTable:
    columns = [
        ReportColumn("host", "user"),
        ReportColumn("before", "share"),
        ReportColumn("after", "share"),
        ReportColumn("change", "change"),
        ReportColumn("more than chance"),
    ]
    rows = [
        [user, float(before), float(after), float(change), "yes" if p_value < _CHANCE else "no"]
        for user, before, after, change, p_value in moved[
            ["user", "before", "after", "difference", "p_value"]
        ].itertuples(index=False, name=None)
    ]
    return ReportTable(
        name, title, columns, rows,
        note="More than chance: by a test that knows that neighbouring hours are alike, adjusted for so many hosts.",
    )  # fmt: skip


def _leap_findings(moved: pd.DataFrame) -> list[Finding]:
    """The hosts that rose, and those that fell, by much and more than chance would."""
    sure = moved[moved["p_value"] < _CHANCE]
    return [
        finding
        for way, change, action in (
            ("rose", sure["difference"], "Ask what was put on {}."),
            ("fell", -sure["difference"], "Ask what was taken from {}."),
        )
        for finding in _leaps(way, sure[change >= _LEAP], action)
    ]


def _leaps(way: str, leaped: pd.DataFrame, action: str) -> list[Finding]:
    if leaped.empty:
        return []
    names, many = leaped["user"].tolist(), len(leaped)
    everyone = _top_changes_table(f"all-that-{way}", f"{all_of(many)} hosts that {way}", leaped)
    return [
        Finding(
            "watch",
            "change",
            f"{plural(many, 'host')} {way} by {_LEAP * 100:.0f} points or more: {listed(names)}.",
            action.format(them(many)),
            {"machines": many, "way": way, "names": names},
            everyone if many > 1 else None,
        )
    ]
