"""How the load went: the trend, and who carried it when."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analytics import figures
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture, Section
from analytics.reports.parts.base import Part, has_day, in_ms
from analytics.reports.words import each, level, moment, percent, plural

if TYPE_CHECKING:
    from analytics.methods.trends import Slope


_QUANTILES = (0.05, 0.25, 0.75, 0.95)
_BANDS = [("users_5", "users_95", "90 of 100 machines"), ("users_25", "users_75", "50 of 100 machines")]
_CHANCE, _SLOW = 0.05, 0.01
_BUSY = 0.1
"""The busiest of the machines whose share of the work is told."""


def of_fleet(data: Data, machines: pd.DataFrame) -> Part:
    """Trend with bands over the machines, and all of them as a heat map."""
    import analytics

    trend = analytics.fleet_trend(data.windows, data.rate, quantiles=_QUANTILES)
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
        parts.append(_map(data, machines))
    slope = _slope(trend.slope) if has_day(data) else []
    return Part(Section("course", "How the load went", parts=parts), [_level(data, mean, len(machines)), *slope])


def of_machine(data: Data) -> Part:
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
    return Part(Section("course", "How the load went", parts=[picture]), [_level(data, mean, 1)])


def _slope(slope: "Slope") -> list[Finding]:
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


def _map(data: Data, machines: pd.DataFrame) -> Picture:
    work = (machines["mean"] * machines["buckets"]).sort_values(ascending=False)
    busiest = max(1, round(len(work) * _BUSY))
    share = float(work.iloc[:busiest].sum() / max(work.sum(), 1e-12))
    title = f"The {plural(busiest, 'busiest machine')} of {len(work):,} did {percent(share)} of all work"
    return Picture(
        "machines-over-time",
        figures.users_over_time(data.windows, title),
        "Rows are ordered by mean load: a bright row is a machine, or a group of neighbours in this order, that is "
        "busy all the time; a bright column is a time at which all were. Grey: nothing was reported.",
    )


def _level(data: Data, mean: float, machines: int) -> Finding:
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
