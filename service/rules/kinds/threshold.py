"""A statistic of the last window, or of all windows of a time, beside a level."""

from typing import Any

from contract.report import Report
from service.rules.alarm import Alarm, State, Transition
from service.rules.kinds.base import Evaluation, slid
from service.rules.model import Threshold
from service.rules.window import Sliding

__all__ = ["ThresholdEvaluation"]


class ThresholdEvaluation(Evaluation):
    """The last window alone, or all windows of a time, beside a level."""

    rule: Threshold

    def __init__(self, rule: Threshold) -> None:
        super().__init__(rule)
        self._value = rule.reading.direct()
        self.observe = self._observe_one if rule.over_ms == 0 else self._observe_many  # type: ignore[method-assign]

    def _observe_one(self, report: Report, now_ms: int) -> Transition | None:
        value = self._value(report)
        if value is None:
            return None
        alarm = self.alarms.get(report.user_id) or self._alarm(report.user_id)
        end_ms = report.end_timestamp
        if alarm is None:
            return None
        if end_ms <= alarm.last_ms:
            self.late += 1
            return None
        return self._step(alarm, report.user_id, end_ms, value)

    def _step(self, alarm: Alarm, user: str, end_ms: int, value: float) -> Transition | None:
        rule = self.rule
        alarm.value = value
        self.changed.add(user)
        transition = None
        is_beyond = rule.is_beyond(value)
        if is_beyond or alarm.state is not State.OK:
            transition = alarm.step(rule, user, end_ms, is_beyond, rule.is_clear(value))
        alarm.last_ms = end_ms
        return transition

    def _observe_many(self, report: Report, now_ms: int) -> Transition | None:
        parts = self.rule.reading.summaries(report)
        if parts is None:
            return None
        alarm = self._alarm(report.user_id)
        if alarm is None:
            return None
        end_ms = slid(self, alarm, report.end_timestamp, parts, self.rule.over_ms)
        if end_ms is None:
            return None
        return self._step(alarm, report.user_id, end_ms, self.rule.reading.value(alarm.memory.total))

    def load(self, memory: Any) -> Any:
        """What it remembers of a user, from plain data."""
        return None if memory is None else Sliding.load(self.rule.over_ms, memory)

    def dump(self, memory: Any) -> Any:
        """What it remembers of a user, as plain data."""
        return None if memory is None else memory.dump()
