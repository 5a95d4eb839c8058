"""Why a machine has its verdict, in a sentence."""

from collections.abc import Mapping
from typing import Any

_FULL = 0.97
"""A machine whose quantile is this high may want more than it could get."""


def sentence(row: Mapping[str, Any], quantile: float, target: float, least_days: int) -> str:
    """What was seen, what follows, and how sure that is."""
    days = "1 day" if row["days"] == 1 else f"{row['days']} days"
    if row["verdict"] == "not enough data":
        return f"Seen on {days}: at least {least_days} are needed for a recommendation."
    used = row["utilization"] * row["now"]
    seen = f"On {days}, {100 * quantile:g} % of the {row['basis']} used at most {used:.2g} of {row['now']:g} cores"
    if row["demand"] > used * 1.001:
        seen += f", {row['demand']:.2g} with what is to come"
    interval = f"{row['lower']:g}" if row["lower"] == row["upper"] else f"{row['lower']:g} to {row['upper']:g}"
    return f"{seen}. {_answer(row, target)} (needed: {interval}, with 90 % confidence)."


def _answer(row: Mapping[str, Any], target: float) -> str:
    under = f"under {100 * target:g} %"
    if row["verdict"] == "too big":
        one = row["recommended"] == 1
        return f"{row['recommended']:g} {'core keeps' if one else 'cores keep'} it {under}, {row['saved']:g} fewer"
    if row["verdict"] == "too small":
        least = "At least " if row["utilization"] >= _FULL or row["recommended"] * target < row["demand"] else ""
        return f"{least}{row['recommended']:g} cores are needed to keep it {under}"
    return f"That is right to keep it {under}"
