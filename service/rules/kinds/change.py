"""A statistic of the last window beside that of a while ago."""

from collections import deque
from typing import Any

from contract.report import Report
from service.rules.alarm import Alarm, Transition
from service.rules.kinds.base import Evaluation
from service.rules.model import Change
from service.rules.window import MOST_ENTRIES

__all__ = ["ChangeEvaluation"]


class ChangeEvaluation(Evaluation):
    """The last window beside the one a while ago."""

    rule: Change

    def __init__(self, rule: Change) -> None:
        super().__init__(rule)
        self._value = rule.reading.direct()
        self._slot_ms = max(1, rule.over_ms // MOST_ENTRIES)

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Take a report."""
        value = self._value(report)
        alarm = None if value is None else self._alarm(report.user_id)
        if value is None or alarm is None:
            return None
        end_ms = report.end_timestamp
        if end_ms <= alarm.last_ms:
            self.late += 1
            return None
        self.changed.add(report.user_id)
        before = self._before(alarm, end_ms, value)
        transition = None
        if before is not None:
            alarm.value = value - before
            transition = alarm.step(
                self.rule, report.user_id, end_ms, self.rule.is_beyond(alarm.value), self.rule.is_clear(alarm.value)
            )
        alarm.last_ms = end_ms
        return transition

    def _before(self, alarm: Alarm, end_ms: int, value: float) -> float | None:
        """The value a while ago; None where there is none, or none of that time."""
        if alarm.memory is None:
            alarm.memory = deque()
        points: deque[tuple[int, float]] = alarm.memory
        while len(points) > 1 and points[1][0] <= end_ms - self.rule.over_ms:
            points.popleft()
        if not points or end_ms // self._slot_ms != points[-1][0] // self._slot_ms:
            points.append((end_ms, value))
        oldest_ms, before = points[0]
        return before if self.rule.over_ms <= end_ms - oldest_ms <= 2 * self.rule.over_ms else None

    def load(self, memory: Any) -> Any:
        """What it remembers of a user, from plain data."""
        return None if memory is None else deque((end_ms, value) for end_ms, value in memory)

    def dump(self, memory: Any) -> Any:
        """What it remembers of a user, as plain data."""
        return None if memory is None else list(memory)
