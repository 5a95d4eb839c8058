"""Scrapes put together from the requests that bring their parts, and counters by their growth since the one before.

What belongs together of a host is a group (`Conventions`). It has a window from one scrape to the next, or, where each
scrape tells itself when its window begins, one for each. A scrape is ready once all that the group has had is there
again. What a group has, nobody says: that is known once nothing new has come for some scrapes. What does not come any
more holds windows up only until some later scrapes are there; the incomplete ones are left out then, and where windows
reach from one scrape to the next, that one is so much longer.

All of it is in memory and bounded. Parts come again without harm, since values only replace themselves, and a window
that was kept is not made again.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from contract.metrics import Metric
from contract.report import FUTURE_MS, OsType, Report
from contract.times import SECONDS_BELOW

Key = tuple[str, str]
"""Of a value within its group: a core, a device or nothing; and a mode or a member."""
Values = dict[Key, float]
START: Final[Key] = ("", "start_ms")
"""What tells when the window of a scrape begins, epoch milliseconds; where it is not there, it is the scrape before."""
MAX_READINGS: Final = 1_000_000
"""Values that are held; the hosts that were not heard for longest are forgotten first."""
_SETTLED: Final = 3
"""So many scrapes without a new series tell what a group has."""
_PATIENCE: Final = 8
"""So many later scrapes end the wait for what is missing."""
_MINUTE_MS: Final = 60_000
_NONE: Final[frozenset[Key]] = frozenset()
_SYSTEMS: Final[dict[str, OsType]] = {
    "linux": "Linux", "darwin": "MacOS", "windows": "Windows", "windows_nt": "Windows"
}  # fmt: skip


class Conventions(NamedTuple):
    """What the values of a sender mean."""

    sender: str
    """The version of the system of hosts that do not tell theirs."""
    fixed: Mapping[str, tuple[str, ...]]
    """The groups whose members are always the same."""
    in_place_of: Mapping[str, tuple[str, ...]]
    """Groups that say what others say better: nothing is taken of them where the host has one of those."""
    metrics_of: Callable[[str, Values, Values, float], list[Metric]]
    """What a group says of a window, by its values at the end and at the beginning, and its length in seconds.

    Raises ValueError where it can never say anything.
    """
    alone: frozenset[str] = frozenset()
    """Groups whose scrapes all tell by `START` when their windows begin; these may come in any order."""


class Slot(NamedTuple):
    """Where a value belongs."""

    group: str
    key: Key


class Range(NamedTuple):
    """From when to when readings are taken, epoch milliseconds; both are among it."""

    oldest_ms: int
    newest_ms: int
    now_ms: int

    @classmethod
    def at(cls, now_ms: int, oldest_ms: int) -> Self:
        """What is taken at a moment, of a store that keeps windows from `oldest_ms` on."""
        return cls(max(SECONDS_BELOW, oldest_ms), now_ms + FUTURE_MS, now_ms)


class ScrapedValue(NamedTuple):
    """A value of a host at a moment; without a value the series has ended."""

    host: str
    place: Slot
    at_ms: int
    value: float | None


@dataclass(slots=True)
class _ScrapedGroup:
    """The series of one group of a host."""

    alone: bool
    """Whether its scrapes may come in any order."""
    known: dict[Key, Key] = field(default_factory=dict)
    """What it has had in its last scrapes; each key is held once."""
    grown_ms: int = -1
    """The scrape in which it had something new for the last time."""
    settled: bool = False
    """Whether there were enough scrapes since."""
    closed_ms: int = -1
    """Nothing is taken of scrapes until this one,"""
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=_PATIENCE))
    """nor of these, the last that were complete."""
    last_ms: int = -1
    """The last scrape that was complete,"""
    last: Values = field(default_factory=dict)
    """and its values."""
    open: dict[int, Values] = field(default_factory=dict)
    """The scrapes that are not complete yet."""
    newest_ms: int = -1
    """The latest scrape of all that is known of it."""

    def add(self, key: Key, at_ms: int, value: float | None, now_ms: int) -> None:
        if value is None:
            self.known.pop(key, None)
            return
        if self.newest_ms > now_ms >= at_ms:
            self._begin_anew(at_ms, now_ms)
        if at_ms <= self.closed_ms or at_ms in self.recent:
            return
        if key not in self.known:
            self.known[key] = key
            self.grown_ms = max(self.grown_ms, at_ms)
            self.settled = False
        self.open.setdefault(at_ms, {})[self.known[key]] = value
        self.newest_ms = max(self.newest_ms, at_ms)

    def _begin_anew(self, at_ms: int, now_ms: int) -> None:
        """Forget scrapes of a time that has not come: a clock ran ahead, the sender's or ours."""
        self.newest_ms, self.grown_ms = at_ms, min(self.grown_ms, at_ms)
        self.recent = deque((moment for moment in self.recent if moment <= now_ms), _PATIENCE)
        self.open = {moment: values for moment, values in self.open.items() if moment <= now_ms}
        if self.closed_ms > now_ms:
            self.closed_ms = self.last_ms = -1
            self.last = {}

    def ready(self, fixed: frozenset[Key]) -> Iterator[tuple[int, bool]]:
        """The scrapes that are over, in order, and whether all of each is there.

        None is while one before it is not, unless they may come in any order. `fixed` are the keys of a group that has
        always the same.
        """
        moments = sorted(self.open)
        self.settled = self.settled or sum(at_ms > self.grown_ms for at_ms in moments) >= _SETTLED
        for place, at_ms in enumerate(moments):
            there = self.open[at_ms].keys()
            later = len(moments) - place - 1 + sum(moment > at_ms for moment in self.recent)
            if there >= fixed if fixed else self.settled and there >= self.known.keys():
                yield at_ms, True
            elif later >= _PATIENCE:
                yield at_ms, False
            elif not self.alone:
                return

    def close(self, at_ms: int, complete: bool) -> None:
        """Go on from a scrape that is over."""
        values = self.open.pop(at_ms, None)
        if values is None:
            return
        if not self.alone:
            self.closed_ms = max(self.closed_ms, at_ms)
            if complete:
                self.last_ms, self.last = at_ms, values
        if complete or not any(moment > at_ms for moment in self.recent):
            self.known = {key: key for scrape in (values, *self.open.values()) for key in scrape}
        if complete and self.alone:
            self.recent.append(at_ms)

    @property
    def size(self) -> int:
        return len(self.known) + len(self.last) + sum(map(len, self.open.values()))


