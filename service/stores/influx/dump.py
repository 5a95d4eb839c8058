"""The dump of an InfluxDB: its windows as reports, its rollups, and how many samples it has."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from analytics.frames.columns import Windows, concatenate, merge
from analytics.frames.packing import unpack
from analytics.frames.tiers import RAW
from analytics.sources.influx_client import InfluxClient
from analytics.sources.influx_points import Points, condition, longest_ms
from contract.influx import (
    DURATION,
    ORIGINAL_FIELDS,
    ORIGINAL_OBSERVATIONS,
    USER_ID,
    between,
    fields_of,
    identifier,
    measurement_of,
    tag_value,
)
from contract.metrics import QUANTITIES, Cpu, Quantity
from contract.report import Report
from contract.times import DAY_MS
from service.stores.base import Buckets
from service.stores.dump import ChosenSeries, ReportRows, host_of, reports_of
from service.stores.influx.reading import Reader
from service.stores.series import SeriesIndex
from service.stores.sorted_windows import binary, numbers

_USERS = 100
"""So many are named in a statement."""
_PAGE_ROWS = 65_536
_MIN_STEP_MS = 1000

T = TypeVar("T")


class FieldDay(NamedTuple):
    """Whose field, and the day by its start, epoch ms."""

    user_id: str
    field: str
    day_ms: int


class FieldSummary(NamedTuple):
    """The values that a field has on a day."""

    values: int
    """How many."""
    total: float
    least: float
    greatest: float

    def joined(self, other: "FieldSummary") -> "FieldSummary":
        """The summary of the values of both."""
        return FieldSummary(
            self.values + other.values, self.total + other.total,
            min(self.least, other.least), max(self.greatest, other.greatest),
        )  # fmt: skip


class Ask(Protocol):
    """Calls what asks InfluxDB."""

    def __call__(self, ask: Callable[[], T], /) -> T:
        """The outcome of `ask`."""


class Dump:
    """Reads an InfluxDB for `service.stores.base.Store`'s dump.

    `ask` calls what it is given, and raises StoreUnavailable where InfluxDB is away.
    """

    def __init__(self, client: InfluxClient, reader: Reader, index: SeriesIndex, ask: Ask) -> None:
        self._client = client
        self._reader = reader
        self._index = index
        self._asked = ask

    def kept(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> int:
        """How many samples of whole hosts, of all quantities, are in InfluxDB at a tier (or `RAW`) in a range."""
        return sum(
            self._samples(quantities, tier_ms, condition(users, start, end))
            for users in _some(user_ids)
            for start, end in self._ranges(tier_ms, start_ms, end_ms)
            for quantities in self._askable(self._quantities(users))
        )

    def _ranges(self, tier_ms: int, start_ms: int, end_ms: int) -> Iterator[tuple[int, int]]:
        """A range in parts that InfluxDB answers at once."""
        width = longest_ms(tier_ms, self._asked(self._client.server).generation)
        return ((start, min(start + width, end_ms)) for start in range(start_ms, end_ms, width))

    def _askable(self, quantities: Sequence[Quantity]) -> Sequence[Sequence[Quantity]]:
        """Those that one statement can be about: to InfluxDB 3 a field that a measurement does not have is an error."""
        if self._asked(self._client.server).generation > 2:
            return [[quantity] for quantity in quantities]
        return [quantities] if quantities else []

    def _samples(self, quantities: Sequence[Quantity], tier_ms: int, where: str) -> int:
        expressions = []
        for names in map(fields_of, quantities):
            count, mean = identifier(names.count), identifier(names.mean)
            expressions += [f"SUM({count})", f"COUNT({count})", f"COUNT({mean})"]
        found = self._numbers(tier_ms, expressions, where)
        total, counted, points = (sum(found[place::3]) for place in range(3))
        return total + (points - counted) * ORIGINAL_OBSERVATIONS

    def _numbers(self, tier_ms: int, expressions: Sequence[str], where: str) -> list[int]:
        """Whole numbers of all points of hosts; 0 where there are none."""
        types = {f"n{place}": pa.int64() for place in range(len(expressions))}
        columns = ", ".join(f"{expression} AS {name}" for expression, name in zip(expressions, types, strict=True))
        text = f"SELECT {columns} FROM {identifier(measurement_of(tier_ms))} WHERE {where}"
        row = self._asked(lambda: self._client.select(text, types))
        return [row[name][0].as_py() or 0 if len(row) else 0 for name in types]

    def _quantities(self, user_ids: Sequence[str]) -> list[Quantity]:
        """Those that any of the users has."""
        found = {name for user_id in user_ids for name in self._index.quantities(user_id)}
        return [quantity for name, quantity in QUANTITIES.items() if name in found]

    def reports(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Iterator[list[Report]]:
        """The windows of some users that end in a range, as reports, a page at a time."""
        for users in _some(user_ids):
            hosts = {user_id: host_of(self._index.users[user_id], self._index) for user_id in users}
            chosen = ChosenSeries(self._index, users)
            for first, last in self._ranges(RAW, start_ms, end_ms):
                step = self._step(users, chosen, first, last)
                for start in range(first, last, step):
                    rows = self._windows(users, chosen, start, min(start + step, last))
                    yield reports_of(rows, chosen.names, hosts)

    def _step(self, user_ids: Sequence[str], chosen: ChosenSeries, start_ms: int, end_ms: int) -> int:
        """The part of a range that has about a page of windows if they are spread evenly, ms."""
        fields = (DURATION, fields_of(Cpu.quantities[0]).mean)
        points = max(
            self._numbers(RAW, [f"COUNT({identifier(name)})" for name in fields], condition(user_ids, start_ms, end_ms))
        )
        pages = points * max(len(chosen) // len(user_ids), 1) // _PAGE_ROWS + 1
        return max((end_ms - start_ms) // pages, _MIN_STEP_MS)

    def _windows(self, user_ids: Sequence[str], chosen: ChosenSeries, start_ms: int, end_ms: int) -> ReportRows:
        """All windows of a range as they came, in the order that reports are put together in."""
        wanted = self._wanted(user_ids, chosen, RAW, start_ms, end_ms)
        table = pa.concat_tables(self._asked(lambda: [self._reader.as_came(one) for one in wanted])).combine_chunks()
        place = chosen.places(numbers(table, "series"))
        order = np.lexsort((place, numbers(table, "time"), chosen.user_places[place]))
        table, place = table.take(pa.array(order)).combine_chunks(), place[order]
        # A core's window is as long as that of its host, which stands before it.
        whole = np.maximum.accumulate(np.where(chosen.is_whole[place], np.arange(len(place)), 0))
        mean, variance, minimum, maximum = (numbers(table, name) for name in ("mean", "variance", "minimum", "maximum"))
        return ReportRows(
            place, numbers(table, "time"), numbers(table, "duration").astype(np.int64)[whole], numbers(table, "count"),
            mean, variance, minimum, maximum, unpack(binary(table)),
        )  # fmt: skip

    def _wanted(
        self, user_ids: Sequence[str], chosen: ChosenSeries, tier_ms: int, start_ms: int, end_ms: int
    ) -> list[Points]:
        """Everything of some users in a range."""
        found = []
        for quantity in self._quantities(user_ids):
            found.append(Points(quantity, tier_ms, start_ms, end_ms, user_ids))
            if chosen.has_cores(quantity):
                found.append(Points(quantity, tier_ms, start_ms, end_ms, user_ids, "each"))
        return found

    def original_days(self, start_ms: int, end_ms: int) -> set[tuple[str, int]]:
        """Users and days (their start, epoch ms) that have points of the original."""
        names = fields_of(Cpu.quantities[0])
        columns = f"COUNT({identifier(names.mean)}), COUNT({identifier(names.count)})"
        return {
            (user_id, day)
            for user_id, day, (points, ours) in self._daily(columns, between, start_ms, end_ms)
            if (points or 0) > (ours or 0)
        }

    def field_summaries(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> dict[FieldDay, FieldSummary]:
        """What InfluxDB itself counts and adds up of the original's fields, for each user and day."""
        columns = ", ".join(
            f"{function}({identifier(name)})" for name in ORIGINAL_FIELDS for function in ("COUNT", "SUM", "MIN", "MAX")
        )
        found: dict[FieldDay, FieldSummary] = {}
        for users in _some(user_ids):
            for user_id, day, values in self._daily(columns, partial(condition, users), start_ms, end_ms):
                for place, name in enumerate(ORIGINAL_FIELDS):
                    count, *more = values[4 * place : 4 * place + 4]
                    if count:
                        key, one = FieldDay(user_id, name, day), FieldSummary(count, *more)
                        found[key] = found[key].joined(one) if key in found else one
        return found

    def _daily(
        self, columns: str, where: Callable[[int, int], str], start_ms: int, end_ms: int
    ) -> Iterator[tuple[str, int, list[Any]]]:
        """The values of aggregates over the points of hosts, for each user and day; a day may come in parts."""
        for start, end in self._ranges(RAW, start_ms, end_ms):
            text = (
                f"SELECT {columns} FROM {identifier(measurement_of())} WHERE {where(start, end)}"
                f" GROUP BY time(1d), {identifier(USER_ID)} fill(none)"
            )
            for series in self._asked(partial(self._client.execute, text)):
                user_id = tag_value(series["tags"][USER_ID])
                yield from ((user_id, time // DAY_MS * DAY_MS, row) for time, *row in series["values"])

    def rollups(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Buckets:
        """The buckets of some users that start in a range."""
        chosen = ChosenSeries(self._index, user_ids)
        windows = self.merged(tier_ms, tier_ms, user_ids, start_ms, end_ms)
        return Buckets(tier_ms, merge(windows, chosen.places(windows.series), tier_ms), chosen.names)

    def merged(
        self,
        tier_ms: int,
        rate_ms: int,
        user_ids: Sequence[str],
        start_ms: int,
        end_ms: int,
        foreign: bool | None = None,
    ) -> Windows:
        """The rows of a tier, merged part by part into buckets, with our numbers of series; `foreign` of `Points`."""
        merged = Windows.empty()
        for users in _some(user_ids):
            for wanted in self._wanted(users, ChosenSeries(self._index, users), tier_ms, start_ms, end_ms):
                parts = self._asked(partial(self._parts, replace(wanted, foreign=foreign), rate_ms))
                merged = merge(concatenate([merged, *parts]), rate_ms=rate_ms)
        return merged

    def _parts(self, wanted: Points, rate_ms: int) -> list[Windows]:
        return [merge(part, rate_ms=rate_ms) for part in self._reader.windows(wanted)]


def _some(user_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Users, as many as are named in a statement."""
    return (user_ids[start : start + _USERS] for start in range(0, len(user_ids), _USERS))
