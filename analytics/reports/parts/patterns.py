"""What is usual, hour by hour of the week, and what was not."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.methods.anomalies import Tuning, anomalies
from analytics.methods.week_profiles import hour_of_week_profile
from analytics.reports.data import Data
from analytics.reports.model import Cell, Finding, Picture, ReportColumn, ReportTable, Section
from analytics.reports.parts.base import (
    SHOWN,
    Part,
    after_annotation,
    attended_by_the_same,
    attended_total,
    check_day,
    in_ms,
    subject,
)
from analytics.reports.text import moment, percent, times
from contract.problems import plural
from contract.times import HOUR_MS

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MIN_HOURS_TO_TELL = 2 * 7 * 24
_MAX_HOSTS = 50
"""So many of the busiest hosts are looked at one by one; each takes its time."""


def hours_of_week(data: Data) -> Part:
    """The hours of the week. Raises TooFewData below a day of data, or where buckets are longer than an hour."""
    check_day(data)
    if data.total_rate_ms > HOUR_MS:
        raise TooFewData("what was reported is coarser than an hour")
    total = attended_total(data)
    profile = hour_of_week_profile(total, data.tz)
    known = profile.dropna(subset="mean").sort_values("mean").to_dict("records")
    if len(known) < 2:
        raise TooFewData("only one hour of the week has data")
    low, *_, high = known
    title = (
        f"{_hour_named(high, data.tz)} is the busiest hour of the week ({percent(high['mean'])}), "
        f"{_hour_named(low, data.tz)} the "
        f"quietest ({percent(low['mean'])})"
    )
    hours = pd.DatetimeIndex(total.index).floor("1h").nunique()
    weeks = hours >= _MIN_HOURS_TO_TELL
    caveats = (
        [] if weeks else ["Hours of the week are from less than two weeks of data: one unusual day looks like a habit."]
    )
    picture = Picture("hours-of-week", figures.hour_of_week(profile, title), "Grey: nothing was reported at this hour.")
    finding = Finding("note", "week", f"{title}.", "Plan maintenance and batch work for the quiet hours.",
                      {"busiest": _hour_named(high, data.tz), "quietest": _hour_named(low, data.tz)})  # fmt: skip
    return Part(Section("week", "When in the week", parts=[picture]), [finding] if weeks else [], caveats)


def _hour_named(row: Mapping[Hashable, Any], tz: str) -> str:
    return f"{_DAYS[int(row['weekday'])]} {int(row['hour']):02}:00 {tz}"


def fleet_anomalies(data: Data, hosts: pd.DataFrame) -> Part:
    """Anomalies of the fleet's mean, and of its busiest hosts."""
    part = total_anomalies(data)
    busiest = hosts.index[:_MAX_HOSTS]
    chosen = data.windows[data.windows["user"].isin(busiest)]
    odd = anomalies(chosen.assign(user=chosen["user"].astype(str)), tuning=Tuning.for_step(data.rate_ms))
    odd = odd[odd["anomaly"]].sort_values("score", ascending=False)
    if part.section is None or odd.empty:
        return part
    whose = "busiest host" if len(busiest) == 1 else f"{len(busiest):,} busiest hosts"
    strongest = "strongest anomaly" if len(odd) == 1 else f"{min(SHOWN, len(odd)):,} strongest anomalies"
    title = f"The {strongest} of the {whose}"
    table = _anomalies_table(data, odd, title)
    section = Section(part.section.name, part.section.title, part.section.intro, [*part.section.parts, table])
    return Part(section, part.findings, part.caveats)


def _verdicts(total: pd.DataFrame, rate_ms: int) -> pd.DataFrame:
    verdicts: pd.DataFrame = anomalies(total, tuning=Tuning.for_step(rate_ms))
    if verdicts["upper"].isna().all():
        raise TooFewData(f"too few points ({len(verdicts):,}) to learn what is usual")
    return verdicts


def total_anomalies(data: Data) -> Part:
    """Anomalies of the fleet's mean, or of the host: each judged by what came before it, and nothing else.

    The mean is that of the hosts that were seen throughout, or of whoever reports where these have too few points.
    """
    try:
        total, rate_ms, what = attended_by_the_same(data)
        verdicts = _verdicts(total, rate_ms)
    except TooFewData:
        rate_ms, what = data.total_rate_ms, "the mean of whoever reports"
        verdicts = _verdicts(attended_total(data), rate_ms)
    odd = verdicts[verdicts["anomaly"]]
    if odd.empty:
        title = f"Nothing unusual in {what}"
        finding = Finding("note", "anomaly", f"{title}: every value was within what came before made likely.")
    else:
        strongest = odd["score"].idxmax()
        after = after_annotation(data, in_ms(strongest), rate_ms)
        when = ", ".join(filter(None, [moment(in_ms(strongest)), after]))
        title = f"{plural(len(odd), 'anomaly', 'anomalies')} in {what}, the strongest {moment(in_ms(strongest))}"
        numbers: dict[str, Cell | Sequence[str]] = {
            "anomalies": len(odd), "times": [moment(in_ms(time)) for time in odd.index[:SHOWN]],
        }  # fmt: skip
        [worst, *_] = odd.loc[[strongest]].to_dict("records")
        finding = Finding(
            "watch",
            "anomaly",
            f"{subject(data)} was unlike itself {times(len(odd))}, most of all {when}: "
            f"{percent(float(worst['value']))} where {percent(float(worst['expected']))} was usual.",
            "Ask what happened then.",
            numbers | ({"strongest_follows": after} if after else {}),
        )
    picture = Picture(
        "anomalies",
        figures.anomalies(verdicts, title),
        "Grey: what was likely, judged from what came before, as soon as enough had been seen; a cross marks where "
        "something unusual began. A change of pattern or of level can be unusual inside the grey.",
    )
    return Part(Section("unusual", "What was unusual", parts=[picture]), [finding])


def _anomalies_table(data: Data, odd: pd.DataFrame, title: str) -> ReportTable:
    columns = [
        ReportColumn("host", "user"),
        ReportColumn("when", "time"),
        ReportColumn("value", "share"),
        ReportColumn("usual", "share"),
        ReportColumn("what changed"),
        ReportColumn("score, 0 to 1", "number"),
    ]
    rows: list[list[Cell]] = [
        [
            str(row["user"]), in_ms(row["time"]), float(row["value"]), float(row["expected"]), str(row["kind"]),
            float(row["score"]),
        ]
        for row in odd.head(SHOWN).reset_index().to_dict("records")
    ]  # fmt: skip
    shown = zip(odd.index, odd["user"], strict=True)
    followed = [after_annotation(data, in_ms(time), data.rate_ms, str(user)) for time, user in [*shown][:SHOWN]]
    if any(followed):
        columns.append(ReportColumn("shortly after"))
        rows = [[*row, words or None] for row, words in zip(rows, followed, strict=True)]
    return ReportTable("anomalies-table", title, columns, rows)
