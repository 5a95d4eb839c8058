"""The share of those who are beyond a level, of all that report."""

from collections import OrderedDict
from typing import Any

from contract.report import Report
from service.rules.alarm import Alarm, Saved, Transition
from service.rules.kinds.base import FLEET_USER, Evaluation, slid
from service.rules.model import Fleet
from service.rules.window import Sliding

__all__ = ["FleetEvaluation"]


class FleetEvaluation(Evaluation):
    """The share of those who are beyond a level, of all that report."""

    rule: Fleet

    def __init__(self, rule: Fleet) -> None:
        super().__init__(rule)
        self._value = rule.reading.direct()
        self._present: OrderedDict[str, bool] = OrderedDict()
        """Who counts, and whether beyond the level; the longest silent first."""
        self._beyond = 0
        self._newest_ms = -1

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Take a report."""
        user, end_ms = report.user_id, report.end_timestamp
        alarm = self._alarm(user)
        if alarm is None:
            return None
        value = self._read(alarm, report)
        if value is None:
            return None
        self.changed.add(user)
        alarm.last_ms, alarm.value = max(end_ms, alarm.last_ms), value
        self._count(user, alarm)
        self._newest_ms = max(self._newest_ms, end_ms)
        self._forget()
        return self._step(self._newest_ms)

    def _read(self, alarm: Alarm, report: Report) -> float | None:
        if self.rule.over_ms == 0:
            return self._value(report) if report.end_timestamp > alarm.last_ms else None
        parts = self.rule.reading.summaries(report)
        if parts is None or slid(self, alarm, report.end_timestamp, parts, self.rule.over_ms) is None:
            return None
        return self.rule.reading.value(alarm.memory.total)

    def _count(self, user: str, alarm: Alarm) -> None:
        is_beyond = self.rule.is_beyond(alarm.value)
        self._beyond += is_beyond - self._present.pop(user, False)
        self._present[user] = is_beyond

    def _forget(self) -> None:
        while self._present:
            user, is_beyond = next(iter(self._present.items()))
            if self.alarms[user].last_ms >= self._newest_ms - self.rule.within_ms:
                return
            del self._present[user]
            self._beyond -= is_beyond

    def _step(self, at_ms: int) -> Transition | None:
        if len(self._present) < self.rule.least:
            return None
        share = self._beyond / len(self._present)
        alarm = self.alarms.setdefault(FLEET_USER, Alarm())
        alarm.value = share
        level = self.rule.share if self.rule.clear_share is None else self.rule.clear_share
        transition = alarm.step(self.rule, FLEET_USER, at_ms, share > self.rule.share, share <= level)
        alarm.last_ms = at_ms
        self.changed.add(FLEET_USER)
        return transition

    def forget(self, user: str) -> None:
        """Let go of a user."""
        super().forget(user)
        self._beyond -= self._present.pop(user, False)

    def restore(self, user: str, saved: Saved) -> None:
        """Take an alarm as it was kept."""
        super().restore(user, saved)
        if user == FLEET_USER:
            self._newest_ms = saved.last_ms
        else:
            self._count(user, self.alarms[user])

    def load(self, memory: Any) -> Any:
        """What it remembers of a user, from plain data."""
        return None if memory is None else Sliding.load(self.rule.over_ms, memory)

    def dump(self, memory: Any) -> Any:
        """What it remembers of a user, as plain data."""
        return None if memory is None else memory.dump()
