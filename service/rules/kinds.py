"""How each kind of rule is evaluated: one class for each, fed with windows in the order of the journal."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

from contract.report import Report
from service.rules.alarm import Alarm, Saved, State, Transition
from service.rules.model import Absence, Anomaly, Change, Fleet, Rule, Threshold
from service.rules.window import MOST_ENTRIES, Parts, Sliding, dump_parts, load_parts, merge

__all__ = ["FLEET_USER", "MOST_ALARMS", "Evaluation", "evaluation_of"]

FLEET_USER = ""
"""The user under which a rule of the fleet keeps its own alarm; no user has this name."""
_BUCKET = "\0"
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


class _OfThreshold(Evaluation):
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
        end_ms = _slid(self, alarm, report.end_timestamp, parts, self.rule.over_ms)
        if end_ms is None:
            return None
        return self._step(alarm, report.user_id, end_ms, self.rule.reading.value(alarm.memory.total))

    def load(self, memory: Any) -> Any:
        return None if memory is None else Sliding.load(self.rule.over_ms, memory)

    def dump(self, memory: Any) -> Any:
        return None if memory is None else memory.dump()


def _slid(evaluation: Evaluation, alarm: Alarm, end_ms: int, parts: Parts, over_ms: int) -> int | None:
    """Put a window among those of the last while; the moment to look at, or None where the window is too late."""
    if end_ms <= alarm.last_ms - over_ms:
        evaluation.late += 1
        return None
    if alarm.memory is None:
        alarm.memory = Sliding(over_ms)
    alarm.memory.add(end_ms, parts)
    return max(end_ms, alarm.last_ms)


class _OfChange(Evaluation):
    """The last window beside the one a while ago."""

    rule: Change

    def __init__(self, rule: Change) -> None:
        super().__init__(rule)
        self._value = rule.reading.direct()
        self._slot_ms = max(1, rule.over_ms // MOST_ENTRIES)

    def observe(self, report: Report, now_ms: int) -> Transition | None:
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
        return None if memory is None else deque((end_ms, value) for end_ms, value in memory)

    def dump(self, memory: Any) -> Any:
        return None if memory is None else list(memory)


class _OfAbsence(Evaluation):
    """Time that passes without a report. `last_ms` is when one came, not when its window ended."""

    rule: Absence

    def __init__(self, rule: Absence) -> None:
        super().__init__(rule)
        self._waiting: OrderedDict[str, None] = OrderedDict()
        """Those who are not absent, the longest silent first."""
        self._begun_ms: int | None = None

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        user = report.user_id
        alarm = self._alarm(user)
        if alarm is None:
            return None
        silent_ms = now_ms - alarm.last_ms
        alarm.last_ms = now_ms
        self._waiting[user] = None
        self._waiting.move_to_end(user)
        self.changed.add(user)
        if alarm.state is not State.FIRING:
            return None
        alarm.state, alarm.value = State.OK, silent_ms / 1000
        return Transition(self.rule.name, user, "resolved", now_ms, alarm.since_ms, alarm.value)

    def tick(self, now_ms: int) -> Iterator[Transition]:
        if self._begun_ms is None:
            # While the service was away nobody could report.
            self._begun_ms = now_ms
        while self._waiting:
            user = next(iter(self._waiting))
            alarm = self.alarms[user]
            if now_ms - max(alarm.last_ms, self._begun_ms) <= self.rule.after_ms:
                return
            del self._waiting[user]
            alarm.state, alarm.since_ms, alarm.value = State.FIRING, alarm.last_ms, (now_ms - alarm.last_ms) / 1000
            self.changed.add(user)
            yield Transition(self.rule.name, user, "firing", now_ms, alarm.since_ms, alarm.value)

    def restore(self, user: str, saved: Saved) -> None:
        super().restore(user, saved)
        if self.alarms[user].state is not State.FIRING:
            self._waiting[user] = None


class _OfFleet(Evaluation):
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
        if parts is None or _slid(self, alarm, report.end_timestamp, parts, self.rule.over_ms) is None:
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

    def restore(self, user: str, saved: Saved) -> None:
        super().restore(user, saved)
        if user == FLEET_USER:
            self._newest_ms = saved.last_ms
        else:
            self._count(user, self.alarms[user])

    def load(self, memory: Any) -> Any:
        return None if memory is None else Sliding.load(self.rule.over_ms, memory)

    def dump(self, memory: Any) -> Any:
        return None if memory is None else memory.dump()


class _OfAnomaly(Evaluation):
    """What a user's own past does not let expect.

    The detector learns once in a bucket; what is in the bucket is kept beside it, under a name that no user has, so
    that not everything is written each time.
    """

    rule: Anomaly

    def __init__(self, rule: Anomaly) -> None:
        super().__init__(rule)
        self._buckets: dict[str, tuple[int, Parts]] = {}
        """The bucket that is being filled, of each user: when it ends, and what is in it."""

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        parts = self.rule.reading.summaries(report)
        alarm = None if parts is None else self._alarm(report.user_id)
        if parts is None or alarm is None:
            return None
        user = report.user_id
        bucket_ms = -(-report.end_timestamp // self.rule.every_ms) * self.rule.every_ms
        end_ms, filled = self._buckets.get(user, (bucket_ms, None))
        if bucket_ms < end_ms:
            self.late += 1
            return None
        transition = None
        if bucket_ms == end_ms:
            self._buckets[user] = (bucket_ms, parts if filled is None else merge(filled, parts))
        else:
            assert filled is not None
            transition = self._judge(alarm, user, end_ms, self.rule.reading.value(filled))
            self._buckets[user] = (bucket_ms, parts)
        self.changed.add(user + _BUCKET)
        return transition

    def _judge(self, alarm: Alarm, user: str, end_ms: int, value: float) -> Transition | None:
        if alarm.memory is None:
            from analytics.anomalies import Detector

            alarm.memory = Detector()
        alarm.value = value
        verdict = alarm.memory.update(end_ms, value)
        transition = alarm.step(self.rule, user, end_ms, verdict.anomaly, not verdict.anomaly)
        alarm.last_ms = end_ms
        self.changed.add(user)
        return transition

    def restore(self, user: str, saved: Saved) -> None:
        if user.endswith(_BUCKET):
            self._buckets[user.removesuffix(_BUCKET)] = (saved.last_ms, load_parts(saved.memory))
        else:
            super().restore(user, saved)

    def saved(self, user: str) -> Saved:
        if user.endswith(_BUCKET):
            end_ms, parts = self._buckets[user.removesuffix(_BUCKET)]
            return Alarm(memory=None).saved(dump_parts(parts))._replace(last_ms=end_ms)
        return super().saved(user)

    def load(self, memory: Any) -> Any:
        if memory is None:
            return None
        from analytics.anomalies import Detector

        return Detector.from_state(memory)

    def dump(self, memory: Any) -> Any:
        return None if memory is None else memory.state()


_KINDS: dict[type[Rule], Callable[[Any], Evaluation]] = {
    Threshold: _OfThreshold,
    Change: _OfChange,
    Absence: _OfAbsence,
    Fleet: _OfFleet,
    Anomaly: _OfAnomaly,
}


def evaluation_of(rule: Rule) -> Evaluation:
    """The evaluation of a rule's kind, without any alarm yet."""
    return _KINDS[type(rule)](rule)
