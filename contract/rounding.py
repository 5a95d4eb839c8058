"""Numbers that rounding has carried out of their range, brought back.

A mean of shares computed as a sum over a count may be 1.0000000000000002, a variance computed as a difference of
squares -1e-17. Such a report is right, and is taken; anything that is out by more is wrong, and is refused.
"""

from typing import Any

from contract.metrics import MAX_SHARE_VARIANCE, MAX_VALUE, ROUNDING, TYPES, Cpu, Quantity, type_name

_SHARES = ("avg_utilization", "min_utilization", "max_utilization")
_KINDS = {type_name(kind): kind for kind in TYPES}
_ANY = float("inf")


def clip_rounding(document: Any) -> bool:
    """Clip, in the JSON document of a report, the numbers that are out of their range by less than `ROUNDING`.

    Shares are clipped to [0, 1], their variances to [0, 1/4]; other numbers, and the variances of those, at 0. Where
    values are large their variance has a rounding of its own size: it may be as far below 0 as `ROUNDING` times the
    square of the mean. True where anything was clipped. What is no report is left as it is.
    """
    metrics = document.get("metrics") if isinstance(document, dict) else None
    clipped = False
    for metric in metrics if isinstance(metrics, list) else ():
        kind = _KINDS.get(str(metric.get("type"))) if isinstance(metric, dict) else None
        if kind is Cpu:
            clipped |= _clip_cpu(metric)
        elif kind is not None:
            for quantity in kind.quantities:
                clipped |= _clip_distribution(quantity, metric.get(quantity.attribute))
            for part, quantities in (("core", kind.of_cores), ("device", kind.of_devices)):
                for quantity in quantities:
                    high = 1.0 if quantity.bounded else _ANY
                    clipped |= _clip_all(metric.get(f"{quantity.attribute}_by_{part}"), high)
    return clipped


def _clip_cpu(metric: dict[str, Any]) -> bool:
    clipped = False
    for name in (*_SHARES, "var_utilization"):
        high = MAX_SHARE_VARIANCE if name == "var_utilization" else 1.0
        clipped |= _clip(metric, name, high)
        clipped |= _clip_all(metric.get(f"{name}_by_core"), high)
    return clipped


def _clip_all(values: Any, high: float) -> bool:
    clipped = False
    for place in range(len(values) if isinstance(values, list) else 0):
        clipped |= _clip(values, place, high)
    return clipped


def _clip_distribution(quantity: Quantity, distribution: Any) -> bool:
    if not isinstance(distribution, dict):
        return False
    high = 1.0 if quantity.bounded else _ANY
    clipped = False
    for name in ("avg", "min", "max"):
        clipped |= _clip(distribution, name, high)
    if quantity.bounded:
        return clipped | _clip(distribution, "var", MAX_SHARE_VARIANCE)
    mean = distribution.get("avg")
    scale = min(max(1.0, mean * mean), MAX_VALUE) if isinstance(mean, int | float) else 1.0
    return clipped | _clip(distribution, "var", high, ROUNDING * scale)


def _clip(place: Any, name: Any, high: float, rounding: float = ROUNDING) -> bool:
    """Clip a member of an object, or an entry of a list, to [0, `high`]."""
    value = place.get(name) if isinstance(place, dict) else place[name]
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    if -rounding <= value < 0.0:
        place[name] = 0.0
    elif high < value <= high + rounding:
        place[name] = high
    else:
        return False
    return True
