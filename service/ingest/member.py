"""A process of a cluster: it puts reports into the replicated log, and follows the log for its answers."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Collection, Sequence
from functools import partial

from contract.metrics import Metric
from contract.report import Report
from service.cluster.connection import Cluster, ClusterAddress
from service.cluster.control_stream import ChangeStream, ControlBucket
from service.cluster.lease import Lease
from service.cluster.ledger import LedgerReader
from service.cluster.log import LOG, ReplicatedLog
from service.cluster.partitions import PARTITIONS, PartitionLag, Waiting
from service.ingest.maintenance import replay
from service.ingest.writer import WriterThread
from service.settings import ServiceSettings
from service.stores.base import Key
from service.stores.influx.replica import InfluxReplica
from service.stores.opening import open_replica, open_shared

_log = logging.getLogger("loadlens.service")
_LONG_S = 60.0
"""So long reports may wait for the writer before somebody should look at it."""
Deliver = Callable[[int, Sequence[bytes], Sequence[Report]], None]
"""Takes what the log has: the offset of the last report, and the reports as text and decoded."""


class Followed:
    """The store as ingest sees it: what is acknowledged comes to it by the log, as everybody else's reports do."""

    def __init__(self, store: InfluxReplica) -> None:
        self.newest: Callable[[], dict[tuple[str, type[Metric]], int]] = store.newest
        self._store = store

    async def known(self, keys: Collection[Key]) -> set[Key]:
        """Those of `keys` that are stored already."""
        return await self._store.known(keys)

    def add(self, last: int, reports: Sequence[Report]) -> None:
        """Nothing: the log brings them."""


class Member:
    """The log and the store of this process, and what it does for the whole cluster.

    Raises ClusterError or StoreError where NATS or InfluxDB cannot be used.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.cluster = join(settings)
        try:
            self.log = ReplicatedLog(self.cluster, settings.journal_bytes, settings.stream_keep)
            self.store = open_replica(settings, self._refresh)
            self.followed = Followed(self.store)
            self._ledger = LedgerReader(self.cluster, self.store.apply)
            self.log.check(self.store.flushed, self._ledger.value(LOG))
            self.log.advance_to(self.store.flushed)
            self._lag = PartitionLag(lambda: self.store.flushed)
            replayed = replay(self.log, self.store, self._lag.note)
            _log.info("%d reports of the log are not in the store yet", replayed)
            self.bucket = ControlBucket(self.cluster)
            self.changes = ChangeStream(self.cluster)
            self.rules = Lease(self.cluster, "rules", holder()) if settings.role in ("all", "rules") else None
            self.writer = new_writer(self.cluster, self.log, settings) if settings.role == "all" else None
        except BaseException:
            self.cluster.close()
            raise

    def _refresh(self) -> None:
        self._ledger.refresh()

    @property
    def problems(self) -> list[str]:
        """What is wrong with the cluster, as far as this process can tell."""
        found = [] if self.cluster.is_connected else [f"No server of {self.cluster.address} can be reached."]
        waiting_s, reports = self.store.waiting_s, self.log.waiting(self.store.flushed)
        if waiting_s > _LONG_S and reports:
            partitions = len([one for one in self.lag() if one.reports])
            found.append(
                f"No writer has put anything into the store for {waiting_s:.0f} s; {reports} reports wait, in "
                f"{partitions} of {PARTITIONS} partitions."
            )
        writing = self.writer and self.writer.problem and f"This process cannot write: {self.writer.problem}"
        return [*found, *(one for one in (self.log.following_problem, self._ledger.problem, writing) if one)]

    def lag(self) -> list[Waiting]:
        """What of each partition waits for the writer, of what this process has seen."""
        return self._lag.waiting()

    def sizes(self) -> list[tuple[str, str, float]]:
        """What to watch: names, explanations and values."""
        writer = self.writer
        return [
            ("connected", "1 where a server of NATS is connected.", float(self.cluster.is_connected)),
            ("waiting_seconds", "How long at least the oldest report has waited for the writer.", self.store.waiting_s),
            ("unseen", "Reports of the log that this process has not seen.", self.log.behind),
            ("duplicates", "Reports that were sent again, and that the log had already.", self.log.duplicates),
            ("writing", "1 where this process writes to the store.", float(writer is not None and writer.is_writing)),
            ("rules", "1 where this process evaluates the rules.", float(self.evaluates_rules())),
        ]

    def start(self, deliver: Deliver) -> None:
        """Begin to follow the log, `deliver` being called on the event loop that runs now."""
        loop = asyncio.get_running_loop()

        async def take(last: int, texts: Sequence[bytes], reports: Sequence[Report]) -> None:
            self._lag.note(last, reports)
            await _elsewhere(loop, partial(deliver, last, texts, reports))

        self.log.follow(self.store.last, take)
        if self.rules is not None:
            self.rules.start()
        if self.writer is not None:
            self.writer.start()

    def evaluates_rules(self) -> bool:
        """Whether this process is the one that evaluates the rules."""
        return self.rules is not None and self.rules.is_held

    def stop(self) -> None:
        """Hand over to others what this process does for all of them."""
        if self.writer is not None:
            self.writer.stop()
        if self.rules is not None:
            self.rules.stop()

    def close(self) -> None:
        """Close the connection to NATS."""
        self._ledger.close()
        self.log.close()
        self.cluster.close()


async def _elsewhere(loop: asyncio.AbstractEventLoop, deliver: Callable[[], None]) -> None:
    """Have something done on another thread's loop, and wait for it.

    Without a task and a chain of futures, which for a few reports cost as much as these do.
    """
    here = asyncio.get_running_loop()
    done = here.create_future()

    def say() -> None:
        if not done.done():
            done.set_result(None)

    def do() -> None:
        try:
            deliver()
        except Exception:  # noqa: BLE001
            # A fault of ours must not keep this process from following: the store has the reports.
            _log.exception("reports of the log could not be taken")
        finally:
            here.call_soon_threadsafe(say)

    loop.call_soon_threadsafe(do)
    await done


def join(settings: ServiceSettings) -> Cluster:
    """Connect to the NATS that the settings name. Raises ClusterError."""
    return Cluster(ClusterAddress.parse(settings.journal))


def new_writer(cluster: Cluster, log: ReplicatedLog, settings: ServiceSettings) -> WriterThread:
    """A writer that is not started. Raises ClusterError."""
    lease = Lease(cluster, "writer", holder())
    return WriterThread(cluster, log, lease, partial(open_shared, settings), settings.flush_seconds)


def holder() -> str:
    """This process, for people."""
    return f"{socket.gethostname()}, process {os.getpid()}"
