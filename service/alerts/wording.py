"""Rules and what they find, in words and as members of a notification."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from contract.times import HOUR_MS, format_instant
from service.alerts.rules import AbsenceRule, AnomalyRule, BoundedRule, ChangeRule, FleetRule, MeasuredRule, Rule

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def condition(rule: Rule) -> str:
    """When it fires: `cpuLoadAvg.p95 over 10m > 0.95, clear 0.85, for 5m`."""
    held = f", for {rule.for_}" if rule.for_ms else ""
    if isinstance(rule, AbsenceRule):
        return f"no report for {rule.after}"
    if isinstance(rule, AnomalyRule):
        return f"{rule.extractor.label} is unusual, every {rule.every}{held}"
    assert isinstance(rule, BoundedRule)
    level = f"> {rule.above:g}" if rule.above is not None else f"< {rule.below:g}"
    clear = "" if rule.clear is None else f", clear {rule.clear:g}"
    text = f"{_label(rule)} {level}{clear}"
    if isinstance(rule, ChangeRule):
        text = f"{rule.extractor.label} changed {level}{clear} in {rule.over}"
    if isinstance(rule, FleetRule):
        text = f"{rule.share:.0%} of users: {text}"
    return text + held


def summary(rule: Rule, value: float) -> str:
    """What was seen when an alarm of a rule changed, beside what the rule says: `cpuLoadAvg is 97 %, level 90 %`."""
    if isinstance(rule, AbsenceRule):
        return f"no report for {_time(value)}, level {rule.after}"
    if isinstance(rule, AnomalyRule):
        return f"{rule.extractor.label} is {_number(rule, value)}, which is unusual for it"
    assert isinstance(rule, BoundedRule)
    level = _number(rule, rule.above if rule.above is not None else rule.below or 0.0)
    if isinstance(rule, FleetRule):
        side = "above" if rule.above is not None else "below"
        return f"{_label(rule)} is {side} {level} on {_percent(value)} of the hosts, level {_percent(rule.share)}"
    if isinstance(rule, ChangeRule):
        return f"{rule.extractor.label} changed by {_number(rule, value)} in {rule.over}, level {level}"
    return f"{_label(rule)} is {_number(rule, value)}, level {level}"


def facts(rule: Rule) -> dict[str, Any]:
    """What receivers are told of a rule besides its name, severity and description: no member is ever left out."""
    measured = rule.extractor if isinstance(rule, MeasuredRule) else None
    bounded = rule if isinstance(rule, BoundedRule) else None
    return {
        "condition": condition(rule),
        "metric": measured.metric.name if measured else None,
        "stat": measured.statistic if measured else None,
        "above": bounded.above if bounded else None,
        "below": bounded.below if bounded else None,
    }


def change(
    rule: Rule, user: str, state: str, since_ms: int, at_ms: int, value: float, *, public_url: str, repeated: bool,
    who: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """What became of an alarm, as a notification tells it; `public_url` is where people reach the dashboard.

    `who` are those that used most of the CPU at that time, with their shares.
    """
    return {
        "user": user,
        "state": state,
        "since": format_instant(since_ms),
        "at": format_instant(at_ms),
        "value": value,
        "summary": summary(rule, value) + (f"; most of the CPU by {', '.join(who)}" if who else ""),
        "link": _link(public_url, user, since_ms, at_ms) if public_url else None,
        "repeated": repeated,
    }


def _link(public_url: str, user: str, since_ms: int, at_ms: int) -> str:
    """The dashboard's view of the host, or of the fleet, around the time."""
    shown = {"from": max(0, since_ms - HOUR_MS), "to": at_ms + HOUR_MS}
    page = f"/host?{urlencode({'id': user} | shown)}" if user else f"/?{urlencode(shown)}"
    return public_url.rstrip("/") + page


def _label(rule: MeasuredRule) -> str:
    over = getattr(rule, "over_ms", 0)
    return f"{rule.extractor.label} over {getattr(rule, 'over', '')}" if over else rule.extractor.label


def _number(rule: MeasuredRule, value: float) -> str:
    """A number of a rule's metric, with its unit."""
    taken = rule.extractor
    if taken.statistic in ("count", "var"):
        return f"{value:.4g}"
    if taken.metric.quantity.bounded:
        return _percent(value)
    # What stands in braces only says what is counted (UCUM).
    unit = re.sub(r"\{.*?\}", "", taken.metric.quantity.unit).replace("By", "B")
    return f"{value:.4g}" if unit in ("", "1") else f"{value:.4g} {unit}"


def _percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def _time(seconds: float) -> str:
    """A time to read: `2m 5s`, `3h 10m`."""
    whole = round(seconds)
    for unit, name, smaller, least in ((_DAY_S, "d", _HOUR_S, "h"), (_HOUR_S, "h", _MINUTE_S, "m"),
                                       (_MINUTE_S, "m", 1, "s")):  # fmt: skip
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit}{name}" + (f" {rest}{least}" if rest else "")
    return f"{whole}s"
