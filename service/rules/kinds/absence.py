"""Time that passes without a report."""

from collections import OrderedDict
from collections.abc import Iterator

from contract.report import Report
from service.rules.alarm import Saved, State, Transition
from service.rules.kinds.base import Evaluation
from service.rules.model import Absence

__all__ = ["AbsenceEvaluation"]


class AbsenceEvaluation(Evaluation):
    """Time that passes without a report. `last_ms` is when one came, not when its window ended."""

    rule: Absence

    def __init__(self, rule: Absence) -> None:
        super().__init__(rule)
        self._waiting: OrderedDict[str, None] = OrderedDict()
        """Those who are not absent, the longest silent first."""
        self._begun_ms: int | None = None

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Take a report."""
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
        """What follows from time passing alone."""
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
        """Take an alarm as it was kept."""
        super().restore(user, saved)
        if self.alarms[user].state is not State.FIRING:
            self._waiting[user] = None