@dataclass(slots=True)
class _Host:
    os_version: str
    os_type: OsType = "Linux"
    groups: dict[str, _ScrapedGroup] = field(default_factory=dict)
    size: int = 0


class ScrapeWindow(NamedTuple):
    """Scrapes of some groups of a host that are over, and what they say of one window."""

    host: str
    report: Report | None
    """None where they say nothing."""
    closes: list[tuple[str, int, bool]]
    """The group and scrape of each, and whether it was complete."""
    faults: list[str]
    """Why some of them say nothing."""


class Scrapes:
    """What is known of hosts whose values come in parts. Nothing here is safe to be used by two threads at once."""

    def __init__(self, conventions: Conventions, most: int = MAX_READINGS) -> None:
        self._conventions = conventions
        self._keys = {name: frozenset(("", one) for one in members) for name, members in conventions.fixed.items()}
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._most = most
        self.size = 0
        """Values that are held."""

    def add(self, readings: Iterable[ScrapedValue], now_ms: int) -> set[str]:
        """Take readings at the time `now_ms`; the hosts that they are of."""
        heard: set[str] = set()
        for host_name, (name, key), at_ms, value in readings:
            host = self._host(host_name)
            heard.add(host_name)
            if host.groups.keys().isdisjoint(self._conventions.in_place_of.get(name, ())):
                group = host.groups.setdefault(name, _ScrapedGroup(name in self._conventions.alone))
                group.add(key, at_ms, value, now_ms)
        for host_name in heard:
            self._weigh(host_name)
        return heard & self._hosts.keys()

    def name_system(self, host_name: str, system: str, release: str) -> None:
        """Note what a host runs, by the name of the system and its release."""
        host = self._host(host_name)
        host.os_type = _SYSTEMS.get(system.lower(), host.os_type)
        if 0 < len(release) <= 256 and release.isprintable():
            host.os_version = release
        self._weigh(host_name)

    def windows(self, heard: Iterable[str]) -> list[ScrapeWindow]:
        """What is ready of some hosts, in order of time; the same again until `keep` is told."""
        return [window for name in sorted(heard) for window in self._windows(name, self._hosts[name])]

    def report(self, host_name: str, start_ms: int, end_ms: int, count: int, metrics: list[Metric]) -> Report:
        """The report of a window of a host with so many observations."""
        host = self._host(host_name)
        return Report(
            user_id=host_name, start_timestamp=start_ms, end_timestamp=end_ms, observations_per_metric=count,
            os_type=host.os_type, os_version=host.os_version, metrics=metrics,
        )  # fmt: skip

    def keep(self, windows: Iterable[ScrapeWindow]) -> None:
        """Go on from windows that are on disk, or are never to be."""
        for window in windows:
            host = self._hosts.get(window.host)
            if host is not None:
                for name, at_ms, complete in window.closes:
                    group = host.groups.get(name)
                    if group is not None:  # The host may have been forgotten meanwhile, and heard again.
                        group.close(at_ms, complete)
                self._weigh(window.host)

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(self._conventions.sender)
        self._hosts.move_to_end(name)
        return host

    def _weigh(self, host_name: str) -> None:
        host = self._hosts.get(host_name)
        if host is None:
            return
        size = 1 + sum(group.size for group in host.groups.values())
        self.size += size - host.size
        host.size = size
        while self.size > self._most and len(self._hosts) > 1:
            _, gone = self._hosts.popitem(last=False)
            self.size -= gone.size

    def _windows(self, host_name: str, host: _Host) -> Iterator[ScrapeWindow]:
        """What is ready of a host, in order of time."""
        made: dict[tuple[int, int], tuple[list[Metric], list[tuple[str, int, bool]], list[str]]] = {}
        for name, group in host.groups.items():
            before_ms, before = group.last_ms, group.last
            for at_ms, complete in group.ready(self._keys.get(name, _NONE)):
                values = group.open[at_ms]
                start_ms = int(values.get(START, before_ms if before_ms >= 0 else at_ms - _MINUTE_MS))
                metrics, closes, faults = made.setdefault((at_ms, start_ms), ([], [], []))
                closes.append((name, at_ms, complete))
                if not complete:
                    count = len(values.keys() - {START})
                    faults.append(f"{name}: left out {count} values of a moment of which others did not come")
                    continue
                try:
                    told = self._conventions.metrics_of(name, values, before, (at_ms - start_ms) / 1000.0)
                except ValueError as error:
                    faults.append(f"{name}: {error}")
                else:
                    metrics += [one for one in told if all(type(one) is not type(other) for other in metrics)]
                before_ms, before = at_ms, values
        for (end_ms, start_ms), (metrics, closes, faults) in sorted(made.items(), key=lambda one: one[0]):
            report = self.report(host_name, start_ms, end_ms, 1, metrics) if metrics else None
            yield ScrapeWindow(host_name, report, closes, faults)
