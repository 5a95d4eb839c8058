"""Why a host has its verdict, in a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from analytics.methods.right_sizing.later_days import WITHIN_DAYS

FULL: Final = 0.97
"""A host whose quantile is this high may want more than it could get: how much more, nobody has seen."""

_UNSEEN: Final = "; what it would use if it could is not seen while it is full"


def amount(cores: float) -> str:
    """A number of cores in a sentence: `120`, `12`, `1.7`, `0.03`, never `1.2e+02`."""
    digits = 0 if abs(cores) >= 10 else 1 if abs(cores) >= 1 else 2
    text = f"{cores:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def sentence(
    row: Mapping[str, Any], quantile: float, target: float, least_days: int, sizes: Sequence[float] | None
) -> str:
    """What was seen, what follows, and how sure that is."""
    days = "1 day" if row["days"] == 1 else f"{row['days']} days"
    if row["verdict"] == "not enough data":
        return f"Seen on {days}: at least {least_days} are needed for a recommendation."
    used = row["utilization"] * row["now"]
    of = f"{amount(used)} of {amount(row['now'])} {'core' if row['now'] == 1 else 'cores'}"
    seen = f"On {days}, {100 * quantile:g} % of the {row['basis']} used at most {of}"
    if row["demand"] > used * 1.001:
        seen += f", {amount(row['demand'])} with what is to come"
    return f"{seen}. {_answer(row, target, sizes)}{_interval(row)}."


def relative_sentence(row: Mapping[str, Any], quantile: float, target: float, least_days: int) -> str:
    """The same of a host whose cores are not known: sizes are in times what it has now."""
    if row["verdict"] == "not enough data":
        return sentence(row, quantile, target, least_days, None)
    seen = (
        f"On {row['days']} days, {100 * quantile:g} % of the {row['basis']} used at most "
        f"{100 * row['utilization']:.0f} % of what it has"
    )
    under, new = f"under {100 * target:g} %", f"{row['recommended']:g} times its present size"
    answers = {
        "no size fits": "No size that was looked at is enough",
        "too small": f"It needs {new} to stay {under}",
        "too big": f"With {new} it stays {under}",
    }
    answer = answers.get(row["verdict"], f"Its size is right to stay {under}")
    if row["utilization"] >= FULL:
        return f"{seen}. {answer}{_UNSEEN}."
    if np.isinf(row["upper"]):
        return f"{seen}. {answer}."
    many = f"{row['lower']:g}" if row["lower"] == row["upper"] else f"{row['lower']:g} to {row['upper']:g}"
    return (
        f"{seen}. {answer} (needed on a day within the next {WITHIN_DAYS}: {many} times what it has, "
        "with 90 % confidence)."
    )


def _interval(row: Mapping[str, Any]) -> str:
    """What a day needs; nothing where no size is enough for one."""
    if row["utilization"] >= FULL:
        return _UNSEEN
    if np.isinf(row["lower"]):
        return ""
    low, high = amount(row["lower"]), amount(row["upper"])
    many = low if low == high else f"{low} or more than there is" if np.isinf(row["upper"]) else f"{low} to {high}"
    return f" (needed on a day within the next {WITHIN_DAYS}: {many}, with 90 % confidence)"


def _answer(row: Mapping[str, Any], target: float, sizes: Sequence[float] | None) -> str:
    under = f"under {100 * target:g} %"
    few, new = row["recommended"] == 1, amount(row["recommended"])
    if row["verdict"] == "no size fits":
        largest, wanted = amount(max(sizes or [0])), amount(row["demand"] / target)
        return f"None of the sizes fits: the largest has {largest}, at least {wanted} are needed to keep it {under}"
    if row["verdict"] == "too big":
        return f"{new} {'core keeps' if few else 'cores keep'} it {under}, {amount(row['saved'])} fewer"
    if row["verdict"] == "too small":
        least = "At least " if row["utilization"] >= FULL or row["recommended"] * target < row["demand"] else ""
        return f"{least}{new} {'core is' if few else 'cores are'} needed to keep it {under}"
    if np.isinf(row["needed"]):
        return f"None of the sizes would keep it {under}: what it has is right"
    return f"That is right to keep it {under}"
