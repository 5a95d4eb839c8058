"""What it needs: right-sizing."""

import pandas as pd

from analytics import figures
from analytics.frames import TooFewData
from analytics.reports.data import Data
from analytics.reports.model import Column, Finding, Picture, Section, Table
from analytics.reports.parts.base import Part
from analytics.reports.words import level, listed, percent, plural

__all__ = ["of_machines"]

_SHOWN = 15
_ROWS = 25
_STEPS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Sizes to choose from where cores are not known, in times the present size."""
_SHORT_MS = 14 * 86_400_000
_LEAST_DAYS, _LEAST_DAYS_SHORT = 5, 3
_HALF_UNKNOWN = 0.5


def of_machines(data: Data, machines: pd.DataFrame) -> Part:
    """How large each machine should be. Raises TooFewData where none was seen for long enough."""
    import analytics

    known = data.users["cores"].dropna().astype(float)
    known = known[known > 0]
    in_cores = len(known) > _HALF_UNKNOWN * len(machines)
    least_days = _LEAST_DAYS_SHORT if data.end_ms - data.start_ms < _SHORT_MS else _LEAST_DAYS
    sized = analytics.right_size(
        data.windows.assign(user=data.windows["user"].astype(str)),
        known.rename(index=str) if in_cores else 1.0,
        data.target,
        sizes=None if in_cores else _STEPS,
        least_days=least_days,
    )
    judged = sized[sized["needed"].notna()]
    if judged.empty:
        raise TooFewData(f"no machine was seen on {least_days} days or more")
    unit = "cores" if in_cores else "machines' worth of CPU"
    title = _title(data, judged, unit)
    most = judged.loc[judged["saved"].abs().sort_values(ascending=False).index]
    parts: list[Picture | Table] = [
        Picture(
            "sizes",
            figures.right_sizing(
                most.head(_SHOWN).rename_axis("user").reset_index(),
                title,
                unit="cores" if in_cores else "times the present size",
            ),
            f"The machines with most to change. Needed: what keeps 95 of 100 samples below "
            f"{level(data.target)}; its line is what a day within the next two weeks needs, with 90 % confidence.",
        ),
        _table(most, "in cores" if in_cores else "in times the present size"),
    ]
    caveats = [] if in_cores else ["The number of cores is not known: sizes are relative to what each machine has now."]
    if len(judged) < len(machines):
        caveats.append(
            f"{plural(len(machines) - len(judged), 'machine')} seen on fewer than {least_days} days got no size."
        )
    section = Section("sizes", "What it needs", parts=parts)
    return Part(section, _findings(judged, unit, data), caveats)


def _title(data: Data, judged: pd.DataFrame, unit: str) -> str:
    if not data.is_fleet:
        [machine] = judged.to_dict("records")
        return f"The machine has {machine['now']:g} and needs {machine['needed']:g} {unit}"
    smaller, larger = judged[judged["saved"] > 0]["saved"], judged[judged["saved"] < 0]["saved"]
    parts = [f"{plural(len(smaller), 'machine')} could be smaller, by {smaller.sum():,.1f} {unit} in all"]
    if len(larger):
        parts.append(f"{len(larger):,} should be larger, by {-larger.sum():,.1f}")
    return "; ".join(parts)


def _findings(judged: pd.DataFrame, unit: str, data: Data) -> list[Finding]:
    small = judged[judged["verdict"] == "too small"].sort_values("saved")
    big = judged[judged["verdict"] == "too big"]
    told = []
    if len(small):
        missing = -float(small["saved"].sum())
        told.append(
            Finding(
                "act",
                "size",
                f"{_who(data, small)} too small to stay below {level(data.target)}{_named(data, small)}.",
                f"Give {'it' if len(small) == 1 else 'them'} {missing:,.1f} {unit} more.",
                {"machines": len(small), "missing": missing, "names": [*small.index[:_ROWS]]},
            )
        )
    if len(big):
        saved = float(big["saved"].sum())
        told.append(
            Finding(
                "watch",
                "size",
                f"{_who(data, big)} larger than needed, by {saved:,.1f} {unit} "
                f"({percent(saved / float(judged['now'].sum()))}).",
                "Make them smaller, beginning with those of the table." if data.is_fleet else "Make it smaller.",
                {"machines": len(big), "saved": saved, "names": [*big.index[:_ROWS]]},
            )
        )
    return told


def _who(data: Data, machines: pd.DataFrame) -> str:
    if not data.is_fleet:
        return "The machine is"
    return f"{plural(len(machines), 'machine')} {'is' if len(machines) == 1 else 'are'}"


def _named(data: Data, machines: pd.DataFrame) -> str:
    return f": {listed(list(machines.index))}" if data.is_fleet else ""


def _table(most: pd.DataFrame, unit: str) -> Table:
    columns = [
        Column("machine", "user"), Column("now", "number"), Column("needed", "number"),
        Column("at least", "number"), Column("at most", "number"), Column("saved", "number"),
        Column("95th percentile", "share"), Column("verdict"), Column("confidence", "share"),
    ]  # fmt: skip
    names = ["now", "needed", "lower", "upper", "saved", "utilization", "verdict", "confidence"]
    rows = [
        [user, *(value if isinstance(value, str) else float(value) for value in row)]
        for user, *row in most[names].head(_ROWS).itertuples(name=None)
    ]
    return Table("sizes-table", f"The machines with most to change, {unit}", columns, rows)
