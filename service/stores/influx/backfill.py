"""What is done while there is nothing else to do: rollups of what was in the database before, or came beside us."""

from collections.abc import Sequence
from itertools import chain
from typing import Final

from analytics.frames.tiers import Rolled
from analytics.sources.influx_client import InfluxClient
from contract.influx import between
from contract.times import DAY_MS
from service.stores.influx.database import day_lines, oldest_ms, original_users
from service.stores.influx.noting import Notes
from service.stores.influx.originals import Originals
from service.stores.influx.reading import NumberedRows, Reader
from service.stores.influx.rollups import FINEST, late, over
from service.stores.influx.users import UserCatalog
from service.stores.series import SeriesIndex

_USERS: Final = 20
"""So many users' points of the original of a day are added at once."""


class Backfill:
    """Makes these rollups, a day at a time. One thread at a time; calls raise Unreachable or Refused."""

    def __init__(
        self,
        client: InfluxClient,
        reader: Reader,
        notes: Notes,
        originals: Originals,
        catalog: UserCatalog,
        index: SeriesIndex,
    ) -> None:
        self._client = client
        self._reader = reader
        self._notes = notes
        self._originals = originals
        self._catalog = catalog
        self._index = index

    def step(self) -> bool:
        """Look for points of the original, and make the rollups of one more day before those that are whole.

        False where all are.
        """
        # What is noted and not written yet is in no answer of InfluxDB.
        self._notes.settle()
        found = self._join_originals()
        rolled = self._notes.views.rolled
        day = (rolled.since_ms - 1) // DAY_MS * DAY_MS
        if not rolled.since_ms or day + DAY_MS > over(DAY_MS, self._notes.now_ms()):
            return found
        users = sorted(self._index.users)
        for start in range(0, len(users), _USERS):
            self._note_originals(users[start : start + _USERS], day, day + DAY_MS)
        rolled = Rolled(day if day > oldest_ms(self._index) else 0, rolled.through_ms)
        lines = chain(day_lines(self._reader, self._index, day), [self._notes.state(rolled)])
        self._notes.settle_as(rolled, self._notes.views.open, lines)
        return bool(rolled.since_ms)

    def _join_originals(self) -> bool:
        """Add what came into the database beside this service to the rollups; whether anything did."""
        rolled, now_ms = self._notes.views.rolled, self._notes.now_ms()
        found = self._originals.next_range(rolled, now_ms, oldest_ms(self._index))
        if found is None:
            return False
        counted = self._originals.counted(*found, rolled, now_ms)
        # Minutes do not matter, but for who is silent.
        self._meet(counted.changed, found[0], min(found[1], now_ms) - 2 * FINEST)
        start_ms, end_ms = max(found[0], rolled.since_ms), min(found[1], rolled.through_ms[FINEST])
        for start in range(0, len(counted.lacking), _USERS):
            rows = self._note_originals(counted.lacking[start : start + _USERS], start_ms, end_ms)
            self._notes.views.appends(rows)
            self._notes.settle()
        self._originals.done(counted)
        return bool(counted.lacking)

    def _note_originals(self, users: Sequence[str], start_ms: int, end_ms: int) -> dict[int, NumberedRows]:
        """Note rows of points of the original that no rollup tells of yet."""
        rows, told = self._originals.rows(users, start_ms, end_ms)
        found = late(rows, self._notes.views.rolled._replace(since_ms=0)) if len(rows) else {}
        return self._notes.late(found, told=told)[0]

    def _meet(self, users: Sequence[str], start_ms: int, until_ms: int) -> None:
        """Know users that have points of the original in the days after a time, up to another."""
        new = self._catalog.strangers(users, start_ms, max(until_ms, start_ms + 1))
        if not new:
            return
        where = between(start_ms, start_ms + 2 * DAY_MS)
        found = [user for user in original_users(self._client, where) if user.user_id in new]
        met = self._catalog.met(found)
        self._notes.keep({}, met, self._notes.news(met))
        self._notes.settle()
        self._index.created.clear()
