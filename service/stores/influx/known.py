"""What is known of the users that InfluxDB has windows of."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contract.metrics import TYPES, Metric, type_name
from contract.metrics.cpu import Cpu
from service.stores.assembly import TYPE_OF
from service.stores.influx.remembered import KnownUser
from service.stores.series import WHOLE, SeriesIndex, User

__all__ = ["Known"]

_TYPES = {type_name(kind): kind for kind in TYPES}


class Known:
    """The newest window of each stream that may be in InfluxDB; the rest is in the index, which it fills."""

    def __init__(self, index: SeriesIndex) -> None:
        self._index = index
        self._newest: dict[tuple[str, str], int] = {}

    def restore(self, users: Sequence[KnownUser]) -> None:
        """Take up users that are known from InfluxDB or from this machine's disk."""
        for known in users:
            user = User(known.user_id, known.os_type, known.os_version, known.cores, known.first_seen, known.last_seen)
            kinds = [_TYPES[name] for name in known.newest if name in _TYPES]
            self._index.restore_user(user, kinds, known.core_numbers)
        self.note(users)

    def note(self, users: Sequence[KnownUser]) -> None:
        """InfluxDB has their newest windows now."""
        for user in users:
            self._newest |= {(user.user_id, name): end for name, end in user.newest.items()}

    def newest(self) -> dict[tuple[str, type[Metric]], int]:
        """The end of the newest window of each stream, epoch ms."""
        return {(user, _TYPES[name]): end for (user, name), end in self._newest.items() if name in _TYPES}

    def newest_of(self, windows: pa.Table) -> npt.NDArray[np.int64]:
        """By series: the end of the newest window of its stream, -1 where there is none; of the series of `windows`."""
        newest = np.full(len(self._index) + 1, -1, np.int64)
        for number in np.unique(windows["series"].to_numpy()).tolist():
            one = self._index.all[number - 1]
            newest[number] = self._newest.get((one.user_id, type_name(TYPE_OF[one.quantity])), -1)
        return newest

    def users_of(self, windows: pa.Table) -> list[KnownUser]:
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

    def user(self, user: User, newest: dict[str, int]) -> KnownUser:
        """A user, with the ends of some newest windows by the metric type's name."""
        others = {name: self._newest[user.user_id, name] for name in _TYPES if (user.user_id, name) in self._newest}
        return KnownUser(
            user.user_id, user.os_type, user.os_version, user.cores,
            sorted(core for core in list(self._index.cores(user.user_id, Cpu.quantities[0].name)) if core != WHOLE),
            user.first_seen, user.last_seen, others | newest,
        )  # fmt: skip
