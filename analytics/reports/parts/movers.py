"""Which machines changed from one period to the next."""

import pandas as pd

from analytics import figures
from analytics.reports.data import Data
from analytics.reports.model import Column, Finding, Picture, Table
from analytics.reports.parts.base import period
from analytics.reports.words import listed, plural

CHANCE = 0.05
"""Below this a p-value counts as more than chance."""
_SHOWN = 12
_ROWS = 25
_LEAP = 0.2
_MAX = 5000
"""Machines that are compared; each takes a millisecond."""


def of_machines(data: Data) -> tuple[list[Picture | Table], list[Finding]]:
    """The machines that were seen in both periods, those that moved most first; nothing for less than two."""
    import analytics

    before = period(data.windows, data.before_ms, data.split_ms)
    after = period(data.windows, data.split_ms, data.end_ms)
    both = sorted(set(before["user"]) & set(after["user"]))[:_MAX]
    if len(both) < 2:
        return [], []
    moved = analytics.compare(before[before["user"].isin(both)], after[after["user"].isin(both)], by="user")
    moved = moved.rename(columns={"mean_before": "before", "mean_after": "after"})
    moved["user"] = moved["user"].astype(str)
    sure = int((moved["p_value"] < CHANCE).sum())
    title = f"Of {plural(len(moved), 'machine')} seen in both periods {sure:,} changed by more than chance would"
    parts: list[Picture | Table] = [
        Picture(
            "movers",
            figures.movers(moved.head(_SHOWN), title),
            "Those that moved most: from the open circle (before) to the filled one (after).",
        ),
        _table(moved),
    ]
    return parts, _leaps(moved)


def _table(moved: pd.DataFrame) -> Table:
    columns = [
        Column("machine", "user"), Column("before", "share"), Column("after", "share"), Column("change", "change"),
        Column("more than chance"),
    ]  # fmt: skip
    rows = [
        [user, float(before), float(after), float(change), "yes" if p_value < CHANCE else "no"]
        for user, before, after, change, p_value in moved[["user", "before", "after", "difference", "p_value"]]
        .head(_ROWS)
        .itertuples(index=False, name=None)
    ]
    return Table(
        "movers-table", "The machines that moved most", columns, rows,
        note="More than chance: by a test that knows that neighbouring hours are alike, adjusted for so many machines.",
    )  # fmt: skip


def _leaps(moved: pd.DataFrame) -> list[Finding]:
    risen = moved[(moved["difference"] >= _LEAP) & (moved["p_value"] < CHANCE)]
    if risen.empty:
        return []
    names = risen["user"].tolist()
    return [
        Finding(
            "watch",
            "change",
            f"{plural(len(risen), 'machine')} rose by {_LEAP * 100:.0f} points or more: {listed(names)}.",
            "Ask what was put on them.",
            {"machines": len(risen), "names": names[:_ROWS]},
        )
    ]
