"""What the evaluations of all kinds of rules have: an alarm for each user, bounded in number."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from contract.report import FUTURE_MS, Report
from contract.times import WEEK_MS
from service.alerts.alarms import Alarm, AlarmState, SavedAlarm, Transition
from service.alerts.evaluations.sliding import Parts, SlidingWindows
from service.alerts.rules import Rule

FLEET_USER = ""
"""The user under which a rule of the fleet keeps its own alarm; no user has this name."""

_log = logging.getLogger("loadlens.service")

MAX_ALARMS = 100_000
_AT_ONCE = 10
"""So large a part, one in ten, is forgotten when there are too many."""
FORGET_MS = WEEK_MS
"""Users who are silent for this long, or up to twice as long, are forgotten; what fires of them is resolved."""


class Evaluation:
    """A rule with its alarms. Not safe for several threads at once."""

    def __init__(self, rule: Rule, *, max_alarms: int = MAX_ALARMS) -> None:
        """With more users than `max_alarms`, those who have been silent longest are forgotten."""
        self.rule = rule
        self._max_alarms = max_alarms
        self.alarms: dict[str, Alarm] = {}
        self.changed: set[str] = set()
        """The users whose alarms differ from what was kept."""
        self.forgotten: set[str] = set()
        """The users whose alarms were kept and are gone."""
        self.heard: set[str] = set()
        """Who has reported since `forget_silent` last looked; whoever feeds it notes that."""
        self._looked_ms: int | None = None
        self.late = 0
        """Windows that came after a newer one and were too old to matter."""
        self.refused = 0
        """Reports of users that were too many."""

    def observe(self, report: Report, now_ms: int) -> Transition | None:
        """Evaluate the rule with a report that arrived at `now_ms`; the transition that follows, if any."""
        raise NotImplementedError

    def tick(self, now_ms: int, is_paused: Callable[[str], bool]) -> Iterator[Transition]:
        """What follows from time passing alone; `is_paused` says whose agent is meant not to report."""
        return self.forget_silent(now_ms)

    def value_of(self, user: str, now_ms: int) -> float | None:
        """The value of a user's alarm at `now_ms`; None where there is no alarm."""
        alarm = self.alarms.get(user)
        return None if alarm is None else alarm.value

    def forget_silent(self, now_ms: int) -> Iterator[Transition]:
        """Forget those who have been silent for long."""
        if self._looked_ms is None or self._looked_ms > now_ms:
            self._looked_ms = now_ms
        if now_ms - self._looked_ms < FORGET_MS:
            return
        for user in self.alarms.keys() - self.heard - {FLEET_USER}:
            yield from self.let_go(user, now_ms)
        self.heard, self._looked_ms = set(), now_ms

    def let_go(self, user: str, now_ms: int) -> Iterator[Transition]:
        """Forget a user, where it is known; an alarm that fires is resolved."""
        alarm = self.alarms.get(user)
        if alarm is None:
            return
        if alarm.state is AlarmState.FIRING:
            yield Transition(self.rule.name, user, "resolved", now_ms, alarm.since_ms, alarm.value)
        self.forget(user)

    def forget(self, user: str) -> None:
        """Forget a user and its alarm."""
        del self.alarms[user]
        self.changed.discard(user)
        self.heard.discard(user)
        self.forgotten.add(user)

    def restore(self, user: str, saved: SavedAlarm) -> None:
        """Take an alarm as it was kept; where its memory is of another version, that begins anew."""
        try:
            memory = self.load(saved.memory)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other alarms are good
            _log.error("what rule %s remembers of %r begins anew: %s", self.rule.name, user, error)
            memory = None
        self.alarms[user] = Alarm(saved, memory)

    def saved(self, user: str) -> SavedAlarm:
        """A user's alarm as it is kept over restarts."""
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
            if len(self.alarms) >= self._max_alarms and not self._make_room():
                self.refused += 1
                return None
            alarm = self.alarms[user] = Alarm()
            self.forgotten.discard(user)
        return alarm

    def _is_late(self, alarm: Alarm, end_ms: int, now_ms: int, over_ms: int = 0) -> bool:
        """Whether a window ends `over_ms` or more before the newest that was looked at; then it is counted.

        Where that one is of a time that has not come, the service's clock was ahead and is set back: waiting for that
        time would be silence, so the alarm begins anew with this window.
        """
        if end_ms > alarm.last_ms:
            return False
        if has_not_come(alarm.last_ms, now_ms):
            alarm.begin_anew(now_ms)
            return False
        if end_ms > alarm.last_ms - over_ms:
            return False
        self.late += 1
        return True

    def _slid(self, alarm: Alarm, end_ms: int, parts: Parts, now_ms: int, over_ms: int) -> int | None:
        """Put a window among those of the last while; the moment to look at, or None where the window is too late."""
        if self._is_late(alarm, end_ms, now_ms, over_ms):
            return None
        if alarm.memory is None:
            alarm.memory = SlidingWindows(over_ms)
        alarm.memory.add(end_ms, parts)
        return max(end_ms, alarm.last_ms)

    def _make_room(self) -> bool:
        """Forget those who have been silent longest of all whose alarm is `OK`; False where there are none."""
        idle = [user for user, alarm in self.alarms.items() if alarm.state is AlarmState.OK and user != FLEET_USER]
        idle.sort(key=lambda user: self.alarms[user].last_ms)
        for user in idle[: max(1, self._max_alarms // _AT_ONCE)]:
            self.forget(user)
        return bool(idle)


def has_not_come(moment_ms: int, now_ms: int) -> bool:
    """Whether no window can end at a moment yet: it was noted by a clock that has been set back since."""
    return moment_ms > now_ms + FUTURE_MS
