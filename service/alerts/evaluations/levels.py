"""Levels: of the last window or a time, beside a while ago, over the fleet; and time without a report."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

from contract.report import Report
from service.alerts.alarms import Alarm, AlarmState, SavedAlarm, Transition
from service.alerts.evaluations.base import FLEET_USER, MAX_ALARMS, Evaluation, has_not_come
from service.alerts.evaluations.sliding import MAX_ENTRIES, SlidingWindows
from service.alerts.rules import AbsenceRule, ChangeRule, FleetRule, ThresholdRule


class ThresholdEvaluation(Evaluation):
    """The last window alone, or all windows of a time, beside a level."""

    rule: ThresholdRule

    def __init__(self, rule: ThresholdRule, *, max_alarms: int = MAX_ALARMS) -> None:
        super().__init__(rule, max_alarms=max_alarms)
        self._value = rule.extractor.direct()
        self.observe = self._observe_one if rule.over_ms == 0 else self._observe_many  # type: ignore[method-assign]

    def _observe_one(self, report: Report, now_ms: int) -> Transition | None:
        value = self._value(report)
        if value is None:
            return None
        alarm = self.alarms.get(report.user_id) or self._alarm(report.user_id)
        end_ms = report.end_timestamp
        if alarm is None:
            return None
        if end_ms <= alarm.last_ms and self._is_late(alarm, end_ms, now_ms):
            return None
        return self._step(alarm, report.user_id, end_ms, value)

    def _step(self, alarm: Alarm, user: str, end_ms: int, value: float) -> Transition | None:
        rule = self.rule
        alarm.value = value
        self.changed.add(user)
        transition = None
        is_beyond = rule.is_beyond(value)
        if is_beyond or alarm.state is not AlarmState.OK:
            transition = alarm.step(rule, user, end_ms, is_beyond, rule.is_clear(value))
        alarm.last_ms = end_ms
        return transition

    def _observe_many(self, report: Report, now_ms: int) -> Transition | None:
        parts = self.rule.extractor.summaries(report)
        if parts is None:
            return None
        alarm = self._alarm(report.user_id)
        if alarm is None:
            return None
        end_ms = self._slid(alarm, report.end_timestamp, parts, now_ms, self.rule.over_ms)
        if end_ms is None:
            return None
        return self._step(alarm, report.user_id, end_ms, self.rule.extractor.value(alarm.memory.total))

    def load(self, memory: Any) -> Any:
        """What it remembers of a user, from plain data."""
        return None if memory is None else SlidingWindows.load(self.rule.over_ms, memory)

    def dump(self, memory: Any) -> Any:
        """What it remembers of a user, as plain data."""
        return None if memory is None else memory.dump()


class ChangeEvaluation(Evaluation):
    """The last window beside the one a while ago."""

    rule: ChangeRule

    def __init__(self, rule: ChangeRule, *, max_alarms: int = MAX_ALARMS) -> None:
        super().__init__(rule, max_alarms=max_alarms)
        self._value = rule.extractor.direct()
        self._slot_ms = max(1, rule.over_ms // MAX_ENTRIES)

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Evaluate the rule with a report; the transition that follows, if any."""
        value = self._value(report)
        alarm = None if value is None else self._alarm(report.user_id)
        if value is None or alarm is None:
            return None
        end_ms = report.end_timestamp
        if self._is_late(alarm, end_ms, now_ms):
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


