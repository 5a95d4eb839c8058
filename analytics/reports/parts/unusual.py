"""What was unusual."""

import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.reports.data import Data
from analytics.reports.model import Cell, Column, Finding, Picture, Section, Table
from analytics.reports.parts.base import Part, in_ms, subject
from analytics.reports.words import moment, percent, plural, times

_MACHINES = 50
"""So many of the busiest machines are looked at one by one; each takes its time."""
_ROWS = 25


def of_fleet(data: Data, machines: pd.DataFrame) -> Part:
    """Anomalies of the fleet's mean, and of its busiest machines."""
    import analytics
    from analytics.methods.anomalies import Tuning

    part = of_machine(data)
    busiest = machines.index[:_MACHINES]
    chosen = data.windows[data.windows["user"].isin(busiest)]
    odd = analytics.anomalies(chosen.assign(user=chosen["user"].astype(str)), tuning=Tuning.for_step(data.rate_ms))
    odd = odd[odd["anomaly"]].sort_values("score", ascending=False)
    if part.section is None or odd.empty:
        return part
    title = f"The {min(_ROWS, len(odd)):,} strongest anomalies of the {plural(len(busiest), 'busiest machine')}"
    section = Section(
        part.section.name, part.section.title, part.section.intro, [*part.section.parts, _table(odd, title)]
    )
    return Part(section, part.findings, part.caveats)


def of_machine(data: Data) -> Part:
    """Anomalies of the fleet's mean, or of the machine: each judged by what came before it, and nothing else."""
    import analytics
    from analytics.methods.anomalies import Tuning

    verdicts = analytics.anomalies(data.total, tuning=Tuning.for_step(data.total_rate_ms))
    if verdicts["upper"].isna().all():
        raise TooFewData(f"too few points ({len(verdicts):,}) to learn what is usual")
    odd = verdicts[verdicts["anomaly"]]
    what = "the fleet's mean" if data.is_fleet else "the machine"
    if odd.empty:
        title = f"Nothing unusual in {what}"
        finding = Finding("note", "anomaly", f"{title}: every value was within what came before made likely.")
    else:
        strongest = odd["score"].idxmax()
        title = f"{plural(len(odd), 'anomaly', 'anomalies')} in {what}, the strongest {moment(in_ms(strongest))}"
        [worst, *_] = odd.loc[[strongest]].to_dict("records")
        finding = Finding(
            "watch",
            "anomaly",
            f"{subject(data)} was unlike itself {times(len(odd))}, most of all {moment(in_ms(strongest))}: "
            f"{percent(float(worst['value']))} where {percent(float(worst['expected']))} was usual.",
            "Ask what happened then.",
            {"anomalies": len(odd), "times": [moment(in_ms(time)) for time in odd.index[:_ROWS]]},
        )
    picture = Picture(
        "anomalies",
        figures.anomalies(verdicts, title),
        "Grey: what was likely, judged from what came before, as soon as enough had been seen; a cross marks where "
        "something unusual began. A change of pattern or of level can be unusual inside the grey.",
    )
    return Part(Section("unusual", "What was unusual", parts=[picture]), [finding])


def _table(odd: pd.DataFrame, title: str) -> Table:
    columns = [
        Column("machine", "user"), Column("when", "time"), Column("value", "share"), Column("usual", "share"),
        Column("score, 0 to 1", "number"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [str(row["user"]), in_ms(row["time"]), float(row["value"]), float(row["expected"]), float(row["score"])]
        for row in odd.head(_ROWS).reset_index().to_dict("records")
    ]
    return Table("anomalies-table", title, columns, rows)
