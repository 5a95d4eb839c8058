"""Subscriptions: which reports a consumer wants, and what of them; from the query of `GET /api/v1/stream`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import msgspec

from contract.metrics import TYPES, Metric, type_name
from contract.problems import Problem, shortened
from contract.report import OS_TYPES, Report
from contract.selectors import EVERYBODY, checked_pattern, exact_names, host_matcher, matcher, names_labels
from service.journal.extractors import Extractor, extractor

MEMBERS = (
    "user_id", "start_timestamp", "end_timestamp", "observations_per_metric", "os_type", "os_version", "report_id",
)  # fmt: skip
"""Members of a report that `fields` may name, beside metrics."""
PARAMETERS = ("user", "os", "type", "metric", "stat", "above", "below", "fields", "after")
_TYPE_NAMES = {type_name(kind): kind for kind in TYPES}
MAX_VALUES = 64
"""Of one parameter."""


@dataclass(frozen=True)
class Subscription:
    """A filter and a projection of reports. Equal subscriptions share their encoded events."""

    users: tuple[str, ...] = EVERYBODY
    """Patterns of names, or of labels such as `role=web`."""
    systems: tuple[str, ...] = ()
    types: tuple[type[Metric], ...] = ()
    metric: Extractor | None = None
    above: float | None = None
    below: float | None = None
    fields: tuple[str | Extractor, ...] = ()
    """Members and metrics to send; none for the report as it came."""
    scope: str = "*"
    """A pattern: of other users the consumer may not hear."""

    @cached_property
    def takes_user(self) -> Callable[[str], bool]:
        """Whether a user's reports can be among those wanted, whatever labels they say."""
        users = EVERYBODY if self.by_labels else self.users
        if self.scope == "*":
            return matcher(users)
        wanted, allowed = matcher(users), matcher([self.scope])
        return lambda user: wanted(user) and allowed(user)

    @cached_property
    def by_labels(self) -> bool:
        """Whether what a report says of labels decides too."""
        return names_labels(self.users)

    @property
    def names(self) -> frozenset[str] | None:
        """The users whose reports alone can be among those wanted; None where these are not named one by one."""
        return None if self.by_labels else exact_names(self.users)

    @cached_property
    def _takes_host(self) -> Callable[[str, Mapping[str, str]], bool]:
        return host_matcher(self.users)

    def takes_origin(self, user_id: str, os_type: str) -> bool:
        """Whether reports of this user and operating system can be among those wanted."""
        return (not self.systems or os_type in self.systems) and self.takes_user(user_id)

    @property
    def is_static(self) -> bool:
        """Whether user and operating system alone decide."""
        return not self.types and self.metric is None and not self.by_labels

    @property
    def needs_report(self) -> bool:
        """Whether more than the report's text is needed."""
        by_origin = self.users != EVERYBODY or self.scope != "*" or bool(self.systems)
        return not self.is_static or bool(self.fields) or by_origin

    @cached_property
    def _value(self) -> Callable[[Report], float | None] | None:
        return self.metric.direct() if self.metric else None

    def takes(self, report: Report) -> bool:
        """Whether the content of a report of a stream that is taken is wanted."""
        if self.by_labels:
            labels = {} if report.labels is msgspec.UNSET else report.labels
            if not self._takes_host(report.user_id, labels):
                return False
        if self.types and not any(type(metric) in self.types for metric in report.metrics):
            return False
        if self._value is None:
            return True
        value = self._value(report)
        if value is None or (self.above is not None and not value > self.above):
            return False
        return self.below is None or value < self.below

    @cached_property
    def _projected(self) -> list[tuple[str, Callable[[Report], Any]]]:
        return [
            (field, _member(field)) if isinstance(field, str) else (field.label, field.direct())
            for field in self.fields
        ]

    def body(self, report: Report | None, text: bytes) -> bytes:
        """What is sent of a report: one line of JSON."""
        if not self.fields:
            if not text.isascii():
                # Members that nobody knows are not looked into when a report is taken; here they must be UTF-8.
                text = text.decode(errors="replace").encode()
            # A line break can only stand between the tokens of a JSON text, never within a string.
            return text.translate(_ONE_LINE) if b"\n" in text or b"\r" in text else text
        return msgspec.json.encode({name: value(cast(Report, report)) for name, value in self._projected})


