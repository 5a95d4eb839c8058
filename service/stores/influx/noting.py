"""Rows that are about to be written: noted on this machine's disk first, so that a crash changes none of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from analytics.frames.columns import Windows
from analytics.frames.tiers import Rolled
from analytics.sources.influx_state import State
from contract.influx import PARTS, PROCESSES_THROUGH, SINCE, TIERS, through_field
from contract.times import DAY_MS
from service.stores.influx.checkpoint import Checkpoint
from service.stores.influx.database import state_lines, user_lines
from service.stores.influx.lines import Lines, bucket_lines
from service.stores.influx.originals import Told
from service.stores.influx.process_use import HOURS, hour_lines, starts_of
from service.stores.influx.publication import ImmutableMemtable, LateHours, Views
from service.stores.influx.reading import NumberedRows
from service.stores.influx.rollups import FINEST
from service.stores.influx.shared_checkpoint import SharedCheckpoint, pack
from service.stores.influx.users import CatalogedUser, UserCatalog
from service.stores.influx.writing import Writer
from service.stores.process_use import UseTables
from service.stores.series import SeriesIndex

SCHEMA_NUMBER: Final = 2


def values_of(rolled: Rolled) -> dict[str, int]:
    """What a state of the rollups is called in the folder."""
    return {SINCE: rolled.since_ms} | {through_field(tier): time for tier, time in rolled.through_ms.items()}


class Notes:
    """Notes rows, and writes what is noted. One thread at a time; what writes raises Unreachable.

    `views` is what readers see, set before anything is written.
    """

    views: Views

    def __init__(
        self,
        checkpoint: Checkpoint | SharedCheckpoint,
        writer: Writer,
        catalog: UserCatalog,
        index: SeriesIndex,
        now_ms: Callable[[], int],
    ) -> None:
        self._checkpoint = checkpoint
        self._writer = writer
        self._catalog = catalog
        self._index = index
        self.now_ms = now_ms
        self.parts = checkpoint.value(PARTS) or 0
        """The highest number of a part that may be in use."""
        self.processes_through_ms = checkpoint.value(PROCESSES_THROUGH) or 0
        """Before this, who used the CPU is written by the hour; 0 where that is not known."""
        self.last_moment = 0
        self.is_settled = False
        """Whether all is written that was noted when this process began."""
        self._ready: tuple[Rolled, Windows | None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether other rollups are to be seen as soon as all is written."""
        return self._ready is not None

    @property
    def day(self) -> int:
        """The number of today."""
        return self.now_ms() // DAY_MS

    def _moment(self) -> int:
        """Now, or a little later: a moment that was not given before."""
        self.last_moment = max(self.now_ms(), self.last_moment + 1)
        return self.last_moment

    def state(self, rolled: Rolled) -> Lines:
        """What the database is to say of itself."""
        return state_lines(
            State(self._moment(), SCHEMA_NUMBER, rolled, self.parts, self._checkpoint.owner, self.processes_through_ms)
        )

    def news(self, users: Iterable[CatalogedUser]) -> list[Lines]:
        """What InfluxDB is to be told of users, where it was told otherwise."""
        told = self._catalog.to_tell(users, self.day)
        return [user_lines(told, self._moment())] if told else []

    def keep(self, values: Mapping[str, int], users: Sequence[CatalogedUser] = (), noted: Iterable[Lines] = ()) -> None:
        """Keep numbers and users, and note lines."""
        self._checkpoint.put(values, users, noted)

    def begin(self, immutable: ImmutableMemtable, noted: Iterable[Lines]) -> None:
        """Keep that the flush of a memtable begins, and note lines."""
        self._checkpoint.begin(immutable.last, noted, lambda: pack(immutable.windows, self._index))

    def settle(self) -> None:
        """Write what is noted."""
        for number, lines in self._checkpoint.noted():
            self._writer.write([lines])
            self._checkpoint.done(number)
        self.is_settled = True
        self.views.settled()
        self.views.tells_processes(self.processes_through_ms)
        if self._ready is not None:
            self.views.rolls(*self._ready)
            self._ready = None

    def settle_as(self, rolled: Rolled, opened: Windows | None, noted: Iterable[Lines]) -> None:
        """Note and write lines, after which the rollups are others; `opened` as `Views.rolls` has it."""
        self.keep(values_of(rolled), (), noted)
        self._ready = rolled, opened
        self.settle()

    def forget_open(self) -> None:
        """Buckets that are still open have to be read anew."""
        self.views.rolls(self.views.rolled, None)
        if self._ready is not None:
            self._ready = self._ready[0], None

    def late(
        self,
        found: Mapping[int, Windows],
        values: Mapping[str, int] | None = None,
        users: Sequence[CatalogedUser] = (),
        told: Told | None = None,
        hours: UseTables | None = None,
    ) -> tuple[dict[int, NumberedRows], LateHours]:
        """Note rows by tier, and `hours` of who used the CPU, that are parts of buckets that were written already.

        Returns them with their numbers.
        """
        rows: dict[int, NumberedRows] = {}
        parts: list[tuple[int, int, int]] = []
        for tier, some in found.items():
            starts, place = np.unique(some.time, return_inverse=True)
            numbers = self._checkpoint.next_parts(tier, starts.tolist())
            parts += [(tier, start, number) for start, number in numbers.items()]
            rows[tier] = NumberedRows(some, np.array([numbers[start] for start in starts.tolist()], np.int64)[place])
        late_hours = LateHours.none()
        if hours is not None and len(hours.windows):
            late_hours = LateHours(hours, self._checkpoint.next_parts(HOURS, starts_of(hours)))
            parts += [(HOURS, start, number) for start, number in late_hours.parts.items()]
        noted = []
        values = dict(values or {})
        highest = max((number for _, _, number in parts), default=0)
        if highest > self.parts or late_hours.parts:
            # Whoever takes over the database needs numbers that were never used, and which hours are written.
            self.parts = values[PARTS] = max(highest, self.parts)
            noted.append(self.state(self.views.rolled))
        for tier, numbered in rows.items():
            beside = told.fields if told is not None and tier == FINEST else None
            noted += bucket_lines(tier, numbered.rows, self._index, numbered.parts, beside)
        if late_hours.parts:
            noted.append(hour_lines(late_hours.rows, late_hours.parts))
        self._checkpoint.put(values, users, noted, parts)
        return rows, late_hours

    def seal(self, tier: int, rows: Windows, end_ms: int, opened: Windows | None) -> None:
        """Write the rows of a tier's buckets that start before `end_ms`."""
        rolled = self.views.rolled
        rolled = Rolled(rolled.since_ms, {**rolled.through_ms, tier: end_ms})
        noted = [*bucket_lines(tier, rows, self._index, np.zeros(len(rows), np.int64))]
        if noted:
            noted.append(self.state(rolled))
        self.settle_as(rolled, opened, noted)

    def seal_hours(self, hours: Iterable[UseTables], end_ms: int) -> None:
        """Write the hours of who used the CPU that end by `end_ms`."""
        noted = [hour_lines(some, {}) for some in hours if len(some.windows)]
        before, self.processes_through_ms = self.processes_through_ms, end_ms
        if noted:
            noted.append(self.state(self.views.rolled))
        try:
            self.keep({PROCESSES_THROUGH: end_ms}, (), noted)
        except BaseException:
            self.processes_through_ms = before
            raise
        self.settle()

    def forget_parts(self, since: Callable[[int], int]) -> None:
        """Forget the numbers of parts of buckets before the time that `since` has for each tier."""
        for tier in TIERS:
            self._checkpoint.forget_parts(tier, since(tier))
        self._checkpoint.forget_parts(HOURS, since(DAY_MS))
