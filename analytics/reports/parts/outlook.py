"""What is to come."""

import pandas as pd

from analytics import figures
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture, Section
from analytics.reports.parts.base import Part, check_day, in_ms, subject
from analytics.reports.words import each, level, moment, percent
from contract.times import DAY_MS, HOUR_MS, WEEK_MS, format_duration

_MAX_MS = WEEK_MS
_SHOWN = 3
"""So many times the horizon of the past is shown beside it."""


def of_total(data: Data) -> Part:
    """The forecast of the fleet's mean, or of the machine's. Raises TooFewData where the history is too short."""
    import analytics

    check_day(data)
    horizon_ms = _horizon(data)
    total = analytics.resample(data.total, format_duration(_step(data)))
    made = analytics.forecast(total, horizon=format_duration(horizon_ms))
    coming = made.frame
    low, high = float(coming["lower_80"].min()), float(coming["upper_80"].max())
    peak = coming["mean"].idxmax()
    height = float(coming["mean"].max())
    what = "the fleet's mean" if data.is_fleet else "the machine"
    title = (
        f"In the {each(horizon_ms)} to come {what} is expected between {percent(low)} and {percent(high)}, highest "
        f"about {moment(in_ms(peak))}"
    )
    history = total[pd.DatetimeIndex(total.index) >= _since(data, horizon_ms)]
    picture = Picture(
        "forecast",
        figures.forecast(history, coming, title, threshold=data.target if high > data.target / 2 else None),
        f"{made.summary} Bands: where 80 and 95 of 100 values are expected.",
    )
    return Part(Section("outlook", "What is to come", parts=[picture]), [_finding(data, horizon_ms, low, high, height)])


def _finding(data: Data, horizon_ms: int, low: float, high: float, height: float) -> Finding:
    numbers = {"horizon_days": horizon_ms / DAY_MS, "lower_80": low, "upper_80": high, "highest_mean": height}
    within = f"in the {each(horizon_ms)} to come"
    if height >= data.target:
        sentence = f"{subject(data)} is expected to reach {percent(height)} {within}: more than {level(data.target)}."
        return Finding("act", "forecast", sentence, "Add capacity, or move work, before then.", numbers)
    if high >= data.target:
        sentence = (
            f"{subject(data)} may reach the target of {level(data.target)} {within}: up to {percent(high)} is likely."
        )
        return Finding("watch", "forecast", sentence, "Have capacity ready.", numbers)
    sentence = f"{subject(data)} is expected to stay below {percent(high)} {within}, with 9 chances in 10 or better."
    return Finding("note", "forecast", sentence, numbers=numbers)


def _step(data: Data) -> int:
    """An hour, or less where the machines' buckets are shorter."""
    return min(HOUR_MS, data.rate_ms)


def _horizon(data: Data) -> int:
    """A week, or less where the history is short: a quarter of it, in whole steps, four at least."""
    index = pd.DatetimeIndex(data.total.index)
    history_ms = in_ms(index[-1]) - in_ms(index[0])
    wanted = min(_MAX_MS, max(history_ms // 4, 4 * _step(data)))
    unit = DAY_MS if wanted >= DAY_MS else _step(data)
    return wanted // unit * unit


def _since(data: Data, horizon_ms: int) -> pd.Timestamp:
    return pd.Timestamp(data.end_ms - _SHOWN * horizon_ms, unit="ms", tz="UTC")
