"""Rules as they are written, checked, and with what evaluations need of them."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta, Struct

from contract.problems import Problem, did_you_mean, problem_of, shortened
from contract.report import OsType
from contract.selectors import MAX_PATTERN, host_matcher, names_labels
from contract.times import DAY_MS, MINUTE_MS, parse_duration
from service.journal.extractors import Extractor, extractor

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Pattern = Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)]
Severity = Literal["info", "warning", "critical"]
_MOST = {"var": 0.25, "std": 0.5}
"""The largest variance and standard deviation of values in [0, 1] (Popoviciu's inequality)."""
_LONGEST_MS = 366 * DAY_MS
_NOT_MEANT = ("description", "severity", "targets", "group", "repeat", "inhibited_by")
"""Members that say nothing of when a rule fires."""


class InvalidRule(ValueError):
    """A rule that cannot be used, with what is wrong."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{one.pointer or 'the rule'}: {one.detail}" for one in problems))
        self.problems = problems


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", dict=True,
           rename={"for_": "for"}):  # fmt: skip
    """What all kinds of rules have. Durations are texts such as `5m`; made by `parse_rule`, which checks them."""

    name: Name
    description: Annotated[str, Meta(max_length=1000)] = ""
    severity: Severity = "warning"
    enabled: bool = True
    users: Annotated[list[Pattern], Meta(min_length=1, max_length=64)] = msgspec.field(default_factory=lambda: ["*"])
    os: Annotated[list[OsType], Meta(max_length=3)] = []
    for_: str = "0s"
    """It fires when its condition has held so long."""
    clear_for: str = "0s"
    """How long the condition must have been cleared until the alarm is resolved."""
    targets: Annotated[list[Name], Meta(max_length=16)] = []
    group: str = "10s"
    """For so long what happens is collected into one notification."""
    repeat: str | None = None
    """What still fires is told again so long after it was told last; never where there is none."""
    inhibited_by: Annotated[list[Name], Meta(max_length=16)] = []
    """Rules: while one of them fires for the same user or for the fleet, nobody is told of this one."""

    @cached_property
    def for_ms(self) -> int:
        """`for` in ms."""
        return _ms(self.for_)

    @cached_property
    def clear_for_ms(self) -> int:
        """`clear_for` in ms."""
        return _ms(self.clear_for)

    @cached_property
    def group_ms(self) -> int:
        """`group` in ms."""
        return _ms(self.group)

    @cached_property
    def repeat_ms(self) -> int | None:
        """`repeat` in ms."""
        return None if self.repeat is None else _ms(self.repeat)

    @cached_property
    def takes_host(self) -> Callable[[str, Mapping[str, str]], bool]:
        """Whether a user with some labels is among those it looks at."""
        return host_matcher(self.users)

    @cached_property
    def by_labels(self) -> bool:
        """Whether it matters how hosts are labelled."""
        return names_labels(self.users)

    def takes(self, user_id: str, os_type: str, labels: Mapping[str, str]) -> bool:
        """Whether it looks at reports of this user, operating system and labels."""
        return (not self.os or os_type in self.os) and self.takes_host(user_id, labels)

    @property
    def fingerprint(self) -> str:
        """The same for rules that fire at the same times."""
        meaning = {name: value for name, value in msgspec.to_builtins(self).items() if name not in _NOT_MEANT}
        return hashlib.sha256(msgspec.json.encode(meaning, order="sorted")).hexdigest()[:32]

    def check(self) -> list[Problem]:
        """What is wrong beyond the members' types."""
        problems = [
            Problem(f"/{name.rstrip('_')}", problem)
            for name in ("for_", "clear_for", "group", "repeat", "over", "after", "within", "every", "forget")
            if isinstance(text := getattr(self, name, None), str)
            if (problem := _duration_fault(text))
        ]
        if not problems and self.repeat_ms is not None and self.repeat_ms < MINUTE_MS:
            problems.append(Problem("/repeat", f"expected at least 1m, got {self.repeat}"))
        if self.name in self.inhibited_by:
            problems.append(Problem("/inhibited_by", "expected other rules, got the rule itself"))
        return problems


def share_fault(value: float, least: float = 0.0, most: float = 1.0, what: str = "a share") -> str | None:
    """What is wrong with a level of a number in [`least`, `most`], None where nothing is."""
    if least <= value <= most:
        return None
    percent = f": {value / 100:g} is {value:g} %" if 1 < abs(value) <= 100 and most == 1.0 else ""
    return f"expected {what} in [{least:g}, {most:g}], got {value:g}{percent}"


class MeasuredRule(Rule, frozen=True, kw_only=True):
    """A rule that looks at a number of each window."""

    metric: str
    stat: str | None = None

    @cached_property
    def extractor(self) -> Extractor:
        """What takes the rule's number from a report."""
        return extractor(self.metric, self.stat)

    def check(self) -> list[Problem]:
        """What is wrong beyond the members' types."""
        problems = super().check()
        try:
            extractor(self.metric, self.stat)
        except ValueError as error:
            problems.append(Problem("/metric", str(error)))
        return problems


class BoundedRule(MeasuredRule, frozen=True, kw_only=True):
    """A rule that compares its number with a level."""

    above: float | None = None
    below: float | None = None
    clear: float | None = None
    """The level at which the condition is cleared: `above` or `below` itself unless it is set."""

    def is_beyond(self, value: float) -> bool:
        """Whether the condition holds."""
        return value > self.above if self.above is not None else value < self.below  # type: ignore[operator]

    def is_clear(self, value: float) -> bool:
        """Whether the condition is cleared."""
        if self.above is not None:
            return value <= (self.above if self.clear is None else self.clear)
        return value >= (self.below if self.clear is None else self.clear)  # type: ignore[operator]

    def check(self) -> list[Problem]:
        """What is wrong beyond the members' types."""
        problems = super().check()
        if (self.above is None) == (self.below is None):
            problems.append(
                Problem("/above", f"expected one of above and below, got {'none' if self.above is None else 'both'}")
            )
        elif self.clear is not None:
            if self.above is not None and self.clear > self.above:
                problems.append(Problem("/clear", f"expected at most above, {self.above}, got {self.clear}"))
            if self.below is not None and self.clear < self.below:
                problems.append(Problem("/clear", f"expected at least below, {self.below}, got {self.clear}"))
        return problems or self._level_faults()

    def _range(self) -> tuple[float, float]:
        """The least and the largest that its number can be."""
        most = _MOST.get(self.extractor.statistic, 1.0) if self.extractor.metric.quantity.bounded else math.inf
        return 0.0, math.inf if self.extractor.statistic == "count" else most

    def _level_faults(self) -> list[Problem]:
        """Levels that its number never is beyond, or always."""
        least, most = self._range()
        bounded = most < math.inf
        what = "a share" if bounded else "a number"
        found = [
            Problem(f"/{name}", fault)
            for name in ("above", "below", "clear")
            if (level := getattr(self, name)) is not None and (fault := share_fault(level, least, most, what))
        ]
        if self.above == most:
            found.append(Problem("/above", f"expected less than {most:g}, which nothing is above"))
        if self.below == least:
            found.append(Problem("/below", f"expected more than {least:g}, which nothing is below"))
        return found


class ThresholdRule(BoundedRule, frozen=True, kw_only=True, tag="threshold"):
    """A user's statistic, over the last window or all windows of the time `over`, is beyond a level."""

    over: str = "0s"

    @cached_property
    def over_ms(self) -> int:
        """`over` in ms."""
        return _ms(self.over)


class ChangeRule(BoundedRule, frozen=True, kw_only=True, tag="change"):
    """A user's statistic has changed by more than a level since the time `over` ago."""

    over: str

    @cached_property
    def over_ms(self) -> int:
        """`over` in ms."""
        return _ms(self.over)

    def _range(self) -> tuple[float, float]:
        _, most = super()._range()
        return -most, most

    def check(self) -> list[Problem]:
        """What is wrong beyond the members' types."""
        problems = super().check()
        if not problems and self.over_ms < 1000:
            problems.append(Problem("/over", f"expected at least 1s, got {self.over}"))
        return problems


class AbsenceRule(Rule, frozen=True, kw_only=True, tag="absence"):
    """No report of a user has come for the time `after`."""

    after: str
    forget: str = "7d"
    """After this long it is resolved, and the user forgotten."""

    @cached_property
    def forget_ms(self) -> int:
        """`forget` in ms."""
        return _ms(self.forget)

    @cached_property
    def after_ms(self) -> int:
        """`after` in ms."""
        return _ms(self.after)

    def check(self) -> list[Problem]:
        """What is wrong beyond the members' types."""
        problems = super().check()
        if not problems and self.after_ms < 1000:
            problems.append(Problem("/after", f"expected at least 1s, got {self.after}"))
        if not problems and self.forget_ms <= self.after_ms:
            problems.append(Problem("/forget", f"expected more than after, {self.after}, got {self.forget}"))
        if not problems and (self.for_ms or self.clear_for_ms):
            problems.append(Problem("/for", "expected neither for nor clear_for: of this kind, after says how long"))
        return problems


class AnomalyRule(MeasuredRule, frozen=True, kw_only=True, tag="anomaly"):
    """A user's statistic is not what its own past lets expect (see docs/anomalies.md)."""

    every: str = "5m"
    """Windows are merged into buckets of this width, and each bucket is judged."""
    clear_for: str = "15m"

    @cached_property
    def every_ms(self) -> int:
        """`every` in ms."""
        return _ms(self.every)

    def check(self) -> list[Problem]:
        """What is wrong beyond the members' types."""
        problems = super().check()
        if not problems and self.every_ms < 1000:
            problems.append(Problem("/every", f"expected at least 1s, got {self.every}"))
        return problems


class FleetRule(BoundedRule, frozen=True, kw_only=True, tag="fleet"):
    """More than a share of the users that report are beyond a level."""

    share: float
    """The share of the users that count, in [0, 1)."""
    clear_share: float | None = None
    over: str = "0s"
    within: str = "5m"
    """A user counts while its newest window is not older than this, beside the newest of all."""
    least: Annotated[int, Meta(ge=1)] = 1
    """With fewer users that count there is no answer."""

    @cached_property
    def over_ms(self) -> int:
        """`over` in ms."""
        return _ms(self.over)

    @cached_property
    def within_ms(self) -> int:
        """`within` in ms."""
        return _ms(self.within)

    def check(self) -> list[Problem]:
        """What is wrong beyond the members' types."""
        problems = super().check()
        for name in ("share", "clear_share"):
            if (value := getattr(self, name)) is not None and (fault := share_fault(value)):
                problems.append(Problem(f"/{name}", fault))
        if self.share == 1.0:
            problems.append(Problem("/share", "expected less than 1, as no more than all users are beyond a level"))
        if self.clear_share is not None and self.clear_share > self.share:
            problems.append(Problem("/clear_share", f"expected at most share, {self.share}, got {self.clear_share}"))
        return problems


KINDS = (ThresholdRule, ChangeRule, AbsenceRule, AnomalyRule, FleetRule)
_TAGS = tuple(str(kind.__struct_config__.tag) for kind in KINDS)
AnyRule = Union[KINDS]  # type: ignore[valid-type]  # noqa: UP007


def _ms(text: str) -> int:
    return parse_duration(text, least_ms=0, most_ms=_LONGEST_MS)


def _duration_fault(text: str) -> str | None:
    try:
        _ms(text)
    except ValueError as error:
        return str(error)
    return None


def _unknown_kind(kind: Any) -> str:
    got = "nothing" if kind is None else f"{shortened(ascii(kind))}{did_you_mean(str(kind), _TAGS)}"
    return f"expected one of {', '.join(_TAGS)}, got {got}"


def parse_rule(document: Any) -> Rule:
    """The rule of a document: what JSON, TOML or YAML hold. Raises InvalidRule."""
    try:
        rule: Rule = msgspec.convert(document, AnyRule)
    except msgspec.ValidationError as error:
        problem = problem_of(error, AnyRule)
        if problem.pointer == "/name":
            problem = Problem("/name", "expected 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first")
        if isinstance(document, dict) and document.get("kind") not in _TAGS:
            problem = Problem("/kind", _unknown_kind(document.get("kind")))
        raise InvalidRule([problem]) from None
    problems = rule.check()
    if problems:
        raise InvalidRule(problems)
    return rule
