"""What the evaluations of all kinds have."""

from collections.abc import Iterator
from typing import Any

from contract.report import Report
from service.rules.alarm import Alarm, Saved, Transition
from service.rules.model import Rule
from service.rules.window import Parts, Sliding

__all__ = ["MOST_ALARMS", "Evaluation", "slid"]

MOST_ALARMS = 100_000
"""Of one rule; more users are not looked at, and counted."""


class Evaluation:
    """A rule with its alarms. Not safe for several threads at once."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.alarms: dict[str, Alarm] = {}
        self.changed: set[str] = set()
        """The users whose alarms differ from what was kept."""
        self.late = 0
        """Windows that came after a newer one and were too old to matter."""
        self.refused = 0
        """Reports of users that were too many."""

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Take a report; `now_ms` is when it arrived."""
        raise NotImplementedError

    def tick(self, now_ms: int) -> Iterator[Transition]:
        """What follows from time passing alone."""
        return iter(())

    def restore(self, user: str, saved: Saved) -> None:
        """Take an alarm as it was kept."""
        self.alarms[user] = Alarm(saved, self.load(saved.memory))

    def saved(self, user: str) -> Saved:
        """An alarm as it is kept."""
        alarm = self.alarms[user]
        return alarm.saved(self.dump(alarm.memory))

    def load(self, memory: Any) -> Any:
        """What the kind remembers of a user, from plain data."""
        return memory

    def dump(self, memory: Any) -> Any:
        """What the kind remembers of a user, as plain data."""
        return memory

    def _alarm(self, user: str) -> Alarm | None:
        """A user's alarm, a new one if need be; None where there are too many."""
        alarm = self.alarms.get(user)
        if alarm is None:
            if len(self.alarms) >= MOST_ALARMS:
                self.refused += 1
                return None
            alarm = self.alarms[user] = Alarm()
        return alarm


def slid(evaluation: Evaluation, alarm: Alarm, end_ms: int, parts: Parts, over_ms: int) -> int | None:
    """Put a window among those of the last while; the moment to look at, or None where the window is too late."""
    if end_ms <= alarm.last_ms - over_ms:
        evaluation.late += 1
        return None
    if alarm.memory is None:
        alarm.memory = Sliding(over_ms)
    alarm.memory.add(end_ms, parts)
    return max(end_ms, alarm.last_ms)
