"""A flush: windows into InfluxDB, and the buckets of rollups that are over."""

import numpy as np

from analytics.frames.columns import take
from contract.influx import TIERS
from contract.times import DAY_MS, HOUR_MS
from service.stores.influx.keeping import Keeping
from service.stores.influx.noting import Notes
from service.stores.influx.process_use import ProcessUses, late_hours, window_lines
from service.stores.influx.publication import ImmutableMemtable
from service.stores.influx.rollups import FINEST, Sealing, late, over, still_open, without
from service.stores.influx.users import UserCatalog
from service.stores.influx.windows import WindowWriter
from service.stores.influx.writing import Writer
from service.stores.process_use import UseDump, UseTables, joined
from service.stores.series import SeriesIndex
from service.stores.sorted_windows import rows_of
from service.stores.use_tables import hours_of


class Flusher:
    """Writes memtables and rollups. One thread at a time; calls raise Unreachable or Refused.

    `flushed` is the journal offset through which InfluxDB has everything, `begun` that through which a flush was begun:
    where it was cut short, some of it may be in InfluxDB.
    """

    def __init__(
        self,
        notes: Notes,
        writer: Writer,
        windows: WindowWriter,
        sealing: Sealing,
        catalog: UserCatalog,
        index: SeriesIndex,
        keeping: Keeping,
        uses: ProcessUses,
        flushed: int,
        begun: int,
    ) -> None:
        self._notes = notes
        self._writer = writer
        self._windows = windows
        self._sealing = sealing
        self._catalog = catalog
        self._index = index
        self._keeping = keeping
        self._uses = uses
        self.flushed = flushed
        self.begun = begun
        self.is_adopting = False
        """Whether another service may have been cut short."""

    @property
    def is_unsettled(self) -> bool:
        """Whether InfluxDB may lack what another process had begun to write."""
        return self.flushed < self.begun or self.is_adopting or not self._notes.is_settled

    def flush(self, offset: int) -> None:
        """Put what was added up to a journal offset into InfluxDB, and write the buckets that are over."""
        self._notes.settle()
        # In a cluster, what comes from another copy of the log may be at an offset that is flushed already.
        while (self.flushed < offset or self._notes.views.oldest_last <= offset) and (
            immutable := self._notes.views.seal()
        ):
            self._write(immutable)
        self._roll_up()
        self._seal_hours()

    def _write(self, immutable: ImmutableMemtable) -> None:
        notes, views = self._notes, self._notes.views
        expired = self._leave_out_expired(immutable)
        users = self._catalog.users_of(immutable.windows)
        # Users first: where the windows of a user are, it is known that there may be some.
        notes.begin(immutable, notes.news(users))
        notes.settle()
        views.begin()
        refused = self._windows.write(immutable.windows)
        if len(refused):
            immutable.leave_out(refused)
        uses = joined(immutable.process_uses())
        if expired or len(refused):
            uses = self._of_kept(uses, immutable)
        self._writer.write([window_lines(uses)] if len(uses.windows) else [])
        windows = rows_of(immutable.windows, self._index.bounded(), histograms=True).windows()
        rolled = views.rolled
        hours = late_hours(uses, notes.processes_through_ms)
        rows, of_hours = notes.late(late(windows, rolled), {"flushed": immutable.last}, users, hours=hours)
        self.flushed = immutable.last
        views.flushed(still_open(windows, rolled), rows, of_hours)
        self._catalog.note(users)
        self._index.created.clear()
        notes.settle()

    def _of_kept(self, uses: UseTables, immutable: ImmutableMemtable) -> UseTables:
        """What is told by windows that are still there."""
        series, times = immutable.windows["series"].to_pylist(), immutable.windows["time"].to_pylist()
        kept = {(self._index.all[number - 1].user_id, time) for number, time in zip(series, times, strict=True)}
        return uses.of(lambda user_id, end_ms: (user_id, end_ms) in kept)

    def _leave_out_expired(self, immutable: ImmutableMemtable) -> bool:
        """Forget windows that InfluxDB would not keep; whether there were any."""
        oldest_ms = self._keeping.oldest_ms(self._notes.now_ms())
        expired = np.flatnonzero(immutable.windows["time"].to_numpy() < oldest_ms)
        if len(expired):
            self._writer.expired += len(expired)
            immutable.leave_out(expired)
        return bool(len(expired))

    def _roll_up(self) -> None:
        """Write the buckets that are over."""
        notes, views = self._notes, self._notes.views
        opened = views.open
        if self.is_adopting:
            self._complete()
        if opened is None:
            opened = self._sealing.open_buckets(views.rolled)
            views.rolls(views.rolled, opened)
        for tier in TIERS:
            start_ms, end_ms = views.rolled.through_ms[tier], over(tier, notes.now_ms())
            if end_ms <= start_ms:
                continue
            if tier == FINEST:
                rows, opened = take(opened, opened.time < end_ms), take(opened, opened.time >= end_ms)
            else:
                rows = self._sealing.rows(tier, start_ms, end_ms)
            notes.seal(tier, rows, end_ms, opened)

    def _seal_hours(self) -> None:
        """Write the hours of who used the CPU that are over, a day of them at a time."""
        end_ms = over(HOUR_MS, self._notes.now_ms())
        while self._notes.processes_through_ms < end_ms:
            first_ms = min(self._uses.first_hour(self._notes.processes_through_ms, end_ms) or end_ms, end_ms)
            until_ms = min(first_ms + DAY_MS, end_ms)
            self._notes.seal_hours(self._uses.hours_of_windows(sorted(self._index.users), first_ms, until_ms), until_ms)

    def add_process_uses(self, added: UseDump) -> None:
        """Write who used the CPU into whole days, beside what these have already.

        Raises StoreError where they have something that InfluxDB cannot delete.
        """
        users = sorted({user for tables in added for user, _ in tables.ends()})
        times = [time for tables in added for _, time in tables.ends()]
        if not users:
            return
        there = self._uses.take_out(users, min(times) // DAY_MS * DAY_MS, max(times) // DAY_MS * DAY_MS + DAY_MS)
        windows = joined([there.windows, added.windows])
        hours = joined([hours_of(there.hours), added.hours, late_hours(windows, self._notes.processes_through_ms)])
        self._notes.late({}, hours=hours)
        self._notes.settle()
        self._writer.write([window_lines(windows)] if len(windows.windows) else [])

    def _complete(self) -> None:
        """Complete the buckets that another service, whose folder is not here, had begun to write."""
        for tier in TIERS:
            rolled = self._notes.views.rolled
            start_ms = rolled.through_ms[tier]
            there = self._sealing.written(tier, start_ms)
            if len(there):
                end_ms = int(there.time.max()) + tier
                if tier == FINEST:
                    rows = self._sealing.open_buckets(rolled)
                    rows = take(rows, rows.time < end_ms)
                else:
                    rows = self._sealing.rows(tier, start_ms, end_ms)
                self._notes.seal(tier, without(rows, there), end_ms, None)
        self.is_adopting = False
