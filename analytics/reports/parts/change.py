"""What changed: one period beside the one before."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.frames.gaps import naive
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture, Section
from analytics.reports.parts import levels, movers
from analytics.reports.parts.base import Part, check_day, period, subject
from analytics.reports.words import moment, percent, points


def of_periods(data: Data) -> Part:
    """The two periods: hour by hour, and the machines that moved most.

    Raises TooFewData where one has no data, or both together are less than a day.
    """
    import analytics

    check_day(data)
    before = period(data.total, data.before_ms, data.split_ms)
    after = period(data.total, data.split_ms, data.end_ms)
    if before.empty or after.empty:
        raise TooFewData("only one of the two periods has data")
    was, now = (float(np.average(part["mean"], weights=part["count"])) for part in (before, after))
    [compared] = analytics.compare(before, after).to_dict("records")
    names = (f"{moment(data.before_ms)} to {moment(data.split_ms)}", f"from then to {moment(data.end_ms)}")
    stepped, told = levels.of_total(data)
    moved, leaped = movers.of_machines(data) if data.is_fleet else ([], [])
    parts = [_hours(before, after, was, now), *stepped, *moved]
    intro = f"Before: {names[0]}. After: {names[1]}."
    return Part(Section("change", "What changed", intro, parts), [_moved(data, compared), *told, *leaped])


def _hours(before: pd.DataFrame, after: pd.DataFrame, was: float, now: float) -> Picture:
    hours = pd.DataFrame({"before": _by_hour(before), "after": _by_hour(after)}).reindex(range(24))
    title = f"The mean of the two periods: {percent(was)}, then {percent(now)} ({points(now - was)})"
    return Picture("hours", figures.hours_of_day(hours, title), "The mean of each hour of the day in both periods.")


def _by_hour(part: pd.DataFrame) -> "pd.Series[float]":
    hour = naive(pd.DatetimeIndex(part.index)).hour
    return (part["mean"] * part["count"]).groupby(hour).sum() / part["count"].groupby(hour).sum()


def _moved(data: Data, compared: Mapping[Hashable, Any]) -> Finding:
    was, now, p_value = (float(compared[name]) for name in ("mean_before", "mean_after", "p_value"))
    numbers = {
        "before": was, "after": now, "change": now - was, "p_value": p_value, "hedges_g": float(compared["hedges_g"]),
    }  # fmt: skip
    if abs(now - was) < levels.NOTEWORTHY:
        sentence = f"{subject(data)}'s load hardly changed: {percent(was)} before, {percent(now)} after."
        return Finding("note", "change", sentence, numbers=numbers)
    way = "rose" if now > was else "fell"
    sentence = f"{subject(data)}'s load {way} from {percent(was)} to {percent(now)} ({points(now - was)})."
    if p_value > movers.CHANCE:
        return Finding("note", "change", f"{sentence} Its usual ups and downs would explain that.", numbers=numbers)
    return Finding(
        "watch",
        "change",
        sentence,
        "See “What changed” for who moved." if data.is_fleet else "Ask what was done meanwhile.",
        numbers,
    )
