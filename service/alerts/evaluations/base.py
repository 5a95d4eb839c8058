"""What the evaluations of all kinds have, and the windows of the last while as a sliding aggregate."""

import bisect
import logging
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

from contract.report import Report
from contract.summary import Summary
from contract.times import WEEK_MS
from service.alerts.alarms import Alarm, Saved, State, Transition
from service.alerts.rules import Rule

MAX_ENTRIES = 256
"""Windows that end within the same 1/256 of the time are one entry, so that memory is bounded."""

Parts = tuple[Summary, ...]


def merge(one: Parts, other: Parts) -> Parts:
    """Each part merged with its like."""
    if len(one) == len(other) == 1:
        return (one[0].merge(other[0]),)
    return tuple(
        right if left is None else left if right is None else left.merge(right)
        for left, right in zip_longest(one, other)
    )


class Sliding:
    """Windows that end in (newest - `over_ms`, newest]."""

    __slots__ = ("_back", "_entries", "_front", "_over_ms", "_slot_ms")

    def __init__(self, over_ms: int, entries: Iterable[tuple[int, Parts]] = ()) -> None:
        self._over_ms = over_ms
        self._slot_ms = max(1, over_ms // MAX_ENTRIES)
        self._entries = deque(entries)
        self._front: list[Parts] = []
        self._back = self._merged()

    def _merged(self) -> Parts | None:
        total: Parts | None = None
        for _, parts in self._entries:
            total = parts if total is None else merge(total, parts)
        return total

    def add(self, end_ms: int, parts: Parts) -> None:
        """Take a window; one that is not the newest counts if it is not too old."""
        entries = self._entries
        if not entries or end_ms >= entries[-1][0]:
            self._append(end_ms, parts)
            self._forget(end_ms - self._over_ms)
        elif end_ms > entries[-1][0] - self._over_ms:
            bisect.insort(entries, (end_ms, parts), key=lambda entry: entry[0])
            self._front = []
            self._back = self._merged()

    def _append(self, end_ms: int, parts: Parts) -> None:
        entries = self._entries
        if len(entries) > len(self._front) and end_ms // self._slot_ms == entries[-1][0] // self._slot_ms:
            entries[-1] = (end_ms, merge(entries[-1][1], parts))
        else:
            entries.append((end_ms, parts))
        self._back = parts if self._back is None else merge(self._back, parts)

    def _forget(self, through_ms: int) -> None:
        entries = self._entries
        while entries[0][0] <= through_ms:
            if not self._front:
                total: Parts | None = None
                for _, parts in reversed(entries):
                    total = parts if total is None else merge(parts, total)
                    self._front.append(total)
                self._back = None
            entries.popleft()
            self._front.pop()

    @property
    def total(self) -> Parts:
        """All windows, merged."""
        if not self._front:
            assert self._back is not None
            return self._back
        return self._front[-1] if self._back is None else merge(self._front[-1], self._back)

    def dump(self) -> list[Any]:
        """What it holds, as plain data."""
        return [(end_ms, dump_parts(parts)) for end_ms, parts in self._entries]

    @classmethod
    def load(cls, over_ms: int, data: Iterable[Any]) -> "Sliding":
        """As `dump` gave it."""
        return cls(over_ms, ((end_ms, load_parts(parts)) for end_ms, parts in data))


def dump_parts(parts: Parts) -> list[Any]:
    """Parts as plain data."""
    return [(part.count, part.mean, part.variance, part.minimum, part.maximum, part.histogram) for part in parts]


def load_parts(data: Iterable[Any]) -> Parts:
    """As `dump_parts` gave it."""
    return tuple(Summary(*part) for part in data)


FLEET_USER = ""
"""The user under which a rule of the fleet keeps its own alarm; no user has this name."""

_log = logging.getLogger("loadlens.service")

MAX_ALARMS = 100_000
"""Of one rule. With more users, those who have been silent longest are forgotten."""
_AT_ONCE = 10
"""So large a part, one in ten, is forgotten when there are too many."""
FORGET_MS = WEEK_MS
"""Users who are silent for this long, or up to twice as long, are forgotten; what fires of them is resolved."""


class Evaluation:
    """A rule with its alarms. Not safe for several threads at once."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
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
        """Take a report; `now_ms` is when it arrived."""
        raise NotImplementedError

    def tick(self, now_ms: int) -> Iterator[Transition]:
        """What follows from time passing alone."""
        return self.forget_silent(now_ms)

    def forget_silent(self, now_ms: int) -> Iterator[Transition]:
        """Forget those who have been silent for long."""
        if self._looked_ms is None:
            self._looked_ms = now_ms
        if now_ms - self._looked_ms < FORGET_MS:
            return
        for user in self.alarms.keys() - self.heard - {FLEET_USER}:
            alarm = self.alarms[user]
            if alarm.state is State.FIRING:
                yield Transition(self.rule.name, user, "resolved", now_ms, alarm.since_ms, alarm.value)
            self.forget(user)
        self.heard, self._looked_ms = set(), now_ms

    def forget(self, user: str) -> None:
        """Let go of a user."""
        del self.alarms[user]
        self.changed.discard(user)
        self.heard.discard(user)
        self.forgotten.add(user)

    def restore(self, user: str, saved: Saved) -> None:
        """Take an alarm as it was kept; where its memory is of another version, that begins anew."""
        try:
            memory = self.load(saved.memory)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other alarms are good
            _log.error("what rule %s remembers of %r begins anew: %s", self.rule.name, user, error)
            memory = None
        self.alarms[user] = Alarm(saved, memory)

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
            if len(self.alarms) >= MAX_ALARMS and not self._make_room():
                self.refused += 1
                return None
            alarm = self.alarms[user] = Alarm()
            self.forgotten.discard(user)
        return alarm

    def _make_room(self) -> bool:
        """Forget those of whom nothing is to be said and who have been silent longest; False where there are none."""
        idle = [user for user, alarm in self.alarms.items() if alarm.state is State.OK and user != FLEET_USER]
        idle.sort(key=lambda user: self.alarms[user].last_ms)
        for user in idle[: max(1, MAX_ALARMS // _AT_ONCE)]:
            self.forget(user)
        return bool(idle)


def slid(evaluation: Evaluation, alarm: Alarm, end_ms: int, parts: Parts, over_ms: int) -> int | None:
    """Put a window among those of the last while; the moment to look at, or None where the window is too late."""
    if end_ms <= alarm.last_ms - over_ms:
        evaluation.late += 1
        return None
    if alarm.memory is None:
        alarm.memory = Sliding(over_ms)
    alarm.memory.add(end_ms, parts)
    return max(end_ms, alarm.last_ms)
