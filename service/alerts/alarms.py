"""The states of an alarm: nothing, pending, firing."""

from enum import IntEnum
from typing import Any, NamedTuple

from service.alerts.rules import Rule

SILENCE_MS = 15 * 60_000
"""What is pending begins anew after a silence longer than this and than `for`."""


class AlarmState(IntEnum):
    """Whether an alarm's condition holds, and has held long enough."""

    OK = 0
    PENDING = 1
    FIRING = 2


class Transition(NamedTuple):
    """An alarm began to fire, or was resolved."""

    rule: str
    user: str
    """Empty for the fleet."""
    state: str
    """`firing` or `resolved`."""
    at_ms: int
    since_ms: int
    """When the condition began to hold."""
    value: float


class SavedAlarm(NamedTuple):
    """An alarm as it is kept over restarts."""

    last_ms: int
    state: int
    since_ms: int
    clear_since_ms: int
    value: float
    memory: Any


class Alarm:
    """The state machine of a rule and a user: pending once the condition holds, firing once it has held long enough."""

    __slots__ = ("clear_since_ms", "last_ms", "memory", "since_ms", "state", "value")

    def __init__(self, saved: SavedAlarm | None = None, memory: Any = None) -> None:
        self.last_ms = saved.last_ms if saved else -1
        """The end of the newest window that was looked at."""
        self.state = AlarmState(saved.state) if saved else AlarmState.OK
        self.since_ms = saved.since_ms if saved else -1
        self.clear_since_ms = saved.clear_since_ms if saved else -1
        self.value = saved.value if saved else 0.0
        self.memory = memory
        """What the rule's kind remembers of earlier windows."""

    def saved(self, memory: Any) -> SavedAlarm:
        """The alarm as it is kept over restarts, with its memory as plain data."""
        return SavedAlarm(self.last_ms, int(self.state), self.since_ms, self.clear_since_ms, self.value, memory)

    def begin_anew(self, now_ms: int) -> None:
        """Forget what was seen at times that have not come yet at `now_ms`; an alarm that fires goes on firing."""
        self.last_ms, self.clear_since_ms, self.memory = -1, -1, None
        if self.state is AlarmState.FIRING:
            self.since_ms = min(self.since_ms, now_ms)
        else:
            self.state = AlarmState.OK

    def step(self, rule: Rule, user: str, at_ms: int, is_beyond: bool, is_clear: bool) -> Transition | None:
        """Go on to the moment `at_ms`, at which the condition holds, is cleared, or neither of both."""
        if self.state is AlarmState.FIRING:
            return self._while_firing(rule, user, at_ms, is_clear)
        if not is_beyond:
            self.state = AlarmState.OK
            return None
        if self.state is AlarmState.OK or at_ms - self.last_ms > max(rule.for_ms, SILENCE_MS):
            # Nobody knows what was meanwhile: after a long silence it begins anew.
            self.state, self.since_ms = AlarmState.PENDING, at_ms
        if at_ms - self.since_ms < rule.for_ms:
            return None
        self.state, self.clear_since_ms = AlarmState.FIRING, -1
        return Transition(rule.name, user, "firing", at_ms, self.since_ms, self.value)

    def _while_firing(self, rule: Rule, user: str, at_ms: int, is_clear: bool) -> Transition | None:
        if not is_clear:
            self.clear_since_ms = -1
            return None
        if self.clear_since_ms < 0:
            self.clear_since_ms = at_ms
        if at_ms - self.clear_since_ms < rule.clear_for_ms:
            return None
        self.state = AlarmState.OK
        return Transition(rule.name, user, "resolved", at_ms, self.since_ms, self.value)
