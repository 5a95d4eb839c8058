"""Numbers as people read them."""

from collections.abc import Callable

__all__ = ["formatter"]

_PREFIXES = ("", "k", "M", "G", "T", "P")


def formatter(unit: str, stat: str) -> Callable[[float], str]:
    """How to write a statistic of a quantity with a UCUM unit, such as `1` for shares or `By/s`."""
    if stat == "count":
        return "{:,.0f}".format
    if stat == "var":
        return "{:.4g}".format
    if unit == "1":
        return "{:.1%}".format
    if unit == "By/s":
        return _bytes_per_second
    return ("{:.4g} " + unit.replace("{", "").replace("}", "")).format


def _bytes_per_second(value: float) -> str:
    for prefix in _PREFIXES[:-1]:
        if value < 999.5:
            return f"{value:.3g} {prefix}B/s"
        value /= 1000
    return f"{value:,.3g} {_PREFIXES[-1]}B/s"
