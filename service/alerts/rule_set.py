"""Rule sets: rules, targets, routes and scheduled silences in files, TOML or YAML, one file or a folder of them.

[[rules]]
name = "busy"
kind = "threshold"
metric = "cpuLoadAvg"
above = 0.9
targets = ["ops"]

[targets.ops]
webhook = "https://example.org/hook"
secret = "env:OPS_SECRET"
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, get_args

import msgspec

from contract.problems import Problem, did_you_mean
from service.alerts.documents import SUFFIXES, RuleFileError, document_of, fault, read_text
from service.alerts.rules import InvalidRule, Rule, Severity, parse_rule
from service.alerts.silences import InvalidSilence, WeeklySilence, parse_silence
from service.notifications.targets import InvalidTarget, Target, parse_target

__all__ = ["RuleFileError", "RuleSet", "inhibition_faults", "parse_rule_set", "read_rule_set", "stamp"]

_MAX_RULES = 1000
_TABLES = ("rules", "targets", "routes", "silences")
_SEVERITIES: tuple[str, ...] = get_args(Severity)


@dataclass(slots=True)
class RuleSet:
    """What some files say."""

    rules: dict[str, Rule] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    routes: dict[str, list[str]] = field(default_factory=dict)
    """By severity, the targets of rules that name none."""
    silences: list[WeeklySilence] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    """The file that each rule is from."""
    texts: dict[Path, str] = field(default_factory=dict)
    """The text of each file."""
    unusable: set[str] = field(default_factory=set)
    """Targets that are there and cannot be used."""

    def routed(self, rule: Rule) -> Rule:
        """The rule with those as targets who are told of it."""
        routed = self.routes.get(rule.severity)
        return msgspec.structs.replace(rule, targets=routed) if routed and not rule.targets else rule


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when one of the files does."""
    found = []
    for file in _files(path):
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        found.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(found)


def read_rule_set(path: Path) -> RuleSet:
    """What a file says, or all files of a folder. Raises RuleFileError."""
    texts, faults = {}, []
    for file in _files(path):
        try:
            texts[file] = read_text(file)
        except RuleFileError as error:
            faults.append(str(error))
    return parse_rule_set(texts, faults)


def parse_rule_set(texts: Mapping[Path, str], faults: Iterable[str] = ()) -> RuleSet:
    """What the texts of some files say. Raises RuleFileError, with `faults` before what is wrong with these."""
    rule_set, faults = RuleSet(texts=dict(texts)), [*faults]
    for file, text in texts.items():
        try:
            document = document_of(file, text)
        except RuleFileError as error:
            faults.append(str(error))
            continue
        faults += _add(rule_set, file, text, document)
    faults += _names_wrongly(rule_set)
    if len(rule_set.rules) > _MAX_RULES:
        faults.append(f"expected at most {_MAX_RULES} rules, got {len(rule_set.rules)}")
    if faults:
        raise RuleFileError("\n".join(faults))
    return rule_set


def inhibition_faults(rules: Mapping[str, Rule]) -> dict[str, str]:
    """What is wrong with `inhibited_by`, by the name of the rule: of rules in a circle nobody might ever hear."""
    faults = {}
    for rule in rules.values():
        for name in rule.inhibited_by:
            if name not in rules:
                faults[rule.name] = f"expected names of rules, got {name}{did_you_mean(name, rules)}"
    try:
        TopologicalSorter({rule.name: rule.inhibited_by for rule in rules.values()}).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        faults[circle[0]] = f"expected no circle, got {' by '.join(circle)}"
    return faults


def _names_wrongly(rule_set: RuleSet) -> list[str]:
    """Names of targets and rules that are none."""
    known = f"one of {', '.join(rule_set.targets)}" if rule_set.targets else "none, as the files have no targets"
    there = rule_set.targets.keys() | rule_set.unusable
    faults = [
        f"{rule_set.files[rule.name]}: rule {rule.name}: targets: expected {known}, got {target}"
        for rule in rule_set.rules.values()
        for target in rule.targets
        if target not in there
    ]
    faults += [
        f"routes: {severity}: expected {known}, got {target}"
        for severity, targets in rule_set.routes.items()
        for target in targets
        if target not in there
    ]
    faults += [
        f"{rule_set.files[name]}: rule {name}: inhibited_by: {detail}"
        for name, detail in inhibition_faults(rule_set.rules).items()
    ]
    return faults


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    return [path]


def _add(rule_set: RuleSet, file: Path, text: str, document: dict[str, Any]) -> list[str]:
    """Add what a file says to the rule set; returns what is wrong with it."""
    faults = [f"{file}: expected rules and targets, got {name}" for name in document.keys() - set(_TABLES)]
    rules, targets = document.get("rules", []), document.get("targets", {})
    if not isinstance(rules, list) or not isinstance(targets, dict):
        return [*faults, f"{file}: expected a list of rules ([[rules]]) and a table of targets ([targets.NAME])"]
    for place, one in enumerate(rules):
        try:
            rule = parse_rule(one)
        except InvalidRule as error:
            name = one.get("name") if isinstance(one, dict) else None
            faults += [fault(file, text, ("rules", place), problem, name) for problem in error.problems]
            continue
        if rule.name in rule_set.rules:
            other = Problem("/name", f"{rule.name} stands in {rule_set.files[rule.name]} already")
            faults.append(fault(file, text, ("rules", place), other, rule.name))
        rule_set.rules[rule.name], rule_set.files[rule.name] = rule, file
    for name, one in targets.items():
        try:
            rule_set.targets[str(name)] = parse_target(str(name), one, file.parent)
        except InvalidTarget as error:
            rule_set.unusable.add(str(name))
            faults.append(fault(file, text, ("targets", str(name)), error.problem))
    return (
        faults
        + _add_routes(rule_set, file, document.get("routes", {}))
        + _add_silences(rule_set, file, text, document.get("silences", []))
    )


def _add_routes(rule_set: RuleSet, file: Path, routes: Any) -> list[str]:
    if not isinstance(routes, dict):
        return [f"{file}: routes: expected a table such as [routes] with critical = ['ops']"]
    faults = []
    for severity, targets in routes.items():
        if severity not in _SEVERITIES:
            faults.append(f"{file}: routes: expected {', '.join(_SEVERITIES)}, got {severity}")
        elif severity in rule_set.routes:
            faults.append(f"{file}: routes: {severity} stands in another file already")
        elif not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            faults.append(f"{file}: routes: {severity}: expected a list of names of targets")
        else:
            rule_set.routes[severity] = targets
    return faults


def _add_silences(rule_set: RuleSet, file: Path, text: str, silences: Any) -> list[str]:
    if not isinstance(silences, list):
        return [f"{file}: expected a list of silences ([[silences]])"]
    faults = []
    for place, one in enumerate(silences):
        try:
            rule_set.silences.append(parse_silence(one))
        except InvalidSilence as error:
            faults.append(fault(file, text, ("silences", place), error.problem))
    return faults
