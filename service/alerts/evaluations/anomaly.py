"""What a user's own past does not let expect."""

from typing import Any

from contract.report import Report
from service.alerts.alarms import Alarm, SavedAlarm, Transition
from service.alerts.evaluations.base import MAX_ALARMS, Evaluation, has_not_come
from service.alerts.evaluations.sliding import Parts, dump_parts, load_parts, merge
from service.alerts.rules import AnomalyRule

_BUCKET = "\0"
"""Behind a user's name in the name under which its bucket is kept; no user has it in its name."""


class AnomalyEvaluation(Evaluation):
    """What a user's own past does not let expect.

    The detector learns once in a bucket; what is in the bucket is kept beside it, under a name that no user has, so
    that not everything is written each time.
    """

    rule: AnomalyRule

    def __init__(self, rule: AnomalyRule, *, max_alarms: int = MAX_ALARMS) -> None:
        super().__init__(rule, max_alarms=max_alarms)
        self._buckets: dict[str, tuple[int, Parts]] = {}
        """The bucket that is being filled, of each user: when it ends, and what is in it."""

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Evaluate the rule with a report; the transition that follows, if any."""
        parts = self.rule.extractor.summaries(report)
        alarm = None if parts is None else self._alarm(report.user_id)
        if parts is None or alarm is None:
            return None
        user = report.user_id
        bucket_ms = -(-report.end_timestamp // self.rule.every_ms) * self.rule.every_ms
        end_ms, filled = self._buckets.get(user, (bucket_ms, None))
        if has_not_come(max(end_ms - self.rule.every_ms, alarm.last_ms), now_ms):
            # By a clock that was set back since: what the detector has learned of that time begins anew.
            alarm.begin_anew(now_ms)
            self.changed.add(user)
            end_ms, filled = bucket_ms, None
        if bucket_ms < end_ms:
            self.late += 1
            return None
        transition = None
        if bucket_ms == end_ms:
            self._buckets[user] = (bucket_ms, parts if filled is None else merge(filled, parts))
        else:
            assert filled is not None
            transition = self._judge(alarm, user, end_ms, self.rule.extractor.value(filled))
            self._buckets[user] = (bucket_ms, parts)
        self.changed.add(user + _BUCKET)
        self.forgotten.discard(user + _BUCKET)
        return transition

    def _judge(self, alarm: Alarm, user: str, end_ms: int, value: float) -> Transition | None:
        if alarm.memory is None:
            from analytics.methods.anomalies import Detector, Tuning

            alarm.memory = Detector(Tuning.for_step(self.rule.every_ms))
        alarm.value = value
        verdict = alarm.memory.update(end_ms, value)
        transition = alarm.step(self.rule, user, end_ms, verdict.anomaly, not verdict.anomaly)
        alarm.last_ms = end_ms
        self.changed.add(user)
        return transition

    def forget(self, user: str) -> None:
        """Forget a user and its alarm."""
        super().forget(user)
        if self._buckets.pop(user, None):
            self.changed.discard(user + _BUCKET)
            self.forgotten.add(user + _BUCKET)

    def restore(self, user: str, saved: SavedAlarm) -> None:
        """Take an alarm as it was kept."""
        if user.endswith(_BUCKET):
            self._buckets[user.removesuffix(_BUCKET)] = (saved.last_ms, load_parts(saved.memory))
        else:
            super().restore(user, saved)

    def saved(self, user: str) -> SavedAlarm:
        """A user's alarm as it is kept over restarts."""
        if user.endswith(_BUCKET):
            end_ms, parts = self._buckets[user.removesuffix(_BUCKET)]
            return Alarm(memory=None).saved(dump_parts(parts))._replace(last_ms=end_ms)
        return super().saved(user)

    def load(self, memory: Any) -> Any:
        """What it remembers of a user, from plain data."""
        if memory is None:
            return None
        from analytics.methods.anomalies import Detector

        return Detector.from_state(memory)

    def dump(self, memory: Any) -> Any:
        """What it remembers of a user, as plain data."""
        return None if memory is None else memory.state()