_ONE_LINE = bytes(0x20 if byte in b"\r\n" else byte for byte in range(256))


def _member(name: str) -> Callable[[Report], Any]:
    def read(report: Report) -> Any:
        value = getattr(report, name)
        return None if value is msgspec.UNSET else value

    return read


class _Parameters:
    """The parameters of a query, converted one by one; collects what is wrong with them."""

    def __init__(self, parameters: Mapping[str, Sequence[str]]) -> None:
        self._parameters = parameters
        self.problems: list[Problem] = []

    def each(self, name: str, convert: Callable[[str], Any]) -> tuple[Any, ...]:
        texts = self._parameters.get(name, ())
        if len(texts) > MAX_VALUES:
            self.problems.append(Problem(name, f"expected at most {MAX_VALUES} values, got {len(texts)}"))
            return ()
        values = []
        for text in texts:
            try:
                values.append(convert(text))
            except ValueError as error:
                self.problems.append(Problem(name, str(error)))
        return tuple(sorted(set(values), key=repr))

    def one(self, name: str, convert: Callable[[str], Any]) -> Any:
        values = self.each(name, convert)
        if len(values) > 1:
            self.problems.append(Problem(name, f"expected one value, got {len(values)}"))
        return values[0] if values else None


def parse_subscription(parameters: Mapping[str, Sequence[str]]) -> tuple[Subscription, list[Problem]]:
    """The subscription of a query string's parameters, and what is wrong with them."""
    given = _Parameters(parameters)
    statistic = given.one("stat", str)
    metric = given.one("metric", lambda name: extractor(name, statistic))
    above, below = given.one("above", _number), given.one("below", _number)
    if metric is None and not given.problems and (statistic or above is not None or below is not None):
        given.problems.append(Problem("metric", "expected a metric for stat, above and below, got none"))
    unknown = [name for name in parameters if name not in PARAMETERS]
    given.problems += [
        Problem(name, f"expected one of {', '.join(PARAMETERS)}, got {shortened(ascii(name))}") for name in unknown
    ]
    fields = [field for text in parameters.get("fields", ()) for field in text.split(",") if field]
    subscription = Subscription(
        users=given.each("user", checked_pattern) or EVERYBODY,
        systems=given.each("os", _system),
        types=given.each("type", _type),
        metric=metric,
        above=above,
        below=below,
        fields=_fields(fields, given.problems),
    )
    return subscription, given.problems


def _fields(names: Sequence[str], problems: list[Problem]) -> tuple[str | Extractor, ...]:
    if len(names) > MAX_VALUES:
        problems.append(Problem("fields", f"expected at most {MAX_VALUES} members, got {len(names)}"))
        return ()
    chosen: dict[str | Extractor, None] = {}
    for name in names:
        try:
            chosen[name if name in MEMBERS else extractor(*name.split(".", 1))] = None
        except ValueError as error:
            problems.append(Problem("fields", f"{error}; members of a report are {', '.join(MEMBERS)}"))
    return tuple(chosen)


def _system(text: str) -> str:
    if text not in OS_TYPES:
        raise ValueError(f"expected one of {', '.join(OS_TYPES)}, got {text[:32]!r}")
    return text


def _type(text: str) -> type[Metric]:
    if text not in _TYPE_NAMES:
        raise ValueError(f"expected a metric type, one of {', '.join(_TYPE_NAMES)}, got {text[:32]!r}")
    return _TYPE_NAMES[text]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text[:32]!r}") from None
    if not abs(value) < float("inf"):
        raise ValueError(f"expected a finite number, got {text[:32]!r}")
    return value
