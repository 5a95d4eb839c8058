"""The embedded store with what is needed to copy it."""

from collections.abc import Iterator, Sequence

import numpy as np

from contract.report import Report
from service.stores.assembly import Chosen
from service.stores.embedded import catalog, exporting
from service.stores.embedded.rollups import append_rollup
from service.stores.embedded.store import EmbeddedStore
from service.stores.plan import RAW, TIERS
from service.stores.portable import Machine, Rollups, coarser, heard, machine_of

__all__ = ["PortableEmbeddedStore"]


class PortableEmbeddedStore(EmbeddedStore):
    """A `service.stores.portable.PortableStore`."""

    tiers = TIERS
    overwrites = False

    def kept(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> int:
        """How many samples of whole machines, of all quantities, are on disk at a tier (or `RAW`) in a range."""
        files = self._files(start_ms, end_ms) if tier_ms == RAW else None
        with self._connection.cursor() as cursor:
            return exporting.kept(cursor, tier_ms, files, Chosen(self._index, user_ids), start_ms, end_ms)

    def reports(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Iterator[list[Report]]:
        """The windows on disk of some users that end in a range, as reports, a page at a time."""
        machines = {user_id: machine_of(self._index.users[user_id]) for user_id in user_ids}
        chosen = Chosen(self._index, user_ids)
        with self._connection.cursor() as cursor:
            yield from exporting.read_reports(cursor, self._files(start_ms, end_ms), chosen, start_ms, end_ms, machines)

    def _files(self, start_ms: int, end_ms: int) -> list[str]:
        """The files that may have windows which end in a range."""
        segments = self._versions.segments
        return [str(self._raw / one.file) for one in segments if one.last_ms >= start_ms and one.first_ms < end_ms]

    def rollups(self, tier_ms: int, user_ids: Sequence[str], start_ms: int, end_ms: int) -> Rollups:
        """The buckets on disk of some users that start in a range."""
        with self._connection.cursor() as cursor:
            return exporting.read_rollups(cursor, tier_ms, Chosen(self._index, user_ids), start_ms, end_ms)

    def add_rollups(self, rollups: Rollups, machines: Sequence[Machine]) -> None:
        """Put buckets whose windows are gone on disk, into their tier and every coarser one; all or nothing."""
        # What waits must be on disk first: series are kept in the order of their numbers.
        self.flush()
        with self._flushing, self._connection.cursor() as cursor:
            numbers = [self._index.of_name(name.user_id, name.quantity.name, name.core) for name in rollups.names]
            created, self._index.created = self._index.created, []
            users = [heard(self._index, machine) for machine in machines]
            number = catalog.next_run(cursor)
            with self._versions.change(cursor):
                for tier, windows in coarser(rollups, np.array(numbers, np.int64), TIERS).items():
                    append_rollup(cursor, tier, number, windows)
                catalog.add_series(cursor, created)
                catalog.put_users(cursor, users)

    def rebuild(self, user_ids: Sequence[str], start_ms: int, end_ms: int) -> None:
        """Nothing: windows and rollups go on disk together."""
