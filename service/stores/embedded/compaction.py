"""Compaction: which runs are merged next, and how they come to stand in place of the ones before."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from contract import times
from contract.times import HOUR_MS
from service.stores.embedded import catalog, forms, reading
from service.stores.embedded.damage import DamagedFiles
from service.stores.embedded.merging import merged
from service.stores.embedded.segment import Segment
from service.stores.embedded.segments import MERGED, SETTLED, UNREADABLE, NewFiles, Origin, file_name, origin_of
from service.stores.embedded.versions import Versions
from service.stores.series import SeriesIndex

_FAN_IN = 4
_LARGEST_SEGMENT = 64_000_000
"""Rows; this bounds how much is rewritten at once."""
_SETTLES_MS = HOUR_MS
_LEAST_SETTLED = 100_000
"""Rows; of fewer there is not much to save."""
_LARGEST_RUN = 4_000_000
"""Rows; of a run, which is written in one transaction."""


def alike(rows: Mapping[int, int], largest: int) -> list[int]:
    """The runs to merge next, of `rows` by run: four or more of about the same size, none larger than allowed.

    Sizes are alike within a power of four, as in size-tiered compaction (O'Neil et al. 1996; Cassandra), so the
    number of runs, and how often a row is rewritten, grow with the logarithm of the rows.
    """
    levels: dict[int, list[int]] = defaultdict(list)
    for run, number in rows.items():
        if number * _FAN_IN <= largest:
            levels[int(math.log(max(number, 1), _FAN_IN))].append(run)
    for level in sorted(levels):
        if len(levels[level]) >= _FAN_IN:
            chosen, total = [], 0
            for run in levels[level]:
                total += rows[run]
                if total > largest:
                    break
                chosen.append(run)
            return chosen
    return []


def to_write_again(segments: Sequence[Segment], now_ms: int) -> Segment | None:
    """A file that is to be written once more by itself.

    Those of older releases are, which are larger or do not say what the catalogue is made from, and those with windows
    of users that were forgotten; then those that are merged less and less often, with more effort.
    """
    for one in segments:
        if not one.has_names or one.form < forms.NEWEST_FORM:
            return one
    for one in segments:
        if not one.is_settled and one.rows >= _LEAST_SETTLED and one.last_ms < now_ms - _SETTLES_MS:
            return one
    return None


class Compaction:
    """Merges what is alike in size, and writes again what is due; called by whoever flushes, and not beside it."""

    def __init__(
        self, folder: Path, index: SeriesIndex, versions: Versions, damage: DamagedFiles, new_files: NewFiles
    ) -> None:
        """`folder` has the files of windows."""
        self._folder = folder
        self._index = index
        self._versions = versions
        self._damage = damage
        self._new_files = new_files

    def segments(self, cursor: duckdb.DuckDBPyConnection, flushed: int) -> bool:
        """Merge files of windows, all up to journal offset `flushed`; False where there is nothing to merge."""
        segments = self._damage.whole(self._versions.segments)
        chosen = alike({segment.id: segment.rows for segment in segments}, _LARGEST_SEGMENT)
        effort = MERGED
        if not chosen and (alone := to_write_again(segments, times.now_ms())):
            chosen, effort = [alone.id], SETTLED
        if not chosen:
            return False
        old = [segment for segment in segments if segment.id in chosen]
        try:
            with cursor.cursor() as sorting:
                windows = merged(sorting, self._folder, old, self._index.nobody)
                new = self._new_files.write(cursor, windows, self._origin_of_all(old, flushed), effort)
        except (duckdb.Error, *UNREADABLE):
            if self._damage.is_found(old):
                return True  # the others are left
            raise
        with self._versions.change(cursor):
            self._new_files.list(cursor, old, new)
        self._versions.retire(old)
        self._new_files.forget()
        return True

    def _origin_of_all(self, segments: Sequence[Segment], flushed: int) -> Origin:
        origins = [origin_of(self._folder / segment.file) for segment in segments]
        through = max(flushed if origin is None else origin.through for origin in origins)
        # Those that these stood for may be read still, and be there after a crash.
        before = {number for origin in origins if origin for number in origin.merged}
        still = {number for number in before if (self._folder / file_name(number)).exists()}
        return Origin(through=through, merged=tuple(sorted(still | {segment.id for segment in segments})))

    def rollup(self, cursor: duckdb.DuckDBPyConnection, tier: int) -> bool:
        """Merge runs of a rollup; False where there is nothing to merge."""
        lacking = catalog.runs_without_fleet(cursor, tier)
        if lacking:
            # Older releases kept no buckets of all hosts together.
            with self._versions.change(cursor):
                reading.complete_fleet(cursor, tier, lacking[0], self._index)
            return True
        chosen = alike(catalog.runs(cursor, tier), _LARGEST_RUN)
        if not chosen:
            return False
        number = catalog.next_run(cursor)
        with self._versions.change(cursor):
            # In this order: they are read while the new one is written.
            reading.append_rollup(cursor, tier, number, reading.merged_runs(cursor, tier, chosen))
            catalog.drop_runs(cursor, tier, chosen)
        return True
