"""User ids that more than one host reports under: their windows overlap, and their agents listen in turn."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from contract.metrics import Metric
from contract.report import Report
from contract.times import format_instant
from service.control.database import ControlDatabase

ENOUGH: Final = 3
"""So many overlaps in a row make an id shared. A clock that is set back makes one."""
_KEPT: Final = 16
"""Windows that a new one is compared with."""
_LISTENERS: Final = 4
"""Runs of an agent that are remembered."""
_APART: Final = 16
"""Windows without overlap after which what overlapped before counts no more."""
_TOLERANCE: Final = 0.05
"""Windows may overlap by this share of the shorter one: clocks are not read to the millisecond."""
_MAX_SHARED: Final = 10_000
"""The most ids that are remembered as shared."""


@dataclass(slots=True)
class SharedId:
    """What is known of an id that hosts share."""

    first_ms: int
    """The end of the first window, or the time of the first stream, that told."""
    last_ms: int
    windows: int = 0
    """Windows that overlapped others since; some of the first are not counted."""


def as_members(shared: SharedId | None) -> dict[str, Any]:
    """What answers say of an id: `shared_windows`, and `shared_at`, null for one that a single host has."""
    return {
        "shared_windows": shared.windows if shared else 0,
        "shared_at": format_instant(shared.last_ms) if shared else None,
    }


@dataclass(slots=True)
class _Recent:
    """The last windows of one id."""

    start: int
    end: int
    """The end of the last window, epoch milliseconds."""
    newest: int
    """The end of the newest of the last windows. One of a clock that ran ahead counts until it is of these no more."""
    windows: deque[tuple[int, int]] | None = None
    """The starts and ends of the last windows, where they do not just follow one another: few hosts need them."""
    in_order: int = 0
    """Windows since the last that began before the newest one's end; counted while `windows` are kept."""
    counted: int = -1
    """What `newest` was when an overlap was counted last."""
    overlaps: int = 0
    since: int = 0
    """Windows since that overlap."""

    def take(self, start: int, end: int) -> bool:
        """Whether a window overlaps one before it, and so many did in a row that two hosts must have sent them.

        An overlap counts only where time has gone on since the one before: windows after a clock was set back overlap
        those from before it while the newest stays the same; those of two hosts come in turn.
        """
        self.since += 1
        if start >= self.newest and self.windows is None:
            self.start, self.end, self.newest = start, end, end
            return False
        return self._compare(start, end)

    def _compare(self, start: int, end: int) -> bool:
        """As `take`, where windows did not just follow one another."""
        if self.windows is None:
            self.windows = deque([(self.start, self.end)], _KEPT)
        self.in_order += 1
        overlaps = False
        if start < self.newest:
            self.in_order = 0
            overlaps = any(_overlap(start, end, *window) for window in self.windows)
        if overlaps and self.newest != self.counted:
            self.overlaps = self.overlaps + 1 if self.since - 1 <= _APART else 1
            self.counted, self.since = self.newest, 1
        self.start, self.end = start, end
        is_newest_last = len(self.windows) == _KEPT and self.windows[0][1] == self.newest
        self.windows.append((start, end))
        self.newest = max(window[1] for window in self.windows) if is_newest_last else max(self.newest, end)
        if self.in_order > _KEPT:
            # They follow one another again.
            self.windows = None
        return overlaps and self.overlaps >= ENOUGH


def _overlap(start: int, end: int, other_start: int, other_end: int) -> bool:
    shorter = min(end - start, other_end - other_start)
    return min(end, other_end) - max(start, other_start) > _TOLERANCE * shorter


_STEPS = [
    """
    CREATE TABLE shared_ids (
        user_id TEXT PRIMARY KEY,
        first_ms INTEGER NOT NULL,
        last_ms INTEGER NOT NULL,
        windows INTEGER NOT NULL
    ) STRICT;
    """
]


class SharedIds:
    """Finds ids that hosts share, and remembers them in the control database.

    `observe` and `listened` are called on the event loop, `write` in a thread.
    """

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._recent: defaultdict[type[Metric], dict[str, _Recent]] = defaultdict(dict)
        self._listeners: dict[str, deque[str]] = {}
        self._unwritten: set[str] = set()
        control.migrate("agents.shared_ids", _STEPS)
        query = "SELECT user_id, first_ms, last_ms, windows FROM shared_ids ORDER BY last_ms DESC LIMIT ?"
        self.found = {row[0]: SharedId(*row[1:]) for row in control.read(query, (_MAX_SHARED,))}
        """The shared ids."""

    @property
    def kept(self) -> int:
        """Of how many hosts several windows are kept, because they did not just follow one another."""
        return sum(one.windows is not None for some in self._recent.values() for one in some.values())

    def observe(self, reports: Sequence[Report]) -> list[str]:
        """Take new reports, in the order in which they came; the ids that are found to be shared now, not before."""
        fresh = []
        for report in reports:
            # Other metrics of one host may come in reports of their own.
            of_type = self._recent[type(report.metrics[0])]
            recent = of_type.get(report.user_id)
            start, end = report.start_timestamp, report.end_timestamp
            if recent is None:
                of_type[report.user_id] = _Recent(start, end, end)
            elif recent.take(start, end):
                fresh += self._note(report.user_id, report.end_timestamp, 1)
        return fresh

    def listened(self, user_id: str, instance: str, now_ms: int) -> list[str]:
        """Take that a run of an agent, `instance`, opens a stream; as `observe`.

        A run that has ended does not come back: where an earlier one opens a stream again, there are two.
        """
        last = self._listeners.setdefault(user_id, deque(maxlen=_LISTENERS))
        if last and last[-1] == instance:
            return []
        returned = instance in last
        last.append(instance)
        return self._note(user_id, now_ms, 0) if returned else []

    def _note(self, user_id: str, at_ms: int, windows: int) -> list[str]:
        shared = self.found.get(user_id)
        fresh = shared is None
        if shared is None:
            if len(self.found) >= _MAX_SHARED:
                return []
            shared = self.found[user_id] = SharedId(at_ms, at_ms)
        shared.last_ms = max(shared.last_ms, at_ms)
        shared.windows += windows
        self._unwritten.add(user_id)
        return [user_id] if fresh else []

    def drop(self, user_id: str) -> None:
        """Forget what is known of an id, on disk too. Called in a thread."""
        self._unwritten.discard(user_id)
        self.found.pop(user_id, None)
        self._listeners.pop(user_id, None)
        with self._control.transaction() as db:
            db.execute("DELETE FROM shared_ids WHERE user_id = ?", (user_id,))

    @property
    def waiting(self) -> bool:
        """Whether there is something to write."""
        return bool(self._unwritten)

    def write(self) -> None:
        """Put what was found on disk."""
        with self._control.transaction() as db:
            # Here, and not before: what is dropped meanwhile must not be written again.
            noted = [*self._unwritten]
            found = [(name, one) for name in noted if (one := self.found.get(name))]
            rows = [(name, one.first_ms, one.last_ms, one.windows) for name, one in found]
            db.executemany("INSERT OR REPLACE INTO shared_ids VALUES (?, ?, ?, ?)", rows)
        self._unwritten.difference_update(noted)
