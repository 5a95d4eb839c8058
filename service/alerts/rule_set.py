"""Rule sets: rules and targets in files, TOML or YAML, one file or a folder of them.

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

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.problems import Problem, shortened
from service.alerts.rules import InvalidRule, Rule, parse_rule
from service.notifications.targets import InvalidTarget, Target, parse_target

_SUFFIXES = (".toml", ".yaml", ".yml")
_MAX_BYTES = 4 * 1024 * 1024
_MAX_RULES = 1000


class RuleFileError(Exception):
    """Files that cannot be used; the message has a line for each thing that is wrong."""


@dataclass(slots=True)
class RuleSet:
    """The rules and targets of some files."""

    rules: dict[str, Rule] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    """The file that each rule is from."""
    unusable: set[str] = field(default_factory=set)
    """Targets that are there and cannot be used."""


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
    """The rules and targets of a file, or of all files of a folder. Raises RuleFileError."""
    rule_set, faults = RuleSet(), []
    for file in _files(path):
        try:
            text = _text(file)
            document = _document(file, text)
        except RuleFileError as error:
            faults.append(str(error))
            continue
        faults += _add(rule_set, file, text, document)
    for rule in rule_set.rules.values():
        known = f"one of {', '.join(rule_set.targets)}" if rule_set.targets else "none, as the files have no targets"
        faults += [
            f"{rule_set.files[rule.name]}: rule {rule.name}: targets: expected {known}, got {target}"
            for target in rule.targets
            if target not in rule_set.targets and target not in rule_set.unusable
        ]
    if len(rule_set.rules) > _MAX_RULES:
        faults.append(f"{path}: expected at most {_MAX_RULES} rules, got {len(rule_set.rules)}")
    if faults:
        raise RuleFileError("\n".join(faults))
    return rule_set


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
    return [path]


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RuleFileError(f"{file}: cannot be read: {error.strerror or error}") from None
    if len(content) > _MAX_BYTES:
        raise RuleFileError(f"{file}: expected at most {_MAX_BYTES} bytes, got {len(content)}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RuleFileError(f"{file}: expected UTF-8: {error}") from None


def _document(file: Path, text: str) -> dict[str, Any]:
    if file.suffix == ".toml":
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RuleFileError(f"{file}: expected TOML: {error}") from None
    if file.suffix not in _SUFFIXES:
        raise RuleFileError(f"{file}: expected a name that ends in .toml, .yaml or .yml")
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RuleFileError(f"{file}: expected YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise RuleFileError(f"{file}: expected rules and targets at the top, got {type(document).__name__}")
    return document


def _add(rule_set: RuleSet, file: Path, text: str, document: dict[str, Any]) -> list[str]:
    """Add what a file says to the rule set; returns what is wrong with it."""
    faults = [f"{file}: expected rules and targets, got {name}" for name in document.keys() - {"rules", "targets"}]
    rules, targets = document.get("rules", []), document.get("targets", {})
    if not isinstance(rules, list) or not isinstance(targets, dict):
        return [*faults, f"{file}: expected a list of rules ([[rules]]) and a table of targets ([targets.NAME])"]
    for place, one in enumerate(rules):
        try:
            rule = parse_rule(one)
        except InvalidRule as error:
            name = one.get("name") if isinstance(one, dict) else None
            faults += [_fault(file, text, ("rules", place), problem, name) for problem in error.problems]
            continue
        if rule.name in rule_set.rules:
            other = Problem("/name", f"{rule.name} stands in {rule_set.files[rule.name]} already")
            faults.append(_fault(file, text, ("rules", place), other, rule.name))
        rule_set.rules[rule.name], rule_set.files[rule.name] = rule, file
    for name, one in targets.items():
        try:
            rule_set.targets[str(name)] = parse_target(str(name), one, file.parent)
        except InvalidTarget as error:
            rule_set.unusable.add(str(name))
            faults.append(_fault(file, text, ("targets", str(name)), error.problem))
    return faults


def _fault(file: Path, text: str, where: tuple[str, int | str], problem: Problem, name: object = None) -> str:
    """What is wrong with a rule, called by its `name` where it has one, or with a target."""
    table, key = where
    shown = f"{table}[{key}]" if isinstance(key, int) else f"{table}.{key}"
    member = problem.pointer.strip("/").replace("/", ".")
    line = _line(file, text, where, member)
    if isinstance(name, str) and name:
        return f"{file}:{line}: rule {shortened(name)}: {member + ': ' if member else ''}{problem.detail}"
    return f"{file}:{line}: {shown}{'.' + member if member else ''}: {problem.detail}"


def _line(file: Path, text: str, where: tuple[str, int | str], member: str) -> int:
    """The line of a member, or of what it misses, counted from 1."""
    first = member.split(".", maxsplit=1)[0]
    if file.suffix == ".toml":
        return _toml_line(text.splitlines(), where, first)
    import yaml

    node: Any = yaml.compose(text)
    for key in (*where, first):
        found = _child(node, key)
        if found is None:
            break
        node = found
    return int(node.start_mark.line) + 1


def _child(node: Any, key: int | str) -> Any:
    """A member of a YAML node, or None."""
    if isinstance(key, int):
        return node.value[key]
    if not isinstance(node.value, list) or not all(isinstance(pair, tuple) for pair in node.value):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _toml_line(lines: Sequence[str], where: tuple[str, int | str], member: str) -> int:
    table, key = where
    if isinstance(key, int):
        headers = [place for place, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{table}\s*\]\]", line)]
        start = headers[key] if key < len(headers) else 0
    else:
        header = re.compile(rf"\s*\[\s*{table}\s*\.\s*\"?{re.escape(key)}\"?\s*\]")
        start = next((place for place, line in enumerate(lines) if header.match(line)), 0)
    for place in range(start + 1, len(lines)):
        if lines[place].lstrip().startswith("["):
            break
        if re.match(rf"\s*{re.escape(member)}\s*=", lines[place]):
            return place + 1
    return start + 1
