"""What stores need to dump and restore: the reports of their windows again, buckets of coarser tiers of finer ones."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType

from analytics.frames.columns import Windows, merge
from analytics.frames.kernel import Histograms
from contract.devices import Devices, Names, both
from contract.metrics import QUANTITIES, TYPE_OF, Cpu, Distribution, Metric, Quantity, type_name
from contract.report import OsType, Report
from service.stores.base import Buckets, Host, SeriesName
from service.stores.series import WHOLE, SeriesIndex, User


def coarser(buckets: Buckets, numbers: npt.NDArray[np.int64], tiers: Sequence[int]) -> dict[int, Windows]:
    """The buckets of every tier that can be made of some; `numbers` are those of the series of their names."""
    windows = buckets.windows
    series = numbers[windows.series]
    made: dict[int, Windows] = {}
    for tier in tiers:
        if tier % buckets.tier_ms == 0:
            windows = made[tier] = merge(windows, series, tier)
            series = windows.series
    return made


def host_of(user: User, index: SeriesIndex) -> Host:
    """What an index knows of a user."""
    systems = tuple((since, *index.systems[system]) for since, system in [*user.systems])
    os_type = cast("OsType", user.os_type)
    return Host(
        user.user_id, os_type, user.os_version, user.cores, user.first_seen, user.last_seen, systems, user.labels,
        user.devices,
    )  # fmt: skip


def heard(index: SeriesIndex, host: Host) -> User:
    """The user of a host, which an index may know already."""
    user = index.users.get(host.user_id)
    if user is None:
        user = index.users[host.user_id] = User(*host[:6], labels=dict(host.labels))
    elif host.last_seen_ms > user.last_seen:
        user.last_seen, user.cores = host.last_seen_ms, host.cores
        user.os_type, user.os_version = host.os_type, host.os_version
        user.labels = dict(host.labels)
    user.first_seen = min(user.first_seen, host.first_seen_ms)
    user.devices = both(user.devices, host.devices)
    return user


def series_of(index: SeriesIndex, buckets: Buckets, hosts: Sequence[Host]) -> npt.NDArray[np.int64]:
    """The numbers of the series of some buckets' names in an index that has heard of their hosts."""
    told = {host.user_id: host.devices for host in hosts}
    return np.array([_series_of(index, name, told.get(name.user_id, {})) for name in buckets.names], np.int64)


def _series_of(index: SeriesIndex, name: SeriesName, told: Devices) -> int:
    core, kind = name.core, TYPE_OF[name.quantity.name]
    if kind.of_devices and core is not None:
        # Of two names that met in one number, another store may have known the other one first.
        device = Names(told.get(type_name(kind), {}))[core]
        core = index.users[name.user_id].devices.get(type_name(kind), {}).get(device, core)
    return index.of_name(name.user_id, name.quantity.name, core)


_PLACE = {name: place for place, name in enumerate(TYPE_OF)}
"""Quantities in their order, type by type."""


def name_order(name: SeriesName) -> tuple[str, int, int]:
    """What to sort names by for `reports_of`: users, then quantities by type, the whole host before its cores."""
    return name.user_id, _PLACE[name.quantity.name], -1 if name.core is None else name.core


