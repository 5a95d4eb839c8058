"""What a writer that begins finds in the log: what the store has, what the one before had begun to write, the rest.

Offsets do not tell it: the copy of the log that is read now may have other offsets than the one that the writer before
read (`service.cluster.tail`). So some more is read than the store lacks by offset, and the store is asked.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from contract.report import Report
from service.ingest.acknowledgement import keys_of
from service.stores.base import Key, StoreUnavailable
from service.stores.influx.shared_checkpoint import Batch
from service.stores.influx.store import InfluxStore

_RETRY_S = 0.5


class Takeover:
    """Gives a store what it has not, of reports that were in the log when its writer began; the others as they come."""

    def __init__(self, store: InfluxStore, batch: Batch, begun: int, last: int, apart: int = 0) -> None:
        """`batch` has what was begun to be written, up to about offset `begun`; the log ended at offset `last`.

        That may be an old word of it, or of a copy that has not all yet: what the store and the ledger tell of counts
        too. Offsets of copies may be `apart` by so many; further on nobody has written anything.
        """
        self._store = store
        self._batch = batch
        self._flushed, self._begun = store.flushed, begun
        self._last = max(last, begun, store.flushed) + apart

    async def take(self, last: int, texts: Sequence[bytes], reports: Sequence[Report]) -> None:
        """Take reports that follow each other in the log, the newest at offset `last`; wait while InfluxDB is away."""
        first = last - len(reports) + 1
        if first > self._last:
            self._add(last, reports)
            return
        begun = [self._is_begun(first + place, report) for place, report in enumerate(reports)]
        keys = [keys_of(report) for report in reports]
        known = await self._known({key for of, some in zip(begun, keys, strict=True) if not of for key in some})
        # What was begun is written by itself, as it was to be.
        again = [report for report, of in zip(reports, begun, strict=True) if of]
        self._add(min(last, self._begun), again)
        rest = []
        for report, of, some in zip(reports, begun, keys, strict=True):
            metrics = [metric for key, metric in some.items() if key not in known]
            if not of and len(metrics) == len(some):
                rest.append(report)
            elif not of and metrics:
                rest.append(msgspec.structs.replace(report, metrics=metrics, processes=msgspec.UNSET))
        self._add(last, rest)

    async def _known(self, keys: set[Key]) -> set[Key]:
        while True:
            try:
                return await self._store.known(keys)
            except StoreUnavailable:
                # Nothing can be written meanwhile either, and no more is read.
                await asyncio.sleep(_RETRY_S)

    def _is_begun(self, offset: int, report: Report) -> bool:
        if self._batch:
            return any(key in self._batch for key in keys_of(report))
        # A writer of an older release says it by offset alone.
        return self._flushed < offset <= self._begun

    def _add(self, last: int, reports: Sequence[Report]) -> None:
        if reports:
            self._store.add(max(last, self._store.last), reports)
