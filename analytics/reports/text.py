"""Numbers, names and moments in sentences and tables."""

import math
from collections.abc import Sequence

from analytics.reports.model import Cell, Kind
from contract.problems import display
from contract.times import DAY_MS, HOUR_MS, format_instant

_NAME_CHARACTERS = 64
_UNITS = ((DAY_MS, "day"), (HOUR_MS, "hour"), (60_000, "minute"), (1000, "second"))


def named(user: str) -> str:
    """A host's name in a sentence."""
    return quoted(user)


def quoted(text: str) -> str:
    """What others wrote, in a sentence: in quotation marks, so that it is not taken for words of ours."""
    text = display(text)
    if len(text) > _NAME_CHARACTERS:
        half = _NAME_CHARACTERS // 2 - 1
        text = f"{text[:half]}…{text[-half:]}"
    return f"“{text}”"


def listed(users: Sequence[str], most: int = 3) -> str:
    """Names in a sentence, the first of them where they are many."""
    names = [named(user) for user in users[:most]]
    if len(users) > most:
        return f"{', '.join(names)} and {len(users) - most:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))


def percent(share: float) -> str:
    """A share, such as `11.1 %`; small ones with a digit more."""
    value = share * 100
    if math.isnan(value):
        return "unknown"
    return f"{value:.2f} %" if 0 < abs(value) < 0.1 else f"{value:.1f} %"


def level(share: float) -> str:
    """A share that was chosen, such as `80 %`."""
    return f"{share * 100:.4g} %"


def points(difference: float) -> str:
    """A difference of two shares, such as `+1.2 points`."""
    if math.isnan(difference):
        return "unknown"
    text = f"{difference * 100:+.1f}"
    return f"{text if float(text) else '0.0'} points"  # what shows as nothing has no sign


def count(value: float) -> str:
    """A number with thousands set apart."""
    # What floating point leaves of a whole number is none of its digits.
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 * max(1.0, abs(value)) else f"{value:,.2f}"


def all_of(number: int) -> str:
    """How several things are named together: `Both` or `All 3`."""
    return "Both" if number == 2 else f"All {number:,}"


def them(number: int) -> str:
    """So many things that were named before: `it` or `them`."""
    return "it" if number == 1 else "them"


def times(number: int) -> str:
    """How often, in words: once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def moment(ms: int) -> str:
    """A moment as people read it."""
    text = format_instant(ms // 1000 * 1000).rstrip("Z").replace("T", " ")
    return f"{text.removesuffix(':00')} UTC"


def span(ms: float) -> str:
    """A length of time in its largest fitting unit, such as `6.0 days` or `5 minutes`."""
    for size, name in _UNITS:
        if ms >= size:
            value = ms / size
            number = f"{value:.1f}".removesuffix(".0")
            return f"{number} {name}" + ("" if number == "1" else "s")
    return f"{ms:.0f} ms"


def each(ms: int) -> str:
    """A length of time that follows `each` or `the`, such as `hour` or `15 minutes`."""
    return span(ms).removeprefix("1 ")


def cell(value: Cell, kind: Kind) -> str:
    """What a table shows for a value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"  # noqa: RUF001 - a dash, as tables have it
    if isinstance(value, str):
        return display(value)
    match kind:
        case "share":
            return percent(value)
        case "change":
            return points(value)
        case "time":
            return moment(int(value))
        case _:
            return count(value)