class ChosenSeries:
    """All series of some users, in the order in which reports are put together."""

    def __init__(self, index: SeriesIndex, user_ids: Iterable[str]) -> None:
        named = [
            (SeriesName(user_id, QUANTITIES[quantity], None if core == WHOLE else core), number)
            for user_id in user_ids
            for quantity, cores in index.quantities(user_id).items()
            for core, number in cores.items()
        ]
        named.sort(key=lambda one: name_order(one[0]))
        self.names = [name for name, _ in named]
        self.numbers = np.array([number for _, number in named], np.int64)
        """The stores' own numbers of them."""
        _, self.user_places = np.unique([name.user_id for name in self.names], return_inverse=True)
        self.is_whole = np.array([name.core is None for name in self.names], np.bool_)

    def __len__(self) -> int:
        return len(self.names)

    def has_cores(self, quantity: Quantity) -> bool:
        """Whether there are single cores of a quantity."""
        return any(name.quantity == quantity and name.core is not None for name in self.names)

    def places(self, numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """The places in `names` of series, given by the store's own numbers."""
        order = np.argsort(self.numbers)
        found: npt.NDArray[np.int64] = order[np.searchsorted(self.numbers, numbers, sorter=order)]
        return found


@dataclass(frozen=True, slots=True)
class ReportRows:
    """Windows as they came, one a row; sorted by user, time and place of the series' name (see `name_order`)."""

    series: npt.NDArray[np.int64]
    """The place of the name."""
    time: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    minimum: npt.NDArray[np.float64]
    """NaN, like `maximum`, where the report did not say it."""
    maximum: npt.NDArray[np.float64]
    histograms: Histograms
    """A row without entries came without."""


def reports_of(rows: ReportRows, names: Sequence[SeriesName], hosts: Mapping[str, Host]) -> list[Report]:
    """The reports, in the order of the rows. All rows of a report must be there; `hosts` sent them."""
    if not len(rows.time):
        return []
    users = np.array([name.user_id for name in names])[rows.series]
    is_first = np.ones(len(rows.time), np.bool_)
    is_first[1:] = (users[1:] != users[:-1]) | (rows.time[1:] != rows.time[:-1])
    # Metric types may have come in reports of their own, which end together but began at other times.
    is_first[1:] |= rows.duration[1:] != rows.duration[:-1]
    first = np.flatnonzero(is_first)
    builder = _ReportBuilder(rows, names)
    return [
        builder.report(begin, end, hosts[names[rows.series[begin]].user_id])
        for begin, end in zip(first.tolist(), [*first[1:].tolist(), len(rows.time)], strict=True)
    ]


class _ReportBuilder:
    def __init__(self, rows: ReportRows, names: Sequence[SeriesName]) -> None:
        self._names = [names[place] for place in rows.series.tolist()]
        self._time, self._duration, self._count = rows.time.tolist(), rows.duration.tolist(), rows.count.tolist()
        self._mean, self._variance = rows.mean.tolist(), rows.variance.tolist()
        self._minimum, self._maximum = rows.minimum.tolist(), rows.maximum.tolist()
        found = rows.histograms
        self._flat = np.column_stack([found.bin, found.count]).ravel().tolist()
        self._ends = (2 * np.searchsorted(found.row, np.arange(len(rows.time) + 1))).tolist()

    def report(self, begin: int, end: int, host: Host) -> Report:
        """The report of the rows from `begin` up to `end`."""
        metrics: list[Metric] = []
        row = begin
        while row < end:
            kind = TYPE_OF[self._names[row].quantity.name]
            if kind is Cpu:
                cores_end = self._cores_end(row + 1, end)
                metrics.append(self._cpu(row, cores_end))
                row = cores_end
            else:
                members: dict[str, Any] = {}
                for quantity in kind.quantities:
                    members[quantity.attribute] = self._distribution(row)
                    row += 1
                    cores_end = self._cores_end(row, end)
                    if cores_end > row:
                        members |= self._parts(kind, quantity, row, cores_end, host.devices)
                        row = cores_end
                metrics.append(kind(**members))
        end_ms = self._time[begin]
        os_type, os_version = host.system_at(end_ms)
        return Report(
            user_id=host.user_id,
            start_timestamp=end_ms - self._duration[begin],
            end_timestamp=end_ms,
            observations_per_metric=self._count[begin],
            os_type=os_type,
            os_version=os_version,
            metrics=metrics,
            labels=dict(host.labels) or UNSET,
        )

    def _parts(
        self, kind: type[Metric], quantity: Quantity, first: int, end: int, known: Devices
    ) -> dict[str, Sequence[object]]:
        """The members of single cores or devices of a quantity, which some rows are of."""
        means = self._mean[first:end]
        if not kind.of_devices:
            return {f"{quantity.attribute}_by_core": means, "cores": self._numbers(first, end)}
        called = Names(known.get(type_name(kind), {}))
        names = [called[name.core] for name in self._names[first:end] if name.core is not None]
        return {f"{quantity.attribute}_by_device": means, "devices": names}

    def _cores_end(self, row: int, end: int) -> int:
        """The first row from `row` on that is not of a single core or device."""
        while row < end and self._names[row].core is not None:
            row += 1
        return row

    def _numbers(self, first: int, end: int) -> list[int]:
        """The numbers of the cores of some rows; none where they are 0, 1, 2, ..."""
        numbers = [name.core for name in self._names[first:end] if name.core is not None]
        return [] if numbers == list(range(len(numbers))) else numbers

    def _histogram(self, row: int) -> list[int]:
        flat: list[int] = self._flat[self._ends[row] : self._ends[row + 1]]
        return flat

    def _distribution(self, row: int) -> Distribution:
        return Distribution(
            mean=self._mean[row],
            variance=self._variance[row],
            minimum=_said(self._minimum[row]),
            maximum=_said(self._maximum[row]),
            histogram=self._histogram(row) or UNSET,
            observations=self._count[row],
        )

    def _cpu(self, whole: int, end: int) -> Cpu:
        """The CPU metric of the row `whole` and of its cores, which follow it."""
        first = whole + 1
        minimum, maximum = self._minimum[first:end], self._maximum[first:end]
        histograms = [self._histogram(row) for row in range(first, end)]
        return Cpu(
            avg_utilization=self._mean[whole],
            var_utilization=self._variance[whole],
            avg_utilization_by_core=self._mean[first:end],
            var_utilization_by_core=self._variance[first:end],
            min_utilization=_said(self._minimum[whole]),
            max_utilization=_said(self._maximum[whole]),
            histogram=self._histogram(whole) or UNSET,
            # A report has these for all cores or for none.
            min_utilization_by_core=[] if any(map(math.isnan, minimum)) else minimum,
            max_utilization_by_core=[] if any(map(math.isnan, maximum)) else maximum,
            histogram_by_core=histograms if all(histograms) else [],
            cores=self._numbers(first, end),
        )


def _said(value: float) -> float | UnsetType:
    return UNSET if math.isnan(value) else value
