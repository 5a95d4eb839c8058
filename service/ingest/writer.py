"""The writer of a cluster: follows the log, and puts what it has into InfluxDB. One process at a time does it.

The others wait for its lease, which is free four seconds after the last word of its holder. What the writer has done
and is about to do is in the ledger, so the next one goes on as the same process would after a crash: it writes the very
same rows again, or those that were not written yet.
"""

import logging
import threading
from collections.abc import Callable

from service.cluster import ClusterError
from service.cluster.connection import Cluster
from service.cluster.lease import Lease
from service.cluster.ledger import Superseded, WriterLedger
from service.cluster.log import AGAIN, LOG, ReplicatedLog
from service.ingest.maintenance import Maintenance
from service.ingest.takeover import Takeover
from service.stores.base import StoreError
from service.stores.influx.shared_checkpoint import Batch, SharedCheckpoint
from service.stores.influx.store import InfluxStore

_log = logging.getLogger("loadlens.service")
_LOOK_S = 0.2
_RETRY_S = 1.0


class WriterThread:
    """A thread that writes whenever this process has the lease."""

    def __init__(
        self,
        cluster: Cluster,
        log: ReplicatedLog,
        lease: Lease,
        open_store: Callable[[SharedCheckpoint], InfluxStore],
        flush_interval_s: float,
    ) -> None:
        self._cluster = cluster
        self._log = log
        self._lease = lease
        self._open_store = open_store
        self._flush_interval_s = flush_interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.problem: str | None = None
        """Why this process cannot write, though it should; None where it can, or another does."""
        self.store: InfluxStore | None = None
        """What it writes to, while it does."""

    def start(self) -> None:
        """Begin to ask for the lease."""
        self._lease.start()
        self._thread.start()

    def stop(self) -> None:
        """Write what there is, and hand over."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._lease.stop()

    @property
    def is_writing(self) -> bool:
        """Whether this process is the one that writes."""
        return self.store is not None

    @property
    def behind(self) -> int:
        """How many reports of the log the store has not, as far as this process knows."""
        store = self.store
        return 0 if store is None else self._log.unwritten(store.flushed)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            if not self._lease.is_held:
                self.problem = None
                continue
            try:
                self._write()
            except Superseded:
                _log.warning("another process writes now")
            except (ClusterError, StoreError, OSError) as error:
                self.problem = str(error) or type(error).__name__
                _log.error("this process cannot write to the store: %s", self.problem)
                self._stopping.wait(_RETRY_S)
            except Exception as error:  # noqa: BLE001 - it must go on
                self.problem = str(error) or type(error).__name__
                _log.exception("the writer failed, and begins anew")
                self._stopping.wait(_RETRY_S)

    def _write(self) -> None:
        """Write as long as this process has the lease."""
        ledger = WriterLedger(self._cluster)
        store = self._open_store(SharedCheckpoint(ledger))
        try:
            if store.problem:
                # Without what InfluxDB knows of the users, it would be told less of them.
                raise StoreError(store.problem)
            self._log.check(store.flushed, ledger.value(LOG))
            if ledger.value(LOG) != self._log.made:
                ledger.put({LOG: self._log.made})
        except (StoreError, ClusterError):
            store.abandon()
            raise
        begun, last, apart = ledger.value("begun") or 0, self._log.last, AGAIN if self._cluster.replicas > 1 else 0
        takeover = Takeover(store, Batch(ledger.batch), begun, last, apart)
        maintenance = Maintenance(self._log, store, self._flush_interval_s, ClusterError)
        following = self._log.hand_out(max(store.flushed - AGAIN, 0), takeover.take)
        maintenance.start()
        self.store = store
        _log.info("this process writes to %s, from offset %d on", store.description, store.flushed)
        try:
            while self._lease.is_held and not self._stopping.wait(_LOOK_S):
                if following.done():
                    following.result()
                self.problem = maintenance.problem
                if maintenance.ended_by is not None:
                    raise maintenance.ended_by
        finally:
            self.store = None
            following.cancel()
            maintenance.stop()
            if self._lease.is_held and maintenance.ended_by is None:
                store.close()
            else:
                store.abandon()
