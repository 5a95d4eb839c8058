"""Scheduled silences: hours of the week in which nobody is told, as files of rules write them."""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta, Struct

from contract.problems import Problem, problem_of, shortened
from contract.selectors import MAX_PATTERN

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[str, ...] = get_args(Day)
_Pattern = Annotated[str, Meta(min_length=1, max_length=MAX_PATTERN)]
_Clock = Annotated[str, Meta(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class InvalidSilence(ValueError):
    """A scheduled silence that cannot be used, with what is wrong."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.pointer}: {problem.detail}")
        self.problem = problem


class WeeklySilence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True,
                    rename={"from_": "from", "to_": "to"}):  # fmt: skip
    """Nobody is told of alerts of these rules and users from one time of a day to another, each week."""

    rule: _Pattern = "*"
    user: _Pattern = "*"
    days: Annotated[list[Day], Meta(min_length=1)] = msgspec.field(default_factory=lambda: [*get_args(Day)])
    """On which days it begins."""
    from_: _Clock = "00:00"
    to_: _Clock = "00:00"
    """The first minute in which people are told again: on the next day where it is not after `from`."""
    zone: str = "UTC"
    comment: Annotated[str, Meta(max_length=500)] = ""

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    @cached_property
    def _begins(self) -> frozenset[int]:
        return frozenset(_DAYS.index(day) for day in self.days)

    def covers(self, at_ms: int) -> bool:
        """Whether it is in force at a moment, by the clocks of its zone."""
        here = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self._zone)
        minute, begin, end = here.hour * 60 + here.minute, _minutes(self.from_), _minutes(self.to_)
        if end > begin:
            return here.weekday() in self._begins and begin <= minute < end
        yesterday = (here - timedelta(days=1)).weekday()
        return (here.weekday() in self._begins and minute >= begin) or (yesterday in self._begins and minute < end)


def parse_silence(document: Any) -> WeeklySilence:
    """The scheduled silence of a table in a file of rules. Raises InvalidSilence."""
    try:
        silence = msgspec.convert(document, WeeklySilence)
    except msgspec.ValidationError as error:
        problem = problem_of(error, WeeklySilence)
        if problem.pointer in ("/from", "/to"):
            problem = Problem(problem.pointer, "expected a time of day as a text, such as '22:00'")
        raise InvalidSilence(problem) from None
    try:
        ZoneInfo(silence.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        expected = f"expected a zone of the IANA database such as Europe/Berlin, got {shortened(repr(silence.zone))}"
        raise InvalidSilence(Problem("/zone", expected)) from None
    return silence


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)
