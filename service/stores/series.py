"""The series and users that a store holds, in memory, with what is not on disk yet told apart."""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from contract.devices import Devices, with_names
from contract.later import later
from contract.metrics import LAST_CORE, QUANTITIES, TYPES, Cpu, Metric, Quantity, type_name
from contract.report import Report

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Ints = npt.NDArray[np.int64]
else:
    np = later("numpy")
    pd = later("pandas")

MAX_SYSTEMS = 64
"""So many changes of a host's system are kept; what was before them counts as not recorded."""
_LAST = 1 << 62
WHOLE = -1
"""In place of a core's number: the whole host."""


def fleet_number(quantity: str) -> int:
    """The number of the series that stands for a quantity of all hosts together.

    It is kept on disk, so it follows from the name alone; those of hosts and cores are above 0, these below.
    """
    return -1 - (zlib.crc32(quantity.encode()) >> 1)


def nobody_of(number: int) -> str:
    """In place of a user id: whom a series belongs to that is of no user any more. No user id has a NUL."""
    return f"\x00{number}"


_FIRST = {kind.quantities[0].name for kind in TYPES}


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity of one user, of the whole host or of one core."""

    id: int
    user_id: str
    quantity: str
    core: int


@dataclass(slots=True)
class User:
    """What was last said of a host."""

    user_id: str
    os_type: str
    os_version: str
    cores: int
    first_seen: int
    last_seen: int
    cpu: tuple[int, ...] = ()
    """The series of its last CPU metric."""
    numbers: list[int] | None = None
    """The numbers of the cores in that, as it named them."""
    systems: list[tuple[int, int]] = field(default_factory=list)
    """What it ran since when: ends of windows in epoch ms, ascending, and places in `SeriesIndex.systems`. What came
    before the first is not recorded."""
    labels: dict[str, str] = field(default_factory=dict)
    """Its labels, as it said them last; they are replaced, never changed."""
    devices: Devices = field(default_factory=dict)
    """The disks and interfaces that it has named."""

    def has(self, cpu: Cpu) -> bool:
        """Whether `cpu` holds the series of a CPU metric: it tells of the same cores as the last."""
        return len(self.cpu) == len(cpu.avg_utilization_by_core) + 1 and cpu.cores == self.numbers

    def runs(self, end_ms: int, system: int) -> None:
        """Take that a window that ends at a moment came from a system."""
        known = self.systems
        if known and end_ms >= known[-1][0]:
            if known[-1][1] != system:
                known.append((end_ms, system))
        else:
            place = bisect_right(known, (end_ms, _LAST))
            if place and known[place - 1][1] == system:
                return
            # A late window. It moves the change to its system back, or was in between.
            if place < len(known) and known[place][1] == system:
                known[place] = (end_ms, system)
            else:
                back = [(end_ms + 1, known[place - 1][1])] if place else []
                known[place:place] = [(end_ms, system), *back]
        # Two hosts with one id would change it all the time.
        if len(known) > MAX_SYSTEMS:
            del known[0]


class SeriesIndex:
    """Finds the number of a series, and gives new series the next number."""

    def __init__(self) -> None:
        self.all: list[Series] = []
        """Every series; number n at place n - 1."""
        self._by_user: dict[str, dict[str, dict[int, int]]] = {}
        self._bounded = array("b", [0])
        self._streams = array("b", [0])
        self._fleet = array("i", [0])
        self._wholes: dict[str, array[int]] = {}
        self._in_order: dict[str, tuple[tuple[int, int, int], Ints, Ints]] = {}
        self.users: dict[str, User] = {}
        self.systems: list[tuple[str, str]] = []
        """Operating systems that were named: type and version."""
        self._systems: dict[tuple[str, str], int] = {}
        self.created: list[Series] = []
        """Series made since this list was last taken."""
        self.selected: dict[str, tuple[tuple[int, int], Any]] = {}
        """What the query engine has made of all hosts, by quantity, and of which `state`."""
        self.nobody: set[int] = set()
        """The series of users that were forgotten: their numbers stay, and belong to nobody."""

    def __len__(self) -> int:
        return len(self.all)

    @property
    def state(self) -> tuple[int, int]:
        """Changes whenever a series joins, or belongs to nobody any more."""
        return len(self.all), len(self.nobody)

    @property
    def known_quantities(self) -> list[Quantity]:
        """The quantities that any host was ever known to have."""
        return [quantity for name, quantity in QUANTITIES.items() if name in self._wholes]

    def forget(self, user_id: str) -> None:
        """Forget a user: its series belong to nobody, and none of their numbers is given again."""
        self.users.pop(user_id, None)
        for quantity, cores in self._by_user.pop(user_id, {}).items():
            for core, number in cores.items():
                self.all[number - 1] = Series(number, nobody_of(number), quantity, core)
                self.nobody.add(number)

    def restore(self, series: Series) -> None:
        """Take a series that is on disk; they come in the order of their numbers."""
        self.all.append(series)
        if series.user_id == nobody_of(series.id):
            self.nobody.add(series.id)
        self._by_user.setdefault(series.user_id, {}).setdefault(series.quantity, {})[series.core] = series.id
        self._bounded.append(QUANTITIES[series.quantity].bounded)
        self._streams.append(series.core == WHOLE and series.quantity in _FIRST)
        self._fleet.append(fleet_number(series.quantity) if series.core == WHOLE else 0)
        if series.core == WHOLE:
            self._wholes.setdefault(series.quantity, array("i")).append(series.id)

    def restore_user(self, user: User, kinds: Iterable[type[Metric]], cores: Iterable[int]) -> None:
        """Take a user that is known, with the metric types it reports and the numbers of its cores."""
        self.users[user.user_id] = user
        numbers = [*cores]
        for kind in kinds:
            self.of_metric(user.user_id, kind)
            for quantity in kind.of_cores:
                for core in numbers:
                    if kind is Cpu or core <= LAST_CORE:
                        self._id(user.user_id, quantity.name, core)
            for quantity in kind.of_devices:
                for number in user.devices.get(type_name(kind), {}).values():
                    self._id(user.user_id, quantity.name, number)

    def _id(self, user_id: str, quantity: str, core: int) -> int:
        known = self.cores(user_id, quantity).get(core)
        if known is not None:
            return known
        series = Series(len(self.all) + 1, user_id, quantity, core)
        self.restore(series)
        self.created.append(series)
        return series.id

    def of_name(self, user_id: str, quantity: str, core: int | None) -> int:
        """The series of a quantity of a host (core None) or of one core."""
        return self._id(user_id, quantity, WHOLE if core is None else core)

    def of_cpu(self, user: User, cpu: Cpu) -> tuple[int, ...]:
        """The series of a CPU metric: the whole host, then each core of its lists."""
        if user.has(cpu):
            return user.cpu
        cores = len(cpu.avg_utilization_by_core)
        name = Cpu.quantities[0].name
        user.numbers = cpu.cores
        user.cpu = tuple(self._id(user.user_id, name, core) for core in (WHOLE, *(cpu.cores or range(cores))))
        return user.cpu

    def of_metric(self, user_id: str, metric: Metric | type[Metric]) -> tuple[int, ...]:
        """The series of any other metric: the whole host in the order of its quantities, then of each the cores.

        Of devices it is those that `named` has taken.
        """
        found = [self._id(user_id, quantity.name, WHOLE) for quantity in metric.quantities]
        if isinstance(metric, Metric) and metric.of_cores:
            found += [
                self._id(user_id, quantity.name, core) for quantity in metric.of_cores for core in metric.core_numbers()
            ]
        if isinstance(metric, Metric) and metric.of_devices:
            numbers = self.users[user_id].devices.get(type_name(type(metric)), {})
            found += [
                self._id(user_id, quantity.name, numbers[name])
                for quantity in metric.of_devices for name in metric.device_names()
            ]  # fmt: skip
        return tuple(found)

    def named(self, user: User, metric: Metric) -> Metric:
        """A metric of a user, without the devices of which there are too many names; the others are known from now."""
        kind, names = type_name(type(metric)), metric.device_names()
        user.devices = with_names(user.devices, kind, names)
        numbers = user.devices.get(kind, {})
        kept = [place for place, name in enumerate(names) if name in numbers]
        return metric if len(kept) == len(names) else metric.of_some_devices(kept)

    def lacking(self, report: Report) -> list[tuple[str, int]]:
        """The series that a report would add: of a host that is not known all, else those of cores and devices.

        What else a host says of itself has as many series as there are quantities, at most.
        """
        user = self.users.get(report.user_id)
        added: list[tuple[str, int]] = []
        for metric in report.metrics:
            if isinstance(metric, Cpu):
                if user is not None and user.has(metric):
                    continue
                numbers: Iterable[int] = metric.cores or range(len(metric.avg_utilization_by_core))
            else:
                numbers = metric.core_numbers()
            for quantity in metric.of_cores:
                known = self.cores(report.user_id, quantity.name)
                added += [(quantity.name, core) for core in numbers if core not in known]
            if metric.of_devices:
                added += self._lacking_devices(report.user_id, metric)
            if user is None:
                added += [(quantity.name, WHOLE) for quantity in metric.quantities]
        return added

    def _lacking_devices(self, user_id: str, metric: Metric) -> list[tuple[str, int]]:
        user, kind, names = self.users.get(user_id), type_name(type(metric)), metric.device_names()
        told = with_names({} if user is None else user.devices, kind, names).get(kind, {})
        numbers = [told[name] for name in names if name in told]
        return [
            (quantity.name, number)
            for quantity in metric.of_devices
            for number in numbers
            if number not in self.cores(user_id, quantity.name)
        ]

    def cores(self, user_id: str, quantity: str) -> dict[int, int]:
        """The series of a user's quantity: their numbers by core (`WHOLE` for the whole host)."""
        return self._by_user.get(user_id, {}).get(quantity, {})

    def quantities(self, user_id: str) -> dict[str, dict[int, int]]:
        """All series of a user: their numbers by quantity and core."""
        return self._by_user.get(user_id, {})

    def of_hosts(self, quantity: str) -> tuple[Ints, Ints]:
        """The series of a quantity of all hosts: numbers, ascending, and the place of each in order of users."""
        wholes = self._wholes.get(quantity, array("i"))[:]
        known = len(wholes), len(self.users), len(self.nobody)
        if quantity not in self._in_order or self._in_order[quantity][0] != known:
            users = self.users
            named = [(self.all[number - 1].user_id, number) for number in wholes]
            names = [(user_id, number) for user_id, number in named if user_id in users]
            rank = np.empty(len(names), np.int64)
            rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
            self._in_order[quantity] = known, np.array([number for _, number in names], np.int64), rank
        _, numbers, rank = self._in_order[quantity]
        return numbers, rank

    def stream(self, user_id: str, kind: type[Metric]) -> int | None:
        """The series that stands for all of a user's metric type: every report of the type has it."""
        return self.cores(user_id, kind.quantities[0].name).get(WHOLE)

    def hear(self, report: Report) -> tuple[User, int]:
        """Remember who sent a report, and what it says of the host; the user, and the place of its system in `systems`.

        Every report passes here, and most say what the one before said.
        """
        user = self.users.get(report.user_id)
        if user is None:
            user = self.users[report.user_id] = User(report.user_id, "", "", 0, report.start_timestamp, -1)
        end = report.end_timestamp
        if end >= user.last_seen:
            user.last_seen = end
            user.os_type = report.os_type
            user.os_version = report.os_version
            if report.labels is not UNSET:
                user.labels = report.labels
        if report.start_timestamp < user.first_seen:
            user.first_seen = report.start_timestamp
        system = self._systems.get((report.os_type, report.os_version))
        if system is None:
            system = self.system(report.os_type, report.os_version)
        known = user.systems
        if not known or known[-1][1] != system or end < known[-1][0]:
            user.runs(end, system)
        return user, system

    def system(self, os_type: str, os_version: str) -> int:
        """The place of an operating system in `systems`."""
        named = (os_type, os_version)
        place = self._systems.get(named)
        if place is None:
            place = self._systems[named] = len(self.systems)
            self.systems.append(named)
        return place

    def bounded(self) -> npt.NDArray[np.bool_]:
        """By series number: whether its quantity is a share."""
        return np.frombuffer(self._bounded[:], np.int8).astype(bool)

    def fleet(self) -> Ints:
        """By series number: the fleet's series that it is a part of (`fleet_number`), 0 for a core's."""
        return np.frombuffer(self._fleet[:], np.int32).astype(np.int64)

    def streams(self) -> npt.NDArray[np.bool_]:
        """By series number: whether it stands for all of its user's metric type."""
        return np.frombuffer(self._streams[:], np.int8).astype(bool)


