"""Plotly figures of what the analysis functions answer.

Each takes plain DataFrames, says in its title what there is to see, states the unit on each axis and UTC on each axis
of time, shows gaps as gaps, keeps to colours that the colour-blind can tell apart, and reads on a dark page as on a
light one. Names of hosts are shown as they are: no name is taken for markup.
"""

from analytics.figures.comparisons import (
    core_imbalance,
    hours_of_day,
    right_sizing,
    top_changes,
    use_compared,
    use_over_time,
)
from analytics.figures.heat_maps import hour_of_week, users_over_time
from analytics.figures.style import DARK, LIGHT
from analytics.figures.trends import anomalies, forecast, levels, load_duration, mark_moments, trend

__all__ = [
    "DARK",
    "LIGHT",
    "anomalies",
    "core_imbalance",
    "forecast",
    "hour_of_week",
    "hours_of_day",
    "levels",
    "load_duration",
    "mark_moments",
    "right_sizing",
    "top_changes",
    "trend",
    "use_compared",
    "use_over_time",
    "users_over_time",
]
