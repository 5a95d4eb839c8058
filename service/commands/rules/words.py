"""Rules in a few words, for tables."""

from service.alerts.rules import AbsenceRule, AnomalyRule, ChangeRule, FleetRule, Rule, ThresholdRule


def condition(rule: Rule) -> str:
    """When it fires: `cpuLoadAvg.p95 over 10m > 0.95, clear 0.85, for 5m`."""
    held = f", for {rule.for_}" if rule.for_ms else ""
    if isinstance(rule, AbsenceRule):
        return f"no report for {rule.after}"
    if isinstance(rule, AnomalyRule):
        return f"{rule.extractor.label} is unusual, every {rule.every}{held}"
    assert isinstance(rule, ThresholdRule | ChangeRule | FleetRule)
    level = f"> {rule.above:g}" if rule.above is not None else f"< {rule.below:g}"
    clear = "" if rule.clear is None else f", clear {rule.clear:g}"
    over = f" over {rule.over}" if rule.over_ms else ""
    text = f"{rule.extractor.label}{over} {level}{clear}"
    if isinstance(rule, ChangeRule):
        text = f"{rule.extractor.label} changed {level}{clear} in {rule.over}"
    if isinstance(rule, FleetRule):
        text = f"{rule.share:.0%} of users: {text}"
    return text + held


def whose(rule: Rule) -> str:
    """Whose reports it looks at."""
    return ", ".join([*rule.users, *rule.os])
