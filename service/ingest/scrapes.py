"""Scrapes put together from the requests that bring their parts, and counters by their growth since the one before.

A group of series of a host (`service.ingest.node_exporter`) has a window from one scrape to the next. It is ready once
all series that the group has had are there again. What a group has, nobody says: that is known once nothing new has
come for some scrapes. What does not come any more holds windows up only until some later scrapes are there; the
incomplete ones are left out then, and the next window is so much longer.

All of it is in memory and bounded. Parts come again without harm, since values only replace themselves, and a window
that was kept is not made again.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from contract.metrics import Metric
from contract.report import FUTURE_MS, OsType, Report
from contract.times import SECONDS_BELOW
from service.ingest.node_exporter import FIXED, IN_PLACE_OF, Key, Place, Values, metrics_of

MAX_READINGS: Final = 1_000_000
"""Values that are held; the hosts that were not heard for longest are forgotten first."""
_SETTLED: Final = 3
"""So many scrapes without a new series tell what a group has."""
_PATIENCE: Final = 8
"""So many later scrapes end the wait for what is missing."""
_MINUTE_MS: Final = 60_000
_KEYS: Final = {name: frozenset(("", member) for member in members) for name, members in FIXED.items()}
_NONE: Final[frozenset[Key]] = frozenset()
_SYSTEMS: Final[dict[str, OsType]] = {"Linux": "Linux", "Darwin": "MacOS", "Windows_NT": "Windows"}


class Range(NamedTuple):
    """From when to when readings are taken, epoch milliseconds; both are among it."""

    oldest_ms: int
    newest_ms: int
    now_ms: int

    @classmethod
    def at(cls, now_ms: int, oldest_ms: int) -> Self:
        """What is taken at a moment, of a store that keeps windows from `oldest_ms` on."""
        return cls(max(SECONDS_BELOW, oldest_ms), now_ms + FUTURE_MS, now_ms)


class Reading(NamedTuple):
    """A sample of a series of a host; without a value the series has ended."""

    host: str
    place: Place
    at_ms: int
    value: float | None


@dataclass(slots=True)
class _Group:
    """The series of one group of a host."""

    known: dict[Key, Key] = field(default_factory=dict)
    """What it has had in its last scrapes; each key is held once."""
    grown_ms: int = -1
    """The scrape in which it had something new for the last time."""
    settled: bool = False
    """Whether there were enough scrapes since."""
    closed_ms: int = -1
    """Nothing is taken of scrapes until this one."""
    last_ms: int = -1
    """The last scrape that was complete,"""
    last: Values = field(default_factory=dict)
    """and its values."""
    open: dict[int, Values] = field(default_factory=dict)
    """The scrapes that are not complete yet."""

    def add(self, key: Key, at_ms: int, value: float | None) -> None:
        if value is None:
            self.known.pop(key, None)
            return
        if at_ms <= self.closed_ms:
            return
        if key not in self.known:
            self.known[key] = key
            self.grown_ms = max(self.grown_ms, at_ms)
            self.settled = False
        self.open.setdefault(at_ms, {})[self.known[key]] = value

    def ready(self, fixed: frozenset[Key]) -> Iterator[tuple[int, bool]]:
        """The scrapes that are over, in order, and whether all of each is there; none is while one before it is not.

        `fixed` are the keys of a group that has always the same.
        """
        moments = sorted(self.open)
        self.settled = self.settled or sum(at_ms > self.grown_ms for at_ms in moments) >= _SETTLED
        for place, at_ms in enumerate(moments):
            there = self.open[at_ms].keys()
            complete = there >= fixed if fixed else self.settled and there >= self.known.keys()
            if not complete and len(moments) - place <= _PATIENCE:
                return
            yield at_ms, complete

    def close(self, at_ms: int, complete: bool) -> None:
        """Go on from a scrape that is over."""
        values = self.open.pop(at_ms, None)
        if values is None:
            return
        self.closed_ms = max(self.closed_ms, at_ms)
        if complete:
            self.last_ms, self.last = at_ms, values
        self.known = {key: key for scrape in (values, *self.open.values()) for key in scrape}

    @property
    def size(self) -> int:
        return len(self.known) + len(self.last) + sum(map(len, self.open.values()))


@dataclass(slots=True)
class _Host:
    groups: dict[str, _Group] = field(default_factory=dict)
    os_type: OsType = "Linux"
    os_version: str = "Prometheus"
    size: int = 0


class Window(NamedTuple):
    """Scrapes of some groups of a host that are over, and what they say of one window."""

    host: str
    report: Report | None
    """None where they say nothing."""
    closes: list[tuple[str, int, bool]]
    """The group and scrape of each, and whether it was complete."""


class Scrapes:
    """What is known of hosts that others scrape. Nothing here is safe to be used by two threads at once."""

    def __init__(self, most: int = MAX_READINGS) -> None:
        self._hosts: OrderedDict[str, _Host] = OrderedDict()
        self._most = most
        self.size = 0
        """Values that are held."""

    def add(self, readings: Iterable[Reading]) -> set[str]:
        """Take readings; the hosts that they are of."""
        heard: set[str] = set()
        for host_name, (group, key), at_ms, value in readings:
            host = self._host(host_name)
            heard.add(host_name)
            if host.groups.keys().isdisjoint((IN_PLACE_OF.get(group, ""),)):
                host.groups.setdefault(group, _Group()).add(key, at_ms, value)
        for host_name in heard:
            self._weigh(host_name)
        return heard & self._hosts.keys()

    def name_system(self, host_name: str, system: str, release: str) -> None:
        """Note what a host runs, as `node_uname_info` says it."""
        host = self._host(host_name)
        host.os_type = _SYSTEMS.get(system, host.os_type)
        if 0 < len(release) <= 256 and release.isprintable():
            host.os_version = release
        self._weigh(host_name)

    def windows(self, heard: Iterable[str]) -> list[Window]:
        """What is ready of some hosts, in order of time; the same again until `keep` is told."""
        return [window for name in sorted(heard) for window in _windows(name, self._hosts[name])]

    def keep(self, windows: Iterable[Window]) -> None:
        """Go on from windows that are on disk, or are never to be."""
        for window in windows:
            host = self._hosts.get(window.host)
            if host is not None:
                for name, at_ms, complete in window.closes:
                    host.groups[name].close(at_ms, complete)
                self._weigh(window.host)

    def _host(self, name: str) -> _Host:
        host = self._hosts.setdefault(name, _Host())
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


def _windows(host_name: str, host: _Host) -> Iterator[Window]:
    """What is ready of a host, in order of time."""
    made: dict[tuple[int, int], tuple[list[Metric], list[tuple[str, int, bool]]]] = {}
    for name, group in host.groups.items():
        before_ms, before = group.last_ms, group.last
        for at_ms, complete in group.ready(_KEYS.get(name, _NONE)):
            values = group.open[at_ms]
            start_ms = before_ms if before_ms >= 0 else at_ms - _MINUTE_MS
            metrics, closes = made.setdefault((at_ms, start_ms), ([], []))
            closes.append((name, at_ms, complete))
            if complete:
                metrics += metrics_of(name, values, before, (at_ms - start_ms) / 1000.0)
                before_ms, before = at_ms, values
    for (end_ms, start_ms), (metrics, closes) in sorted(made.items(), key=lambda one: one[0]):
        report = Report(
            user_id=host_name, start_timestamp=start_ms, end_timestamp=end_ms, observations_per_metric=1,
            os_type=host.os_type, os_version=host.os_version, metrics=metrics,
        )  # fmt: skip
        yield Window(host_name, report if metrics else None, closes)
