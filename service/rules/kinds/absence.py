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
        self._absent: OrderedDict[str, None] = OrderedDict()
        """Those who are, the longest silent first."""
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
        self._absent.pop(user, None)
        alarm.state, alarm.value = State.OK, silent_ms / 1000
        return Transition(self.rule.name, user, "resolved", now_ms, alarm.since_ms, alarm.value)

    def tick(self, now_ms: int) -> Iterator[Transition]:
        """What follows from time passing alone."""
        if self._begun_ms is None:
            # While the service was away nobody could report.
            self._begun_ms = now_ms
        for user in self._silent_for(self._waiting, now_ms, self.rule.after_ms):
            alarm = self.alarms[user]
            self._absent[user] = None
            alarm.state, alarm.since_ms, alarm.value = State.FIRING, alarm.last_ms, (now_ms - alarm.last_ms) / 1000
            self.changed.add(user)
            yield Transition(self.rule.name, user, "firing", now_ms, alarm.since_ms, alarm.value)

        for user in self._silent_for(self._absent, now_ms, self.rule.forget_ms):
            alarm = self.alarms[user]
            yield Transition(self.rule.name, user, "resolved", now_ms, alarm.since_ms, (now_ms - alarm.last_ms) / 1000)
            self.forget(user)

    def _silent_for(self, users: OrderedDict[str, None], now_ms: int, silence_ms: int) -> Iterator[str]:
        """Those who have been silent so long, taken out of `users`."""
        while users:
            user = next(iter(users))
            if now_ms - max(self.alarms[user].last_ms, self._begun_ms or 0) <= silence_ms:
                return
            del users[user]
            yield user

    def forget(self, user: str) -> None:
        """Let go of a user."""
        super().forget(user)
        self._waiting.pop(user, None)
        self._absent.pop(user, None)

    def restore(self, user: str, saved: Saved) -> None:
        """Take an alarm as it was kept."""
        super().restore(user, saved)
        (self._absent if self.alarms[user].state is State.FIRING else self._waiting)[user] = None