class FleetEvaluation(Evaluation):
    """The share of those who are beyond a level, of all that report."""

    rule: FleetRule

    def __init__(self, rule: FleetRule, *, max_alarms: int = MAX_ALARMS) -> None:
        super().__init__(rule, max_alarms=max_alarms)
        self._value = rule.extractor.direct()
        self._present: OrderedDict[str, bool] = OrderedDict()
        """Who counts, and whether beyond the level; the longest silent first."""
        self._beyond = 0
        self._newest_ms = -1

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Evaluate the rule with a report; the transition that follows, if any."""
        user, end_ms = report.user_id, report.end_timestamp
        alarm = self._alarm(user)
        if alarm is None:
            return None
        if has_not_come(self._newest_ms, now_ms):
            self._begin_anew(now_ms)
        value = self._read(alarm, report, now_ms)
        if value is None:
            return None
        self.changed.add(user)
        alarm.last_ms, alarm.value = max(end_ms, alarm.last_ms), value
        self._count(user, alarm)
        self._newest_ms = max(self._newest_ms, end_ms)
        self._forget()
        return self._step(self._newest_ms)

    def _begin_anew(self, now_ms: int) -> None:
        """Forget what counts by a clock that was set back: who reports from now on counts."""
        for alarm in self.alarms.values():
            if has_not_come(alarm.last_ms, now_ms):
                alarm.begin_anew(now_ms)
        self._present.clear()
        self._beyond, self._newest_ms = 0, -1

    def _read(self, alarm: Alarm, report: Report, now_ms: int) -> float | None:
        if self.rule.over_ms == 0:
            return self._value(report) if report.end_timestamp > alarm.last_ms else None
        parts = self.rule.extractor.summaries(report)
        if parts is None or self._slid(alarm, report.end_timestamp, parts, now_ms, self.rule.over_ms) is None:
            return None
        return self.rule.extractor.value(alarm.memory.total)

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
        """Forget a user and its alarm."""
        super().forget(user)
        self._beyond -= self._present.pop(user, False)

    def restore(self, user: str, saved: SavedAlarm) -> None:
        """Take an alarm as it was kept."""
        super().restore(user, saved)
        if user == FLEET_USER:
            self._newest_ms = saved.last_ms
        else:
            self._count(user, self.alarms[user])

    def load(self, memory: Any) -> Any:
        """What it remembers of a user, from plain data."""
        return None if memory is None else SlidingWindows.load(self.rule.over_ms, memory)

    def dump(self, memory: Any) -> Any:
        """What it remembers of a user, as plain data."""
        return None if memory is None else memory.dump()


class AbsenceEvaluation(Evaluation):
    """Time that passes without a report. `last_ms` is when one came, not when its window ended."""

    rule: AbsenceRule

    def __init__(self, rule: AbsenceRule, *, max_alarms: int = MAX_ALARMS) -> None:
        super().__init__(rule, max_alarms=max_alarms)
        self._waiting: OrderedDict[str, None] = OrderedDict()
        """Those who are not absent, the longest silent first."""
        self._absent: OrderedDict[str, None] = OrderedDict()
        """Those who are, the longest silent first."""
        self._begun_ms: int | None = None
        self._ticked_ms = 0

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Evaluate the rule with a report; the transition that follows, if any."""
        user = report.user_id
        alarm = self._alarm(user)
        if alarm is None:
            return None
        silent_ms = max(0, now_ms - alarm.last_ms)
        alarm.last_ms = now_ms
        self._waiting[user] = None
        self._waiting.move_to_end(user)
        self.changed.add(user)
        if alarm.state is not AlarmState.FIRING:
            return None
        self._absent.pop(user, None)
        alarm.state, alarm.value = AlarmState.OK, silent_ms / 1000
        return Transition(self.rule.name, user, "resolved", now_ms, alarm.since_ms, alarm.value)

    def tick(self, now_ms: int, is_paused: Callable[[str], bool]) -> Iterator[Transition]:
        """What follows from time passing alone; who is paused is not absent."""
        if self._begun_ms is None:
            # While the service was away nobody could report.
            self._begun_ms = now_ms
        if self._begun_ms > now_ms or self._ticked_ms > now_ms or not self._ticked_ms:
            # The clock was set back, perhaps while the service was away: silence counts from now at the latest.
            self._begun_ms = min(self._begun_ms, now_ms)
            for alarm in self.alarms.values():
                alarm.last_ms, alarm.since_ms = min(alarm.last_ms, now_ms), min(alarm.since_ms, now_ms)
        self._ticked_ms = now_ms
        for user in [user for user in self._absent if is_paused(user)]:
            del self._absent[user]
            alarm = self.alarms[user]
            yield Transition(self.rule.name, user, "resolved", now_ms, alarm.since_ms, (now_ms - alarm.last_ms) / 1000)
            self._wait_on(user, now_ms)
        for user in self._silent_for(self._waiting, now_ms, self.rule.after_ms):
            if is_paused(user):
                self._wait_on(user, now_ms)
                continue
            alarm = self.alarms[user]
            self._absent[user] = None
            alarm.state, alarm.since_ms, alarm.value = AlarmState.FIRING, alarm.last_ms, (now_ms - alarm.last_ms) / 1000
            self.changed.add(user)
            yield Transition(self.rule.name, user, "firing", now_ms, alarm.since_ms, alarm.value)

        for user in self._silent_for(self._absent, now_ms, self.rule.forget_ms):
            alarm = self.alarms[user]
            yield Transition(self.rule.name, user, "resolved", now_ms, alarm.since_ms, (now_ms - alarm.last_ms) / 1000)
            self.forget(user)

    def value_of(self, user: str, now_ms: int) -> float | None:
        """For how long a user has been silent, in seconds."""
        alarm = self.alarms.get(user)
        return None if alarm is None else (now_ms - alarm.last_ms) / 1000

    def _wait_on(self, user: str, now_ms: int) -> None:
        """Wait for a user as if it had reported now."""
        alarm = self.alarms[user]
        alarm.state, alarm.last_ms = AlarmState.OK, now_ms
        self._waiting[user] = None
        self.changed.add(user)

    def _silent_for(self, users: OrderedDict[str, None], now_ms: int, silence_ms: int) -> Iterator[str]:
        """Those who have been silent so long, taken out of `users`."""
        while users:
            user = next(iter(users))
            if now_ms - max(self.alarms[user].last_ms, self._begun_ms or 0) <= silence_ms:
                return
            del users[user]
            yield user

    def forget(self, user: str) -> None:
        """Forget a user and its alarm."""
        super().forget(user)
        self._waiting.pop(user, None)
        self._absent.pop(user, None)

    def restore(self, user: str, saved: SavedAlarm) -> None:
        """Take an alarm as it was kept."""
        super().restore(user, saved)
        (self._absent if self.alarms[user].state is AlarmState.FIRING else self._waiting)[user] = None
