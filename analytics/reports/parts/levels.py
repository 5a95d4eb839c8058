"""When the level changed for good."""

import pandas as pd

from analytics import figures
from analytics.frames.resampling import resample
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture
from analytics.reports.parts.base import in_ms, subject
from analytics.reports.words import moment, percent, times
from contract.times import HOUR_MS

NOTEWORTHY = 0.02
"""A mean that moved by less is not worth a look, whatever a test says."""


def of_total(data: Data) -> tuple[list[Picture], list[Finding]]:
    """The lasting changes of the fleet's level, or of the machine's; nothing where there are none."""
    import analytics

    changes = analytics.change_points(data.total)
    changes = changes[changes["kind"] == "level"]
    if changes.empty:
        return [], []
    hourly = data.total if data.total_rate_ms >= HOUR_MS else resample(data.total, "1h")
    picture = Picture(
        "levels",
        figures.levels(hourly, changes, f"The level changed {times(len(changes))}, for half a day or longer"),
        "Orange: the level between changes, without the pattern of the day; dotted: when it changed.",
    )
    return [picture], [_finding(data, changes)]


def _finding(data: Data, changes: pd.DataFrame) -> Finding:
    [*_, last] = changes.to_dict("records")
    before, after = float(last["before"]), float(last["after"])
    when = moment(in_ms(last["time"]))
    return Finding(
        "watch" if abs(after - before) >= NOTEWORTHY else "note",
        "change",
        f"{subject(data)}'s level changed lastingly {when}: from {percent(before)} to {percent(after)}.",
        "Ask what was done then.",
        {"changes": len(changes), "time": when, "before": before, "after": after},
    )