def users_frame(known: Mapping[str, User]) -> pd.DataFrame:
    """The users as a store answers them."""
    users = [known[name] for name in sorted(known)]
    return pd.DataFrame(
        {
            "user_id": pd.array([user.user_id for user in users], "str"),
            "os_type": pd.array([user.os_type for user in users], "str"),
            "os_version": pd.array([user.os_version for user in users], "str"),
            "cores": np.array([user.cores for user in users], np.int64),
            "first_seen": pd.to_datetime([user.first_seen for user in users], unit="ms", utc=True),
            "last_seen": pd.to_datetime([user.last_seen for user in users], unit="ms", utc=True),
            "labels": pd.Series([user.labels for user in users], dtype=object),
        }
    )


class KnownUsers:
    """What a store answers of users from memory, by the index of its series, which a subclass sets."""

    _index: SeriesIndex

    @property
    def user_count(self) -> int:
        """How many users are known."""
        return len(self._index.users)

    def has_user(self, user_id: str) -> bool:
        """Whether any report of this user was ever taken."""
        return user_id in self._index.users

    @property
    def series_count(self) -> int:
        """How many series are known."""
        return len(self._index)

    @property
    def quantities(self) -> list[Quantity]:
        """The quantities that any host was ever known to have; of all others there is no answer."""
        return self._index.known_quantities

    def lacking(self, report: Report) -> list[tuple[str, int]]:
        """The series that a report would add (`SeriesIndex.lacking`)."""
        return self._index.lacking(report)

    def labels_of(self, user_id: str) -> Mapping[str, str]:
        """What a user said last of its labels; nothing of who is not known."""
        user = self._index.users.get(user_id)
        return {} if user is None else user.labels

    def devices_of(self, user_id: str) -> Devices:
        """The devices that a user has named; nothing of who is not known."""
        user = self._index.users.get(user_id)
        return {} if user is None else user.devices

    def cores(self, user_id: str, quantity: Quantity) -> list[int]:
        """The numbers of the cores, or devices, that a user ever reported a quantity of, ascending."""
        return sorted(core for core in self._index.cores(user_id, quantity.name) if core != WHOLE)

    def users(self) -> pd.DataFrame:
        """The users, by name."""
        return users_frame(self._index.users)
