"""The catalog of users that InfluxDB has windows of."""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from contract.devices import both
from contract.influx import STAND_IN_CORES
from contract.metrics import TYPE_OF, TYPES, Cpu, Metric, type_name
from contract.times import DAY_MS
from service.stores.series import WHOLE, SeriesIndex, User


class CatalogedUser(Struct):
    """What is known of a host."""

    user_id: str
    os_type: str
    os_version: str
    cores: int
    core_numbers: list[int]
    """Every core that was ever reported."""
    first_seen: int
    last_seen: int
    newest: dict[str, int]
    """The end of the newest window of each metric type, by its name in JSON, epoch ms."""
    systems: list[tuple[int, str, str]] = []
    """What it ran since when: ends of windows, epoch ms, type and version."""
    labels: dict[str, str] = {}
    devices: dict[str, dict[str, int]] = {}
    """The numbers of its devices, by metric type and name."""

    def merged(self, other: "CatalogedUser") -> "CatalogedUser":
        """The user as both entries together describe it; where they differ, as the later one does."""
        later = self if self.last_seen >= other.last_seen else other
        types = self.newest.keys() | other.newest.keys()
        return CatalogedUser(
            self.user_id, later.os_type, later.os_version, later.cores,
            sorted({*self.core_numbers, *other.core_numbers}),
            min(self.first_seen, other.first_seen),
            max(self.last_seen, other.last_seen),
            {kind: max(self.newest.get(kind, -1), other.newest.get(kind, -1)) for kind in types},
            later.systems or self.systems or other.systems,
            later.labels,
            {kind: {**numbers} for kind, numbers in both(self.devices, other.devices).items()},
        )  # fmt: skip


_TYPES = {type_name(kind): kind for kind in TYPES}


class UserCatalog:
    """The newest window of each stream that may be in InfluxDB; the rest is in the index, which it fills."""

    def __init__(self, index: SeriesIndex) -> None:
        self._index = index
        self._newest: dict[tuple[str, str], int] = {}
        self._told: dict[str, Hashable] = {}

    def restore(self, users: Sequence[CatalogedUser]) -> None:
        """Take up users that are known from InfluxDB or from this machine's disk."""
        for known in users:
            user = User(known.user_id, known.os_type, known.os_version, known.cores, known.first_seen, known.last_seen)
            told = known.systems or [(known.last_seen, known.os_type, known.os_version)]
            user.systems = [(since, self._index.system(*system)) for since, *system in told]
            user.labels, user.devices = known.labels, known.devices
            kinds = [_TYPES[name] for name in known.newest if name in _TYPES]
            self._index.restore_user(user, kinds, known.core_numbers)
        self.note(users)

    def note(self, users: Sequence[CatalogedUser]) -> None:
        """InfluxDB has their newest windows now."""
        for user in users:
            self._newest |= {(user.user_id, name): end for name, end in user.newest.items()}

    def forget(self, user_id: str) -> None:
        """Know nothing of a user any more."""
        self._index.forget(user_id)
        self._told.pop(user_id, None)
        for name in _TYPES:
            self._newest.pop((user_id, name), None)

    def newest(self) -> dict[tuple[str, type[Metric]], int]:
        """The end of the newest window of each stream, epoch ms."""
        return {(user, _TYPES[name]): end for (user, name), end in self._newest.items() if name in _TYPES}

    def to_tell(self, users: Iterable[CatalogedUser], day: int) -> list[CatalogedUser]:
        """Those of `users` of whom InfluxDB is to be told anew: on another day, and whenever they changed.

        The ends of their newest windows are told once a day: there are the windows themselves.
        """
        found = []
        for user in users:
            told = (
                day, user.os_type, user.os_version, user.cores, tuple(user.core_numbers), tuple(user.systems),
                frozenset(user.newest), frozenset(user.labels.items()),
                frozenset((kind, *numbers) for kind, numbers in user.devices.items()),
            )  # fmt: skip
            if self._told.get(user.user_id) != told:
                self._told[user.user_id] = told
                found.append(user)
        return found

    def forget_told(self) -> None:
        """InfluxDB has nothing any more of what it was told."""
        self._told.clear()

    def all_users(self) -> list[CatalogedUser]:
        """Everything that is known."""
        return [self.user(user, {}) for user in list(self._index.users.values())]

    def users_of(self, windows: pa.Table) -> list[CatalogedUser]:
        """What is known of the users of `windows`, which are sorted by series and time, these among it."""
        series, time = windows["series"].to_numpy(), windows["time"].to_numpy()
        last = np.flatnonzero(np.diff(series, append=-1))
        newest: dict[str, dict[str, int]] = {}
        for number, end in zip(series[last].tolist(), time[last].tolist(), strict=True):
            one = self._index.all[number - 1]
            name = type_name(TYPE_OF[one.quantity])
            ends = newest.setdefault(one.user_id, {})
            ends[name] = max(end, ends.get(name, -1), self._newest.get((one.user_id, name), -1))
        return [self.user(self._index.users[user_id], ends) for user_id, ends in sorted(newest.items())]

    def strangers(self, users: Iterable[str], start_ms: int, end_ms: int) -> set[str]:
        """Those of `users` of whom it is not known that they have points of the original from one time to another."""
        found = set()
        for user_id in users:
            known = self._index.users.get(user_id)
            if (
                known is None
                or not known.first_seen // DAY_MS * DAY_MS <= start_ms < end_ms <= known.last_seen
                or not STAND_IN_CORES.keys() <= self._index.cores(user_id, Cpu.quantities[0].name).keys()
            ):
                found.add(user_id)
        return found

    def met(self, users: Iterable[CatalogedUser]) -> list[CatalogedUser]:
        """Take users that have points of the original; what is known of them now."""
        found = []
        for user in users:
            known = self._index.users.get(user.user_id)
            if known is None:
                met = replace(user, core_numbers=sorted(STAND_IN_CORES))
                self.restore([met])
                found.append(met)
                continue
            known.first_seen = min(known.first_seen, user.first_seen)
            known.last_seen = max(known.last_seen, user.last_seen)
            for since, *system in user.systems:
                known.runs(since, self._index.system(*system))
            for core in STAND_IN_CORES:
                self._index.of_name(user.user_id, Cpu.quantities[0].name, core)
            self.note([user])
            found.append(self.user(known, {}))
        return found

    def restored(self, user: User) -> CatalogedUser:
        """A user some of whose windows are gone: what ends later than it was last seen is new."""
        types = {type_name(TYPE_OF[name]) for name in self._index.quantities(user.user_id)}
        return self.user(user, dict.fromkeys(types, user.last_seen))

    def user(self, user: User, newest: dict[str, int]) -> CatalogedUser:
        """A user, with the ends of some newest windows by the metric type's name."""
        others = {name: self._newest[user.user_id, name] for name in _TYPES if (user.user_id, name) in self._newest}
        return CatalogedUser(
            user.user_id, user.os_type, user.os_version, user.cores,
            sorted(
                {
                    core
                    for name, cores in [*self._index.quantities(user.user_id).items()]
                    for core in [*cores]
                    if not TYPE_OF[name].of_devices
                }
                - {WHOLE}
            ),
            user.first_seen, user.last_seen, others | newest,
            [(since, *self._index.systems[system]) for since, system in [*user.systems]], user.labels,
            {kind: {**numbers} for kind, numbers in user.devices.items()},
        )  # fmt: skip
