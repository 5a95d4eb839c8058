"""When in the week there is load."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture, Section
from analytics.reports.parts.base import Part, check_day
from analytics.reports.words import percent
from contract.times import HOUR_MS

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MIN_HOURS_TO_TELL = 2 * 7 * 24


def of_week(data: Data) -> Part:
    """The hours of the week. Raises TooFewData below a day of data, or where buckets are longer than an hour."""
    import analytics

    check_day(data)
    if data.total_rate_ms > HOUR_MS:
        raise TooFewData("what was reported is coarser than an hour")
    profile = analytics.hour_of_week_profile(data.total)
    known = profile.dropna(subset="mean").sort_values("mean").to_dict("records")
    if len(known) < 2:
        raise TooFewData("only one hour of the week has data")
    low, *_, high = known
    title = (
        f"{_hour(high)} is the busiest hour of the week ({percent(high['mean'])}), {_hour(low)} the quietest "
        f"({percent(low['mean'])})"
    )
    hours = pd.DatetimeIndex(data.total.index).floor("1h").nunique()
    weeks = hours >= _MIN_HOURS_TO_TELL
    caveats = (
        [] if weeks else ["Hours of the week are from less than two weeks of data: one unusual day looks like a habit."]
    )
    picture = Picture("hours-of-week", figures.hour_of_week(profile, title), "Grey: nothing was reported at this hour.")
    finding = Finding("note", "week", f"{title}.", "Plan maintenance and batch work for the quiet hours.",
                      {"busiest": _hour(high), "quietest": _hour(low)})  # fmt: skip
    return Part(Section("week", "When in the week", parts=[picture]), [finding] if weeks else [], caveats)


def _hour(row: Mapping[Hashable, Any]) -> str:
    return f"{_DAYS[int(row['weekday'])]} {int(row['hour']):02}:00 UTC"
